use std::{io, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        AlertDescription, CertificateError, ClientConfig, Error, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

use super::settings::{Endpoint, Settings};
use crate::ConfigError;

/// The TLS settings for one server.
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// Checks the settings. Wrong ones are an error here, and not at the first connection.
    ///
    /// The crypto provider is ring, named here, so that a process need not install one.
    pub(super) fn new(settings: &Settings) -> Result<Self, ConfigError> {
        let mut roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.into(),
        };
        if let Some(pem) = &settings.ca_pem {
            add(pem, &mut roots)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| {
                ConfigError::new(
                    "TLS cannot be set up: write `redis://` for a connection without it",
                )
                .with_source(error)
            })?
            .with_root_certificates(roots);
        let config = match &settings.client_pem {
            None => config.with_no_client_auth(),
            Some(pem) => {
                let (chain, key) = identity(pem)?;
                let config = config.with_client_auth_cert(chain, key);
                config.map_err(|error| {
                    ConfigError::new(
                        "the certificate and the key of `client_pem` cannot be used: give it a certificate with its own key, of RSA, ECDSA or Ed25519",
                    )
                    .with_source(error)
                })?
            }
        };
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name: name(&settings.endpoint)?,
        })
    }

    pub(super) async fn connect(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), socket).await
    }
}

/// Returns what an error of TLS means, and what to write if it is known.
pub(super) fn explanation(error: &io::Error) -> &'static str {
    use AlertDescription::{
        AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked,
        CertificateUnknown, UnknownCA, UnsupportedCertificate,
    };
    let cause = error.get_ref().and_then(|error| error.downcast_ref());
    match cause {
        Some(Error::InvalidMessage(_)) => {
            "the server answers without TLS: write `redis://`, or the port that has TLS"
        }
        Some(Error::AlertReceived(CertificateRequired)) => {
            "the server wants a certificate of this client: set `client_pem`"
        }
        Some(Error::AlertReceived(
            AccessDenied
            | BadCertificate
            | CertificateExpired
            | CertificateRevoked
            | CertificateUnknown
            | UnknownCA
            | UnsupportedCertificate,
        )) => "the server does not accept the certificate of this client: check `client_pem`",
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "the server's certificate is not trusted: give its authority to `ca_pem`"
        }
        Some(Error::InvalidCertificate(_)) => "the server's certificate is not valid",
        None if error.kind() != io::ErrorKind::InvalidData => {
            "the connection ended in the handshake of TLS (if the server does not expect TLS, write `redis://`)"
        }
        _ => "there is no TLS connection to the server",
    }
}

fn name(endpoint: &Endpoint) -> Result<ServerName<'static>, ConfigError> {
    let host = match endpoint {
        Endpoint::Tcp { host, .. } => host,
        #[cfg(unix)]
        Endpoint::Unix(_) => return Err(ConfigError::new("a socket has no TLS: write `unix://`")),
    };
    ServerName::try_from(host.clone()).map_err(|error| {
        ConfigError::new(format!(
            "no certificate can name the host {host:?}: write a DNS name or an IP address"
        ))
        .with_source(error)
    })
}

fn add(pem: &[u8], roots: &mut RootCertStore) -> Result<(), ConfigError> {
    let wrong = || {
        ConfigError::new(
            "`ca_pem` holds no certificate: give it the content of a PEM file, with BEGIN CERTIFICATE in it",
        )
    };
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| wrong().with_source(error))?;
        roots
            .add(certificate)
            .map_err(|error| wrong().with_source(error))?;
        found = true;
    }
    if found { Ok(()) } else { Err(wrong()) }
}

/// Reads our certificates, our own first, and the key of the first.
fn identity(
    pem: &[u8],
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ConfigError> {
    let has = |text: &str| pem.windows(text.len()).any(|part| part == text.as_bytes());
    if has("ENCRYPTED PRIVATE KEY") || has("Proc-Type: 4,ENCRYPTED") {
        return Err(ConfigError::new(
            "the key of `client_pem` is encrypted, which is not supported: decrypt it with `openssl pkey -in key.pem -out plain.pem`, and keep that file where only this process can read it",
        ));
    }
    let wrong = |what: &str| {
        ConfigError::new(format!(
            "`client_pem` holds no {what}: give it the content of two PEM files, with BEGIN CERTIFICATE and BEGIN PRIVATE KEY in it"
        ))
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| wrong("certificate").with_source(error))?;
    if chain.is_empty() {
        return Err(wrong("certificate"));
    }
    let key = PrivateKeyDer::from_pem_slice(pem);
    let key = key.map_err(|error| wrong("key").with_source(error))?;
    Ok((chain, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(url: &str, pem: Option<&str>) -> Result<(), ConfigError> {
        let settings = Settings::from_url(url)?;
        let settings = settings.with_ca_pem(pem.map(|pem| pem.as_bytes().to_vec()))?;
        Tls::new(&settings).map(drop)
    }

    /// No provider is installed for the process: with `redis`' own TLS this would panic at the first connection.
    #[test]
    fn no_provider_need_be_installed() {
        for url in [
            "rediss://localhost",
            "rediss://127.0.0.1",
            "rediss://[::1]:6380/1",
        ] {
            tls(url, None).unwrap();
        }
    }

    #[test]
    fn a_text_without_a_certificate_is_an_error() {
        for pem in [
            "",
            "hello",
            "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\nAAAA",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            let message = tls("rediss://localhost", Some(pem))
                .unwrap_err()
                .to_string();
            assert!(message.contains("ca_pem"), "{message}");
        }
    }

    #[test]
    fn a_certificate_of_ones_own_needs_its_key() {
        const SERVER: &str = include_str!("tests/certificates/server.pem");
        const CLIENT: &str = include_str!("tests/certificates/client.pem");
        const ENCRYPTED: &str = include_str!("tests/certificates/client_encrypted.pem");
        let tls = |pem: &str| {
            let settings = Settings::from_url("rediss://localhost")?;
            Tls::new(&settings.with_client_pem(Some(pem.into()))?).map(drop)
        };
        tls(CLIENT).unwrap();
        let (certificate, key) = CLIENT.split_at(CLIENT.find("-----BEGIN PRIVATE").unwrap());
        // In either order, as files are put together.
        tls(&format!("{key}{certificate}")).unwrap();
        let (_, key_of_another) = SERVER.split_at(SERVER.find("-----BEGIN PRIVATE").unwrap());
        let another = format!("{certificate}{key_of_another}");
        let old_encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n";
        for (pem, said) in [
            ("", "holds no certificate"),
            (key, "holds no certificate"),
            (certificate, "holds no key"),
            (&another, "cannot be used"),
            (ENCRYPTED, "openssl pkey"),
            (old_encrypted, "openssl pkey"),
        ] {
            let error = tls(pem).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
            assert!(error.to_string().contains("`client_pem`"), "{error}");
        }
    }

    #[test]
    fn a_host_that_no_certificate_can_name_is_an_error() {
        assert!(tls("rediss://a_b..c", None).is_err());
    }
}
