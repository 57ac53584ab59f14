#![cfg_attr(docsrs, feature(doc_cfg))]
//! One pluggable store under rate limits, response caches and locks.
//!
//! A [`Store`] answers one kind of question: an [`Op`], which is always one round trip. Operations are data, as requests
//! are to a Tower service, so a wrapper ([`wrap`]) is one small `impl`. What a primitive cannot do atomically is a
//! [`Program`]: a read-modify-write written twice, as a Lua body for Redis and as a Rust twin for every other store.
//!
//! # Example
//!
//! ```
//! use layer_store::{Context, Identity, Key, KeySpace, MemoryStore, SharedStore, StoreExt, Ttl, Value};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let store = SharedStore::new(MemoryStore::new());
//! let cx = Context::new("example");
//! let visits = KeySpace::new("data", "visits");
//! let ada = Identity::from("ada");
//! let key = Key::new(&visits, ada.as_ref());
//!
//! store.put(&cx, &key, &Value::from("1"), Ttl::from_millis(60_000).unwrap()).await?;
//! assert_eq!(store.get(&cx, &key).await?, Some(Value::from("1")));
//! # Ok::<_, layer_store::StoreError>(())
//! # }).unwrap();
//! ```
//!
//! # Stores
//!
//! - [`MemoryStore`]: sharded, bounded (1,000,000 entries by default), with an injectable [`Clock`]. It never waits.
#![cfg_attr(
    feature = "redis",
    doc = "- [`RedisStore`]: one multiplexed connection per process, reconnected by itself."
)]
//! - [`connect`](connect()) takes a URL and puts a deadline and a circuit breaker round whatever is reached over a network.
//!
//! # When the store fails
//!
//! Every [`StoreError`] says whether the operation may have happened ([`Effect`]): retries and fallbacks decide on that.
//!
//! # Features
//!
//! - `redis`: `RedisStore`, and `redis://` in [`connect`](connect()).
//! - `redis-tls`: `rediss://`, through rustls with ring.
//! - `test-util`: the [conformance kit](conformance), buggy stores, and the harness that compares a program with its twin.

mod caller;
mod clock;
mod connect;
mod context;
mod error;
mod ext;
mod identity;
mod info;
mod key;
mod memory;
mod op;
mod output;
mod program;
mod protocol;
mod reply;
mod retention;
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
pub mod wrap;

#[cfg(feature = "redis")]
pub use self::redis::RedisStore;
pub use self::{
    caller::Caller,
    clock::{Clock, ManualClock},
    connect::{Options, connect, connect_from_env, connect_from_env_or_memory, connect_with},
    context::Context,
    error::{ConfigError, Effect, ErrorKind, StoreError},
    ext::StoreExt,
    identity::{Identity, IdentityRef},
    info::{BreakerHandle, BreakerState, Health, StoreInfo},
    key::{Key, KeyPrefix, KeySpace},
    memory::MemoryStore,
    op::{Condition, Op},
    output::Output,
    program::{Arg, Program},
    protocol::{Protocol, Scratch},
    reply::Reply,
    retention::Retention,
    shared::SharedStore,
    store::Store,
    transaction::{Slot, Transaction},
    ttl::{Expiry, Ttl},
    value::Value,
    watch::Watch,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
