//! Wrappers round a store: spans, metrics, copies in this process's memory, answers from it during an outage, a circuit breaker,
//! retries, a limit for each call, and a prefix for keys.
//!
//! Outermost first: [`Traced`] > `Metrics` (feature `metrics`) > [`Tiered`] > [`Fallback`] > [`Breaker`] > [`Retry`] >
//! [`Timeout`] > [`Prefix`] > backend. [`connect`](crate::connect()) puts spans and metrics round every store, a breaker and a
//! timeout round one that is reached over a network, and a prefix and retries if they are asked for. A
//! [`MemoryStore`](crate::MemoryStore) never waits and needs neither breaker nor timeout. [`Store`](crate::Store) shows how to
//! write another one.

mod breaker;
mod call_end;
#[cfg(test)]
pub(crate) mod fake;
mod fallback;
mod keys;
mod kinds;
#[cfg(feature = "metrics")]
pub mod metrics;
mod prefix;
mod retry;
mod tiered;
mod timeout;
mod traced;

#[cfg(feature = "redis")]
pub(crate) use self::call_end::StillReceiving;
pub(crate) use self::call_end::allowance;
pub(crate) use self::fallback::reason_against_fallback;
#[cfg(feature = "metrics")]
pub use self::metrics::Metrics;
pub use self::{
    breaker::Breaker, fallback::Fallback, prefix::Prefix, retry::Retry, tiered::Tiered,
    timeout::Timeout, traced::Traced,
};
use crate::SharedStore;

/// Puts round a store what shows its calls: spans, and metrics if the feature is on.
pub(crate) fn observed(store: impl crate::Store) -> SharedStore {
    #[cfg(feature = "metrics")]
    let store = Metrics::new(store);
    SharedStore::new(Traced::new(store))
}
