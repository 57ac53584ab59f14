use std::net::SocketAddr;

use http::{Extensions, HeaderMap, Method, Request, Uri};

use crate::framework;

/// The head of a request, borrowed: what a [`KeyExtractor`](crate::KeyExtractor) sees.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The URI as it stands, from which nested routers strip their prefix: see [`original_uri`](Self::original_uri).
    pub uri: &'a Uri,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// What the server, routers and outer layers attached.
    pub extensions: &'a Extensions,
}

/// The peer's address, as a request extension: for servers that are not axum's.
///
/// A hyper service inserts it once per request. With the feature `axum`, axum's own `ConnectInfo<SocketAddr>` and then
/// `MockConnectInfo<SocketAddr>` are read first.
///
/// ```
/// # use http::Request;
/// # use std::net::SocketAddr;
/// use layer_http::{Head, PeerAddr};
///
/// # let peer = SocketAddr::from(([192, 0, 2, 7], 4711));
/// let mut request = Request::new(());
/// request.extensions_mut().insert(PeerAddr(peer));
/// assert_eq!(Head::of(&request).peer_addr(), Some(peer));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddr(pub SocketAddr);

impl<'a> Head<'a> {
    /// The head of `request`.
    #[inline]
    pub fn of<B>(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }

    /// The URI the client asked for: axum's `OriginalUri` where a router noted it, else [`uri`](Self::uri).
    pub fn original_uri(&self) -> &'a Uri {
        framework::original_uri(self.extensions).unwrap_or(self.uri)
    }

    /// The path of [`original_uri`](Self::original_uri), as sent: not decoded.
    pub fn path(&self) -> &'a str {
        self.original_uri().path()
    }

    /// The pattern of the matched route, such as `/cars/{id}`: axum's `MatchedPath`.
    ///
    /// None outside a router, in a fallback, and without the feature `axum`.
    pub fn matched_path(&self) -> Option<&'a str> {
        framework::matched_path(self.extensions)
    }

    /// The address at the other end of the connection: the client's, or the last proxy's.
    ///
    /// None if the server does not say: see [`PeerIp`](crate::PeerIp).
    #[inline]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        framework::peer_addr(self.extensions)
            .or_else(|| self.extensions.get().map(|PeerAddr(address)| *address))
    }
}
