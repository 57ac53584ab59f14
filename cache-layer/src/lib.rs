#![cfg_attr(docsrs, feature(doc_cfg))]
//! A safe shared response cache for Tower services, over memory or Redis.
//!
//! It answers requests with stored responses (RFC 9111), stores responses while they stream to the clients, and calls the
//! handler once for many concurrent requests. After a change, one command purges the stored responses of a path, a user or a
//! tag, or an object, in every process on the store.
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
//! // The handler of the PUT purges: the next GET is answered anew.
//! app.clone().oneshot(ask("PUT")).await?;
//! let third = app.clone().oneshot(ask("GET")).await?;
//! assert_eq!(third.headers()["cache-status"], "cache; fwd=miss; stored; detail=purged");
//!
//! // A request with a credential is never answered with what is stored for others.
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
//! - **What is stored.** Complete responses to `GET` that state a lifetime (`s-maxage`, `max-age` or `Expires`), or that get
//!   one from [`CacheLayer::ttl`] or [`CacheLayer::ttl_for`].
//! - **What is never stored.** Responses with `no-store`, `private`, `no-cache`, `Vary: *` or `Set-Cookie`; responses to a
//!   request with a credential, unless they are marked with `public` or `s-maxage`; parts (206, `Content-Range`); failures and
//!   refusals (401, 403, 428, 429, 431, 5xx), unless [`CacheLayer::ttl_for`] names their status or errors are
//!   [shared](CacheLayer::share_errors); bodies that break off, differ from their `Content-Length`, or are longer than
//!   [`CacheLayer::max_body`]. [`Profile::Rfc`] leaves out the rules that are not in the RFC. The fields that `no-cache="x"`
//!   or `private="x"` names are left out of what is stored (section 5.2.2).
//! - **Time.** The age of a response begins when its request was sent (RFC 9111, section 4.2.3): the time of the handler counts
//!   against the lifetime that the response states. A response without a `Date` gets the time of its arrival.
//! - **Address.** An entry is found by scheme, host, port, path and query as they were sent, and by the request fields that
//!   its `Vary` names. Several variants are kept beside each other, at most [`CacheLayer::max_variants`]. A response with
//!   `Content-Encoding` also varies by `Accept-Encoding`. `HEAD` is answered from the entry of the `GET`. See [keys](#keys).
//! - **Requests that pass by.** Those with `Range`, `If-Match`, `If-Unmodified-Since`, `Upgrade`, content, an overridden
//!   method, a malformed host, an authority that is not the `Host`, or a forwarded host or scheme. A body that does not tell
//!   if it is empty is content (`http_body::Body::is_end_stream`).
//! - **gRPC.** Unary calls of the methods that [`CacheLayer::grpc`] names are stored by their message. All other calls pass by. A
//!   call is no unsafe request: it purges nothing by itself.
//! - **What a client may ask.** `no-store`, `no-cache`, `max-age`, `min-fresh`, `max-stale` and `only-if-cached` are
//!   honoured; the last one may be refused with 504 and a [`CacheRefusal`]. Clients that want a new response at once share a
//!   handler call. [`CacheLayer::client_directives`] changes both.
//! - **304.** A client whose `If-None-Match` or `If-Modified-Since` tells that it has the response gets 304. On a miss the
//!   handler does not see these two fields, so that its whole response can be stored; they are compared with what it sends.
//!   [`CacheLayer::etag`] makes tags for handlers that have none.
//! - **Stale responses.** Within its stale window a response is sent at once, and one request fetches a new one behind it
//!   (RFC 5861, [`CacheLayer::stale_while_revalidate`]). Outside of it, a response with an `ETag` or a `Last-Modified` is kept
//!   for an hour longer, and the handler is asked if it still holds: its 304 gives the stored response new fields. If the
//!   handler fails (an error, 500, 502, 503 or 504), all who wait get the stale response, as long as
//!   [`CacheLayer::stale_if_error`] or the response itself allows it. What is never fresh (`no-cache`, `max-age=0`) is stored
//!   to be confirmed in [`Profile::Rfc`] alone.
//! - **A fill belongs to the cache.** A response that may be stored is read by a task of the cache, and every client reads what
//!   has arrived at its own pace. All get the first byte when the handler sends it. A client that reads slowly or leaves holds
//!   up nobody, and the page is stored all the same. Trailers are kept.
//! - **Bounds of a fill.** A body that becomes longer than [`CacheLayer::max_body`], takes longer than
//!   [`CacheLayer::max_fill_time`], or finds no room in [`ResponseCache::fill_budget`] passes from then on as without a cache,
//!   and is not stored. So do streams of events, from the beginning. If several clients read such a body, the fastest waits
//!   for the slowest, and one that reads nothing for 10 s meanwhile is cut off.
//! - **One call.** Concurrent requests for one missing entry in one process share a handler call. If the handler fails, the
//!   next request calls. A response that may not be stored is not shared: those who wait call the handler. For a minute, or
//!   until a purge, the next requests for this variant do not queue up either (hit-for-miss). They are still looked up, and
//!   their responses may be stored.
//! - **Over instances.** On a store that processes share, the one that calls the handler holds a lease of 5 s in the store. The
//!   others wait for it, for at most 5 s, and then find the entry. It saves calls and nothing else: if the lease is lost or
//!   expires, another process calls the handler too. Each process serves only what its own lookup finds.
//! - **Task.** The handler of such a request runs in a task of its own, in the `tracing` span of the request. Its task-local
//!   values are not those of the request. A panic goes on in the first client's future.
//! - **Purges** ([`ResponseCache::purge_path`], [`purge_key`](ResponseCache::purge_key),
//!   [`purge_user`](ResponseCache::purge_user), [`purge_tag`](ResponseCache::purge_tag), or [`Invalidation`] and [`Tags`] in
//!   the response's extensions) cost one command at any number of entries. They reach every process on the store, and every
//!   host, query and variant. A request that comes after a purge has ended is never answered with a response whose handler
//!   began before it, but for the bound of [local copies](ResponseCache::local_copies) in other processes. An unsafe request
//!   (`PUT`, `POST`, ..) that succeeds purges its own path, and the paths that `Location` and `Content-Location` name on its
//!   host.
//! - **Operators** ask the [handle](CacheLayer::handle) of a layer what is stored for a request
//!   ([`look_up`](ResponseCache::look_up)) and what a purge would end ([`preview_path`](ResponseCache::preview_path) and its
//!   like, which scan the store).
//! - **Objects** ([`ResponseCache::objects`]) are values without HTTP under keys of your own, on the same store and with the
//!   same purges. See [`ObjectCache`].
//! - **`Cache-Status`** (RFC 9211) on every response tells what was done, and why. `stored` means that the response is being
//!   stored.
//! - **Two layers of one cache around each other.** Only the outer one is active, if both have one name and equal settings
//!   about [keys](#keys).
//! - **Always ready.** A hit needs no inner service, so `poll_ready` does not ask it. An outer `load_shed` does not see the
//!   load of what is inside.
//!
//! # Keys
//!
//! Whatever a handler can read of the target of a request is in the key, or the request passes by. So no client can make a
//! page for itself that others get.
//!
//! - **Scheme** and **host** are those of the URI (HTTP/2, or a target in absolute form), else of `Host`. If both are there and
//!   differ, the request passes by with `detail=authority`. A default port makes no difference there if the scheme is known.
//! - The **port** is in the key if it was sent, a default port too.
//! - A **URI that was rewritten** on its way from the router is in the key beside the one that the client sent, also behind a
//!   nested router. A purge reaches it by the path that the client sent.
//! - **`X-Forwarded-Host`**, `X-Forwarded-Proto`, `Forwarded`, `X-Original-URL`, `X-Rewrite-URL` and their like name another
//!   target. A request with one of them passes by with `detail=forwarded`. Behind a proxy that writes them, use
//!   [`key_headers`](CacheLayer::key_headers) and [`trust_headers`](CacheLayer::trust_headers).
//! - **Identity headers** are credentials: see [`credential_headers`](CacheLayer::credential_headers).
//!   A request with one on two different lines passes by with `detail=ambiguous-credential`, also under
//!   [`per_user`](CacheLayer::per_user): its handler may read the other line.
//!   [`ignore_cookies`](CacheLayer::ignore_cookies) names cookies that are none, [`per_user`](CacheLayer::per_user) keeps
//!   entries for each user.
//! - **A layer's own rules** are [`key`](CacheLayer::key), [`key_headers`](CacheLayer::key_headers),
//!   [`ignore_query`](CacheLayer::ignore_query) and [`sort_query`](CacheLayer::sort_query). Layers with other rules share no
//!   entries: see [`name`](CacheLayer::name).
//!
//! # Defaults
//!
//! | setting | default | changed by |
//! | --- | --- | --- |
//! | lifetime of responses that state none | they are not stored | [`CacheLayer::ttl`], [`CacheLayer::ttl_for`] |
//! | errors that are shared | none | [`CacheLayer::share_errors`] |
//! | stale use of responses that state no window | none | [`CacheLayer::stale_while_revalidate`], [`CacheLayer::stale_if_error`] |
//! | longest life of an entry | 24 hours | |
//! | credentials | `Authorization`, `Cookie`, `X-Api-Key`, identity headers | [`CacheLayer::credential_headers`], [`CacheLayer::ignore_cookies`] |
//! | what a client may ask | [`ClientDirectives::Coalesce`] | [`CacheLayer::client_directives`] |
//! | entity tags for responses without one | none | [`CacheLayer::etag`] |
//! | fields that name another target | the request passes by | [`CacheLayer::key_headers`], [`CacheLayer::trust_headers`] |
//! | key | the target as sent | [`CacheLayer::key`], [`CacheLayer::ignore_query`], [`CacheLayer::sort_query`] |
//! | entries of users | none | [`CacheLayer::per_user`] |
//! | response fields that are not stored | those of the connection, and of a client's quota (`RateLimit`, `X-RateLimit-*`) | [`CacheLayer::unstored_headers`] |
//! | longest body | 2 MiB | [`CacheLayer::max_body`] |
//! | variants of one address | 64 | [`CacheLayer::max_variants`] |
//! | longest handler call with its body | 30 s | [`CacheLayer::max_fill_time`] |
//! | after the last client has left | the call goes on | [`CacheLayer::fills_outlive_clients`] |
//! | all responses on their way into the store | 64 MiB, 1,000 calls | [`ResponseCache::fill_budget`] |
//! | copies in this process | none | [`ResponseCache::local_copies`] |
//! | one call over all instances | yes, on a shared store | [`ResponseCache::coalesce_over_instances`] |
//! | rules | [`Profile::Safe`] | [`CacheLayer::profile`] |
//! | name | `cache` | [`CacheLayer::name`] |
//!
//! # Layer order
//!
//! Put outside what every request must pass, such as authentication, rate limits and tracing: a hit does not reach what is
//! inside. Put inside what belongs to the response. A compression layer may be on either side. Around a whole `Router`, map
//! the body: `.map_response(|response| response.map(Body::new))`.
//!
//! A layer that is on in some environments alone is switched by [`enabled`](CacheLayer::enabled), or by `option_layer` of the crate
//! `axum-extra`. `ServiceBuilder::option_layer` does not compile, as the two services that it chooses from have to answer with one type
//! of body:
//!
//! ```compile_fail,E0271
//! use axum::{Router, routing::get};
//! use cache_layer::{CacheLayer, store::MemoryStore};
//! use tower::ServiceBuilder;
//!
//! let layer = CacheLayer::new(MemoryStore::new());
//! let layers = ServiceBuilder::new().option_layer(Some(layer));
//! let app: Router = Router::new().route("/", get(async || "hello")).layer(layers);
//! ```
//!
//! # When the store fails
//!
//! - A request goes to the handler, and its response is not stored. No request fails.
//! - A lookup takes at most 100 ms (or the store's own limit, see `Options::deadline`), and no time while the breaker of the
//!   store is open.
//! - A purge that fails is an error to its caller. This instance serves nothing from the cache until it has repeated the
//!   purge. Another instance that still reaches the store may serve old entries until then.
//! - An evicted entry is a miss. So is one whose stamp was evicted, in memory after a second at the latest.
//! - A Redis that comes back with old data (from a snapshot, or as a replica that took over) brings back what was purged. The
//!   first process that meets another server than before makes all entries invalid. So a failover costs misses. It is not
//!   seen through a user who may not call `INFO`, and not while two servers both take writes.
//!
//! The memory store is bounded in entries, and in bytes if [`with_bounds`](store::MemoryStore::with_bounds) made it. On Redis,
//! the eviction policy `allkeys-lru` fits.
//!
//! # Cancellation
//!
//! - A client that leaves does not end a handler call whose response may be stored. It goes on for at most
//!   [`CacheLayer::max_fill_time`]. A deploy loses it. Nothing partial is stored.
//! - A client that leaves ends a handler call that passes by the cache.
//! - A purge happens even if its future is dropped.
//! - An unsafe request whose client leaves before the response purges its path in the background.
//!
//! # Metrics and events
//!
//! `RUST_LOG=cache_layer=debug` tells of each request how it was answered and why, in the words of `Cache-Status`, and of each
//! response if it was stored. No event holds an address or a key. With the feature `metrics`:
//!
//! | Name | Kind | Labels | What |
//! | --- | --- | --- | --- |
//! | `cache_requests_total` | counter | `cache`, `result`, `reason` | requests; `result` is `hit`, `collapsed`, `confirmed`, `miss`, `bypass` or `only-if-cached`, `reason` is as in `Cache-Status` |
//! | `cache_fills_total` | counter | `outcome` | responses and objects that arrived whole, grew too large or took too long; `outcome` is `stored`, or why it was not |
//! | `cache_objects_total` | counter | `result` | requests for objects; `result` is `hit`, `collapsed` or `miss` |
//!
//! `cache` is the [name](CacheLayer::name) of the layer.
//!
//! # Features
//!
//! - `axum` (default): reads `OriginalUri`, without which nested routers share entries. [`PurgeError`] becomes a
//!   response.
//! - `hyper`: [`CacheLayer::grpc`] takes the request bodies of its servers as they are. So it does with `tonic`.
//! - `json`: `Json`, the codec of typed objects.
//! - `metrics`: counts requests, through the facade of the crate `metrics`.
//! - `redis`: `store::connect` for `redis://`.
//! - `redis-tls`: `store::connect` for `rediss://` too.
//! - `test-util`: what the differential tests use; not covered by semantic versioning.
//! - `tonic`: reads the peer's address from the connection of a tonic server; [`grpc::Status`] becomes a `tonic::Status`. Refusals
//!   over gRPC need no feature.
//! - `tonic-tls`: … and from that of a TLS stream of tokio-rustls which such a server is given.

