//! The counts of locks and idempotent requests, if the feature `metrics` is on. Without it nothing is done. The names are
//! in the table of the crate page.

#[cfg(feature = "metrics")]
use layer_store::wrap::metrics::Metric;

/// Counts a request with an idempotency key: `run`, `replayed`, or the reason of a refusal.
pub(crate) fn count_idempotent(outcome: &'static str) {
    #[cfg(feature = "metrics")]
    IDEMPOTENT.find_counter(&[outcome]).increment(1);
    #[cfg(not(feature = "metrics"))]
    let _ = outcome;
}

/// Counts an attempt to take a lock: `acquired`, or the reason of a refusal.
pub(crate) fn count_acquisition(outcome: &'static str) {
    #[cfg(feature = "metrics")]
    ACQUISITIONS.find_counter(&[outcome]).increment(1);
    #[cfg(not(feature = "metrics"))]
    let _ = outcome;
}

/// Counts a lock that was lost while it was held.
pub(crate) fn count_lost() {
    #[cfg(feature = "metrics")]
    LOST.find_counter(&[]).increment(1);
}

/// Requests with an idempotency key.
#[cfg(feature = "metrics")]
const IDEMPOTENT: Metric = Metric::counter(
    "idempotency_requests_total",
    &["outcome"],
    "requests that need a key; `outcome` is `run`, `replayed`, or why it was refused, such as `in_progress`",
);

/// Attempts to take a lock.
#[cfg(feature = "metrics")]
const ACQUISITIONS: Metric = Metric::counter(
    "lock_acquisitions_total",
    &["outcome"],
    "attempts to take a lock; `outcome` is `acquired`, `busy`, `unavailable`, or what was wrong with the request",
);

/// Locks that were lost.
#[cfg(feature = "metrics")]
const LOST: Metric = Metric::counter(
    "lock_lost_total",
    &[],
    "locks that their holder lost before giving them back",
);

/// Every metric of this crate.
#[cfg(feature = "metrics")]
pub const METRICS: &[Metric] = &[IDEMPOTENT, ACQUISITIONS, LOST];

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_crate_page_is_the_table_of_the_code() {
        Metric::check_table(METRICS, include_str!("lib.rs"), &["idempotency_", "lock_"]);
    }
}
