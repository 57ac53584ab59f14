#![cfg_attr(docsrs, feature(doc_cfg))]
//! A safe shared response cache for Tower services over one pluggable store, in memory or on Redis.
//!
//! It answers what it has, stores what may be shared while that streams to the client, calls the handler once for many
//! requests, and forgets by path, key or tag in one command.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! use axum::{Router, body::Body, extract::State, routing::get};
//! use cache_layer::{CacheLayer, ResponseCache, store::{MemoryStore, SharedStore}};
//! use http::{Request, StatusCode};
//! use tower::ServiceExt;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let store = SharedStore::new(MemoryStore::new());
//! let cache = CacheLayer::new(store).ttl(Duration::from_secs(30));
//! let pages = cache.handle();
//! let show = || async { "a car" };
//! let update = |State(pages): State<ResponseCache>| async move {
//!     // .. after the commit:
//!     pages.purge_path("/cars/*").await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
//! };
//! let app: Router = Router::new()
//!     .route("/cars/{id}", get(show).put(update).layer(cache))
//!     .with_state(pages);
//!
//! let ask = |method| Request::builder().method(method).uri("/cars/7").body(Body::empty()).unwrap();
//! let first = app.clone().oneshot(ask("GET")).await?;
//! assert_eq!(first.headers()["cache-status"], "cache; fwd=uri-miss; stored");
//! # axum::body::to_bytes(first.into_body(), 100).await.unwrap();
//! let second = app.clone().oneshot(ask("GET")).await?;
//! assert!(second.headers()["cache-status"].to_str().unwrap().starts_with("cache; hit; ttl="));
//!
//! app.clone().oneshot(ask("PUT")).await?;
//! let third = app.clone().oneshot(ask("GET")).await?;
//! assert_eq!(third.headers()["cache-status"], "cache; fwd=miss; stored; detail=purged");
//!
//! // Who says who he is gets his own answer.
//! let mut mine = ask("GET");
//! mine.headers_mut().insert("cookie", "id=ada".parse().unwrap());
//! let mine = app.oneshot(mine).await?;
//! assert!(mine.headers()["cache-status"].to_str().unwrap().ends_with("detail=credentials"));
//! # Ok::<_, std::convert::Infallible>(())
//! # }).unwrap();
//! ```
//!
//! # Behaviour
//!
//! - **What is stored.** Whole answers to `GET` that name their lifetime (`s-maxage`, `max-age`, `Expires`; RFC 9111, section
//!   4.2), or that the route names one for ([`CacheLayer::ttl`]). Never: `no-store`, `private`, `no-cache`, `Vary: *`,
//!   `Set-Cookie`, an answer to a request with a credential unless it says `public` or `s-maxage`, a part (206, `Range`), a
//!   body that broke off, is not as long as stated, or longer than [`CacheLayer::max_body`]. [`CacheLayer::rfc`] leaves the
//!   RFC's own rules alone.
//! - **What is one entry.** Host, path as sent, query, and the request fields that `Vary` names, several variants beside each
//!   other. An encoded answer also varies by `Accept-Encoding`. `HEAD` is answered from the entry of `GET`.
//! - **Requests** with `Range`, `If-Match`, `If-Unmodified-Since`, `Upgrade`, content, an overridden method or an impossible
//!   host pass by. `no-store`, `no-cache`, `max-age`, `min-fresh` and `only-if-cached` are honoured.
//! - **Streaming.** The client has the first byte when the handler sends it. Trailers are kept.
//! - **One call.** Of many requests for one cold entry in a process one calls the handler, the others wait, at most 30 s. If
//!   it leaves, fails or breaks off, another takes over. An answer that is not stored is not shared: those who wait call for
//!   themselves, and for a minute nobody waits for that key again.
//! - **Purges** ([`ResponseCache::purge_path`], [`purge_key`](ResponseCache::purge_key),
//!   [`purge_tag`](ResponseCache::purge_tag); [`Invalidate`] and [`Tags`] as response extensions) cost one command at any
//!   number of entries, and reach every process on the store, every host, query and variant. A request that comes after a
//!   purge is over is never answered from a handler call that began before it. An unsafe request (`PUT`, `POST`, ..) that
//!   succeeds purges its own path.
//! - **`Cache-Status`** (RFC 9211) on every answer says what was done, and why. `stored` says that the answer is being stored.
//! - A layer around another one of the same [`CacheLayer`] does the work; the inner one steps aside.
//! - The service is always ready: a hit needs no inner service, which is made ready on a miss. An outer `load_shed` does
//!   not see the pressure behind the cache.
//!
//! # Defaults
//!
//! | setting | default |
//! | --- | --- |
//! | lifetime for answers that name none | not stored |
//! | longest life of an entry | 24 hours |
//! | credentials | `Authorization`, `Cookie`, `X-Api-Key` |
//! | longest body | 2 MiB |
//! | profile | safe |
//! | name | `cache` |
//!
//! # Layer order
//!
//! Outside: what every request must pass, such as authentication, limits and tracing; a hit does not reach what is inside.
//! Inside: what belongs to the answer. A compression layer may stand on either side. Around a whole `Router` map the body:
//! `.map_response(|response| response.map(Body::new))`.
//!
//! # When the store fails
//!
//! The handler is called, nothing is stored, and nothing fails. A lookup takes 100 ms at the most (or what
//! `Options::deadline` said), with the breaker open no time. A purge that fails is an error to its caller, and this instance
//! serves nothing from the cache until it has repeated it; another instance that still reaches the store may serve the old
//! entry until then. An evicted stamp or entry is a miss. A Redis that comes back with old data (a snapshot, a lagging
//! replica) may bring back what was purged. The memory store counts entries, not bytes. On Redis, `allkeys-lru` fits.
//!
//! # Cancellation
//!
//! A client that leaves ends its handler call; nothing partial is stored. A purge happens though its future is dropped. An
//! unsafe request whose client leaves before the answer purges its path in the background.
//!
//! # Features
//!
//! - `axum` (default): reads `OriginalUri`, without which nested routers would share entries.
//! - `redis`: `store::connect` for `redis://`.
//! - `redis-tls`: … and for `rediss://`.

mod address;
mod bounded;
mod cache_status;
mod core;
mod directives;
mod entry;
mod exchange;
mod failed;
mod fill;
mod flight;
mod freshness;
mod layer;
mod purge;
mod question;
mod response_cache;
mod rule;
mod scope;
mod search;
mod service;
mod stamp;
mod stamps;
mod stats;
mod storable;
mod tags;
mod vary;

pub mod body;
pub mod future;

pub use layer_http::Body;
pub use layer_store as store;

pub use self::{
    layer::CacheLayer,
    purge::{Invalidate, Purge, PurgeError},
    response_cache::ResponseCache,
    service::Cache,
    stats::Stats,
    tags::Tags,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