mod call;
mod client_directives;
mod copies;
mod detach;
mod fetch;
mod fill;
mod flight;
#[cfg(test)]
mod golden;
mod grpc_calls;
mod http;
mod join;
mod key;
mod layer;
mod look_up;
mod metrics;
mod object;
mod plan;
mod purge;
mod recall;
mod refusal;
mod respond;
mod response_cache;
mod route;
mod service;
mod settings;
mod shared;
mod stats;
mod stored;
#[cfg(test)]
mod testing;

pub mod body;
pub mod future;

pub use layer_http::{Body, BodyError, RequestHead, grpc};
pub use layer_store as store;

#[cfg(feature = "metrics")]
pub use self::metrics::METRICS;
#[cfg(feature = "json")]
pub use self::object::codec::Json;
pub use self::{
    client_directives::ClientDirectives,
    grpc_calls::{layer::GrpcCacheLayer, service::GrpcCache},
    layer::CacheLayer,
    look_up::{LookUp, LookUpError, StoredResponse},
    object::{
        codec::{Codec, Raw},
        insert::InsertError,
        object_cache::ObjectCache,
    },
    purge::{
        Purge,
        error::PurgeError,
        invalidation::Invalidation,
        preview::{PreviewError, PurgePreview},
        tags::Tags,
    },
    refusal::CacheRefusal,
    response_cache::ResponseCache,
    service::Cache,
    settings::Profile,
    stats::Stats,
};

/// The program that checks the name of a server, for tests that compare its Lua body with its twin.
#[cfg(feature = "test-util")]
#[doc(hidden)]
pub static PROGRAM: &store::Program = &purge::old_data::RENAME;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
