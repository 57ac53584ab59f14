use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::{io::copy_bidirectional, net::TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::{Certificates, RedisServer, front::Front};

/// TLS in front of a Redis, on a loopback port of its own. The Redis itself need not have been built with TLS.
#[derive(Debug)]
pub struct TlsFront(Front);

impl TlsFront {
    /// Starts one that takes clients with a certificate of the same authority alone (`tls-auth-clients yes`).
    ///
    /// # Panics
    ///
    /// Panics if no port is free.
    pub fn before(server: &RedisServer, certificates: &Certificates) -> Self {
        Self::start(server, certificates, true)
    }

    /// Starts one that takes any client (`tls-auth-clients no`).
    ///
    /// # Panics
    ///
    /// Panics if no port is free.
    pub fn for_any_client(server: &RedisServer, certificates: &Certificates) -> Self {
        Self::start(server, certificates, false)
    }

    fn start(server: &RedisServer, certificates: &Certificates, asks: bool) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(certificates.server_config(asks)));
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
        Self(Front::start(move |client| {
            let acceptor = acceptor.clone();
            async move {
                let mut client = acceptor.accept(client).await?;
                let mut server = TcpStream::connect(target).await?;
                server.set_nodelay(true)?;
                copy_bidirectional(&mut client, &mut server).await?;
                Ok(())
            }
        }))
    }

    /// Returns the URL for `connect`, with the password of the server that it was made for.
    pub fn url(&self, server: &RedisServer) -> String {
        let plain = server.url_at(self.0.address().port());
        plain.replacen("redis://", "rediss://", 1)
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }
}
