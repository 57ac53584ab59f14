use std::sync::{Mutex, PoisonError};

use crate::{ledger::account::Account, policy::limit::Limit};

/// The accounts of a ledger: a bounded number of them, in buckets of a few.
///
/// A key has one bucket, and a full bucket forgets the account that owes the smallest part of its burst. So a flood of fresh keys
/// pushes each other out, and what is blocked leaves last.
///
/// A key may be counted under several quotas, one after the other: its client's tier has changed, or the policy's quota has. Its account
/// then goes on under the new one.
#[derive(Debug)]
pub(crate) struct Table {
    buckets: Box<[Mutex<Vec<Slot>>]>,
}

#[derive(Debug)]
struct Slot {
    key: u128,
    unit: Unit,
    account: Account,
}

/// The meaning of the numbers of an account: the part of the quota that they were counted under which tells it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unit {
    /// The parts of a microsecond.
    parts: u32,
    /// The largest debt, in microseconds.
    full: u64,
    /// The limit of a quota that counts in windows. Zero for GCRA, whose debt is a time whatever a request costs.
    limit: u64,
}

impl Table {
    /// Makes a table of at most `capacity` accounts, rounded up to a power of two.
    pub(crate) fn new(capacity: usize) -> Self {
        let buckets = capacity.div_ceil(WAYS).next_power_of_two();
        Self {
            buckets: (0..buckets).map(|_| Mutex::default()).collect(),
        }
    }

    /// Runs `f` on the account of a key under a limit as it is at `now`, if there is one.
    pub(crate) fn find<T>(
        &self,
        limit: &Limit,
        key: u128,
        now: u64,
        f: impl FnOnce(&mut Account) -> T,
    ) -> Option<T> {
        let mut bucket = self.lock(key);
        let slot = bucket.iter_mut().find(|slot| slot.key == key)?;
        slot.go_on_under(limit, now);
        Some(f(&mut slot.account))
    }

