use std::{
    cmp::Reverse,
    collections::HashMap,
    fmt, mem,
    sync::{Arc, Mutex, PoisonError},
};

use layer_store::Identity;

use super::sketch::Sketch;
use crate::{
    check::partition::Partitions,
    policy::{limit::Limit, limit_set::LimitSet},
};

/// A key that was refused often, as [`Limiter::top`](crate::Limiter::top) lists it.
#[derive(Clone, Debug)]
pub struct TopKey {
    policy: Arc<str>,
    bits: u128,
    identity: Option<Identity<'static>>,
    refused: u64,
    over: u64,
}

/// Counts the refusals of the keys that are refused most, in the last 10 to 20 minutes.
pub(crate) struct TopKeys {
    most: usize,
    names_identities: bool,
    periods: Mutex<Periods>,
}

/// This period of 10 minutes, and the one before.
struct Periods {
    began_at: u64,
    this: Sketch<Named>,
    last: Sketch<Named>,
}

#[derive(Clone, Debug)]
struct Named {
    policy: Arc<str>,
    identity: Option<Identity<'static>>,
}

impl TopKey {
    /// Returns the name of the policy that refused.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// Returns the key as a hash of 16 hexadecimal digits, for a log. It is another one in each process.
    pub fn hash(&self) -> String {
        hashed(self.bits).to_string()
    }

    /// Returns the identity, if [`track_top_identities`](crate::RateLimitLayer::track_top_identities) is on.
    pub const fn identity(&self) -> Option<&Identity<'static>> {
        self.identity.as_ref()
    }

    /// Returns how often the key was refused in the last 10 to 20 minutes, or more: see [`at_least`](Self::at_least).
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Returns how often the key was refused at least. It is less than [`refused`](Self::refused) if there were more keys than are
    /// tracked.
    pub const fn at_least(&self) -> u64 {
        self.refused - self.over
    }
}

impl TopKeys {
    /// # Panics
    ///
    /// If it is zero, or above 1,000.
    #[track_caller]
    pub(crate) fn new(most: usize, names_identities: bool) -> Self {
        assert!(
            (1..=MAX_KEYS).contains(&most),
            "{most} keys cannot be tracked: write a number from 1 to {MAX_KEYS}"
        );
        Self {
            most,
            names_identities,
            periods: Mutex::new(Periods {
                began_at: 0,
                this: Sketch::new(most),
                last: Sketch::new(most),
            }),
        }
    }

    /// Counts a request that these limits refused.
    pub(crate) fn count(
        &self,
        limits: &[Limit],
        violated: LimitSet,
        partitions: &Partitions<'_>,
        now: u64,
    ) {
        let mut periods = self.periods.lock().unwrap_or_else(PoisonError::into_inner);
        periods.advance(self.most, now);
        for limit in violated.iter() {
            let Some((partition, bits)) = partitions.get(limits, limit) else {
                continue;
            };
            periods.this.count(bits, || Named {
                policy: limits[limit].name.clone(),
                identity: self
                    .names_identities
                    .then(|| partition.identity.clone().into_owned()),
            });
        }
    }

    /// Lists the keys, the most refused first.
    pub(crate) fn list(&self, now: u64) -> Vec<TopKey> {
        let mut periods = self.periods.lock().unwrap_or_else(PoisonError::into_inner);
        periods.advance(self.most, now);
        let mut keys = HashMap::<u128, TopKey>::new();
        for (bits, counter) in periods.this.counters().chain(periods.last.counters()) {
            let key = keys.entry(bits).or_insert_with(|| TopKey {
                policy: counter.key.policy.clone(),
                bits,
                identity: counter.key.identity.clone(),
                refused: 0,
                over: 0,
            });
            key.refused += counter.count;
            key.over += counter.over;
        }
        let mut keys: Vec<_> = keys.into_values().collect();
        keys.sort_by_key(|key| (Reverse(key.refused), key.bits));
        keys.truncate(self.most);
        keys
    }
}

impl Periods {
    /// Begins a new period if this one has ended.
    fn advance(&mut self, most: usize, now: u64) {
        let age = now.saturating_sub(self.began_at);
        if age < PERIOD {
            return;
        }
        let ended = mem::replace(&mut self.this, Sketch::new(most));
        self.last = match age < 2 * PERIOD {
            true => ended,
            false => Sketch::new(most),
        };
        self.began_at = now;
    }
}

impl fmt::Debug for TopKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopKeys")
            .field("most", &self.most)
            .field("names_identities", &self.names_identities)
            .finish_non_exhaustive()
    }
}

/// Shows a key without its identity. Its bits are a hash with a seed of this process.
pub(crate) fn hashed(bits: u128) -> impl fmt::Display {
    struct Hashed(u64);

    impl fmt::Display for Hashed {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{:016x}", self.0)
        }
    }

    Hashed((bits >> 64) as u64)
}

const MAX_KEYS: usize = 1_000;
/// 10 minutes, in microseconds.
const PERIOD: u64 = 600_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Quota;

    const MINUTE: u64 = 60_000_000;
    const START: u64 = 1_767_225_600_000_000;

    fn count(top: &TopKeys, user: &str, now: u64) {
        let limits = [Limit::new(Quota::per_second(1).name("a").fail_open())];
        let partitions = Partitions::all(&limits, &user.into());
        top.count(&limits, LimitSet::one(0), &partitions, now);
    }

    fn listed(top: &TopKeys, now: u64) -> Vec<(Identity<'static>, u64)> {
        let keys = top.list(now).into_iter();
        keys.map(|key| (key.identity().cloned().expect("asked for"), key.refused()))
            .collect()
    }

    #[test]
    fn the_most_refused_is_the_first_and_old_refusals_are_forgotten() {
        let top = TopKeys::new(2, true);
        for (user, times) in [("ada", 3), ("bob", 5)] {
            (0..times).for_each(|_| count(&top, user, START));
        }
        let (ada, bob) = (Identity::from("ada"), Identity::from("bob"));
        assert_eq!(listed(&top, START), [(bob.clone(), 5), (ada.clone(), 3)]);
        (0..4).for_each(|_| count(&top, "ada", START + 11 * MINUTE));
        let both = [(ada.clone(), 7), (bob, 5)];
        assert_eq!(listed(&top, START + 20 * MINUTE), both);
        assert_eq!(listed(&top, START + 21 * MINUTE), [(ada, 4)]);
        assert_eq!(listed(&top, START + 90 * MINUTE), []);
    }

    #[test]
    fn no_more_are_tracked_than_asked_for_and_none_is_named_unless_asked() {
        let top = TopKeys::new(10, false);
        for user in 0..1_000 {
            count(&top, &user.to_string(), START);
            count(&top, "ada", START);
        }
        let keys = top.list(START);
        assert_eq!(keys.len(), 10);
        let ada = &keys[0];
        assert_eq!(
            (ada.policy(), ada.refused(), ada.at_least()),
            ("a", 1_000, 1_000)
        );
        assert!(ada.identity().is_none());
        assert_eq!(ada.hash().len(), 16);
        assert!(keys[1].at_least() < keys[1].refused());
        assert!(!format!("{keys:?}").contains("ada"));
    }

    #[test]
    #[should_panic(expected = "write a number from 1 to 1000")]
    fn a_number_that_is_none_panics() {
        let _ = TopKeys::new(0, false);
    }
}
