#![cfg_attr(docsrs, feature(doc_cfg))]
//! Tower layers that run a request once: idempotency keys, and locks over all processes on one store.
//!
//! [`IdempotencyLayer`] replays the first response to a repeated request instead of running it again. [`LockLayer`] lets one
//! request at a time through for each key, and [`Locks`] does the same for handlers, workers and CLIs.
//!
//! # Example
//!
//! ```
//! use axum::{Router, body::Body, extract::Path, routing::post};
//! use http::{Request, StatusCode};
//! use lock_layer::{AcquireError, ClientScope, IdempotencyLayer, Locks, header, store::{MemoryStore, SharedStore}};
//! use tower::ServiceExt;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let store = SharedStore::new(MemoryStore::new()); // or: store::connect("redis://127.0.0.1").await?
//! let by_user = ClientScope::of(header("x-user")).or_refuse();
//! let once = IdempotencyLayer::at_most_once(store.clone(), by_user);
//! let locks = Locks::new(store).busy_title("Already booked");
//! let desk = locks.clone();
//!
//! // One lock for each day, all of them or none. The days are in the request's body.
//! let book = move |Path(car): Path<String>, days: String| async move {
//!     let guard = desk.group(format!("car:{car}")).try_acquire(days.split(' ')).await?;
//!     // .. write the booking with guard.fence() ..
//!     guard.release().await.ok();
//!     Ok::<_, AcquireError>((StatusCode::CREATED, "booked"))
//! };
//! let app: Router = Router::new().route("/cars/{id}/bookings", post(book).layer(once));
//! let request = |key: &str| {
//!     let request = Request::post("/cars/7/bookings").header("x-user", "ada");
//!     request.header("idempotency-key", key).body(Body::from("mon tue")).unwrap()
//! };
//!
//! let first = app.clone().oneshot(request("1")).await?;
//! assert_eq!(first.status(), StatusCode::CREATED);
//! let again = app.clone().oneshot(request("1")).await?;
//! assert_eq!(again.status(), StatusCode::CREATED);
//! assert_eq!(again.headers()["idempotency-replayed"], "true"); // the handler did not run
//!
//! let tuesday = locks.group("car:7").try_acquire("tue").await.unwrap();
//! let refused = app.clone().oneshot(request("2")).await?;
//! assert_eq!(refused.status(), StatusCode::CONFLICT);
//! assert_eq!(refused.headers()["retry-after"], "1"); // locks here are held for less than a second
//! drop(tuesday);
//! // Nothing was done, so the same key may be tried again.
//! assert_eq!(app.oneshot(request("2")).await?.status(), StatusCode::CREATED);
//! # Ok::<_, std::convert::Infallible>(())
//! # }).unwrap();
//! ```
//!
//! # Idempotency keys
//!
//! A client sends the header `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header) with each `POST` and `PATCH`:
//!
//! - The first request with a key *claims* it with one plain command (`SET NX GET PX`), runs, and writes its *record* before
//!   the response leaves. With `at_most_once` on Redis, a command between the two says that the run begins: a claim of which its
//!   process heard nothing ends after a second, and the next request runs.
//! - A repetition costs one command. It gets a *replay*: the first status, body, trailers and headers, with
//!   `Idempotency-Replayed: true`. `Set-Cookie`, `Date`, `RateLimit` and the headers of one connection are left out.
//! - A key belongs to a client ([`ClientScope`]), method and route; and to a host, if the scope says
//!   [`per_host`](ClientScope::per_host). A repetition finds its record at each instance, name and port of the service. It must
//!   have the same *fingerprint*: a hash of method, path, query, content type and body.
//! - The handler runs in a task of its own, in the caller's span but without its task-locals. A client that leaves does not
//!   stop it, and finds the response when it comes back. A panic is recorded, and then goes on in the caller.
//! - A response that comes bit by bit reaches its client as it comes, and is copied beside it. One that is longer than the
//!   limit, or does not end, reaches its client too. A repetition learns that it was not kept, and does not run.
//! - A response that is [not for keeping](IdempotencyLayer::unkept_types) reaches its client uncopied; copies of completed records
//!   [in the process](IdempotencyLayer::local_copies) make replays that cost no command.
//! - A handler may report the outcome of its run: [`RunOutcome`]. It may read its key and its attempt: [`IdempotencyContext`].
//!
//! For an API that has clients already, the key may be [optional](IdempotencyLayer::optional_key), come from
//! [another header](IdempotencyLayer::key_header) or be [derived](IdempotencyLayer::key); what counts of a
//! [payload](IdempotencyLayer::payload) is a choice, and so are the [headers](IdempotencyLayer::replay_headers) of a replay. A
//! repetition may [wait](IdempotencyLayer::wait) for the first response in place of 409.
//!
//! The meaning of a failure is a choice that nobody can make for the handler:
//!
//! | | [`at_most_once`](IdempotencyLayer::at_most_once) | [`retry_safe`](IdempotencyLayer::retry_safe) |
//! | --- | --- | --- |
//! | for | payments | one transaction, upserts |
//! | kept | all except 429, 503 | 2xx, 3xx, and 4xx except 401, 408, 409, 423, 425, 429 |
//! | panic, service error, body broken off | 409 `outcome-unknown` from then on | the next request runs |
//! | process died | 409 `in-progress`, and after the expected run `outcome-unknown` | the next request runs, 30 s later |
//!
//! [`Idempotent`] does the same without HTTP, for job workers and CLIs: `jobs.run(key, async || ..)` keeps a typed result, and
//! `jobs.once(key, time)` tells the first from all others.
//!
//! No middleware is exactly-once: a process can die between an effect and its record. Where that matters, let the effect check
//! for itself, with a unique index or a fencing token.
//!
//! # Locks
//!
//! - A *unit* is in a *group*: the day `2026-12-01` is a unit of the group `car:7`. Up to 64 units of a group are taken in one
//!   atomic command, all or none, in any order. [`LockLayer`] locks one unit, `-`, of the group that its key names.
//! - A *holder* has the units for a *lease*. Others are refused at once, and told when the lease ends; or they wait for a time
//!   that you set ([`LockGroup::acquire`], [`LockLayer::wait`]). Those who wait in one process are served in the order in which
//!   they came; one of them asks the store, when it is told to.
//! - Units may be [shared](LockGroup::try_acquire_shared) by many who read, or held by one alone. One that waits to have a unit alone
//!   goes before new ones that would share it, so writers do not starve. A layer tells the two apart by
//!   [`shared_for`](LockLayer::shared_for).
//! - A task renews the lease after each third of it, for as long as the [`LockGuard`] lives: one task for all locks of a runtime, up
//!   to 64 locks in a round trip. None of its round trips waits for another.
//! - A holder's own deadline counts from before the command was sent, so it comes before the store's. A lock that could not be
//!   renewed is lost for its holder ([`LockGuard::lost`], [`LockContext::lost`]) before another is let in, unless the process
//!   itself was stopped.
//! - A store that *forgets* a lock lets another holder in at once: `FLUSHALL`, `DEL`, eviction, a failover, a restart without
//!   persistence. Then two believe in the lock for a time. A lock that is held for 50 ms or longer is watched, so where the store
//!   pushes ([`StoreInfo::watches`](store::StoreInfo::watches): memory, and Redis over RESP3 with `CLIENT TRACKING`) that time is
//!   less than 100 ms. Elsewhere, and while the connection is down, it lasts until the next renewal: a third of the lease, 10 s
//!   by default. Only a fencing token keeps the first holder from writing meanwhile.
//! - A lock may stay for a time after its holder, as a reservation ([`LockGuard::keep`], [`LockLayer::hold_on_success`]).
//! - A release compares the holder's token, so a late one never releases another's lock. [`LockLayer`] releases before the
//!   response leaves; a body that is produced later is produced without the lock.
//! - An attempt whose reply was lost is repeated with the same token, and is not refused by its own lock.
//!
//! # Fencing tokens
//!
//! A lock alone cannot stop a process that was suspended and goes on: it still believes in a lock that has ended. A *fencing
//! token* ([`LockGuard::fence`]) can. It is at least the server's time in microseconds, and always more than the last one given
//! for any of its units. So it rises over expiry, eviction, `FLUSHALL`, a failover, and a restart on memory. Write it beside
//! the data that the lock protects:
//!
//! ```sql
//! UPDATE cars SET price = $1, fence = $2 WHERE id = 7 AND fence < $2 -- no row: a later holder has written
//! ```
//!
//! # When two may hold
//!
//! Two may believe in a lock at a time, and both write if nothing but the lock keeps them apart:
//!
//! | What happens | How long the first believes in its lock |
//! | --- | --- |
//! | Its process is stopped after its last look at the lock (`SIGSTOP`, a paused machine, a blocked runtime) | until it looks again |
//! | `FLUSHALL`, `DEL` of the lock and its fencing token, eviction, [`force_release`](LockGroup::force_release) | less than 100 ms where the store pushes, elsewhere a third of the lease |
//! | The server restarts without the lock: without an append-only file, or with one that is not written at each command | a third of the lease |
//! | A replica is promoted that has not heard of the lock | a third of the lease |
//! | The server's clock jumps ahead, and its lease ends early | less than 100 ms where the store pushes the expiry, elsewhere a third of the lease |
//! | It was told that its lock is lost, and writes all the same | |
//!
//! With a write that compares [fencing tokens](#fencing-tokens) none of these makes a double booking. Connections that break,
//! replies that are lost, scripts that are forgotten, a server that stands still, and a restart with an append-only file that is
//! written at each command (`appendfsync always`) let nobody else in. So a store for locks has `maxmemory-policy noeviction` and
//! `appendfsync always`. [`Locks::doctor`] and [`IdempotencyLayer::doctor`] tell what a server lacks for its use, and
//! [`checked`](IdempotencyLayer::checked) refuses one that is not fit.
//!
//! # For operators
//!
//! [`IdempotencyLayer::handle`] finds a record by client and key, tells its state and age, marks it done or forgets it, and lists
//! those that wait for a person, or walks through them one by one. [`LockGroup::inspect`] and [`LockLayer::handle`] show who holds what since when, alone or
//! with how many others, and release it by force.
//!
//! # Problems
//!
//! A refusal is a problem document (RFC 9457). Its type is `https://docs.rs/lock-layer/#` and a word of this table. Its reason
//! is in the response's extensions: a [`LockRefusal`] or an [`IdempotencyRefusal`].
//!
//! | Type | Status | |
//! | --- | --- | --- |
//! | <span id="lock-busy"></span>`lock-busy` | 409 or that of choice, `Retry-After` | another holder has it |
//! | <span id="lock-units"></span>`lock-units` | 400 | no unit, or more than 64 |
//! | <span id="key-missing"></span>`key-missing` | 400 | no `Idempotency-Key` |
//! | <span id="key-invalid"></span>`key-invalid` | 400 | two lines, over 255 characters, or not visible ASCII |
//! | <span id="key-reused"></span>`key-reused` | 422 | the key came with another request before |
//! | <span id="in-progress"></span>`in-progress` | 409, `Retry-After` | the first request is running |
//! | <span id="outcome-unknown"></span>`outcome-unknown` | 409 | it was begun; a person has to check |
//! | <span id="body-not-kept"></span>`body-not-kept` | 409, `original-status` | it is done; the response was too long, or is not for keeping |
//! | <span id="body-too-large"></span>`body-too-large` | 413 | the request's body is over the limit |
//! | <span id="body-unreadable"></span>`body-unreadable` | 400 | the request's body broke off |
//! | <span id="not-unary"></span>`not-unary` | 501 | a call of gRPC has several messages or none |
//! | <span id="client-missing"></span>`client-missing` | 400 | the scope found no client, and refuses such requests |
//! | <span id="client-unknown"></span>`client-unknown` | 500 | neither the scope nor the peer's address identifies the client |
//! | <span id="closing"></span>`closing` | 503, `Retry-After` | the service stops; nothing was done |
//! | <span id="store-unavailable"></span>`store-unavailable` | 503, `Retry-After` | the store did not reply; nothing was done |
//!
//! Three more have the type `about:blank`: 400 if a lock's extractor refuses a request without a key, 400 if the request names two,
//! such as a header on two different lines, and 500 if it cannot find a
//! key on this route.
//!
//! # Defaults
//!
//! | Setting | Default |
//! | --- | --- |
//! | [`lease`](Locks::lease) | 30 s |
//! | [`busy_title`](Locks::busy_title), [`busy_status`](Locks::busy_status) | `Locked`, 409 |
//! | [`wait`](LockLayer::wait) for a lock | none: 409 at once |
//! | requests that [share](LockLayer::shared_for) a lock | none |
//! | [`methods`](IdempotencyLayer::methods) that need a key | `POST`, `PATCH` |
//! | [`grpc_methods`](IdempotencyLayer::grpc_methods) that need a key | all |
//! | key | required, in `Idempotency-Key` |
//! | [`payload`](IdempotencyLayer::payload) | content type and body, byte by byte |
//! | [`replay_headers`](IdempotencyLayer::replay_headers) | all but `Set-Cookie`, `Date`, those of one connection, and of a client's quota (`RateLimit`, `X-RateLimit-*`) |
//! | [`unkept_types`](IdempotencyLayer::unkept_types) | `text/event-stream` |
//! | [`local_copies`](IdempotencyLayer::local_copies) | none |
//! | [`wait`](IdempotencyLayer::wait) | none: 409 at once |
//! | [`max_request_body`](IdempotencyLayer::max_request_body) | 1 MiB |
//! | [`max_response_body`](IdempotencyLayer::max_response_body) | 1 MiB, copied for at most the expected run |
//! | [`keep_for`](IdempotencyLayer::keep_for) | 24 h |
//! | [`expected_run`](IdempotencyLayer::expected_run) | 30 s |
//!
//! # Layer order
//!
//! `.layer((idempotency, lock))`: idempotency outside. Then a repetition is replayed without a lock, and a refusal by the lock
//! leaves no record. Both go inside rate limits, and inside the authentication that the client scope relies on. Idempotency
//! goes inside compression; otherwise a replay may come in an encoding that its client did not ask for.
//!
//! A layer that is on in some environments alone is switched by [`enabled`](LockLayer::enabled), or by `option_layer` of the crate
//! `axum-extra`. `ServiceBuilder::option_layer` does not compile, as the two services that it chooses from have to answer with one type
//! of body:
//!
//! ```compile_fail,E0271
//! use axum::{Router, routing::get};
//! use lock_layer::{LockLayer, path_param, store::MemoryStore};
//! use tower::ServiceBuilder;
//!
//! let layer = LockLayer::new(MemoryStore::new(), path_param("id"));
//! let layers = ServiceBuilder::new().option_layer(Some(layer));
//! let app: Router = Router::new().route("/", get(async || "hello")).layer(layers);
//! ```
//!
//! Locks and records need a Redis that evicts nothing (`maxmemory-policy noeviction`). A cache needs another one.
//!
//! # When the store fails
//!
//! No handler runs: the client gets 503 within 200 ms over a network, whose calls have a limit of 100 ms by default, or at once while
//! a circuit breaker is open. Within half a second, if the store has no limit of its own, or a longer one. It is never 409.
//!
//! | The store fails | |
//! | --- | --- |
//! | before the handler | 503 |
//! | while a lock is held | the lock is kept if the store is back within the lease; otherwise its holder is told |
//! | after an idempotent handler | the response leaves; a task tries to write the record for as long as the expected run, whatever the error is |
//! | and refuses the size of a record | it is written without its body: `body-not-kept` |
//! | and refuses scripts | 503 before the handler, if the connection has found that out; a run that has begun is recorded with plain commands |
//! | and forgets everything | a holder is told within 100 ms where the store pushes, else at its next renewal, and until then another may be let in; a key may run again, so `at_most_once` needs a store that persists |
//!
//! # Cancellation
//!
//! A dropped request leaves no lock and no claim behind: a task gives back what was granted, or it ends with its lease. A
//! request with a key is not stopped once its handler has begun. Tasks need a tokio runtime with a timer.
//!
//! A request with a key runs where its response is waited for, and goes on in a task if that future is dropped. So poll the future or
//! drop it: one that is kept and not polled stops its run and the renewals of its claim.
//!
//! # Stopping a service
//!
//! A server's graceful shutdown does not wait for runs whose client has left. A [`RunTracker`] does:
//! `once.tracker().close_and_wait(grace).await` after the server has stopped. It returns how many runs are left. A run that is
//! dropped with its runtime is recorded as broken off when the layer serves its next request, if that is in this process.
//!
//! # Metrics and events
//!
//! `RUST_LOG=lock_layer=debug` tells why a request was refused, that it was replayed, and of each run that begins and ends. No
//! event holds a key, a client or a unit. With the feature `metrics`:
//!
//! | Name | Kind | Labels | What |
//! | --- | --- | --- | --- |
//! | `idempotency_requests_total` | counter | `outcome` | requests that need a key; `outcome` is `run`, `replayed`, or why it was refused, such as `in_progress` |
//! | `lock_acquisitions_total` | counter | `outcome` | attempts to take a lock; `outcome` is `acquired`, `busy`, `unavailable`, or what was wrong with the request |
//! | `lock_lost_total` | counter |  | locks that their holder lost before giving them back |
//!
//! # Features
//!
//! - `axum` (default): reads `ConnectInfo`, `MatchedPath` and `OriginalUri` from a request's extensions; errors are responses;
//!   [`LockContext`] and [`IdempotencyContext`] are extractors.
//! - `hyper`: [`IdempotencyLayer`] takes the request bodies of its servers as they are. So it does with `tonic`.
//! - `metrics`: counts requests and acquisitions, through the facade of the crate `metrics`.
//! - `redis`: `store::connect` for `redis://`.
//! - `redis-tls`: `store::connect` for `rediss://` too.
//! - `test-util`: the programs, for differential tests. Not covered by semantic versioning.
//! - `tonic`: reads the peer's address from the connection of a tonic server; [`grpc::Status`] becomes a `tonic::Status`. Refusals
//!   over gRPC need no feature.
//! - `tonic-tls`: … and from that of a TLS stream of tokio-rustls which such a server is given.

