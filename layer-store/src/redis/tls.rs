use std::{io, sync::Arc};

use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use super::{settings::Settings, stream::Counted};
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
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(settings.host.clone()).map_err(|error| {
            let host = &settings.host;
            ConfigError::new(format!(
                "no certificate can name the host {host:?}: write a DNS name or an IP address"
            ))
            .with_source(error)
        })?;
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name,
        })
    }

    pub(super) async fn connect(&self, socket: Counted) -> io::Result<TlsStream<Counted>> {
        self.connector.connect(self.name.clone(), socket).await
    }
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
    fn a_host_that_no_certificate_can_name_is_an_error() {
        assert!(tls("rediss://a_b..c", None).is_err());
    }
}