    /// Runs `f` on the account of a key under a limit as it is at `now`. If there is none, it is opened, and another one may be forgotten.
    pub(crate) fn open<T>(
        &self,
        limit: &Limit,
        key: u128,
        now: u64,
        f: impl FnOnce(&mut Account) -> T,
    ) -> T {
        let mut bucket = self.lock(key);
        let place = match bucket.iter().position(|slot| slot.key == key) {
            Some(place) => place,
            None => place_for(&mut bucket, limit, key, now),
        };
        let slot = &mut bucket[place];
        slot.go_on_under(limit, now);
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
    fn new(limit: &Limit, key: u128, now: u64) -> Self {
        Self {
            key,
            unit: Unit::of(limit),
            account: Account::open(now),
        }
    }

    /// Lets time pay back until `now`, and goes on in the unit of a limit.
    fn go_on_under(&mut self, limit: &Limit, now: u64) {
        self.account.advance(self.unit.parts, now);
        let unit = Unit::of(limit);
        if unit != self.unit {
            self.change(unit, limit);
        }
    }

    #[cold]
    fn change(&mut self, unit: Unit, limit: &Limit) {
        let before = std::mem::replace(&mut self.unit, unit);
        match limit.is_gcra() {
            true => self
                .account
                .change_rate(limit.rate, before.parts != unit.parts),
            // A debt that stands for a count is another count under another limit.
            false => self.account.begin_anew(),
        }
    }

    /// Returns which part of its burst the account owes, in 65,536ths.
    fn owed_part(&self) -> u128 {
        (u128::from(self.account.owed().ceil_micros()) << 16) / u128::from(self.unit.full)
    }
}

impl Unit {
    const fn of(limit: &Limit) -> Self {
        Self {
            parts: limit.rate.parts(),
            full: limit.rate.full().ceil_micros(),
            limit: match limit.is_gcra() {
                true => 0,
                false => limit.quota.limit(),
            },
        }
    }
}

/// Makes a new account in a bucket, and returns its place.
fn place_for(bucket: &mut Vec<Slot>, limit: &Limit, key: u128, now: u64) -> usize {
    let slot = Slot::new(limit, key, now);
    if bucket.len() < WAYS {
        bucket.push(slot);
        return bucket.len() - 1;
    }
    for slot in bucket.iter_mut() {
        slot.account.advance(slot.unit.parts, now);
    }
    let place = (0..WAYS).min_by_key(|place| bucket[*place].owed_part());
    let place = place.unwrap_or(0);
    bucket[place] = slot;
    place
}

/// The accounts of a bucket. More of them make a better choice of what to forget, and a longer search.
const WAYS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Quota, algorithm::span::Span, ledger::account::Report};

    const NOW: u64 = 1_767_225_600_000_000;

    fn limit(quota: Quota) -> Limit {
        Limit::new(quota.name("a").fail_open())
    }

    /// A key whose parts are spread as those of real ones.
    fn key(number: u64) -> u128 {
        u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) >> 7
    }

    #[test]
    fn a_million_fresh_keys_free_no_blocked_key_and_stay_within_the_bound() {
        let (table, limit) = (Table::new(1_000), limit(Quota::per_minute(2)));
        let rate = limit.rate;
        assert_eq!(table.capacity(), 1_024);
        let blocked = key(u64::MAX);
        table.open(&limit, blocked, NOW, |account| {
            account.learn(rate, Report::debt(rate.full()), NOW);
        });
        for number in 0..1_000_000 {
            table.open(&limit, key(number), NOW, |account| {
                account.learn(rate, Report::debt(rate.price(1)), NOW);
            });
        }
        assert_eq!(table.len(), table.capacity());
        let owed = table.find(&limit, blocked, NOW, |account| account.owed());
        assert_eq!(owed, Some(rate.full()));
    }

    #[test]
    fn an_account_is_found_by_its_key_and_closed() {
        let (table, limit) = (Table::new(8), limit(Quota::per_minute(2)));
        let rate = limit.rate;
        for number in 0..8 {
            let owed = table.open(&limit, key(number), NOW, |account| {
                account.learn(rate, Report::debt(Span::of_micros(number)), NOW);
                account.owed().micros
            });
            assert_eq!(owed, number);
        }
        for number in 0..8 {
            let owed = table.find(&limit, key(number), NOW + 1, |account| {
                account.owed().micros
            });
            assert_eq!(owed, Some(number.saturating_sub(1)));
        }
        table.close(key(3));
        assert_eq!(table.find(&limit, key(3), NOW, |_| ()), None);
        assert_eq!(table.len(), 7);
    }

    /// Returns the debt of a key under each of these quotas in turn.
    fn owed(quotas: &[Quota], debt: impl Fn(&Limit) -> Span) -> Vec<Span> {
        let (table, first) = (Table::new(8), limit(quotas[0]));
        table.open(&first, key(1), NOW, |account| {
            account.learn(first.rate, Report::debt(debt(&first)), NOW);
        });
        let owed = |quota: &Quota| {
            let found = table.find(&limit(*quota), key(1), NOW, |account| account.owed());
            found.unwrap()
        };
        quotas.iter().map(owed).collect()
    }

    #[test]
    fn a_debt_is_owed_on_under_another_quota_unless_the_store_would_cut_it() {
        let seconds = |seconds: u64| Span::of_micros(seconds * 1_000_000);
        let [fast, slow] = [100, 10].map(Quota::per_minute);
        // 50 of 100 are half a minute, and half of 10.
        let half = |limit: &Limit| limit.rate.price(50);
        assert_eq!(owed(&[fast, slow, fast], half), [seconds(30); 3]);
        // A burst of 1 is 6 seconds. The store cuts what is owed above it when it is asked, and so it has to be.
        let bursts = owed(&[fast, slow.burst(1), fast], half);
        assert_eq!(bursts, [seconds(30), Span::ZERO, Span::ZERO]);
        // A second above a burst the store does not cut.
        let almost = owed(&[fast, slow.burst(1), fast], |_| {
            seconds(7).minus(Span::of_micros(1), 1)
        });
        assert_eq!(almost, [Span::of_micros(6_999_999); 3]);
        // Of sevenths of a microsecond no more than that is lost.
        let parts = owed(&[Quota::per_minute(7), slow], |limit| limit.rate.price(1));
        assert_eq!((parts[0].micros, parts[0].fraction), (8_571_428, 4));
        assert_eq!(parts[1], Span::of_micros(8_571_428));
    }

    #[test]
    fn an_account_of_counts_begins_anew_under_another_limit() {
        let [ten, twenty] = [10, 20].map(|limit| Quota::per_minute(limit).fixed_window());
        let all = owed(&[ten, twenty, ten], |limit| limit.rate.price(10));
        assert_eq!(all, [Span::of_micros(60_000_000), Span::ZERO, Span::ZERO]);
    }
}
