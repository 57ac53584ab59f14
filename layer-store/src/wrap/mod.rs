//! Wrappers round a store: spans, metrics, answers from this process's memory, a circuit breaker, a limit for each call, and a
//! prefix for keys.
//!
//! Outermost first: [`Traced`] > `Metrics` (feature `metrics`) > [`Fallback`] > [`Breaker`] > [`Timeout`] > [`Prefix`] > backend.
//! [`connect`](crate::connect()) puts the breaker and the timeout
//! round every store that is reached over a network, and the third if a prefix is set. A
//! [`MemoryStore`](crate::MemoryStore) never waits and needs neither of the first two. [`Store`](crate::Store) shows how to
//! write another one.

mod breaker;
#[cfg(test)]
mod fake;
mod fallback;
mod keys;
mod kinds;
#[cfg(feature = "metrics")]
pub mod metrics;
mod prefix;
mod timeout;
mod traced;

#[cfg(feature = "metrics")]
pub use self::metrics::Metrics;
#[cfg(feature = "redis")]
pub(crate) use self::timeout::StillReceiving;
pub(crate) use self::timeout::allowance;
pub use self::{
    breaker::Breaker, fallback::Fallback, prefix::Prefix, timeout::Timeout, traced::Traced,
};
use crate::{SharedStore, Store};

/// Puts round a store what shows its calls: spans, and metrics if the feature is on.
pub(crate) fn observed(store: impl Store) -> SharedStore {
    #[cfg(feature = "metrics")]
    let store = Metrics::new(store);
    SharedStore::new(Traced::new(store))
}
