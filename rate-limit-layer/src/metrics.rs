//! The counts of the decisions of a limiter, if the feature `metrics` is on. Without it nothing is kept and nothing is
//! done. The names are in the table of the crate page.

use std::fmt;
#[cfg(feature = "metrics")]
use std::sync::Arc;

#[cfg(feature = "metrics")]
use layer_store::wrap::metrics::{Counters, Metric};

use crate::Unavailable;

/// The outcome of a check under one policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Admitted,
    Refused,
    RefusedByLedger,
    FailedOpen,
    FailedClosed,
    /// A policy on trial counted the request.
    ShadowAdmitted,
    /// A policy on trial would have refused the request.
    WouldRefuse,
    /// A policy on trial could not be checked.
    ShadowUnchecked,
}

/// The decisions under one policy. Clones count together.
#[derive(Clone, Default)]
pub(crate) struct Decisions {
    #[cfg(feature = "metrics")]
    counters: Arc<Counters<8>>,
}

impl Decisions {
    #[cfg(feature = "metrics")]
    #[inline]
    pub(crate) fn count(&self, policy: &str, outcome: Outcome) {
        let labels = [policy, outcome.as_str()];
        self.counters.count(outcome as usize, &DECISIONS, &labels);
    }

    #[cfg(not(feature = "metrics"))]
    #[expect(
        clippy::unused_self,
        reason = "it counts if the feature `metrics` is on"
    )]
    #[inline(always)]
    pub(crate) const fn count(&self, _: &str, _: Outcome) {}
}

/// The keys that were near a limit, by the limit's number.
#[derive(Default)]
pub(crate) struct NearLimits {
    #[cfg(feature = "metrics")]
    counters: Counters<{ crate::policy::limit_set::MAX_POLICIES }>,
}

impl NearLimits {
    #[cfg(feature = "metrics")]
    pub(crate) fn count(&self, limit: usize, policy: &str) {
        self.counters.count(limit, &NEAR_LIMIT, &[policy]);
    }

    #[cfg(not(feature = "metrics"))]
    #[expect(
        clippy::unused_self,
        reason = "it counts if the feature `metrics` is on"
    )]
    pub(crate) const fn count(&self, _: usize, _: &str) {}
}

/// The blocks of one policy that have begun.
#[derive(Default)]
pub(crate) struct Blocks {
    #[cfg(feature = "metrics")]
    counters: Counters<1>,
}

impl Blocks {
    #[cfg(feature = "metrics")]
    pub(crate) fn count(&self, policy: &str) {
        self.counters.count(0, &BLOCKS, &[policy]);
    }

    #[cfg(not(feature = "metrics"))]
    #[expect(
        clippy::unused_self,
        reason = "it counts if the feature `metrics` is on"
    )]
    pub(crate) const fn count(&self, _: &str) {}
}

/// The commands of one limiter that its store did not answer, by reason.
#[derive(Default)]
pub(crate) struct Unanswered {
    #[cfg(feature = "metrics")]
    counters: Counters<3>,
}

impl Unanswered {
    #[cfg(feature = "metrics")]
    pub(crate) fn count(&self, reason: Unavailable) {
        let counters = &self.counters;
        counters.count(reason as usize, &UNCHECKED, &[reason.as_str()]);
    }

    #[cfg(not(feature = "metrics"))]
    #[expect(
        clippy::unused_self,
        reason = "it counts if the feature `metrics` is on"
    )]
    pub(crate) const fn count(&self, _: Unavailable) {}
}

impl fmt::Debug for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unanswered").finish_non_exhaustive()
    }
}

impl Outcome {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Refused => "refused",
            Self::RefusedByLedger => "refused_by_ledger",
            Self::FailedOpen => "failed_open",
            Self::FailedClosed => "failed_closed",
            Self::ShadowAdmitted => "shadow_admitted",
            Self::WouldRefuse => "would_refuse",
            Self::ShadowUnchecked => "shadow_unchecked",
        }
    }

    /// Returns what the outcome is called under a policy on trial.
    pub(crate) const fn of_shadow(self) -> Self {
        match self {
            Self::Admitted => Self::ShadowAdmitted,
            Self::Refused | Self::RefusedByLedger => Self::WouldRefuse,
            Self::FailedOpen | Self::FailedClosed => Self::ShadowUnchecked,
            shadow => shadow,
        }
    }
}

/// Decisions by policy.
#[cfg(feature = "metrics")]
const DECISIONS: Metric = Metric::counter(
    "rate_limit_decisions_total",
    &["policy", "outcome"],
    "decisions; `outcome` is `admitted`, `refused`, `refused_by_ledger`, `failed_open` or `failed_closed`; of a shadow policy \
     `shadow_admitted`, `would_refuse` or `shadow_unchecked`",
);

/// Blocks that have begun.
#[cfg(feature = "metrics")]
const BLOCKS: Metric = Metric::counter(
    "rate_limit_blocks_total",
    &["policy"],
    "blocks that have begun, as a request in this process made the last strike (`Policy::block`)",
);

/// Commands that the store did not answer, by reason.
#[cfg(feature = "metrics")]
const UNCHECKED: Metric = Metric::counter(
    "rate_limit_unchecked_total",
    &["reason"],
    "commands without an answer; `reason` is `store_down`, `store_full` or `overloaded`",
);

/// Keys near their limit.
#[cfg(feature = "metrics")]
const NEAR_LIMIT: Metric = Metric::counter(
    "rate_limit_near_limit_total",
    &["policy"],
    "keys that came near a limit, once for each window (`near_limit`)",
);

/// Every metric of this layer.
#[cfg(feature = "metrics")]
pub const METRICS: &[Metric] = &[BLOCKS, DECISIONS, NEAR_LIMIT, UNCHECKED];

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_crate_page_is_the_table_of_the_code() {
        Metric::check_table(METRICS, include_str!("lib.rs"), &["rate_limit_"]);
    }
}
