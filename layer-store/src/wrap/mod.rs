//! Wrappers round a store: a circuit breaker, a limit for each call, a prefix for keys, and answers from this process's memory.
//!
//! Outermost first: [`Fallback`] > [`Breaker`] > [`Timeout`] > [`Prefix`] > backend. [`connect`](crate::connect()) puts the first two
//! round every store that is reached over a network, and the third if a prefix is set. A
//! [`MemoryStore`](crate::MemoryStore) never waits and needs neither of the first two. [`Store`](crate::Store) shows how to
//! write another one.

mod breaker;
#[cfg(test)]
mod fake;
mod fallback;
mod keys;
mod kinds;
mod prefix;
mod timeout;
#[cfg(test)]
mod warnings;

#[cfg(feature = "redis")]
pub(crate) use self::timeout::StillReceiving;
pub(crate) use self::timeout::allowance;
pub use self::{breaker::Breaker, fallback::Fallback, prefix::Prefix, timeout::Timeout};
