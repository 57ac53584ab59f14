#![cfg_attr(docsrs, feature(doc_cfg))]
//! Tower layers that run a request once: idempotency keys, and locks over all processes on one store.
//!
//! [`IdempotencyLayer`] answers a repeated request with the first response instead of running it again. [`LockLayer`] lets one
//! request at a time through for each of something, and [`Locks`] does the same for handlers, workers and CLIs.
//!
//! # Example
//!
//! ```
//! use axum::{Router, body::Body, extract::Path, routing::post};
//! use http::{Request, StatusCode};
//! use lock_layer::{AcquireError, IdempotencyLayer, Identity, Locks, Scope, store::{MemoryStore, SharedStore}};
//! use tower::ServiceExt;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let store = SharedStore::new(MemoryStore::new()); // or: store::connect("redis://127.0.0.1").await?
//! let by_user = Scope::by(|head| Some(Identity::from(head.headers.get("x-user")?.as_bytes())));
//! let once = IdempotencyLayer::at_most_once(store.clone(), by_user);
//! let locks = Locks::new(store).busy_title("Already booked");
//! let desk = locks.clone();
//!
//! // One lock a day, all of them or none; the body says which.
//! let book = move |Path(car): Path<String>, days: String| async move {
//!     let guard = desk.group(format!("car:{car}")).try_acquire(days.split(' ')).await?;
//!     // .. write the booking with guard.fence() ..
//!     guard.release().await.ok();
//!     Ok::<_, AcquireError>((StatusCode::CREATED, "booked"))
//! };
//! let app: Router = Router::new().route("/cars/{id}/bookings", post(book).layer(once));
//! let ask = |key: &str| {
//!     let request = Request::post("/cars/7/bookings").header("x-user", "ada");
//!     request.header("idempotency-key", key).body(Body::from("mon tue")).unwrap()
//! };
//!
//! let first = app.clone().oneshot(ask("1")).await?;
//! assert_eq!(first.status(), StatusCode::CREATED);
//! let again = app.clone().oneshot(ask("1")).await?;
//! assert_eq!(again.status(), StatusCode::CREATED);
//! assert_eq!(again.headers()["idempotency-replayed"], "true"); // the handler did not run
//!
//! let tuesday = locks.group("car:7").try_acquire(["tue", "wed"]).await.unwrap();
//! let refused = app.clone().oneshot(ask("2")).await?;
//! assert_eq!(refused.status(), StatusCode::CONFLICT);
//! assert_eq!(refused.headers()["retry-after"], "30");
//! drop(tuesday);
//! // Nothing was done, so the same key may be tried again.
//! assert_eq!(app.oneshot(ask("2")).await?.status(), StatusCode::CREATED);
//! # Ok::<_, std::convert::Infallible>(())
//! # }).unwrap();
//! ```
//!
//! # Idempotency keys
//!
//! For `POST` and `PATCH`, by the header `Idempotency-Key` of draft-ietf-httpapi-idempotency-key-header:
//!
//! - The first request with a key claims it in one plain command (`SET NX GET PX`), runs, and is recorded before its response
//!   leaves. A repetition costs one command and gets the same status, body and trailers, and the headers that mean the same to
//!   whoever has the key: no `Set-Cookie`, no `Date`, nothing of one connection. `Idempotency-Replayed: true` says so.
//! - A key belongs to a client ([`Scope`]), host, method and route. What must be the same in a repetition is a hash of method,
//!   path, query, content type and body.
//! - The handler runs in a task of its own, in the caller's span but without its task-locals: a client that leaves does not
//!   stop it, and finds the answer when it comes back. A panic is recorded, and then goes on in the caller.
//! - A response that is longer than the limit or does not end reaches its client; a repetition is told that it was not kept, and
//!   does not run.
//! - A handler may say what became of its run: [`RunOutcome`].
//!
//! What a failure means is a choice nobody can make for the handler:
//!
//! | | [`at_most_once`](IdempotencyLayer::at_most_once) | [`retry_safe`](IdempotencyLayer::retry_safe) |
//! | --- | --- | --- |
//! | for | payments | one transaction, upserts |
//! | kept | all but 429, 503 | 2xx, 3xx, 4xx but for 401, 408, 409, 423, 425, 429 |
//! | panic, service error, body broken off | 409 `outcome-unknown` from then on | the next request runs |
//! | process died | 409 `in-progress`, and after the expected run `outcome-unknown` | the next request runs, 30 s later |
//!
//! No middleware is exactly-once: between an effect and its record a process can die. Where that matters, let the effect check
//! for itself, with a unique index or a fence.
//!
//! # Locks
//!
//! - A unit lives in a group, such as the day `2026-12-01` in `car:7`. Up to 64 units of a group are taken in one atomic command,
//!   all or none, whatever their order. An extractor alone names a group of one unit, `-`.
//! - Whoever finds them taken is refused at once, and told when the lease ends; nobody waits.
//! - A task renews the lease each third for as long as the [`Guard`] lives. A holder's own deadline, counted from before the
//!   command was sent, ends before the store's: [`Guard::lost`] and [`LockContext::lost`] fire before anybody else is let in,
//!   unless the process itself was stopped.
//! - A lock is given back by comparing its token, so a late release never takes another's. [`LockLayer`] does it before the
//!   response leaves, so a body that is still being made then is made without the lock.
//! - A claim whose reply was lost is asked for again with the same token, and is no refusal.
//!
//! # Fences
//!
//! A lock alone cannot stop a process that was stopped and goes on: it believes in a lock that ended. [`Guard::fence`] can. It
//! is at least the server's time in microseconds and always more than the last one given for any of its units, so it rises
//! over expiry, eviction, `FLUSHALL`, a failover and a restart on memory. Write it beside what the lock protects:
//!
//! ```sql
//! UPDATE cars SET price = $1, fence = $2 WHERE id = 7 AND fence < $2 -- no row: somebody came after you
//! ```
//!
//! # Problems
//!
//! A refusal is a problem document (RFC 9457), its type `https://docs.rs/lock-layer/#` and one of these, with its reason in
//! the response's extensions ([`AcquireError`], [`Refusal`]):
//!
//! | Type | Status | |
//! | --- | --- | --- |
//! | <span id="lock-busy"></span>`lock-busy` | 409, `Retry-After` | somebody else holds it |
//! | <span id="lock-units"></span>`lock-units` | 400 | no unit, or more than 64 |
//! | <span id="key-missing"></span>`key-missing` | 400 | no `Idempotency-Key` |
//! | <span id="key-invalid"></span>`key-invalid` | 400 | two lines, over 255 characters, or not visible ASCII |
//! | <span id="key-reused"></span>`key-reused` | 422 | the key came with another request before |
//! | <span id="in-progress"></span>`in-progress` | 409, `Retry-After` | the first request is running |
//! | <span id="outcome-unknown"></span>`outcome-unknown` | 409 | it was begun; somebody has to look |
//! | <span id="body-not-kept"></span>`body-not-kept` | 409, `original-status` | it is done; the response was too long |
//! | <span id="body-too-large"></span>`body-too-large` | 413 | the request's body is over the limit |
//! | <span id="body-unreadable"></span>`body-unreadable` | 400 | the request's body broke off |
//! | <span id="client-unknown"></span>`client-unknown` | 500 | neither scope nor peer address names the client |
//! | <span id="store-unavailable"></span>`store-unavailable` | 503, `Retry-After` | the store did not say; nothing was done |
//!
//! # Defaults
//!
//! | Setting | Default |
//! | --- | --- |
//! | lease of a lock | 30 s |
//! | methods that need a key | `POST`, `PATCH` |
//! | longest request body | 1 MiB |
//! | longest response kept | 1 MiB, read in at most 5 s |
//! | records kept for | 24 h |
//! | expected run | 30 s |
//!
//! # Layer order
//!
//! `.layer((idempotency, lock))`: idempotency outside, so that a repetition is answered without a lock, and a refusal by the
//! lock leaves no record. Both go inside rate limits and authentication, which the scope relies on, and idempotency inside
//! compression, or a replay may come in an encoding that its client did not ask for. Locks and records want a Redis that evicts
//! nothing (`maxmemory-policy noeviction`): a cache needs another one.
//!
//! # When the store fails
//!
//! Nothing runs: the answer is 503 before the handler, within half a second and at once while a breaker is open. That is never
//! confused with 409.
//!
//! | The store fails | |
//! | --- | --- |
//! | before the handler | 503 |
//! | while a lock is held | it is kept if the store is back within the lease; else its holder is told |
//! | after an idempotent handler | the response leaves; the record is written in the background, tried for the expected run |
//! | and forgets everything | locks are put back at their next renewal if nobody was let in; a key may run again, so at-most-once needs a store that persists |
//!
//! # Cancellation
//!
//! A dropped request leaves no lock and no claim behind: what it was given is given back by a task, or ends with its lease. A
//! request that has a key, and whose handler has begun, is not stopped. Tasks need a tokio runtime with a timer.
//!
//! # Features
//!
//! - `axum` (default): reads `ConnectInfo`, `MatchedPath` and `OriginalUri` from a request's extensions; errors are responses.
//! - `redis`: `store::connect` for `redis://`.
//! - `redis-tls`: … and for `rediss://`.
//! - `test-util`: the parts that differential tests reach into; not covered by semantic versioning.

