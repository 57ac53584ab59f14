//! The arithmetic of a limit, and the programs that run it in a store.
//!
//! - [`gcra`]: the numbers of the generic cell rate algorithm. [`span`]: the lengths of time in which it counts.
//! - [`program`]: the atomic steps in the store, as twins in Rust and as scripts in `lua/`.

pub(crate) mod gcra;
pub(crate) mod program;
pub(crate) mod span;
