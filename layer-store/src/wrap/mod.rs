//! Wrappers round a store: a circuit breaker, a limit for each call, a prefix for keys, copies in this process's memory, and
//! answers from it during an outage.
//!
//! Outermost first: [`Tiered`] > [`Fallback`] > [`Breaker`] > [`Timeout`] > [`Prefix`] > backend. [`connect`](crate::connect())
//! puts a breaker and a timeout round every store that is reached over a network, and a prefix if one is set. A
//! [`MemoryStore`](crate::MemoryStore) never waits and needs none of the others. [`Store`](crate::Store) shows how to write
//! another one.

mod breaker;
#[cfg(test)]
mod fake;
mod fallback;
mod keys;
mod kinds;
mod prefix;
mod tiered;
mod timeout;
#[cfg(test)]
mod warnings;

#[cfg(feature = "redis")]
pub(crate) use self::timeout::StillReceiving;
pub(crate) use self::timeout::allowance;
pub use self::{
    breaker::Breaker, fallback::Fallback, prefix::Prefix, tiered::Tiered, timeout::Timeout,
};
