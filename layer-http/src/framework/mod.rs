//! The extensions that axum puts into a request. Without the feature there are none.

#[cfg(feature = "axum")]
pub(crate) use self::with_axum::{matched_path, original_uri, peer_addr};
#[cfg(not(feature = "axum"))]
pub(crate) use self::without::{matched_path, original_uri, peer_addr};

#[cfg(feature = "axum")]
mod with_axum {
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
    pub(crate) fn peer_addr(extensions: &Extensions) -> Option<SocketAddr> {
        match extensions.get::<ConnectInfo<SocketAddr>>() {
            Some(ConnectInfo(address)) => Some(*address),
            None => mock_peer_addr(extensions),
        }
    }

    #[cold]
    fn mock_peer_addr(extensions: &Extensions) -> Option<SocketAddr> {
        extensions.get().map(|MockConnectInfo(address)| *address)
    }
}

#[cfg(not(feature = "axum"))]
mod without {
    use std::net::SocketAddr;

    use http::{Extensions, Uri};

    pub(crate) fn original_uri(_: &Extensions) -> Option<&Uri> {
        None
    }

    pub(crate) fn matched_path(_: &Extensions) -> Option<&str> {
        None
    }

    pub(crate) fn peer_addr(_: &Extensions) -> Option<SocketAddr> {
        None
    }
}
