//! The arithmetic of a limit, and the program that runs it in a store.
//!
//! - [`gcra`]: the numbers of the generic cell rate algorithm.
//! - [`program`]: the atomic step in the store, as a twin in Rust and as a script in `lua/`.

pub(crate) mod gcra;
pub(crate) mod program;
