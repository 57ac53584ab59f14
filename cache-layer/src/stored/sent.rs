//! What was last sent of an entry: for its second, the next hit sends it again.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{HeaderMap, StatusCode};
use layer_http::Content;
use parking_lot::Mutex;

use crate::{http::cache_status::CacheStatus, purge::count::PurgeCount};

/// The place of a [`SentHead`] in an entry. A clone of the entry has an empty one.
#[derive(Debug, Default)]
pub(crate) struct LastSent(Mutex<Option<Arc<SentHead>>>);

/// The finished fields and content of a stored response, with what has to hold for them to be sent again.
#[derive(Debug)]
pub(crate) struct SentHead {
    /// The cache that found the entry valid.
    pub(crate) cache: CacheId,
    /// Read before its stamps were.
    pub(crate) purges: PurgeCount,
    pub(crate) second: Second,
    /// As it was told when it was sent.
    pub(crate) status: CacheStatus,
    pub(crate) code: StatusCode,
    /// True if it may be sent to requests with credentials.
    pub(crate) public: bool,
    /// With `Age` and `Cache-Status`.
    pub(crate) fields: HeaderMap,
    pub(crate) content: Content,
}

/// A time in the life of a fresh response, of a second at most: its age and the time that it stays fresh are the same numbers
/// of whole seconds all along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Second(Range<u64>);

/// A number that each cache of this process has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheId(u64);

impl LastSent {
    /// Returns what this cache sent last, if nothing was purged since: the count is `purges` now.
    pub(crate) fn get(&self, cache: CacheId, purges: PurgeCount) -> Option<Arc<SentHead>> {
        let sent = self.0.lock().clone()?;
        (sent.cache == cache && sent.purges == purges).then_some(sent)
    }

    pub(crate) fn set(&self, sent: SentHead) {
        let sent = Some(Arc::new(sent));
        // The one before is dropped without the lock.
        let _before = std::mem::replace(&mut *self.0.lock(), sent);
    }
}

impl Second {
    /// Returns the one around `now`, in Unix milliseconds. The response has this age, and stays fresh for `left`. It is empty if
    /// nothing is left.
    pub(crate) fn around(now: u64, age: Duration, left: Duration) -> Self {
        if left.is_zero() {
            return Self(now..now);
        }
        let [age_millis, left_millis] = [age, left].map(|time| u64::from(time.subsec_millis()));
        let since = age_millis.min(999 - left_millis);
        let becomes_older = 1_000 - age_millis;
        // In its last second it becomes stale when nothing is left.
        let less_is_left = left_millis + u64::from(left.as_secs() > 0);
        let ends = now.saturating_add(becomes_older.min(less_is_left));
        Self(now.saturating_sub(since)..ends)
    }

    /// Returns true if `now`, in Unix milliseconds, is in it.
    #[inline]
    pub(crate) fn has(&self, now: u64) -> bool {
        self.0.contains(&now)
    }
}

impl Clone for LastSent {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl CacheId {
    /// Makes another one than all before.
    pub(crate) fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_response_is_not_sent_again_when_it_is_stale() {
        let (age, ms) = (Duration::from_secs(3), Duration::from_millis);
        let second = Second::around(100, age, ms(5));
        assert!(second.has(100) && second.has(104));
        assert!(!second.has(105) && !second.has(99));
        let stale = Second::around(100, age, ms(0));
        assert!(!stale.has(100) && !stale.has(99));
    }

    proptest! {
        /// A response that was received at `NOW` at this age, and is looked at twice.
        #[test]
        fn a_second_has_the_times_at_which_the_same_seconds_are_told(
            age in 0u64..2_500,
            lifetime in 0u64..5_000,
            first in 0u64..3_000,
            then in 0u64..3_000,
        ) {
            const NOW: u64 = 1_800_000_000_000;
            let at = |resident| {
                let age = Duration::from_millis(age + resident);
                (age, Duration::from_millis(lifetime).saturating_sub(age))
            };
            let told = |resident| {
                let (age, left): (Duration, Duration) = at(resident);
                (age.as_secs(), left.as_secs(), left.is_zero())
            };
            let (age, left) = at(first);
            let has = Second::around(NOW + first, age, left).has(NOW + then);
            prop_assert_eq!(has, !left.is_zero() && told(first) == told(then));
        }
    }
}
