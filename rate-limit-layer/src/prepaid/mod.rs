//! Requests that a process charges a key in advance, over a store behind a network: one command for many checks. Off by default.
//!
//! When a request of a busy key is charged, more are charged with it. They are the key's **stock** in this process, and the next
//! requests take from it without a command. Whoever takes the last begins the next charge and does not wait for it. What is left after a
//! second is given back.
//!
//! A request that finds the stock empty waits for the next charge, which takes along all that wait for the key: one command for all of
//! them, and for the stock. A task makes it, so that nobody waits in vain if one of them leaves.
//!
//! - [`stock`]: the numbers of one key. [`stocks`]: those of all keys, and the task that gives back. [`waiting`]: who waits for a charge.
//!
//! # The bound
//!
//! With `n` processes that charge at most `k` in advance, at most `burst + t * limit / window + n * k` requests pass in any interval
//! of length `t`.
//!
//! Requests pass from a stock, or when they are charged. One task of a key at a time charges for those that wait and fills the stock,
//! never beyond `k`. What it charges for those that wait is not in stock: each of them passes with the reply, or it has left, and its share
//! is given back. So when the interval begins, at most `n * k` requests are in stock. Each of them passes, or is given back.
//!
//! In the interval GCRA charges at most `burst + t * limit / window` requests, and one more for each that is given back in it: a charge
//! moves the time at which nothing is owed by its price or more, and what is given back moves it back by its price at most.
//! A request that is given back was in stock when the interval began; or it was charged in the interval, and then it is one of the
//! charged ones that does not pass. So those that pass are at most `burst + t * limit / window`, and those in stock at the beginning.
//!
//! In the long run no more pass than without: a request that was charged in advance passes, or is given back once.

pub(crate) mod stock;
pub(crate) mod stocks;
pub(crate) mod waiting;
