#![cfg_attr(docsrs, feature(doc_cfg))]
//! One store under rate limits, response caches and locks: memory or Redis, behind one interface.
//!
//! A [`Store`] applies an [`Op`] and gives its [`Reply`]. Each operation is one round trip. Operations are data, as requests
//! are to a Tower service, so a wrapper ([`wrap`]) is one small `impl`. An atomic step that no primitive has is a
//! [`Program`]: a read-modify-write written twice, as a Lua body for Redis and as a Rust twin for every other store.
//!
//! # Example
//!
//! ```
//! use layer_store::{Context, Identity, Key, KeySpace, MemoryStore, SharedStore, StoreExt, Ttl, Value};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let store = SharedStore::from(MemoryStore::new());
//! let cx = Context::new("example");
//! let claims = KeySpace::new("data", "claims");
//! let car = Identity::from("car:7");
//! let key = Key::new(&claims, car.as_ref());
//! let minute = Ttl::from_millis(60_000).unwrap();
//!
//! // The first one writes, the second one is refused and sees the value.
//! assert_eq!(store.put_if_absent(&cx, &key, &"ada".into(), minute).await?, None);
//! assert_eq!(store.put_if_absent(&cx, &key, &"bob".into(), minute).await?, Some("ada".into()));
//! # Ok::<_, layer_store::StoreError>(())
//! # }).unwrap();
//! ```
//!
//! # Stores
//!
//! - [`MemoryStore`]: sharded and bounded, with a [`Clock`] that a test can move. Its calls never wait.
#![cfg_attr(
    feature = "redis",
    doc = "- [`RedisStore`]: Redis 5.0 or later, or Valkey, over one connection per process for all calls, which is made again when it is lost."
)]
//! - [`connect`](connect()) takes a URL, and puts a deadline and a circuit breaker round a store that is reached over a
//!   network.
//! - Your own: [`Store`] shows one in full, and [`conformance`] tests it.
//!
//! # Using a store
//!
//! - [`StoreExt`] has a typed method for each operation.
//! - [`Caller`] is a layer's way to its store: it bounds calls, and runs a [`Protocol`], a talk of several operations.
//!
//! # Defaults
//!
//! | Setting | Default | Set by |
//! | --- | --- | --- |
//! | limit of a call over a network | 100 ms | [`Options::deadline`] |
//! | limit of an attempt to connect | 1 s | [`Options::connect_timeout`] |
//! | its allowance for what it sends | 1 ms for each KB, from 4 KiB on | |
//! | repetitions of a failed call | 0 | [`Options::retries`] |
//! | most calls in flight on a connection | 1,024 | [`Options::max_in_flight`] |
//! | failures in a row that open the circuit breaker | 5 | [`Options::open_after`] |
//! | time from its opening to the first probe | 1 s | [`Options::open_for`] |
//! | time between two probes | the same, at most 1 s | |
//! | answered probes in a row that close it | 2 | |
//! | kinds of keys answered from memory during an outage | none | [`Options::fallback`] |
//! | entries of a memory store | 1,000,000 | [`Options::capacity`], [`MemoryStore::with_capacity`] |
//! | bytes of a memory store | no bound | [`MemoryStore::with_bounds`] |
//! | time from a failed attempt to connect to the next | 50 ms, doubling up to 500 ms | |
//! | limit of a layer's talk with a store that has no limit | 100 ms | [`Caller::with_limit`] |
//!
//! # When this process is too busy
//!
//! Calls in flight are bounded. Further ones wait for their turn, each layer's in a line of its own, and a call whose turn does
//! not come before its deadline ends as [`ErrorKind::Overloaded`]. The same error tells that a long value was still on its way,
//! or that a reply could not be read in time. It says nothing of the store, and never opens the circuit breaker.
//!
//! # When the store fails
//!
//! Every [`StoreError`] has an [`ErrorKind`], which tells a caller what to do, and an [`Effect`]: the operation was not
//! applied, or it is not known. Retries and fallbacks decide on these two.
//!
//! # Cancellation
//!
//! A dropped call may or may not have been applied, and other calls go on. An attempt to connect outlives the call that
//! started it. The tasks of a store (its connection, the probes of its breaker) end when its last clone is dropped.
//!
//! # Metrics and spans
//!
//! [`wrap::Traced`] puts a span of `tracing` round each call. With the feature `metrics`, `wrap::Metrics` counts operations by
//! source, operation and outcome, times those that wait, and shows the breaker, the connections and the commands; its names
//! are in the table of `wrap::metrics`. Neither shows a key.
//!
//! # Features
//!
//! - `metrics`: `wrap::Metrics`, through the facade of the crate `metrics`.
//! - `redis`: `RedisStore`, and `redis://`, `valkey://` and `unix://` in [`connect`](connect()).
//! - `redis-tls`: `rediss://` and `valkeys://`, through rustls with ring.
//! - `tower`: `service`, a store as a `tower::Service` and back, so that tower's own middleware can wrap a store.
//! - `test-util`: the [conformance kit](conformance), stores with faults and bugs, and the harness that compares a program
//!   with its twin.

mod background;
mod caller;
mod clock;
mod connect;
mod context;
#[cfg(feature = "redis")]
mod credentials;
mod error;
mod ext;
mod finding;
#[cfg(test)]
mod golden;
mod identity;
mod info;
mod key;
mod memory;
mod op;
mod output;
#[cfg(any(feature = "tower", feature = "test-util"))]
mod owned_op;
mod program;
mod protocol;
mod reply;
mod retention;
mod scan;
mod shared;
mod store;
mod transaction;
mod ttl;
mod value;
mod watch;

#[cfg(feature = "test-util")]
pub mod conformance;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "tower")]
pub mod service;
pub mod wrap;

#[doc(no_inline)]
pub use bytes::Bytes;

pub use self::{
    caller::Caller,
    clock::{Clock, ManualClock},
    connect::{Options, connect, connect_from_env, connect_from_env_or_memory, connect_with},
    context::Context,
    error::{ConfigError, Effect, ErrorKind, StoreError},
    ext::StoreExt,
    finding::{Finding, FindingKind, Severity},
    identity::{Identity, IdentityRef},
    info::{BreakerHandle, BreakerState, FallbackHandle, Health, StoreInfo, Traffic},
    key::{Key, KeyPrefix, KeySpace},
    memory::MemoryStore,
    op::{Condition, Op},
    output::Output,
    program::{Arg, Program},
    protocol::{Protocol, Scratch},
    reply::Reply,
    retention::Retention,
    scan::{Cursor, ListedKey, Page, Scan},
    shared::SharedStore,
    store::Store,
    transaction::{Slot, Transaction},
    ttl::{Expiry, Ttl},
    value::{Object, Value},
    watch::{Watch, Watchers},
};
#[cfg(feature = "redis")]
pub use self::{
    credentials::{Credentials, CredentialsProvider},
    redis::RedisStore,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
