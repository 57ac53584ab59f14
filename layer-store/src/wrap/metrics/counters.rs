use std::sync::OnceLock;

use metrics::Counter;

use super::Metric;

/// Counters of one metric that differ in the values of their labels, each found once. For the tables of the layers.
#[doc(hidden)]
#[derive(Debug)]
pub struct Counters<const N: usize>([OnceLock<Counter>; N]);

impl<const N: usize> Counters<N> {
    /// Makes counters that are not found yet.
    pub const fn new() -> Self {
        Self([const { OnceLock::new() }; N])
    }

    /// Adds one to the counter at `index`, which always has the same labels.
    #[inline]
    pub fn count(&self, index: usize, metric: &Metric, labels: &[&str]) {
        let counter = self.0[index].get_or_init(|| metric.find_counter(labels));
        counter.increment(1);
    }
}

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self::new()
    }
}