pub mod body;
mod detached;
mod doctor;
mod error;
mod id128;
mod idempotency;
mod inspect;
mod lease;
mod lock;
mod metrics;
mod program_args;
mod response;
mod retry;
mod shared_store;
mod tracker;

#[cfg(test)]
mod testing;

pub use layer_http::{
    BearerToken, Body, BodyError, BoxError, ClientIp, Extension, GrpcMethod, GrpcService, Header,
    Identity, InvalidCidr, KeyExtractor, KeyFn, OnMissing, OrClientIp, OrRefuse, OrShared, OrSkip,
    PeerAddr, PeerIp, PeerNetwork, Problem, Rebuild, RequestHead, Resolved, UnixPeer, bearer_token,
    extension, grpc, grpc_method, grpc_service, header, joined, key_fn,
};
#[cfg(feature = "axum")]
pub use layer_http::{PathParam, Route, path_param, route};
pub use layer_store as store;

#[cfg(feature = "metrics")]
pub use self::metrics::METRICS;
pub use self::{
    doctor::UnfitStore,
    error::{AcquireError, LockBusy, LockRefusal},
    idempotency::{
        ClientScope, FoundRecord, Idempotency, IdempotencyContext, IdempotencyHandle,
        IdempotencyLayer, IdempotencyRefusal, Idempotent, Orphans, PayloadRule, RecordAddress,
        ReplayHeaders, RunError, RunOutcome, RunState,
    },
    lease::{
        InvalidLease,
        guard::{LockContext, LockGuard},
        locks::{HeldUnit, LockGroup, Locks},
        mode::LockMode,
        release::ReleaseOutcome,
        units::{IntoUnits, OneUnit, UnitList},
    },
    lock::{Lock, LockHandle, LockLayer},
    tracker::RunTracker,
};
#[cfg(feature = "axum")]
pub use self::{
    idempotency::extract::MissingIdempotencyContext, lease::extract::MissingLockContext,
};

/// The response futures of [`Idempotency`] and [`Lock`].
pub mod future {
    pub use crate::{
        idempotency::future::ResponseFuture as IdempotencyFuture,
        lock::future::ResponseFuture as LockFuture,
    };
}

/// All programs, for tests that compare a Lua body with its twin: acquire, extend, release, revoke, inspect, share, extend and release
/// what is shared, write, remove.
#[cfg(feature = "test-util")]
#[doc(hidden)]
pub static PROGRAMS: [&store::Program; 10] = [
    &lease::programs::ACQUIRE,
    &lease::programs::EXTEND,
    &lease::programs::RELEASE,
    &lease::programs::REVOKE,
    &inspect::INSPECT,
    &lease::shared_programs::SHARE,
    &lease::shared_programs::EXTEND_SHARED,
    &lease::shared_programs::RELEASE_SHARED,
    &idempotency::programs::WRITE,
    &idempotency::programs::REMOVE,
];

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
