use std::net::{IpAddr, SocketAddr};

use http::{Extensions, HeaderMap, Method, Request, Uri, Version};

use crate::framework;

/// The borrowed head of a request, for a [`KeyExtractor`](crate::KeyExtractor).
///
/// ```
/// use layer_http::RequestHead;
///
/// let request = http::Request::get("/cars/7?full").body(()).unwrap();
/// let head = RequestHead::of(&request);
/// assert_eq!((head.method.as_str(), head.path()), ("GET", "/cars/7"));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The request's URI. Nested routers have stripped their prefix from it: see [`original_uri`](Self::original_uri).
    pub uri: &'a Uri,
    /// The version of HTTP that it came over.
    pub version: Version,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The request's extensions, set by the server, routers and outer layers.
    pub extensions: &'a Extensions,
}

/// The peer's address as a request extension, for servers other than axum's.
///
/// A hyper service inserts it into each request. With the feature `axum`, axum's own `ConnectInfo<SocketAddr>` comes first; with
/// the feature `tonic`, then tonic's `TcpConnectInfo`, over HTTP/2 the other way round; then `MockConnectInfo<SocketAddr>`, then this.
///
/// ```
/// # use http::Request;
/// # use std::net::SocketAddr;
/// use layer_http::{RequestHead, PeerAddr};
///
/// # let peer = SocketAddr::from(([192, 0, 2, 7], 4711));
/// let mut request = Request::new(());
/// request.extensions_mut().insert(PeerAddr(peer));
/// assert_eq!(RequestHead::of(&request).peer_addr(), Some(peer));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddr(pub SocketAddr);

/// A request extension that tells of a peer at the other end of a Unix socket, which has no address.
///
/// All such peers are one identity. [`ClientIp::behind(["unix:"])`](crate::ClientIp::behind) trusts them, and then reads the
/// client's address from the header that they write. Without this extension a service on a Unix socket knows nothing of its peers,
/// but for one of tonic, if the feature `tonic` is on.
///
/// In axum, outside of the layer that reads it:
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::{Extension, Router};
/// use layer_http::UnixPeer;
///
/// let app: Router = Router::new(); // .. with its layers
/// let on_unix_socket = app.layer(Extension(UnixPeer));
/// # let _ = on_unix_socket;
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnixPeer;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Ip(IpAddr),
    Unix,
}

impl<'a> RequestHead<'a> {
    /// Borrows the head of `request`.
    #[inline]
    pub fn of<B>(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }

