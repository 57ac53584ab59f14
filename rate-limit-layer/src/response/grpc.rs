//! The status of each refusal, for a client of gRPC.

use layer_http::grpc::{Reason, Status};

use super::STORE_RETRY;
use crate::{QuotaExceeded, RateLimitRefusal, Unavailable};

impl RateLimitRefusal {
    /// Returns the status that a client of gRPC reads.
    pub fn grpc_status(&self) -> Status {
        let status = Status::new(self.reason(), self.problem().text());
        match self {
            Self::QuotaExceeded(exceeded) => {
                let status = status.retry_after(exceeded.retry_after());
                let quotas = exceeded.violated_quotas();
                quotas.fold(status, |status, (name, quota)| {
                    status.quota(name, quota.to_string())
                })
            }
            Self::Unavailable(_) => status.retry_after(STORE_RETRY),
            Self::TooCostly(cost) => match cost.policy() {
                Some(policy) => status.quota(policy, cost.to_client()),
                None => status,
            },
            Self::NoIdentity | Self::AmbiguousIdentity | Self::Misconfigured => status,
        }
    }

    const fn reason(&self) -> Reason {
        match self {
            Self::QuotaExceeded(_) => Reason::QuotaExceeded,
            Self::TooCostly(_) => Reason::TooCostly,
            Self::Unavailable(_) => Reason::LimitUnavailable,
            Self::NoIdentity => Reason::IdentityMissing,
            Self::AmbiguousIdentity => Reason::IdentityAmbiguous,
            Self::Misconfigured => Reason::LimitMisconfigured,
        }
    }
}

impl QuotaExceeded {
    /// Returns the status that a client of gRPC reads: RESOURCE_EXHAUSTED.
    pub fn grpc_status(&self) -> Status {
        RateLimitRefusal::QuotaExceeded(self.clone()).grpc_status()
    }
}

impl Unavailable {
    /// Returns the status that a client of gRPC reads: UNAVAILABLE.
    pub fn grpc_status(&self) -> Status {
        RateLimitRefusal::Unavailable(*self).grpc_status()
    }
}
