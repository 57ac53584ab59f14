use std::net::SocketAddr;

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

pub(super) fn mock_peer_addr(extensions: &Extensions) -> Option<SocketAddr> {
    extensions.get().map(|MockConnectInfo(address)| *address)
}
