//! The counts of the decisions of a limiter, if the feature `metrics` is on. Without it nothing is kept and nothing is
//! done. The names are in the table of the crate page.

#[cfg(feature = "metrics")]
use {
    layer_store::wrap::metrics::{Counters, Metric},
    std::sync::Arc,
};

/// The outcome of a check under one policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Admitted,
    Refused,
    FailedOpen,
    FailedClosed,
}

/// The decisions under one policy. Clones count together.
#[derive(Clone, Default)]
pub(crate) struct Decisions {
    #[cfg(feature = "metrics")]
    counters: Arc<Counters<4>>,
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

impl Outcome {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Refused => "refused",
            Self::FailedOpen => "failed_open",
            Self::FailedClosed => "failed_closed",
        }
    }
}

/// Decisions by policy.
#[cfg(feature = "metrics")]
const DECISIONS: Metric = Metric::counter(
    "rate_limit_decisions_total",
    &["policy", "outcome"],
    "decisions; `outcome` is `admitted`, `refused`, `failed_open` or `failed_closed`",
);

/// Every metric of this layer.
#[cfg(feature = "metrics")]
pub const METRICS: &[Metric] = &[DECISIONS];

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_crate_page_is_the_table_of_the_code() {
        Metric::check_table(METRICS, include_str!("lib.rs"), &["rate_limit_"]);
    }
}
