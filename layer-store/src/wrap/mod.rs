//! Wrappers round a store: each one small `impl` of [`Store`](crate::Store).
//!
//! Outermost first: [`Breaker`] > [`Timeout`] > [`Prefix`] > backend. [`connect`](crate::connect()) puts the first two
//! round every store that is reached over a network, and the third where a prefix is set. A
//! [`MemoryStore`](crate::MemoryStore) never waits and needs neither of the first two.

mod breaker;
#[cfg(test)]
mod fake;
mod prefix;
mod timeout;

pub use self::{breaker::Breaker, prefix::Prefix, timeout::Timeout};
