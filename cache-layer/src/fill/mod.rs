//! A fill: one handler call whose response may be stored, from the call to the entry in the store.
//!
//! It belongs to the cache and not to the client that caused it. [`task`] drives the handler and its body, whether that
//! client waits, reads slowly, or leaves. [`commit`] writes the entry. The clients read the body from a
//! [buffer](crate::body::buffer).

mod answer;
mod arrival;
pub(crate) mod commit;
mod decide;
pub(crate) mod lease;
pub(crate) mod task;
pub(crate) mod validate;
