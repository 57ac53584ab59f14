#![cfg_attr(docsrs, feature(doc_cfg))]
//! A Tower rate limiter over one pluggable store: exact GCRA, windows or an exact log, in memory or shared through Redis.
//!
//! It answers a request over its quota 429, with `Retry-After`, `RateLimit`, `RateLimit-Policy` and a problem document. Requests
//! are counted by address, header, path parameter or anything else in their head. It also limits how many requests are
//! [in flight](#in-flight-limits) at once.
//!
//! `tower::limit::RateLimit` makes all callers of one service wait. [`RateLimit`] of this crate keeps a balance for each caller,
//! and refuses.
//!
//! # Example
//!
//! ```
//! use axum::{Router, body::Body, routing::get};
//! use http::{Request, StatusCode};
//! use rate_limit_layer::{Quota, RateLimitLayer, header, store::MemoryStore};
//! use tower::ServiceExt;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let policy = Quota::per_minute(2).fail_open().by(header("x-api-key"));
//! let app: Router = Router::new()
//!     .route("/", get(|| async { "hello" }))
//!     .layer(RateLimitLayer::new(MemoryStore::new(), policy));
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
//! - A [`Quota`] is enforced by GCRA in exact integers: in any interval of length `t` at most `burst + limit * t / window` requests
//!   pass. So `per_hour(20)` lets 39 pass in the first hour of a caller: 20 at once, and one more every 3 minutes. Other
//!   [algorithms](#algorithms) are chosen by name.
//! - A refused request is charged nothing. It passes after exactly the reported time; a microsecond earlier it does not.
//! - [`Policy::by`] sets the identity that a policy counts by. A request without one is counted by its peer's address, apart from all
//!   identities.
//! - A layer can have several policies ([`RateLimitLayer::and`]): a request passes all of them, or is charged by none. Those that
//!   count it by one identity are one atomic command; each further identity costs another.
//! - A refusal is the truth over all policies: it names each that would refuse, and `Retry-After` is the latest of their times. After
//!   a command that refuses, those of the other identities look and charge nothing.
//! - `RateLimit-Policy` and `RateLimit` list all policies that count the request, the latter the tightest first. A policy that skips
//!   the request, or that no store could tell of, is left out. In `RateLimit-Policy`, `q` is what may be used in `w` seconds: the burst,
//!   and the time in which it is earned. For `per_minute(100).burst(20)` that is `q=20;w=12`, which a client can use to the full and is
//!   never refused. `w` is rounded up, and left out if it is less than a second.
//! - If a later command refuses, the charges of the earlier ones are refunded. Until then other requests may see a slightly
//!   lower balance and be refused. The refund comes a moment after the charge, and requests earned in that moment may pass above
//!   the bound.
//! - Policies with one name on one store share their state, and the default name is the quota's text. The same quota in two
//!   layers counts a request that passes both twice, and two services on one Redis spend each other's quota. Write
//!   [`Policy::name`], or give each service a prefix ([`Options::prefix`](store::Options::prefix), `REDIS_KEY_PREFIX`).
//! - A request that names two identities, such as an API key on two different header lines, is answered 400. Two equal lines are
//!   one.
//! - [`Policy::cost`] gives each policy a cost of its own: 60 requests and 100,000 tokens a minute in one check.
//! - [`Policy::charge_on`] keeps a charge only for some responses, such as failed logins; [`Policy::charge_declared`] and
//!   [`Policy::charge_used`] keep a part of it. All requests are charged first, and what is not kept is given back with the
//!   response's head. Without a response, as when the client has left, the charge stays.
//! - [`Policy::block`] refuses everything of a client for a while that goes on and on against its refusals, each time for twice as long.
//! - [`Policy::shadow`] puts a policy on trial: the metrics tell what it would have refused, and no response does.
//! - [`Limiter::reserve`] charges the most that work may cost before it begins, such as the tokens of an answer, and gives back what
//!   it did not cost.
//! - With [`or_refuse`](KeyExtractor::or_refuse), a request without an identity is answered 400. A policy by a path parameter that
//!   the route does not have answers 500, with one error event. Both are problem documents, and nothing is charged.
//! - Every refusal has a [`RateLimitRefusal`] in its response's extensions. [`RateLimitRefusal::to_response`] makes the layer's
//!   response again, for checks by a [`Limiter`].
//! - The time is that of Redis, or of the memory store's clock. A client's clock decides nothing.
//!
//! # Algorithms
//!
//! | [`Algorithm`] | written | at most | memory for a key | take it |
//! | --- | --- | --- | --- | --- |
//! | GCRA, the default | `per_minute(100)`, `.burst(20)` | in any interval of length `t` `burst + limit * t / window` | one number, 88 bytes in Redis | for nearly everything: requests come back one by one, and nobody waits for an edge |
//! | sliding window | `per_minute(100).sliding_window()` | `limit` in each window, less than `2 * limit` in any span shorter than a window | three numbers, 120 bytes | where "100 a minute" is to hold for steady callers, and for the habits of other limiters |
//! | fixed window | `per_minute(100).fixed_window()` | `limit` in each window, `2 * limit` in any span shorter than a window | two numbers, 120 bytes | for quotas that begin anew at a known time |
//! | calendar window, feature `calendar` | `per_calendar_day(1_000, "Europe/Berlin")`, `per_calendar_month` | as a fixed window, whose windows are the zone's days or months | two numbers, 120 bytes | for what is sold or told by the day or the month |
//! | exact log | `Quota::exact(20, hour)` | `limit` in any span shorter than a window | 16 bytes for each request of the last window: 472 for 20, 16 kB for 1,000 | where one more costs money, for limits of at most 1,000 |
//!
//! Windows begin at multiples of their length from 1970 on, or at the zone's midnights, by the store's clock. Each bound is proved and tested, on both stores. What all
//! have in common: a refused request is charged nothing and passes after exactly the told time; all of a layer's policies are one atomic
//! command for each identity, whatever their algorithms are; `q` and `w` of `RateLimit-Policy` are the limit and its window.
//!
//! - Only GCRA has a burst, and only GCRA charges [in advance](#charging-in-advance).
//! - While the store fails, each process counts at GCRA's rate: with a burst of the limit for an exact log, of twice the limit for all
//!   other windows. Less would refuse what they let through around an edge.
//! - What is given back after its window is over, by [`Limiter::reserve`] or because a later policy refuses, is not credited to
//!   the next window.
//! - A policy whose algorithm changes begins anew: no algorithm reads what another one has kept.
//! - GCRA in whole microseconds costs Redis the least. The script of the others takes about twice that; a log of 1,000 times about ten times.
//!
//! # Defaults
//!
//! | setting | default |
//! | --- | --- |
//! | algorithm | GCRA |
//! | identity that a policy counts | the peer's address, IPv6 by its /64 |
//! | burst | the limit |
//! | failure mode | none: write [`Quota::fail_open`], [`Quota::fail_closed`] or [`Quota::fail_local`] |
//! | name | the quota's text, such as `100/min` |
//! | cost | 1: [`RateLimitLayer::cost`], or for one policy [`Policy::cost`] |
//! | headers | on |
//! | `X-RateLimit-*` headers | off: [`RateLimitLayer::legacy_headers`] |
//! | requests that pass uncounted | none: [`RateLimitLayer::skip`], and [`skip`] for ready rules |
//! | blocks | none: [`Policy::block`]; without [`Block::up_to`] they do not grow |
//! | changes of a refusal | none: [`RateLimitLayer::on_refused`] |
//! | standing in the request's extensions | off |
//! | quotas of some clients | none: [`Policy::tier`], [`Policy::tier_look_up`] |
//! | tiers that are kept | 10,000, each fresh for 1 minute: [`TierLookUp`] |
//!
//! # Layer order
//!
//! Put CORS and tracing outside, so that browsers and logs see the refusals; and authentication, if a policy counts users. Put
//! caches and locks inside, as a refused request should not reach them.
//!
//! A peer's address is known only if the server tells it: serve axum with
//! `into_make_service_with_connect_info::<SocketAddr>()`.
//!
//! A layer that is on in some environments alone is switched by [`enabled`](RateLimitLayer::enabled):
//!
//! ```
//! use rate_limit_layer::{Quota, RateLimitLayer, store::MemoryStore};
//!
//! # let in_production = false;
//! let limit = RateLimitLayer::new(MemoryStore::new(), Quota::per_minute(100).fail_open()).enabled(in_production);
//! # let _ = limit;
//! ```
//!
//! `option_layer` of the crate `axum-extra` does so, too. `ServiceBuilder::option_layer` does not compile, as the two services that it chooses from have to answer with one type of body:
//!
//! ```compile_fail,E0271
//! use axum::{Router, routing::get};
//! use rate_limit_layer::{Quota, RateLimitLayer, store::MemoryStore};
//! use tower::ServiceBuilder;
//!
//! let limit = RateLimitLayer::new(MemoryStore::new(), Quota::per_minute(100).fail_open());
//! let layers = ServiceBuilder::new().option_layer(Some(limit));
//! let app: Router = Router::new().route("/", get(async || "hello")).layer(layers);
//! ```
//!
//! Around a whole `Router` the layer answers with a body of its own. `axum::serve` takes that of axum alone, so map it back:
//!
//! ```
//! use axum::{Router, ServiceExt, body::Body, extract::Request, response::Response, routing::get};
//! use rate_limit_layer::{Quota, RateLimitLayer, store::MemoryStore};
//! use tower::ServiceBuilder;
//!
//! # async fn serve(listener: tokio::net::TcpListener) -> std::io::Result<()> {
//! let limit = RateLimitLayer::new(MemoryStore::new(), Quota::per_minute(100).fail_open());
//! let app = ServiceBuilder::new()
//!     .map_response(|response: Response<_>| response.map(Body::new))
//!     .layer(limit)
//!     .service(Router::new().route("/", get(async || "hello")));
//! axum::serve(listener, ServiceExt::<Request>::into_make_service(app)).await
//! # }
//! ```
//!
//! Without `map_response` it does not compile:
//!
//! ```compile_fail,E0271
//! use axum::{Router, ServiceExt, extract::Request, routing::get};
//! use rate_limit_layer::{Quota, RateLimitLayer, store::MemoryStore};
//! use tower::Layer;
//!
//! # async fn serve(listener: tokio::net::TcpListener) -> std::io::Result<()> {
//! let limit = RateLimitLayer::new(MemoryStore::new(), Quota::per_minute(100).fail_open());
//! let app = limit.layer(Router::new().route("/", get(async || "hello")));
//! axum::serve(listener, ServiceExt::<Request>::into_make_service(app)).await
//! # }
//! ```
//!
//! Clients of gRPC are refused in gRPC, by the layer that refuses those of HTTP: the page of [`grpc`] has the codes, and the places in
//! a tonic server.
//!
//! # Waiting instead of refusing
//!
//! [`Limiter::until_ready`] waits until a request may pass, or refuses at once if that would be after its deadline.
//! [`ThrottleLayer`] does so in front of any service: an HTTP client, a job worker, a channel. Requests of one identity pass in the
//! order in which they came, within one process.
//!
//! # When the store fails
//!
//! | | fail open, fail local | fail closed |
//! | --- | --- | --- |
//! | gone, slow, or its breaker open | the request passes, without the two headers, as far as this process has quota left | 503 with `Retry-After`, refusal [`Unavailable::StoreDown`] |
//! | this process is too busy to ask it in time | as above; the breaker stays closed | 503 with `Retry-After`, refusal [`Unavailable::Overloaded`] |
//! | a memory store full of entries that it must keep | new clients share one quota, with a warning | as with fail open |
//! | Redis is full | as if it were gone, with a warning | 503, refusal [`Unavailable::StoreFull`] |
//! | Redis evicts (`maxmemory-policy` is not `noeviction`) | a client whose state it evicts has its whole quota again, after a second at most | the same |
//! | a replica | as if it were gone: a check is a write, and only the primary makes it | as if it were gone |
//! | restarted empty | every balance starts full, after a second at most | every balance starts full, after a second at most |
//! | a command was applied and its reply lost | passes; charged once, never twice | 503; charged once, never twice |
//!
//! One policy that fails closed is enough for a 503. A check takes at most 100 ms, however many commands it needs, or the limit
//! that `Options::deadline` sets. While the breaker is open it takes no time.
//!
//! The breaker warns of an outage. Other reasons why a limit cannot be checked, such as a Redis user who may not run scripts or
//! the overload of this process, are warned of by this crate: at the first failure, the second, the fourth, and so on.
//!
//! A Redis for limits has `maxmemory-policy noeviction`. One that evicts is warned of when a store connects to it; `SharedStore::doctor`
//! lists it, and `Options::refuse(FindingKind::Eviction)` makes it an error of `connect`.
//!
//! A store over a network needs a tokio runtime with its timer and its driver. The memory store needs none.
//!
//! # The ledger
//!
//! Over a store behind a network, a limiter also counts in this process what it has let through, and what the store reported.
//! Both are at most what all processes have let through together. So a request that this ledger refuses would be refused by the
//! store too, and is refused at once:
//!
//! - A key over its quota costs no command, however many requests it sends. One request a second asks the store anew, so a
//!   [reset](Limiter::reset) or a larger quota at another process is seen within a second.
//! - At most 32 calls for one key are under way at once. A flood of one key leaves the store to others.
//! - While the store fails, a policy that fails open lets through what its quota allows, in each process: at most
//!   `burst + limit * t / window` requests in any interval of length `t`, where `burst` is twice the limit for fixed and sliding windows. With `n` processes that is `n` times the quota. A policy with
//!   [`fail_local(n)`](Quota::fail_local) lets one part in `n` through instead.
//! - What passed without the store is counted here until it is earned again, also after the store is back. A reset at another
//!   process does not change that; a reset at this one does.
//!
//! A ledger holds 65,536 keys, in at most 9 MB. A full one forgets the keys that owe least, and what is over its quota last.
//!
//! # Charging in advance
//!
//! Over a network each check is a command. For a key with many requests, such as one limit of a whole service,
//! [`prepaid(k)`](RateLimitLayer::prepaid) charges up to `k` requests in advance, so that one command is enough for `k` checks:
//!
//! ```
//! # use rate_limit_layer::{Quota, RateLimitLayer, key_fn, store::MemoryStore};
//! # let store = MemoryStore::new();
//! let whole_service = Quota::per_second(20_000).name("all").by(key_fn(|_| Some("all".into()))).fail_open();
//! let layer = RateLimitLayer::new(store, whole_service).prepaid(50);
//! # let _ = layer;
//! ```
//!
//! - In any interval of length `t`, `n` processes let at most `burst + t * limit / window + n * k` requests pass. In the long run no more
//!   pass than without.
//! - The next command begins with the last request of a stock. While it is under way the checks of its key wait, and all that wait share
//!   the next one.
//! - The number adapts to the key. What is not used within a second is given back; until then it is not there for other processes.
//! - It is off by default, for limiters of one policy only, and does nothing over a memory store.
//!
//! # Tiers, and quotas that change
//!
//! A policy may have other quotas for some clients: [`Policy::tier`] finds them in the request, and [`Policy::tier_look_up`] in a database or
//! another service, by an asynchronous look-up whose answers are kept. [`Limiter::set_quota`], [`Limiter::set_policies`] and
//! [`Limiter::reload_every`] change the quota of a policy while the service runs.
//!
//! ```
//! use rate_limit_layer::{Identity, Quota, RateLimitLayer, TierLookUp, header, store::MemoryStore};
//!
//! # #[derive(Clone)] struct Database;
//! # impl Database { async fn quota(&self, _: Identity<'static>) -> Result<Option<Quota>, std::io::Error> { Ok(None) } }
//! # let database = Database;
//! let plans = TierLookUp::new(move |key| {
//!     let database = database.clone();
//!     async move { database.quota(key).await }
//! });
//! let by_key = Quota::per_minute(60).name("api").by(header("x-api-key")).fail_open();
//! let layer = RateLimitLayer::new(MemoryStore::new(), by_key.tier_look_up(plans));
//! layer.handle().set_quota("api", Quota::per_minute(30))?; // for clients without a plan
//! # Ok::<_, rate_limit_layer::InvalidChange>(())
//! ```
//!
//! - A change refills no balance and locks nobody out. Under GCRA a client owes a time: 50 of 100 a minute are half a minute, as 5 of
//!   10 are. What it owes above the burst of its new quota is forgiven when that quota refuses it. Under other algorithms the count
//!   stays, and only the limit may change.
//! - All quotas of a client share its ledger, and so what a process lets through while the store fails; for GCRA. Where windows are counted,
//!   the ledger begins anew with a change.
//! - A look-up is made once for each client and minute, for at most 64 clients at once, and takes at most 250 ms. While it fails a client has
//!   the tier that is known, or else the policy's own quota.
//!
//! # In-flight limits
//!
//! A quota limits how many requests come in a time. An [`InFlightLayer`] limits how many of one identity are in flight at once, over
//! all processes: for routes that are dear, or clients that are slow. [`InFlightLimiter`] is the same without HTTP.
//!
//! ```
//! use axum::{Router, routing::get};
//! use rate_limit_layer::{InFlightLayer, MaxInFlight, header, store::MemoryStore};
//!
//! let reports = MaxInFlight::new(5).name("reports").by(header("x-api-key")).fail_open();
//! let app: Router = Router::new()
//!     .route("/report", get(|| async { "a long report" }))
//!     .layer(InFlightLayer::new(MemoryStore::new(), reports));
//! # let _ = app;
//! ```
//!
//! - A request takes a [`Permit`] before its handler runs. It is given back when the response's body has ended with all of its frames
//!   and trailers, or broke off, or was dropped; and when the handler fails or panics, or the client leaves before.
//! - Over a network that is one command to take and one to give back, for which nobody waits. A request that finds all permits
//!   held by its own process costs none.
//! - A permit has a lease, by default 30 s, and its process renews it at each third. After a process has died, all of its permits
//!   are free within one lease. So is a permit whose reply was lost, if the command that gives it back is lost too.
//! - Never more than the limit are in flight, with these exceptions: while the store is down each process counts for itself, as the
//!   failure mode says; after the store has forgotten its data, as by a restart, up to the limit may pass beside those
//!   in flight, until these are renewed a third of a lease later; and a process that stands still for two thirds of a
//!   lease may lose its permits to others, while its requests go on.
//! - A refused request is answered 429, or 503 if [`MaxInFlight::status`] says so, with a problem document, the two headers with
//!   `qu="concurrent-requests"`, and `Retry-After`: for as long as requests were lately in flight, at least 1 s. The reason is an
//!   [`InFlightRefusal`] in the response's extensions.
//! - Put this layer inside a rate limit: a request that a quota refuses then takes no permit.
//! - The response that upgrades a connection, as to a websocket, has no body, so its permit is given back at once. Take one from an
//!   [`InFlightLimiter`] in the task of the connection.
//!
//! # Cancellation
//!
//! A request that is dropped while the store is asked was charged once or not at all. If it has several identities, the charges
//! of those that were already made are refunded. Of rate limits nothing is held between a request and its response, but for the
//! charges of [`Policy::charge_on`], which stay if there is no response. An in-flight
//! limit holds a permit, which is given back wherever the request is dropped.
//!
//! # Metrics and events
//!
//! `RUST_LOG=rate_limit_layer=debug` tells why a request was refused: the policy, its limit, the cost and the wait, or the
//! cause why the store did not answer. No event holds an identity. With the feature `metrics`:
//!
//! | Name | Kind | Labels | What |
//! | --- | --- | --- | --- |
//! | `rate_limit_blocks_total` | counter | `policy` | blocks that have begun, as a request in this process made the last strike (`Policy::block`) |
//! | `rate_limit_decisions_total` | counter | `policy`, `outcome` | decisions; `outcome` is `admitted`, `refused`, `refused_by_ledger`, `failed_open` or `failed_closed`; of a shadow policy `shadow_admitted`, `would_refuse` or `shadow_unchecked` |
//! | `rate_limit_near_limit_total` | counter | `policy` | keys that came near a limit, once for each window (`near_limit`) |
//! | `rate_limit_unchecked_total` | counter | `reason` | commands without an answer; `reason` is `store_down`, `store_full` or `overloaded` |
//!
//! A request counts once for each policy that charged it, refused it, or could not be checked. In-flight limits count under their
//! names, too. A policy's name is a label, so it must come from a small set.
//!
//! [`RateLimitLayer::near_limit`] tells of keys before they are refused, by an event at info and its counter.
//! [`RateLimitLayer::track_top`] keeps a bounded list of the keys that are refused most, for [`Limiter::top`]. Both name a key by a hash;
//! identities are listed only if they are asked for.
//!
//! Mistakes in how layers are put together are warned of once, each with a help page: see [`warnings`].
//!
//! # Features
//!
//! - `axum` (default): reads `ConnectInfo`, `MatchedPath` and `OriginalUri` from a request's extensions; handlers can take
//!   `Option<Standing>`.
//! - `redis`: `store::connect` for `redis://`.
//! - `redis-tls`: the same for `rediss://`.
//! - `calendar`: quotas of a time zone's days and months, `Quota::per_calendar_day`, by the crate `jiff`. The time zones are those of the
//!   system, or else of the program.
//! - `metrics`: counts decisions, through the facade of the crate `metrics`.
//! - `serde`: [`Quota`] and [`Policy`] are read from files, and a quota is written.
//! - `test-util`: what the differential tests use; not covered by semantic versioning.
//! - `tonic`: reads the peer's address from the connection of a tonic server; [`grpc::Status`] becomes a `tonic::Status`. Refusals
//!   over gRPC need no feature.
//! - `tonic-tls`: … and from that of a TLS stream of tokio-rustls which such a server is given.