    /// Returns the URI that the client sent: axum's `OriginalUri` if a router set it, else [`uri`](Self::uri).
    pub fn original_uri(&self) -> &'a Uri {
        framework::original_uri(self.extensions).unwrap_or(self.uri)
    }

    /// Returns the path of [`original_uri`](Self::original_uri), not decoded.
    pub fn path(&self) -> &'a str {
        self.original_uri().path()
    }

    /// Returns the pattern of the matched route, such as `/cars/{id}`: axum's `MatchedPath`.
    ///
    /// `None` outside a router, in a fallback, and without the feature `axum`.
    pub fn matched_path(&self) -> Option<&'a str> {
        framework::matched_path(self.extensions)
    }

    /// Returns the address at the other end of the connection: the client's, or the last proxy's.
    ///
    /// `None` if the server does not tell it: see [`PeerIp`](crate::PeerIp).
    #[inline]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        framework::peer_addr(self.version, self.extensions)
            .or_else(|| self.extensions.get().map(|PeerAddr(address)| *address))
    }

    /// Returns the address of the peer, if it is known by the extension that the server itself sets: axum's `ConnectInfo` or tonic's
    /// `TcpConnectInfo`, or, without axum, a [`PeerAddr`].
    ///
    /// `None` says only that it is not told so: ask [`peer_addr`](Self::peer_addr). For a path that must be short: it is inlined, so that
    /// a request which is borrowed for this alone need not be copied on its way to the inner service.
    #[inline(always)]
    pub fn served_ip(&self) -> Option<IpAddr> {
        framework::served_ip(self.version, self.extensions)
    }

    fn is_unix_peer(&self) -> bool {
        self.extensions.get::<UnixPeer>().is_some() || framework::is_unix_peer(self.extensions)
    }

    /// Returns the peer. An address comes before a [`UnixPeer`].
    pub(crate) fn peer(&self) -> Option<Peer> {
        match self.peer_addr() {
            Some(address) => Some(Peer::Ip(address.ip())),
            None => self.is_unix_peer().then_some(Peer::Unix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_borrows_for_as_long_as_the_request() {
        fn path<B>(request: &Request<B>) -> &str {
            RequestHead::of(request).path()
        }
        let request = Request::post("/a%20b?c").body(()).unwrap();
        assert_eq!(path(&request), "/a%20b");
        assert_eq!(RequestHead::of(&request).method, "POST");
        assert_eq!(RequestHead::of(&request).uri, "/a%20b?c");
        assert_eq!(RequestHead::of(&request).matched_path(), None);
    }

    #[test]
    fn no_extension_is_no_peer() {
        assert_eq!(RequestHead::of(&Request::new(())).peer_addr(), None);
    }

    #[cfg(feature = "tonic")]
    mod with_tonic {
        use tonic::transport::server::TcpConnectInfo;
        #[cfg(unix)]
        use tonic::transport::server::UdsConnectInfo;

        use super::*;

        fn tcp(last: u8) -> TcpConnectInfo {
            TcpConnectInfo {
                local_addr: None,
                remote_addr: Some(SocketAddr::from(([192, 0, 2, last], 80))),
            }
        }

        #[test]
        fn tonics_connection_tells_the_address() {
            let mut request = Request::new(());
            let other = SocketAddr::from(([192, 0, 2, 1], 80));
            request.extensions_mut().insert(PeerAddr(other));
            request.extensions_mut().insert(tcp(7));
            let ip = RequestHead::of(&request).served_ip();
            assert_eq!(ip, tcp(7).remote_addr.map(|peer| peer.ip()));
            let peer = RequestHead::of(&request).peer_addr();
            assert_eq!(peer, tcp(7).remote_addr);
        }

        #[cfg(unix)]
        #[test]
        fn tonics_unix_socket_is_a_peer_without_an_address() {
            let mut request = Request::new(());
            request.extensions_mut().insert(UdsConnectInfo {
                peer_addr: None,
                peer_cred: None,
            });
            assert_eq!(RequestHead::of(&request).peer(), Some(Peer::Unix));
            assert_eq!(RequestHead::of(&request).peer_addr(), None);
        }
    }

    #[cfg(feature = "axum")]
    mod with_axum {
        use axum::{
            Router,
            extract::{ConnectInfo, OriginalUri, connect_info::MockConnectInfo},
            routing::get,
        };
        use tower::ServiceExt;

        use super::*;

        #[test]
        fn the_original_uri_is_the_one_before_routers_stripped_it() {
            let mut request = Request::get("/cars").body(()).unwrap();
            assert_eq!(RequestHead::of(&request).original_uri(), "/cars");

            let original = OriginalUri(Uri::from_static("/api/cars?q"));
            request.extensions_mut().insert(original);
            let head = RequestHead::of(&request);
            assert_eq!(head.original_uri(), "/api/cars?q");
            assert_eq!(head.path(), "/api/cars");
            assert_eq!(head.uri, "/cars");
        }

        #[tokio::test]
        async fn a_service_made_with_connect_info_knows_its_peer() {
            async fn ask(request: axum::extract::Request) {
                let peer = RequestHead::of(&request).peer_addr();
                assert_eq!(peer, Some(SocketAddr::from(([192, 0, 2, 7], 80))));
            }
            let connection = Router::new()
                .route("/", get(ask))
                .into_make_service_with_connect_info::<SocketAddr>()
                .oneshot(SocketAddr::from(([192, 0, 2, 7], 80)))
                .await
                .unwrap();
            let request = Request::new(axum::body::Body::empty());
            assert_eq!(connection.oneshot(request).await.unwrap().status(), 200);
        }

        #[test]
        fn the_connections_address_wins_over_the_mock_and_ours() {
            let address = |last| SocketAddr::from(([192, 0, 2, last], 80));
            let mut request = Request::new(());

            request.extensions_mut().insert(PeerAddr(address(1)));
            assert_eq!(RequestHead::of(&request).peer_addr(), Some(address(1)));

            request.extensions_mut().insert(MockConnectInfo(address(2)));
            assert_eq!(RequestHead::of(&request).peer_addr(), Some(address(2)));

            request.extensions_mut().insert(ConnectInfo(address(3)));
            assert_eq!(RequestHead::of(&request).peer_addr(), Some(address(3)));
        }

        /// It is the same address, or none.
        #[test]
        fn what_the_server_itself_tells_is_told_at_once() {
            let address = |last| SocketAddr::from(([192, 0, 2, last], 80));
            let mut request = Request::new(());
            request.extensions_mut().insert(PeerAddr(address(1)));
            request.extensions_mut().insert(MockConnectInfo(address(2)));
            assert_eq!(RequestHead::of(&request).served_ip(), None);
            #[cfg(feature = "tonic")]
            {
                let connection = tonic::transport::server::TcpConnectInfo {
                    local_addr: None,
                    remote_addr: Some(address(4)),
                };
                request.extensions_mut().insert(connection);
                let ip = RequestHead::of(&request).served_ip();
                assert_eq!(ip, Some(address(4).ip()));
            }
            request.extensions_mut().insert(ConnectInfo(address(3)));
            let ip = RequestHead::of(&request).served_ip();
            assert_eq!(ip, Some(address(3).ip()));
            // gRPC comes over HTTP/2: tonic is asked first. Both functions agree.
            #[cfg(feature = "tonic")]
            {
                *request.version_mut() = Version::HTTP_2;
                let head = RequestHead::of(&request);
                assert_eq!(head.served_ip(), Some(address(4).ip()));
                assert_eq!(head.peer_addr(), Some(address(4)));
            }
        }
    }
}
