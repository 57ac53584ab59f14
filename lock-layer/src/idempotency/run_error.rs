use std::{error::Error, fmt};

use layer_store::StoreError;

use super::outcome::IdempotencyRefusal;

/// The reason why [`Idempotent::run`](crate::Idempotent::run) has no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError<E> {
    /// The work itself failed with this error.
    Failed(E),
    /// Another run with this key is under way. Try again later to get its result.
    InProgress,
    /// A run with this key was begun, and its outcome is not known. A person has to check.
    OutcomeUnknown,
    /// A run with this key is done. Its result was too large to keep, or is of another type than the one that is asked for.
    ResultNotKept,
    /// The store did not reply whether there was a run before. Nothing was done.
    Unavailable(StoreError),
    /// The process stops, and begins no more runs ([`RunTracker::close`](crate::RunTracker::close)). Nothing was done.
    Closing,
}

impl<E> RunError<E> {
    /// Returns the error for a refusal of a repetition.
    pub(super) fn of(refusal: IdempotencyRefusal) -> Self {
        match refusal {
            IdempotencyRefusal::InProgress => Self::InProgress,
            IdempotencyRefusal::BodyNotKept { .. } => Self::ResultNotKept,
            IdempotencyRefusal::Closing => Self::Closing,
            _ => Self::OutcomeUnknown,
        }
    }
}

impl<E: fmt::Display> fmt::Display for RunError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::InProgress => f.write_str("another run with this key is under way"),
            Self::OutcomeUnknown => {
                f.write_str("a run with this key was begun, and its outcome is not known")
            }
            Self::ResultNotKept => {
                f.write_str("a run with this key is done, and its result was not kept")
            }
            Self::Unavailable(_) => {
                f.write_str("the store did not reply whether this key was used before")
            }
            Self::Closing => f.write_str("the process stops, and begins no more runs"),
        }
    }
}

impl<E: Error + 'static> Error for RunError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => error.source(),
            Self::Unavailable(error) => Some(error),
            _ => None,
        }
    }
}
