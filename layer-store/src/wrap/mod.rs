//! Wrappers round a store: a circuit breaker, retries, a limit for each call, and a prefix for keys.
//!
//! Outermost first: [`Breaker`] > [`Retry`] > [`Timeout`] > [`Prefix`] > backend. [`connect`](crate::connect()) puts a breaker
//! and a timeout round every store that is reached over a network, and a prefix if one is set. A
//! [`MemoryStore`](crate::MemoryStore) never waits and needs a prefix at most. [`Store`](crate::Store) shows how to write
//! another one.

mod breaker;
#[cfg(test)]
pub(crate) mod fake;
mod prefix;
mod retry;
mod timeout;

pub(crate) use self::timeout::allowance;
pub use self::{breaker::Breaker, prefix::Prefix, retry::Retry, timeout::Timeout};
