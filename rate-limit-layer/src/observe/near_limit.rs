use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use crate::{
    check::{counted::Counted, decision::Debt, partition::Partitions},
    metrics::NearLimits,
    policy::limit::Limit,
};

/// Tells of keys that have used most of a burst: once for each key and window.
pub(crate) struct NearLimit {
    percent: u8,
    /// Until when no more is told of a key, in Unix microseconds.
    told: Mutex<HashMap<u128, u64>>,
    counts: NearLimits,
}

impl NearLimit {
    /// # Panics
    ///
    /// If it is no percentage of a burst.
    #[track_caller]
    pub(crate) fn new(percent: u8) -> Self {
        assert!(
            (1..=100).contains(&percent),
            "{percent} % of a quota is not near its limit: write a number from 1 to 100, such as 80"
        );
        Self {
            percent,
            told: Mutex::default(),
            counts: NearLimits::default(),
        }
    }

    /// Returns true if an admitted request is near one of its limits.
    pub(crate) fn is_near(&self, limits: &[Limit], debt: Debt, counted: Option<&Counted>) -> bool {
        let mut debts = debts(debt, counted);
        debts.any(|debt| self.is_near_one(limits, debt))
    }

    fn is_near_one(&self, limits: &[Limit], debt: Debt) -> bool {
        let limit = &limits[debt.limit];
        let burst = limit.quota.capacity();
        let used = burst.saturating_sub(debt.remaining(limits));
        u128::from(used) * 100 >= u128::from(burst) * u128::from(self.percent)
    }

    /// Tells of each limit that the request is near to, if it is the first of its key in a window.
    pub(crate) fn tell(
        &self,
        limits: &[Limit],
        debt: Debt,
        counted: Option<&Counted>,
        partitions: &Partitions<'_>,
        now: u64,
    ) {
        for debt in debts(debt, counted).filter(|debt| self.is_near_one(limits, *debt)) {
            let limit = &limits[debt.limit];
            let Some(key) = partitions.key(limits, debt.limit) else {
                continue;
            };
            let window = limit.rate.full().ceil_micros();
            if !self.is_first(key.bits(), now, window) {
                continue;
            }
            self.counts.count(debt.limit, &limit.name);
            tracing::info!(
                policy = &*limit.name,
                limit = %limit.quota,
                remaining = debt.remaining(limits),
                key = %super::top::hashed(key.bits()),
                "rate limit nearly used up"
            );
        }
    }

    /// Returns true once for each key and window.
    fn is_first(&self, key: u128, now: u64, window: u64) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&key).is_some_and(|until| *until > now) {
            return false;
        }
        if told.len() >= MAX_KEYS {
            told.retain(|_, until| *until > now);
        }
        // So many at once are no news of one key. Those that come later have their turn when these are forgotten.
        if told.len() >= MAX_KEYS {
            return false;
        }
        told.insert(key, now.saturating_add(window));
        true
    }
}

impl fmt::Debug for NearLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NearLimit")
            .field("percent", &self.percent)
            .finish_non_exhaustive()
    }
}

/// Returns the debts of a request to all limits that told.
fn debts(debt: Debt, counted: Option<&Counted>) -> impl Iterator<Item = Debt> {
    let one = counted.is_none().then_some(debt);
    one.into_iter()
        .chain(counted.into_iter().flat_map(Counted::debts))
}

/// About 200 KB.
const MAX_KEYS: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Quota, algorithm::usage::Usage};

    #[test]
    fn near_is_what_has_used_the_percentage_of_a_burst() {
        let limits = [Limit::new(Quota::per_second(10).fail_open())];
        for (percent, used, near) in [
            (80, 7, false),
            (80, 8, true),
            (81, 8, false),
            (100, 9, false),
            (100, 10, true),
            (1, 0, false),
            (1, 1, true),
        ] {
            let debt = Debt {
                limit: 0,
                usage: Usage::Debt(limits[0].rate.price(used)),
            };
            let told = NearLimit::new(percent).is_near(&limits, debt, None);
            assert_eq!(told, near, "{percent} % {used}");
        }
        let vast = [Limit::new(Quota::per_day(u64::MAX).fail_open())];
        let debt = Debt {
            limit: 0,
            usage: Usage::ZERO,
        };
        assert!(!NearLimit::new(80).is_near(&vast, debt, None));
    }

    #[test]
    fn a_key_is_told_of_once_in_a_window_and_no_more_are_kept_than_a_few() {
        let near = NearLimit::new(80);
        assert!(near.is_first(1, 1_000, 500));
        assert!(!near.is_first(1, 1_499, 500));
        assert!(near.is_first(1, 1_500, 500));
        let told = (0..9_000).filter(|key| near.is_first(*key, 1_600, 500));
        assert_eq!(told.count(), MAX_KEYS - 1);
        assert!(!near.is_first(9_000, 1_999, 500));
        // Their windows have passed.
        assert!(near.is_first(9_000, 2_100, 500));
    }

    #[test]
    #[should_panic(expected = "write a number from 1 to 100")]
    fn no_percentage_panics() {
        let _ = NearLimit::new(0);
    }
}
