use std::sync::{Mutex, PoisonError};

use crate::{algorithm::span::Span, ledger::account::Account, policy::limit::Limit};

/// The accounts of a ledger: a bounded number of them, in buckets of a few.
///
/// A key has one bucket, and a full bucket forgets the account that owes the smallest part of its burst. So a flood of fresh keys
/// pushes each other out, and what is blocked leaves last.
#[derive(Debug)]
pub(crate) struct Table {
    buckets: Box<[Mutex<Vec<Slot>>]>,
}

#[derive(Debug)]
struct Slot {
    key: u128,
    /// The index of the limit, for its rate.
    limit: u32,
    account: Account,
}

impl Table {
    /// Makes a table of at most `capacity` accounts, rounded up to a power of two.
    pub(crate) fn new(capacity: usize) -> Self {
        let buckets = capacity.div_ceil(WAYS).next_power_of_two();
        Self {
            buckets: (0..buckets).map(|_| Mutex::default()).collect(),
        }
    }

    /// Runs `f` on the account of a key as it is at `now`, if there is one.
    pub(crate) fn find<T>(
        &self,
        limits: &[Limit],
        key: u128,
        now: u64,
        f: impl FnOnce(&mut Account) -> T,
    ) -> Option<T> {
        let mut bucket = self.lock(key);
        let slot = bucket.iter_mut().find(|slot| slot.key == key)?;
        slot.advance(limits, now);
        Some(f(&mut slot.account))
    }

    /// Runs `f` on the account of a key as it is at `now`. If there is none, it is opened, and another one may be forgotten.
    pub(crate) fn open<T>(
        &self,
        limits: &[Limit],
        (key, limit): (u128, usize),
        now: u64,
        f: impl FnOnce(&mut Account) -> T,
    ) -> T {
        let mut bucket = self.lock(key);
        let place = match bucket.iter().position(|slot| slot.key == key) {
            Some(place) => place,
            None => place_for(&mut bucket, limits, (key, limit), now),
        };
        let slot = &mut bucket[place];
        slot.advance(limits, now);
        f(&mut slot.account)
    }

    /// Forgets the account of a key.
    pub(crate) fn close(&self, key: u128) {
        self.lock(key).retain(|slot| slot.key != key);
    }

    fn lock(&self, key: u128) -> std::sync::MutexGuard<'_, Vec<Slot>> {
        let bucket = &self.buckets[key as usize & (self.buckets.len() - 1)];
        // An account is plain numbers: after a panic between two writes it is still one.
        bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let lens = self
            .buckets
            .iter()
            .map(|bucket| bucket.lock().unwrap().len());
        lens.sum()
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.buckets.len() * WAYS
    }
}

impl Slot {
    fn new((key, limit): (u128, usize), now: u64) -> Self {
        Self {
            key,
            limit: limit as u32,
            account: Account::open(now),
        }
    }

    fn advance(&mut self, limits: &[Limit], now: u64) {
        self.account.advance(limits[self.limit as usize].rate, now);
    }

    /// Returns which part of its burst the account owes, in 65,536ths.
    fn owed_part(&self, limits: &[Limit]) -> u128 {
        let rate = limits[self.limit as usize].rate;
        let [owed, full] = [self.account.owed(), rate.full()].map(Span::ceil_micros);
        (u128::from(owed) << 16) / u128::from(full)
    }
}

/// Makes a new account in a bucket, and returns its place.
fn place_for(bucket: &mut Vec<Slot>, limits: &[Limit], key: (u128, usize), now: u64) -> usize {
    let slot = Slot::new(key, now);
    if bucket.len() < WAYS {
        bucket.push(slot);
        return bucket.len() - 1;
    }
    for slot in bucket.iter_mut() {
        slot.advance(limits, now);
    }
    let place = (0..WAYS).min_by_key(|place| bucket[*place].owed_part(limits));
    let place = place.unwrap_or(0);
    bucket[place] = slot;
    place
}

/// The accounts of a bucket. More of them make a better choice of what to forget, and a longer search.
const WAYS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Quota, ledger::account::Report};

    const NOW: u64 = 1_767_225_600_000_000;

    fn limits() -> [Limit; 1] {
        [Limit::new(Quota::per_minute(2).fail_open())]
    }

    /// A key whose parts are spread as those of real ones.
    fn key(number: u64) -> u128 {
        u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) >> 7
    }

    #[test]
    fn a_million_fresh_keys_free_no_blocked_key_and_stay_within_the_bound() {
        let (table, limits) = (Table::new(1_000), limits());
        let rate = limits[0].rate;
        assert_eq!(table.capacity(), 1_024);
        let blocked = key(u64::MAX);
        table.open(&limits, (blocked, 0), NOW, |account| {
            account.learn(rate, Report::debt(rate.full()), NOW);
        });
        for number in 0..1_000_000 {
            table.open(&limits, (key(number), 0), NOW, |account| {
                account.learn(rate, Report::debt(rate.price(1)), NOW);
            });
        }
        assert_eq!(table.len(), table.capacity());
        let owed = table.find(&limits, blocked, NOW, |account| account.owed());
        assert_eq!(owed, Some(rate.full()));
    }

    #[test]
    fn an_account_is_found_by_its_key_and_closed() {
        let (table, limits) = (Table::new(8), limits());
        let rate = limits[0].rate;
        for number in 0..8 {
            let owed = table.open(&limits, (key(number), 0), NOW, |account| {
                account.learn(rate, Report::debt(Span::of_micros(number)), NOW);
                account.owed().micros
            });
            assert_eq!(owed, number);
        }
        for number in 0..8 {
            let owed = table.find(&limits, key(number), NOW + 1, |account| {
                account.owed().micros
            });
            assert_eq!(owed, Some(number.saturating_sub(1)));
        }
        table.close(key(3));
        assert_eq!(table.find(&limits, key(3), NOW, |_| ()), None);
        assert_eq!(table.len(), 7);
    }
}
