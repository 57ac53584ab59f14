//! The counts of a cache, if the feature `metrics` is on. Without it nothing is kept and nothing is done. The names are in
//! the table of the crate page.

#[cfg(feature = "metrics")]
use {
    layer_store::wrap::metrics::{Counters, Metric},
    std::sync::Arc,
};

use crate::http::cache_status::CacheStatus;

/// The requests that the services of one layer answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    /// Kept, because a hit is quick. Every other request goes to a handler.
    #[cfg(feature = "metrics")]
    hits: Arc<Counters<1>>,
}

impl Requests {
    #[cfg(feature = "metrics")]
    pub(crate) fn count(&self, cache: &str, status: CacheStatus) {
        let labels = [cache, status.result(), status.reason()];
        match status {
            CacheStatus::Hit { .. } => self.hits.count(0, &REQUESTS, &labels),
            _ => REQUESTS.find_counter(&labels).increment(1),
        }
    }

    #[cfg(not(feature = "metrics"))]
    #[expect(
        clippy::unused_self,
        reason = "it counts if the feature `metrics` is on"
    )]
    pub(crate) const fn count(&self, _: &str, _: CacheStatus) {}
}

/// Counts a response or object on its way into the store. The outcome is `stored`, or why it was not.
pub(crate) fn count_fill(outcome: &'static str) {
    #[cfg(feature = "metrics")]
    FILLS.find_counter(&[outcome]).increment(1);
    #[cfg(not(feature = "metrics"))]
    let _ = outcome;
}

/// Counts a request for an object: a `hit`, a `miss` or a `collapsed` one.
pub(crate) fn count_object(result: &'static str) {
    #[cfg(feature = "metrics")]
    OBJECTS.find_counter(&[result]).increment(1);
    #[cfg(not(feature = "metrics"))]
    let _ = result;
}

/// Requests by result.
#[cfg(feature = "metrics")]
const REQUESTS: Metric = Metric::counter(
    "cache_requests_total",
    &["cache", "result", "reason"],
    "requests; `result` is `hit`, `collapsed`, `confirmed`, `miss`, `bypass` or `only-if-cached`, `reason` is as in `Cache-Status`",
);

/// Responses and objects on their way into the store.
#[cfg(feature = "metrics")]
const FILLS: Metric = Metric::counter(
    "cache_fills_total",
    &["outcome"],
    "responses and objects that arrived whole, grew too large or took too long; `outcome` is `stored`, or why it was not",
);

/// Objects by result.
#[cfg(feature = "metrics")]
const OBJECTS: Metric = Metric::counter(
    "cache_objects_total",
    &["result"],
    "requests for objects; `result` is `hit`, `collapsed` or `miss`",
);

/// Every metric of this layer.
#[cfg(feature = "metrics")]
pub const METRICS: &[Metric] = &[REQUESTS, FILLS, OBJECTS];

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_crate_page_is_the_table_of_the_code() {
        Metric::check_table(METRICS, include_str!("lib.rs"), &["cache_"]);
    }
}
