use parking_lot::Mutex;

use super::{
    Shared,
    shard::Shard,
    write::{Listed, Write},
};
use crate::{
    Condition, ErrorKind, Expiry, Key, Op, Reply, Retention, StoreError, Ttl, Value,
    op::check_batch,
    transaction::{Slot, expiry},
};

impl Shared {
    #[inline]
    pub(super) fn apply(&self, op: &Op<'_>) -> Result<Reply, StoreError> {
        let now = self.clock.now();
        match *op {
            Op::Run {
                program,
                keys: [key],
                args,
            } => self.run_one(program, key, args, now),
            _ => self.apply_other(op, now),
        }
    }

    fn apply_other(&self, op: &Op<'_>, now: u64) -> Result<Reply, StoreError> {
        Ok(match *op {
            Op::Get(key) => Reply::Value(self.get(key, now)),
            Op::GetMany(keys) => Reply::Values(keys.iter().map(|key| self.get(key, now)).collect()),
            Op::Set {
                key,
                value,
                expiry,
                condition,
                retention,
            } => return self.set(key, value, expiry, condition, retention, now),
            Op::Delete { key, if_equals } => Reply::Count(self.delete(key, if_equals, now)),
            Op::DeleteMany(keys) => {
                Reply::Count(keys.iter().map(|key| self.delete(key, None, now)).sum())
            }
            Op::Touch {
                key,
                ttl,
                only_longer,
            } => Reply::Count(self.touch(key, ttl, only_longer, now)),
            Op::Run {
                program,
                keys,
                args,
            } => Reply::Output(self.run(program, keys, args, now)?),
            Op::Add {
                key,
                delta,
                ttl,
                max,
            } => return self.add(key, delta, ttl, max, now),
            Op::Scan(scan) => Reply::Page(Box::new(self.scan(scan, now))),
            Op::Batch(ops) => {
                check_batch(ops)?;
                Reply::Batch(ops.iter().map(|op| self.apply(op)).collect())
            }
            Op::Ping => Reply::Pong,
        })
    }

    #[inline(always)]
    pub(super) fn get(&self, key: &Key<'_>, now: u64) -> Option<Value> {
        let mut shard = self.shard(key).lock();
        let at = shard.find(key.id())?;
        shard.read(at);
        shard.slot(at).get(now).cloned()
    }

    fn set(
        &self,
        key: &Key<'_>,
        value: &Value,
        wanted: Expiry,
        condition: Condition<'_>,
        retention: Retention,
        now: u64,
    ) -> Result<Reply, StoreError> {
        let write = Write {
            key,
            retention,
            listed: Listed::Yes,
            now,
        };
        self.write(write, |slot, written| {
            let existing = slot.get(now);
            let applied = match condition {
                Condition::Always => true,
                Condition::Absent => existing.is_none(),
                Condition::Equals(old) => existing == Some(old),
            };
            if !applied {
                let existing = existing.cloned();
                return Reply::Set { applied, existing };
            }
            let ends = match (wanted.ttl(), wanted) {
                (Some(ttl), _) => Some(expiry(now, ttl)),
                (None, Expiry::KEEP) if existing.is_some() => slot.expires(),
                (None, _) => None,
            };
            *slot = Slot::until(value.clone(), ends);
            *written = true;
            let existing = None;
            Reply::Set { applied, existing }
        })
    }

    fn delete(&self, key: &Key<'_>, if_equals: Option<&Value>, now: u64) -> u64 {
        let mut shard = self.shard(key).lock();
        let Some(at) = shard.find(key.id()) else {
            return 0;
        };
        let goes = match (shard.slot(at).get(now), if_equals) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(existing), Some(value)) => existing == value,
        };
        if goes {
            let delta = shard.remove(at);
            self.counts.settle(delta, 0);
            drop(shard);
            self.watchers.hint(&key.id());
        }
        u64::from(goes)
    }

    fn add(
        &self,
        key: &Key<'_>,
        delta: i64,
        ttl: Option<Ttl>,
        max: Option<i64>,
        now: u64,
    ) -> Result<Reply, StoreError> {
        let write = Write {
            key,
            retention: Retention::Pinned,
            listed: Listed::Yes,
            now,
        };
        self.write(write, |slot, written| {
            let rejected = |why| StoreError::not_applied(ErrorKind::Rejected).with_source(why);
            let existing = slot.get(now);
            let number = match existing.map(Value::as_int) {
                Some(Some(number)) => number,
                Some(None) => return Err(rejected("the value is not an integer")),
                None => 0,
            };
            let sum = number
                .checked_add(delta)
                .ok_or_else(|| rejected("the sum is beyond 64 bits"))?;
            if max.is_some_and(|max| sum > max) {
                let (applied, value) = (false, number);
                return Ok(Reply::Added { applied, value });
            }
            // Only an integer that is made here gets the time to live.
            if existing.is_some() {
                slot.set_value(Value::int(sum));
            } else {
                *slot = Slot::until(Value::int(sum), ttl.map(|ttl| expiry(now, ttl)));
            }
            *written = true;
            let (applied, value) = (true, sum);
            Ok(Reply::Added { applied, value })
        })?
    }

    fn touch(&self, key: &Key<'_>, ttl: Ttl, only_longer: bool, now: u64) -> u64 {
        let mut shard = self.shard(key).lock();
        let Some(at) = shard.find(key.id()) else {
            return 0;
        };
        let slot = shard.slot(at);
        let ends = expiry(now, ttl);
        let lives_longer = slot.expires().is_none_or(|current| current >= ends);
        if slot.get(now).is_none() || (only_longer && lives_longer) {
            return 0;
        }
        slot.set_ends(ends);
        let delta = shard.moved(at);
        self.counts.settle(delta, ends);
        1
    }

    #[inline]
    pub(super) fn shard(&self, key: &Key<'_>) -> &Mutex<Shard> {
        &self.shards[key.tag_bits() & (self.shards.len() - 1)].0
    }
}
