#![cfg_attr(docsrs, feature(doc_cfg))]
//! A Tower rate limiter over one pluggable store: exact GCRA, in memory or shared through Redis.
//!
//! It answers 429 with `Retry-After`, `RateLimit`, `RateLimit-Policy` and a problem document, counts by address, header, path
//! parameter or anything else in a request's head, and does what each policy says while its store is down. Unlike
//! `tower::limit::RateLimit`, which makes all callers of one service wait, [`RateLimit`] keeps a bucket per caller and refuses.
//!
//! # Example
//!
//! ```
//! use axum::{Router, body::Body, routing::get};
//! use http::{Request, StatusCode};
//! use rate_limit_layer::{Quota, RateLimitLayer, header, store::{MemoryStore, SharedStore}};
//! use tower::ServiceExt;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let store = SharedStore::new(MemoryStore::new());
//! let policy = Quota::per_minute(2).fail_open().by(header("x-api-key"));
//! let app: Router = Router::new()
//!     .route("/", get(|| async { "hello" }))
//!     .layer(RateLimitLayer::new(store, policy));
//!
//! let ask = || Request::get("/").header("x-api-key", "ada").body(Body::empty()).unwrap();
//! let admitted = app.clone().oneshot(ask()).await?;
//! assert_eq!(admitted.status(), StatusCode::OK);
//! assert_eq!(admitted.headers()["ratelimit"], "\"2/min\";r=1;t=30");
//! assert_eq!(admitted.headers()["ratelimit-policy"], "\"2/min\";q=2;w=60");
//!
//! app.clone().oneshot(ask()).await?;
//! let refused = app.oneshot(ask()).await?;
//! assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
//! assert_eq!(refused.headers()["retry-after"], "30");
//! # Ok::<_, std::convert::Infallible>(())
//! # }).unwrap();
//! ```
//!
//! # Behaviour
//!
//! - A [`Quota`] is enforced by GCRA in exact integers: in any interval of length `t` at most `burst + limit * t / window`
//!   requests pass. Waiting exactly the reported time passes; a microsecond less does not. A refusal charges nothing.
//! - A [`Policy`] names whom it counts ([`Policy::by`]); a request that does not say is counted by its peer, in a bucket apart.
//! - Several policies ([`RateLimitLayer::and`]) are all or nothing. Those of one subject are one atomic command; each
//!   further subject costs one more, and the earlier are given back when a later one refuses. Between the two a concurrent
//!   request may be refused for a place that is about to be given back; and since it is given back a moment after it was
//!   taken, as much more than the bound may pass as is earned in that moment.
//! - Policies of one name on one store share their buckets, and an unnamed policy is named by its quota: the same quota in two
//!   layers counts a request that passes both twice, and two services on one Redis spend each other's. Write
//!   [`Policy::named`], or give each service a prefix ([`Options::prefix`](store::Options::prefix), `REDIS_KEY_PREFIX`).
//! - A request that does not say whom it counts for is answered 400 where `or_refuse()` was written. A path parameter that
//!   the route does not have is 500, with one error event. Both are problem documents, and nothing is charged.
//! - Time is Redis' own, or the memory store's clock: a client's clock decides nothing.
//! - A response handed out by [`Limiter::check`]'s [`Refused::to_response`] is the layer's own.
//!
//! # Defaults
//!
//! | setting | default |
//! | --- | --- |
//! | whom a policy counts | the peer's address, IPv6 by its /64 |
//! | burst | the limit |
//! | failure mode | none: [`Quota::fail_open`] or [`Quota::fail_closed`] |
//! | name | the quota's text, such as `100/min`: equal quotas share their buckets |
//! | cost | 1 |
//! | headers | on |
//!
//! # Layer order
//!
//! Outside: CORS and tracing, or browsers and logs miss the refusals; authentication, if a policy counts users. Inside: caches
//! and locks, which a refused request should not reach. A peer's address is known only if the server tells it: serve axum with
//! `into_make_service_with_connect_info::<SocketAddr>()`.
//!
//! # When the store fails
//!
//! | | fail open | fail closed |
//! | --- | --- | --- |
//! | gone, slow, or its breaker open | the request passes, without the two headers | 503 with `Retry-After`, and [`Unavailable`] in the extensions |
//! | a memory store full of pinned entries | passes, with a warning | 503, its [`Reason`] `StoreFull` |
//! | restarted empty | counting begins anew | the same |
//! | a command applied whose reply was lost | may be charged though refused; it is never repeated | the same |
//!
//! Of several policies, one that fails closed is enough for a 503. A check takes 100 ms at the most, however many commands it
//! needs (or what `Options::deadline` said); with the breaker open it takes none. The breaker tells of an outage; whatever else
//! keeps a limit from being checked, such as a Redis user who may not run scripts, is warned of at each doubling of its number.
//!
//! A store over a network needs a tokio runtime with its timer and its driver; the memory store needs none.
//!
//! # Cancellation
//!
//! A request that is dropped while the store is asked was charged once or not at all; of several subjects, those that were
//! charged already are given back. Nothing is held between a request and its response.
//!
//! # Features
//!
//! - `axum` (default): reads `ConnectInfo`, `MatchedPath` and `OriginalUri` from a request's extensions.
//! - `redis`: `store::connect` for `redis://`.
//! - `redis-tls`: … and for `rediss://`.
//! - `test-util`: the parts that differential tests reach into; not covered by semantic versioning.

mod bucket;
mod charge;
mod claims;
mod core;
pub mod future;
mod gcra;
mod layer;
mod limiter;
mod policy;
mod quota;
mod response;
mod service;
mod set;
mod verdict;

pub use layer_http::{
    Body, ClientIp, Header, Identity, InvalidCidr, KeyExtractor, KeyFn, OnMissing, OrRefuse,
    OrSkip, PeerAddr, PeerIp, RequestHead, header, key_fn,
};
#[cfg(feature = "axum")]
pub use layer_http::{PathParam, path_param};
pub use layer_store as store;

pub use self::{
    layer::RateLimitLayer,
    limiter::{InvalidCost, Limiter},
    policy::{FailureMode, Policy},
    quota::{InvalidQuota, Quota},
    service::RateLimit,
    verdict::{Reason, Refused, Standing, Unavailable, Verdict},
};

/// The program every check runs, for tests that hold its Lua body against its twin.
#[cfg(feature = "test-util")]
#[doc(hidden)]
pub static PROGRAM: &store::Program = &charge::CHARGE;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
