use std::net::SocketAddr;

use http::Extensions;
use tonic::transport::server::TcpConnectInfo;
#[cfg(unix)]
use tonic::transport::server::UdsConnectInfo;

/// A server of tonic with TLS inserts it, too, beside its `TlsConnectInfo`.
#[inline]
pub(super) fn peer_addr(extensions: &Extensions) -> Option<SocketAddr> {
    extensions.get::<TcpConnectInfo>()?.remote_addr
}

#[cfg(unix)]
pub(super) fn is_unix_peer(extensions: &Extensions) -> bool {
    extensions.get::<UdsConnectInfo>().is_some()
}