pub mod body;
mod claim;
mod error;
mod guard;
mod idempotency;
mod keeper;
mod lease;
mod lock;
mod locks;
mod patience;
mod programs;
mod record;
mod response;
mod scope;
mod shared_store;
mod token;

#[cfg(test)]
mod testing;

pub use layer_http::{
    Body, ClientIp, Header, Identity, InvalidCidr, KeyExtractor, KeyFn, OnMissing, OrRefuse,
    OrSkip, PeerAddr, PeerIp, Problem, Rebuild, RequestHead, header, key_fn,
};
#[cfg(feature = "axum")]
pub use layer_http::{PathParam, path_param};
pub use layer_store as store;

pub use self::{
    error::{AcquireError, Busy},
    guard::{Guard, LockContext, Released},
    idempotency::{Idempotency, IdempotencyLayer, Refusal, RunOutcome},
    lease::InvalidLease,
    lock::{Lock, LockHandle, LockLayer},
    locks::{Group, Locks},
    scope::Scope,
};

/// What `Idempotency` and `Lock` answer with.
pub mod future {
    pub use crate::{
        idempotency::future::ResponseFuture as IdempotencyFuture,
        lock::future::ResponseFuture as LockFuture,
    };
}

/// Every program, for tests that hold a Lua body against its twin: acquire, extend, release, revoke, write, remove.
#[cfg(feature = "test-util")]
#[doc(hidden)]
pub static PROGRAMS: [&store::Program; 6] = [
    &programs::ACQUIRE,
    &programs::EXTEND,
    &programs::RELEASE,
    &programs::REVOKE,
    &programs::WRITE,
    &programs::REMOVE,
];

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
