//! Wrappers round a store: spans, metrics, a circuit breaker, a limit for each call, and a prefix for keys.
//!
//! Outermost first: [`Traced`] > `Metrics` (feature `metrics`) > [`Breaker`] > [`Timeout`] > [`Prefix`] > backend. [`connect`](crate::connect()) puts the first two
//! round every store that is reached over a network, and the third if a prefix is set. A
//! [`MemoryStore`](crate::MemoryStore) never waits and needs neither of the first two. [`Store`](crate::Store) shows how to
//! write another one.

mod breaker;
#[cfg(test)]
mod fake;
#[cfg(feature = "metrics")]
pub mod metrics;
mod prefix;
mod timeout;
mod traced;

#[cfg(feature = "metrics")]
pub use self::metrics::Metrics;
use crate::{SharedStore, Store};

pub use self::{breaker::Breaker, prefix::Prefix, timeout::Timeout, traced::Traced};

/// Puts round a store what shows its calls: spans, and metrics if the feature is on.
pub(crate) fn observed(store: impl Store) -> SharedStore {
    #[cfg(feature = "metrics")]
    let store = Metrics::new(store);
    SharedStore::new(Traced::new(store))
}
