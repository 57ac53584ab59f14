#![cfg_attr(docsrs, feature(doc_cfg))]
//! The HTTP parts that the rate limit, cache and lock layers share: the [`Body`] of their responses, the [`KeyExtractor`]s
//! that find a request's identity, and the [`Problem`] document that a refused client reads.
//!
//! Most users need only what those layers re-export.
//!
//! # Example
//!
//! A layer that refuses requests without an API key, for an inner service with any response body:
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use layer_http::{Body, RequestHead, KeyExtractor, Problem, header};
//!
//! fn respond<B>(request: &Request<()>, inner: impl FnOnce() -> Response<B>) -> Response<Body<B>> {
//!     match header("x-api-key").extract(&RequestHead::of(request)) {
//!         Some(_) => inner().map(Body::inner),
//!         None => Problem::new(StatusCode::UNAUTHORIZED, "about:blank", "Unauthorized")
//!             .detail("send the header x-api-key")
//!             .into_response(),
//!     }
//! }
//!
//! let admitted = Request::get("/").header("x-api-key", "ada").body(()).unwrap();
//! assert_eq!(respond(&admitted, || Response::new("hello")).status(), StatusCode::OK);
//!
//! let refused = Request::get("/").body(()).unwrap();
//! assert_eq!(respond(&refused, || Response::new("hello")).status(), StatusCode::UNAUTHORIZED);
//! ```
//!
//! # Identity of a request
//!
//! - [`PeerIp`]: the address at the other end of the connection. No header is read.
//! - [`ClientIp::behind`]: the client's address behind trusted proxies, from the one header that they write; [`ClientIp::hops`] if
//!   only their number is known.
//! - [`header`]: the value of a header, such as an API key; [`bearer_token`]: the token of `Authorization: Bearer`.
//! - [`extension`]: a request extension, such as the user that an authentication layer has found.
#![cfg_attr(
    feature = "axum",
    doc = "- [`path_param`]: a parameter of the route, such as the `id` of `/cars/{id}`; [`route`]: the route itself."
)]
//! - [`grpc_method`], [`grpc_service`]: what a gRPC call names in its path. Metadata are headers.
//! - [`key_fn`]: the result of a closure over the [`RequestHead`].
//! - A tuple of two or three of these: `(PeerIp, header("x-account"))`.
//!
//! An IPv6 address is always a network, by default its /64. An IPv4-mapped one, or one of NAT64, is that IPv4 address.
//!
//! A request that names two identities, by a header on two different lines, is [`Resolved::Ambiguous`]. Two equal lines are one.
//! What the layers do with an ambiguous request:
//!
//! | Layer | Ambiguous request |
//! | --- | --- |
//! | rate limit, lock, idempotency | 400 |
//! | cache | passes by: it is not answered from the cache, and its response is not stored |
//!
//! [`OnMissing`] decides about a request without an identity, and these replace the default:
//! [`or_refuse`](KeyExtractor::or_refuse), [`or_skip`](KeyExtractor::or_skip), [`or_shared`](KeyExtractor::or_shared),
//! [`or_client_ip`](KeyExtractor::or_client_ip).
//!
//! | Extractor | Request without an identity, by default |
//! | --- | --- |
//! | [`PeerIp`], [`ClientIp`] | shares one identity with all such requests; one warning is logged |
//! | [`header`], [`bearer_token`], [`extension`], [`grpc_method`], [`grpc_service`], [`key_fn`], your own | belongs to its peer's address, apart from those that have an identity |
//! | `path_param` | is refused with 500, because the layer is in the wrong place |
//! | `route` | is never without: requests that match no route share one identity |
//! | a tuple | what its parts say |
//!
//! # Layer order in axum
//!
//! - The peer's address is known only if the service was made by `into_make_service_with_connect_info::<SocketAddr>()`.
//!   Tests may add a `MockConnectInfo`; other servers insert a [`PeerAddr`].
//! - Nested routers strip their prefix from the URI. [`RequestHead::path`] and `path_param` read the one the client sent.
//! - `Router::layer`, `Router::route_layer` and a layer on a route know the matched route, prefixes of nested routers
//!   included. A layer around the whole router, a fallback, and the outside of `nest_service` do not.
//! - `Router::layer` also sees requests that match no route; `route_layer` does not.
//! - `Layer::layer` runs again for each connection, so a layer keeps its state behind an `Arc`.
//! - `axum::serve` takes its own body type: a router wrapped from outside is served through
//!   `.map_response(|response| response.map(axum::body::Body::new))`.
//!
//! # gRPC
//!
//! A layer refuses a client of gRPC or gRPC-Web by a status of gRPC: see [`grpc`].
//!
//! # Features
//!
//! - `axum` (default): reads axum's `ConnectInfo`, `MatchedPath` and `OriginalUri`; `path_param`. Without it, only
//!   [`PeerAddr`] and the request's own URI are read.
//! - `hyper`: [`Rebuild`] for the request bodies of its servers.
//! - `tonic`: reads the peer's address from tonic's `TcpConnectInfo`, which its servers insert with and without TLS, and knows a
//!   Unix socket by its `UdsConnectInfo`. [`grpc::Status`] becomes a `tonic::Status`; [`Rebuild`] for the request bodies of its
//!   servers. Refusals over gRPC need no feature.
//! - `tonic-tls`: reads the peer's address from tonic's `TlsConnectInfo`, too. It is for a server that is given TLS streams of
//!   tokio-rustls (`serve_with_incoming`). One with a `ServerTlsConfig` does not need it. Compiles rustls without a provider.

pub mod grpc;

mod begun;
mod body;
mod body_copy;
mod body_error;
mod client_ip;
mod content;
mod error;
mod framework;
mod handler;
mod head;
mod hop_by_hop;
mod key;
mod problem;
mod quota_fields;
mod read_request;
mod ready;
mod rebuild;
mod retry_after;
mod typical_hold;

#[cfg(feature = "axum")]
pub use self::key::{PathParam, Route, path_param, route};
pub use self::{
    begun::Begun,
    body::Body,
    body_copy::BodyCopy,
    body_error::BodyError,
    client_ip::{ClientIp, InvalidCidr, PeerIp, PeerNetwork},
    content::Content,
    error::BoxError,
    handler::{Handler, KeepableBody},
    head::{PeerAddr, RequestHead, UnixPeer},
    hop_by_hop::strip_hop_by_hop,
    key::{
        BearerToken, Extension, GrpcMethod, GrpcService, Header, KeyExtractor, KeyFn, OnMissing,
        OrClientIp, OrRefuse, OrShared, OrSkip, Resolved, bearer_token, extension, grpc_method,
        grpc_service, header, joined, key_fn,
    },
    problem::{PROBLEM_JSON, Problem},
    quota_fields::QUOTA_FIELDS,
    read_request::{NotRead, NotReadReason, ReadRequest},
    ready::take_ready,
    rebuild::Rebuild,
    retry_after::retry_after,
    typical_hold::TypicalHold,
};
pub use layer_store::Identity;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
