use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};

/// A certificate authority of its own, and what it has signed, all in PEM. Every call of [`new`](Self::new) makes another one.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The certificate of the authority.
    pub ca: String,
    /// The certificate of a server on this machine, with its key.
    pub server: String,
    /// The certificate of a client, with its key.
    pub client: String,
}

impl Certificates {
    /// Makes an authority, a server's certificate for `localhost` and the loopback addresses, and a client's.
    #[expect(clippy::new_without_default, reason = "two of them are never equal")]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params
            .distinguished_name
            .push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate().expect("ring makes keys");
        let ca = params
            .self_signed(&key)
            .expect("an authority signs itself")
            .pem();
        let issuer = Issuer::new(params, key);
        Self {
            ca,
            server: signed(
                &issuer,
                &["localhost", "127.0.0.1", "::1"],
                ExtendedKeyUsagePurpose::ServerAuth,
            ),
            client: signed(&issuer, &["client"], ExtendedKeyUsagePurpose::ClientAuth),
        }
    }
}

/// Returns a certificate and its key.
fn signed(issuer: &Issuer<'_, KeyPair>, names: &[&str], usage: ExtendedKeyUsagePurpose) -> String {
    let names: Vec<_> = names.iter().copied().map(String::from).collect();
    let mut params = CertificateParams::new(names).expect("these are names");
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate().expect("ring makes keys");
    let certificate = params
        .signed_by(&key, issuer)
        .expect("the authority signs it");
    certificate.pem() + &key.serialize_pem()
}
