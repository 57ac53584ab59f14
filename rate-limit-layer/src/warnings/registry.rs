use std::{
    collections::HashMap,
    panic::Location,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The limiters of this process: the buckets that they use, and the places in the code where they are made.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    buckets: HashMap<Bucket, Users>,
    places: HashMap<Place, Count>,
}

/// The bucket of an unnamed policy: the store's number and the policy's name.
pub(super) type Bucket = (usize, Arc<str>);
/// A place in the code, and the name of the policy that limiters are made with there.
type Place = (&'static Location<'static>, Arc<str>);

#[derive(Debug, Default)]
struct Users {
    limiters: usize,
    has_warned: bool,
}

#[derive(Debug)]
struct Count {
    limiters: u32,
    since: Instant,
    has_warned: bool,
}

impl Registry {
    /// Returns the registry of this process.
    pub(super) fn of_process() -> MutexGuard<'static, Self> {
        static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);
        REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that one more limiter uses a bucket. `None`: there are too many to watch. `Some(true)`: the second one, for the
    /// first time.
    pub(super) fn enter(&mut self, bucket: &Bucket) -> Option<bool> {
        if !self.buckets.contains_key(bucket) && self.buckets.len() >= MAX_BUCKETS {
            return None;
        }
        let users = self.buckets.entry(bucket.clone()).or_default();
        users.limiters += 1;
        let is_second = users.limiters == 2 && !users.has_warned;
        users.has_warned |= is_second;
        Some(is_second)
    }

    /// Notes that a limiter that [`enter`](Self::enter)ed is gone. When all are, the bucket is forgotten: another store may get the
    /// number.
    pub(super) fn leave(&mut self, bucket: &Bucket) {
        if let Some(users) = self.buckets.get_mut(bucket) {
            users.limiters -= 1;
            if users.limiters == 0 {
                self.buckets.remove(bucket);
            }
        }
    }

    /// Counts the limiters that are made at one place with one policy. Returns true once, when there were too many in a minute.
    pub(super) fn count(
        &mut self,
        place: &'static Location<'static>,
        policy: &Arc<str>,
        now: Instant,
    ) -> bool {
        let place = (place, policy.clone());
        if !self.places.contains_key(&place) && self.places.len() >= MAX_PLACES {
            return false;
        }
        let count = self.places.entry(place).or_insert(Count {
            limiters: 0,
            since: now,
            has_warned: false,
        });
        if now.duration_since(count.since) > MINUTE {
            (count.limiters, count.since) = (0, now);
        }
        count.limiters += 1;
        let is_suspicious = count.limiters >= MANY && !count.has_warned;
        count.has_warned |= is_suspicious;
        is_suspicious
    }
}

const MAX_BUCKETS: usize = 4_096;
const MAX_PLACES: usize = 1_024;
const MANY: u32 = 100;
const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(store: usize, name: &str) -> Bucket {
        (store, name.into())
    }

    #[test]
    fn the_second_user_of_a_bucket_is_told_of_once() {
        let mut registry = Registry::default();
        let ours = bucket(1, "5/min");
        assert_eq!(registry.enter(&ours), Some(false));
        assert_eq!(registry.enter(&bucket(2, "5/min")), Some(false));
        assert_eq!(registry.enter(&bucket(1, "6/min")), Some(false));
        assert_eq!(registry.enter(&ours), Some(true));
        assert_eq!(registry.enter(&ours), Some(false));
        registry.leave(&ours);
        registry.leave(&ours);
        assert_eq!(registry.enter(&ours), Some(false), "told of already");
    }

    #[test]
    fn a_bucket_that_nobody_uses_is_forgotten() {
        let mut registry = Registry::default();
        let ours = bucket(1, "5/min");
        for _ in 0..3 {
            assert_eq!(registry.enter(&ours), Some(false));
            registry.leave(&ours);
        }
        assert!(registry.buckets.is_empty());
    }

    #[test]
    fn it_is_bounded() {
        let mut registry = Registry::default();
        for store in 0..MAX_BUCKETS {
            assert_eq!(registry.enter(&bucket(store, "a")), Some(false));
        }
        assert_eq!(registry.enter(&bucket(MAX_BUCKETS, "a")), None);
        assert_eq!(registry.enter(&bucket(7, "a")), Some(true));
        let (place, now) = (Location::caller(), Instant::now());
        for policy in 0..2 * MAX_PLACES {
            registry.count(place, &policy.to_string().into(), now);
        }
        assert_eq!(registry.places.len(), MAX_PLACES);
    }

    #[test]
    fn a_hundred_in_a_minute_at_one_place_are_told_of_once() {
        let mut registry = Registry::default();
        let (place, start) = (Location::caller(), Instant::now());
        let name: Arc<str> = "5/min".into();
        let mut told = |from: u64, times: u32| {
            let now = start + Duration::from_secs(from);
            let told = (0..times).filter(|_| registry.count(place, &name, now));
            told.count()
        };
        assert_eq!(told(0, 99), 0);
        // Another minute begins.
        assert_eq!(told(61, 99), 0);
        assert_eq!(told(62, 1), 1);
        assert_eq!(told(63, 200), 0);
        let elsewhere = Location::caller();
        let told = (0..99).filter(|_| registry.count(elsewhere, &name, start));
        assert_eq!(told.count(), 0);
    }
}
