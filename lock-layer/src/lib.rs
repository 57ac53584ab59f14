//! Idempotency keys and distributed locks.

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
mod ready;
mod record;
mod response;
mod scope;
mod shared_store;
mod token;

#[cfg(test)]
mod testing;

#[cfg(feature = "axum")]
pub use layer_http::path_param;
pub use layer_http::{ClientIp, Head, Identity, KeyExtractor, PeerAddr, PeerIp, header, key_fn};
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
