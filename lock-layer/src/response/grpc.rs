//! The status of each refusal, for a client of gRPC.

use layer_http::grpc::{Reason, Status};

use super::waiting;
use crate::{AcquireError, IdempotencyRefusal, LockRefusal};

impl AcquireError {
    /// Returns the status that a client of gRPC reads. A handler of tonic makes its own `Status` of it.
    pub fn grpc_status(&self) -> Status {
        let reason = match self {
            Self::Busy(_) => Reason::LockBusy,
            Self::Unavailable(_) => Reason::LockUnavailable,
            Self::NoUnits | Self::TooManyUnits { .. } => Reason::LockUnitsInvalid,
        };
        waiting(
            Status::new(reason, self.problem().text()),
            self.retry_after(),
        )
    }
}

impl LockRefusal {
    /// Returns the status that a client of gRPC reads.
    pub fn grpc_status(&self) -> Status {
        let reason = match self {
            Self::NotAcquired(error) => return error.grpc_status(),
            Self::KeyNotFound => Reason::LockKeyMissing,
            Self::KeyAmbiguous => Reason::LockKeyAmbiguous,
            Self::Misconfigured => Reason::LockMisconfigured,
        };
        Status::new(reason, self.problem().text())
    }
}

impl IdempotencyRefusal {
    /// Returns the status that a client of gRPC reads.
    pub fn grpc_status(self) -> Status {
        let status = Status::new(self.reason(), self.problem().text());
        let status = waiting(status, self.retry_after());
        match self {
            Self::KeyReused => status.precondition("IDEMPOTENCY_KEY", "idempotency-key"),
            Self::BodyNotKept { status: first } => status.info("original-status", first.as_str()),
            _ => status,
        }
    }

    const fn reason(self) -> Reason {
        match self {
            Self::KeyMissing => Reason::KeyMissing,
            Self::KeyInvalid => Reason::KeyInvalid,
            Self::KeyReused => Reason::KeyReused,
            Self::InProgress => Reason::InProgress,
            Self::OutcomeUnknown => Reason::OutcomeUnknown,
            Self::BodyNotKept { .. } => Reason::ResponseNotKept,
            Self::BodyTooLarge => Reason::RequestTooLarge,
            Self::BodyUnreadable => Reason::RequestUnreadable,
            Self::NotUnary => Reason::NotUnary,
            Self::ClientMissing => Reason::ClientMissing,
            Self::ClientUnknown => Reason::ClientUnknown,
            Self::Closing => Reason::Closing,
            Self::StoreUnavailable => Reason::RecordUnavailable,
        }
    }
}
