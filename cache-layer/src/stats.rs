use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The numbers of requests and loads by the way they were answered, since the cache was made.
///
/// See [`ResponseCache::stats`](crate::ResponseCache::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Answered with a stored response or object.
    pub hits: u64,
    /// Answered by the handler or a load, as no usable entry was stored. Also an object that `get` did not find.
    pub misses: u64,
    /// Answered with the response of another request's handler call, or with another call's load or its error.
    pub collapsed: u64,
    /// Passed by the cache, such as another method than `GET`, or a range.
    pub bypassed: u64,
    /// Answered by the handler or a load, or not at all, because the store failed.
    pub store_errors: u64,
    /// Entries written to the store.
    pub stored: u64,
}

impl Stats {
    /// Returns the share of hits in hits and misses, from 0 to 1. It is 0 before the first request.
    pub fn hit_rate(&self) -> f64 {
        match self.hits + self.misses {
            0 => 0.0,
            all => self.hits as f64 / all as f64,
        }
    }
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) collapsed: AtomicU64,
    pub(crate) bypassed: AtomicU64,
    pub(crate) store_errors: AtomicU64,
    pub(crate) stored: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) -> Stats {
        Stats {
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            collapsed: self.collapsed.load(Relaxed),
            bypassed: self.bypassed.load(Relaxed),
            store_errors: self.store_errors.load(Relaxed),
            stored: self.stored.load(Relaxed),
        }
    }
}

/// Counts one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hit_rate_is_the_share_of_hits_in_hits_and_misses() {
        let rate = |hits, misses| {
            Stats {
                hits,
                misses,
                ..Stats::default()
            }
            .hit_rate()
        };
        assert_eq!(rate(0, 0), 0.0);
        assert_eq!(rate(3, 1), 0.75);
    }
}
