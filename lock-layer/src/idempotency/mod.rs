//! `IdempotencyLayer`: a repeated request is answered, not run again.

pub(crate) mod future;

mod answer;
mod collect;
mod fingerprint;
mod handle;
mod key;
mod layer;
mod mode;
mod outcome;
mod run;
mod service;

pub use self::{
    layer::IdempotencyLayer,
    outcome::{Refusal, RunOutcome},
    service::Idempotency,
};

#[cfg(test)]
mod tests;
