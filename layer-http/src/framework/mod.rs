//! The extensions that frameworks put into a request. Without the features `axum` and `tonic` there are none.

#[cfg(feature = "axum")]
mod axum;
#[cfg(not(feature = "axum"))]
#[path = "without_axum.rs"]
mod axum;
#[cfg(feature = "tonic")]
mod tonic;
#[cfg(not(feature = "tonic"))]
#[path = "without_tonic.rs"]
mod tonic;
#[cfg(feature = "tonic-tls")]
mod tonic_tls;

use std::net::{IpAddr, SocketAddr};

use http::{Extensions, Version};

pub(crate) use self::axum::{matched_path, original_uri};

/// Returns the address of the peer, as the server tells it: axum or tonic, then those of a TLS stream and of a test.
#[inline]
pub(crate) fn peer_addr(version: Version, extensions: &Extensions) -> Option<SocketAddr> {
    if is_likely_tonic(version)
        && let Some(address) = tonic::peer_addr(extensions)
    {
        return Some(address);
    }
    if let Some(address) = axum::peer_addr(extensions) {
        return Some(address);
    }
    if !is_likely_tonic(version)
        && let Some(address) = tonic::peer_addr(extensions)
    {
        return Some(address);
    }
    unusual_peer_addr(extensions)
}

/// Returns the address of the peer, if one of the first extensions that [`peer_addr`] looks for tells it.
#[inline(always)]
pub(crate) fn served_ip(version: Version, extensions: &Extensions) -> Option<IpAddr> {
    if is_likely_tonic(version)
        && let Some(ip) = tonic::peer_ip(extensions)
    {
        return Some(ip);
    }
    if let Some(ip) = axum::peer_ip(extensions) {
        return Some(ip);
    }
    if !is_likely_tonic(version)
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
// Not one function that is given both look-ups: closures cost the fastest path 35 instructions.
#[inline(always)]
fn is_likely_tonic(version: Version) -> bool {
    cfg!(feature = "tonic") && version == Version::HTTP_2
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
