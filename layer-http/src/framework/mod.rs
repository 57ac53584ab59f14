//! The extensions that frameworks put into a request. Without the features `axum` and `tonic` there are none.

#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "tonic")]
mod tonic;
#[cfg(feature = "tonic-tls")]
mod tonic_tls;

use std::net::{IpAddr, SocketAddr};

use http::{Extensions, Version};

#[cfg(feature = "axum")]
pub(crate) use self::axum::{matched_path, original_uri};
#[cfg(not(feature = "axum"))]
pub(crate) use self::without_axum::{matched_path, original_uri};

/// Returns the address of the peer, as the server tells it: axum or tonic, then those of a TLS stream and of a test.
#[inline]
pub(crate) fn peer_addr(version: Version, extensions: &Extensions) -> Option<SocketAddr> {
    let _ = version;
    #[cfg(feature = "tonic")]
    if may_be_grpc(version)
        && let Some(address) = tonic::peer_addr(extensions)
    {
        return Some(address);
    }
    #[cfg(feature = "axum")]
    if let Some(address) = axum::peer_addr(extensions) {
        return Some(address);
    }
    #[cfg(feature = "tonic")]
    if !may_be_grpc(version)
        && let Some(address) = tonic::peer_addr(extensions)
    {
        return Some(address);
    }
    unusual_peer_addr(extensions)
}

/// Returns the address of the peer, if one of the first extensions that [`peer_addr`] looks for tells it.
#[inline(always)]
pub(crate) fn served_ip(version: Version, extensions: &Extensions) -> Option<IpAddr> {
    let _ = version;
    #[cfg(feature = "tonic")]
    if may_be_grpc(version)
        && let Some(ip) = tonic::peer_ip(extensions)
    {
        return Some(ip);
    }
    #[cfg(feature = "axum")]
    if let Some(ip) = axum::peer_ip(extensions) {
        return Some(ip);
    }
    #[cfg(feature = "tonic")]
    if !may_be_grpc(version)
        && let Some(ip) = tonic::peer_ip(extensions)
    {
        return Some(ip);
    }
    // With axum a `MockConnectInfo` comes first.
    #[cfg(not(feature = "axum"))]
    if let Some(crate::PeerAddr(peer)) = extensions.get() {
        return Some(peer.ip());
    }
    None
}

/// Returns true for HTTP/2, which gRPC needs. The server is most likely tonic's then, and each look-up of an extension that is not there
/// costs as much as a tenth of a check.
#[cfg(feature = "tonic")]
#[inline(always)]
fn may_be_grpc(version: Version) -> bool {
    version == Version::HTTP_2
}

/// Apart from the usual cases, which stay short for it.
#[inline(never)]
fn unusual_peer_addr(extensions: &Extensions) -> Option<SocketAddr> {
    #[cfg(feature = "tonic-tls")]
    if let Some(address) = tonic_tls::peer_addr(extensions) {
        return Some(address);
    }
    #[cfg(feature = "axum")]
    if let Some(address) = axum::mock_peer_addr(extensions) {
        return Some(address);
    }
    let _ = extensions;
    None
}

/// Returns true if the server tells that the peer is at the other end of a Unix socket.
pub(crate) fn is_unix_peer(extensions: &Extensions) -> bool {
    #[cfg(all(feature = "tonic", unix))]
    if tonic::is_unix_peer(extensions) {
        return true;
    }
    #[cfg(all(feature = "tonic-tls", unix))]
    if tonic_tls::is_unix_peer(extensions) {
        return true;
    }
    let _ = extensions;
    false
}

#[cfg(not(feature = "axum"))]
mod without_axum {
    use http::{Extensions, Uri};

    pub(crate) fn original_uri(_: &Extensions) -> Option<&Uri> {
        None
    }

    pub(crate) fn matched_path(_: &Extensions) -> Option<&str> {
        None
    }
}
