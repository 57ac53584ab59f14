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

/// TLS to one server.
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// Settings that cannot work are an error here and never a panic at the first connection: the provider is named, so
    /// that none need be installed for the process.
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
                ConfigError::new("TLS cannot be set up: write `redis://`").with_source(error)
            })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(settings.host.clone()).map_err(|error| {
            let host = &settings.host;
            ConfigError::new(format!(
                "no certificate can be made out to {host:?}: write a DNS name or an IP address"
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
            "this is no certificate authority: give `ca_pem` a PEM file's content, with BEGIN CERTIFICATE in it",
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
