//! The Tower layer that replays the first response to a repeated request.
//!
//! - [`layer`], [`service`], [`future`]: the Tower shell. [`config`]: the settings.
//! - [`idempotent`]: the same without HTTP. [`once`]: a key without a result.
//! - [`key`], [`client_scope`], [`host`], [`fingerprint`]: which record a request has, and what a repetition must have in common with it.
//! - [`keyed_request`]: a request from its body to its record. [`handler_run`]: the steps of it.
//! - [`handle`]: what an operator can do.
//! - [`interrupted`]: runs that were dropped with their runtime.
//! - [`settlement`]: the end of a run.
//! - [`claim`], [`settle`]: the operations. [`programs`]: the atomic steps in the store. [`record`]: the stored text.
//! - [`payload`]: what of a body counts. [`context`]: what a handler may know. [`waiting`]: repetitions that wait.
//! - [`capture`]: reads bodies, and copies those that go to their client as they come. [`replay`]: responds to a repetition, with the [`replay_headers`].
//! - [`unkept_types`]: responses that are not kept. [`local_copies`]: replays without a command.
//! - [`retry_policy`], [`outcome`]: what is kept, and why a request is refused.

#[cfg(feature = "axum")]
pub(crate) mod extract;
pub(crate) mod future;
pub(crate) mod programs;

mod capture;
mod claim;
mod client_scope;
mod config;
mod context;
mod fingerprint;
mod handle;
mod handler_run;
mod host;
mod idempotent;
mod interrupted;
mod key;
mod keyed_request;
mod layer;
mod local_copies;
mod once;
mod orphans;
mod outcome;
mod payload;
mod record;
mod replay;
mod replay_headers;
mod retry_policy;
mod run_error;
mod service;
mod settle;
mod settlement;
mod unkept_types;
mod waiting;

pub use self::{
    client_scope::ClientScope,
    context::IdempotencyContext,
    handle::{FoundRecord, IdempotencyHandle, RecordAddress, RunState},
    idempotent::Idempotent,
    layer::IdempotencyLayer,
    orphans::Orphans,
    outcome::{IdempotencyRefusal, RunOutcome},
    payload::PayloadRule,
    replay_headers::ReplayHeaders,
    run_error::RunError,
    service::Idempotency,
};

#[cfg(test)]
mod tests;
