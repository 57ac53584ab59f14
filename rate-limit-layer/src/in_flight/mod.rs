//! How many requests may be in flight at once, over all processes.
//!
//! A request takes a **permit** before its handler runs, and gives it back when its response's body has ended. The permits of
//! one identity are one value in the store, a record for each. A permit has a lease: a process renews its permits, and those of a
//! process that has died are free when the lease ends.
//!
//! - [`policy`]: what a user writes. [`limit`]: the policy made ready.
//! - [`program`]: the atomic steps in the store. [`token`]: the name of a permit there.
//! - [`permits`]: takes permits and gives them back. [`held`]: what this process holds. [`keeper`]: the task that renews it.
//! - [`permit`] and [`limiter`]: what job workers use. [`layer`], [`service`], [`future`], [`body`], [`refusal`]: the Tower layer.
//!
//! # Why never more than the limit are in flight
//!
//! A permit is taken by one atomic step that counts the records which have not expired. So at most the limit are in the store at
//! any time, if no clock jumps. A request that passes has a record in the store from before its handler runs until after its body
//! has ended: its process renews the record at a third of the lease, so it expires only if its process, or the way to the store,
//! stands still for two thirds of the lease. The exceptions, which the crate page states: a store that fails (the failure mode) or
//! forgets, and a process that stands still for so long.
//!
//! # Why no permit is lost for longer than a lease
//!
//! A record is renewed only while its token is in [`held`] of a process that lives. Whatever happens to a reply, a request or a
//! process: a token that is not held is not renewed, and its record ends with its lease.

pub(crate) mod body;
pub(crate) mod future;
pub(crate) mod layer;
pub(crate) mod limiter;
pub(crate) mod permit;
pub(crate) mod policy;
pub(crate) mod program;
pub(crate) mod refusal;
pub(crate) mod service;

mod held;
mod keeper;
mod limit;
mod permits;
mod token;
