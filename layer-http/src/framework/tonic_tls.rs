use std::net::SocketAddr;

use http::Extensions;
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

/// `TlsConnectInfo`, by another name: tonic exports that one only with a provider of TLS, and which one that is the user decides.
type TlsConnectInfo<IO> = <TlsStream<IO> as Connected>::ConnectInfo;

/// Of a TLS stream that the server was given. A server that makes its own inserts a `TcpConnectInfo`, too.
pub(super) fn peer_addr(extensions: &Extensions) -> Option<SocketAddr> {
    let info = extensions.get::<TlsConnectInfo<TcpStream>>()?;
    info.get_ref().remote_addr
}

#[cfg(unix)]
pub(super) fn is_unix_peer(extensions: &Extensions) -> bool {
    extensions.get::<TlsConnectInfo<UnixStream>>().is_some()
}
