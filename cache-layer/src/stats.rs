use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How requests were answered since the cache was made. See [`ResponseCache::stats`](crate::ResponseCache::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Answered with what was stored.
    pub hits: u64,
    /// The handler was called for want of a stored answer.
    pub misses: u64,
    /// Waited for the handler call of another, and answered with its answer.
    pub collapsed: u64,
    /// Could not be answered from a cache at all: another method, a credential, a key known to be uncacheable.
    pub bypassed: u64,
    /// The handler was called because the store failed.
    pub store_errors: u64,
    /// Answers written to the store.
    pub stored: u64,
}

impl Stats {
    /// The part of hits among hits and misses, from 0 to 1; 0 before the first.
    pub fn hit_rate(&self) -> f64 {
        match self.hits + self.misses {
            0 => 0.0,
            all => self.hits as f64 / all as f64,
        }
    }
}

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

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hit_rate_is_that_of_hits_among_both() {
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