mod algorithm;
mod body_end;
mod check;
#[cfg(feature = "axum")]
mod extract;
pub mod future;
#[cfg(test)]
mod golden;
mod in_flight;
mod layer;
mod ledger;
mod limiter;
mod metered;
mod metrics;
mod observe;
mod policy;
mod prepaid;
mod provisional;
mod reserved;
mod response;
mod service;
mod shadow;
mod shared;
pub mod skip;
mod throttle;
mod tier;
mod verdict;
pub mod warnings;

pub use layer_http::{
    BearerToken, Body, BoxError, ClientIp, Content, Extension, GrpcMethod, GrpcService, Header,
    Identity, InvalidCidr, KeyExtractor, KeyFn, OnMissing, OrClientIp, OrRefuse, OrShared, OrSkip,
    PeerAddr, PeerIp, PeerNetwork, Problem, RequestHead, Resolved, UnixPeer, bearer_token,
    extension, grpc, grpc_method, grpc_service, header, joined, key_fn,
};
#[cfg(feature = "axum")]
pub use layer_http::{PathParam, Route, path_param, route};
pub use layer_store as store;

#[cfg(feature = "metrics")]
pub use self::metrics::METRICS;
pub use self::{
    algorithm::Algorithm,
    check::outage::Unavailable,
    in_flight::{
        body::InFlightBody,
        layer::InFlightLayer,
        limiter::InFlightLimiter,
        permit::Permit,
        policy::{InFlightPolicy, InvalidMaxInFlight, MaxInFlight},
        refusal::{InFlightRefusal, LimitReached},
        service::InFlight,
    },
    layer::RateLimitLayer,
    limiter::Limiter,
    metered::MeteredBody,
    observe::top::TopKey,
    policy::{
        FailureMode, IntoPolicy, Policy, UnfinishedPolicy,
        block::Block,
        cost::InvalidCost,
        quota::{InvalidQuota, Quota},
    },
    provisional::response_head::{Charged, ResponseHead},
    reserved::Reserved,
    response::RateLimitRefusal,
    service::RateLimit,
    throttle::{Throttle, ThrottleError, ThrottleFuture, ThrottleLayer},
    tier::{change::InvalidChange, look_up::TierLookUp},
    verdict::{QuotaExceeded, Standing, Verdict},
};

/// The programs of the checks, for tests that compare their Lua bodies with their twins.
#[cfg(feature = "test-util")]
#[doc(hidden)]
pub static PROGRAMS: [&store::Program; 6] = [
    &algorithm::program::CHARGE,
    &algorithm::program::CHARGE_ONE,
    &algorithm::program::CHARGE_DEBTS,
    &algorithm::program::CHARGE_FIXED_WINDOW,
    &algorithm::program::CHARGE_SLIDING_WINDOW,
    &algorithm::program::CHARGE_OR_BLOCK,
];

/// The programs of in-flight limits, for the same tests.
#[cfg(feature = "test-util")]
#[doc(hidden)]
pub static PERMIT_PROGRAMS: [&store::Program; 3] = [
    &in_flight::program::TAKE,
    &in_flight::program::RENEW,
    &in_flight::program::GIVE_BACK,
];

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/migrate/from-tower-governor.md")]
struct FromTowerGovernor;

#[cfg(doctest)]
#[doc = include_str!("../docs/migrate/from-upstash-ratelimit.md")]
struct FromUpstashRatelimit;
