use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, MatchedPath, OriginalUri, connect_info::MockConnectInfo};
use http::{Extensions, Uri};

pub(crate) fn original_uri(extensions: &Extensions) -> Option<&Uri> {
    extensions.get().map(|OriginalUri(uri)| uri)
}

pub(crate) fn matched_path(extensions: &Extensions) -> Option<&str> {
    extensions.get().map(MatchedPath::as_str)
}

#[inline]
pub(super) fn peer_addr(extensions: &Extensions) -> Option<SocketAddr> {
    extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map(|ConnectInfo(address)| *address)
}

/// Looks at the address where it lies: a copy of all of it costs more than the look-up.
#[inline(always)]
pub(super) fn peer_ip(extensions: &Extensions) -> Option<IpAddr> {
    let ConnectInfo(peer) = extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(peer.ip())
}

pub(super) fn mock_peer_addr(extensions: &Extensions) -> Option<SocketAddr> {
    extensions.get().map(|MockConnectInfo(address)| *address)
}
