use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
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

    /// Returns the settings of a server, which may ask its clients for certificates of the same authority.
    ///
    /// # Panics
    ///
    /// Panics if it was changed, and what it has does not fit together.
    pub fn server_config(&self, asks_clients: bool) -> ServerConfig {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring knows the default versions");
        let builder = match asks_clients {
            false => builder.with_no_client_auth(),
            true => {
                let mut roots = RootCertStore::empty();
                for ca in chain(&self.ca) {
                    roots.add(ca).expect("it is an authority");
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .expect("there is an authority");
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::from_pem_slice(self.server.as_bytes());
        builder
            .with_single_cert(chain(&self.server), key.expect("there is a key"))
            .expect("the key is that of the certificate")
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

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
    let certificates: Result<_, _> = certificates.collect();
    certificates.expect("what the test wrote is PEM")
}
