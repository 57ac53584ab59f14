use std::net::{IpAddr, SocketAddr};

use http::Extensions;
use tonic::transport::server::TcpConnectInfo;
#[cfg(unix)]
use tonic::transport::server::UdsConnectInfo;

/// A server of tonic with TLS inserts it, too, beside its `TlsConnectInfo`.
#[inline]
pub(super) fn peer_addr(extensions: &Extensions) -> Option<SocketAddr> {
    extensions.get::<TcpConnectInfo>()?.remote_addr
}

#[inline(always)]
pub(super) fn peer_ip(extensions: &Extensions) -> Option<IpAddr> {
    let peer = extensions.get::<TcpConnectInfo>()?.remote_addr.as_ref()?;
    Some(peer.ip())
}

#[cfg(unix)]
pub(super) fn is_unix_peer(extensions: &Extensions) -> bool {
    extensions.get::<UdsConnectInfo>().is_some()
}
