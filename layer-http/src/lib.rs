#![cfg_attr(docsrs, feature(doc_cfg))]
//! What the rate limit, cache and lock layers share over HTTP: the [`Body`] they answer with, the [`KeyExtractor`]s that
//! say whom a request counts for, and the [`Problem`] a refused client reads. Most users meet it through those layers.
//!
//! # Example
//!
//! A layer's decision, whatever the inner service answers with:
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use layer_http::{Body, RequestHead, KeyExtractor, Problem, header};
//!
//! fn answer<B>(request: &Request<()>, inner: impl FnOnce() -> Response<B>) -> Response<Body<B>> {
//!     match header("x-api-key").extract(&RequestHead::of(request)) {
//!         Some(_) => inner().map(Body::inner),
//!         None => Problem::new(StatusCode::UNAUTHORIZED, "about:blank", "Unauthorized")
//!             .detail("send the header x-api-key")
//!             .into_response(),
//!     }
//! }
//!
//! let admitted = Request::get("/").header("x-api-key", "ada").body(()).unwrap();
//! assert_eq!(answer(&admitted, || Response::new("hello")).status(), StatusCode::OK);
//!
//! let refused = Request::get("/").body(()).unwrap();
//! assert_eq!(answer(&refused, || Response::new("hello")).status(), StatusCode::UNAUTHORIZED);
//! ```
//!
//! # Whom a request counts for
//!
//! - [`PeerIp`]: the address at the other end of the connection. No header is believed.
//! - [`ClientIp::behind`]: the client's address behind the proxies it names, from the one header they write.
//! - [`header`]: a header's value, such as an API key.
#![cfg_attr(
    feature = "axum",
    doc = "- [`path_param`]: a parameter of the route, such as the `id` of `/cars/{id}`."
)]
//! - [`key_fn`]: whatever a closure finds in the [`RequestHead`].
//!
//! An IPv6 address is always its /64 network, and an IPv4-mapped one that IPv4 address. A request that does not say is a
//! matter of [`OnMissing`]; [`or_refuse`](KeyExtractor::or_refuse) and [`or_skip`](KeyExtractor::or_skip) are written
//! choices:
//!
//! | Extractor | A request that does not say |
//! | --- | --- |
//! | [`PeerIp`], [`ClientIp`] | shares one bucket with all such requests, and a warning says so once |
//! | [`header`], [`key_fn`], your own | counts for its peer, in a bucket apart |
//! | `path_param` | is answered with 500: the layer stands in the wrong place |
//!
//! # Where a layer stands in axum
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
//! # Features
//!
//! - `axum` (default): reads axum's `ConnectInfo`, `MatchedPath` and `OriginalUri`; `path_param`. Without it, only
//!   [`PeerAddr`] and the request's own URI are read.

mod body;
mod client_ip;
mod content;
mod error;
mod framework;
mod head;
mod hop_by_hop;
mod key;
#[cfg(feature = "axum")]
mod path_param;
mod problem;
mod ready;
mod rebuild;
mod resolve;
mod retry_after;

#[cfg(feature = "axum")]
pub use self::path_param::{PathParam, path_param};
pub use self::{
    body::Body,
    client_ip::{ClientIp, InvalidCidr, PeerIp},
    content::Content,
    error::BoxError,
    head::{PeerAddr, RequestHead},
    hop_by_hop::strip_hop_by_hop,
    key::{Header, KeyExtractor, KeyFn, OnMissing, OrRefuse, OrSkip, header, key_fn},
    problem::{PROBLEM_JSON, Problem},
    ready::take_ready,
    rebuild::Rebuild,
    resolve::{Resolved, resolve},
    retry_after::retry_after,
};
pub use layer_store::Identity;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
