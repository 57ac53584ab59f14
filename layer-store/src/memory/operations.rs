use parking_lot::Mutex;

use super::{
    Shared,
    room::MAX_TRIES,
    shard::{Before, Shard},
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
            Op::Delete { key, if_equals } => Reply::Count(self.delete(key, if_equals, now)?),
            Op::DeleteMany(keys) => {
                let mut count = 0;
                for key in keys {
                    count += self.delete(key, None, now)?;
                }
                Reply::Count(count)
            }
            Op::Touch {
                key,
                ttl,
                only_longer,
            } => Reply::Count(self.touch(key, ttl, only_longer, now)?),
            Op::Run {
                program,
                keys,
                args,
            } => Reply::Output(self.run(program, keys, args, now)?),
            Op::Add { .. } | Op::Scan(_) => {
                return Err(StoreError::not_applied(ErrorKind::Unsupported));
            }
            Op::Batch(ops) => {
                check_batch(ops)?;
                Reply::Batch(ops.iter().map(|op| self.apply(op)).collect())
            }
            Op::Ping => Reply::Pong,
        })
    }

    fn get(&self, key: &Key<'_>, now: u64) -> Option<Value> {
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
        self.with_slot(key, retention, now, |slot, written| {
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

    fn delete(
        &self,
        key: &Key<'_>,
        if_equals: Option<&Value>,
        now: u64,
    ) -> Result<u64, StoreError> {
        self.with_slot(key, Retention::Pinned, now, |slot, written| {
            let goes = match (slot.get(now), if_equals) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(existing), Some(value)) => existing == value,
            };
            if goes {
                *slot = Slot::absent();
                *written = true;
            }
            u64::from(goes)
        })
    }

    fn touch(
        &self,
        key: &Key<'_>,
        ttl: Ttl,
        only_longer: bool,
        now: u64,
    ) -> Result<u64, StoreError> {
        let mut shard = self.shard(key).lock();
        let Some(at) = shard.find(key.id()) else {
            return Ok(0);
        };
        let slot = shard.slot(at);
        let ends = expiry(now, ttl);
        let lives_longer = slot.expires().is_none_or(|current| current >= ends);
        if slot.get(now).is_none() || (only_longer && lives_longer) {
            return Ok(0);
        }
        slot.set_ends(ends);
        let delta = shard.moved(at);
        self.counts.settle(delta, ends);
        Ok(1)
    }

    /// Lends the slot of `key` to `write`, which says through its second argument if it wrote the slot.
    ///
    /// `write` runs again if room had to be made.
    pub(super) fn with_slot<T>(
        &self,
        key: &Key<'_>,
        retention: Retention,
        now: u64,
        mut write: impl FnMut(&mut Slot, &mut bool) -> T,
    ) -> Result<T, StoreError> {
        for _ in 0..MAX_TRIES {
            let mut shard = self.shard(key).lock();
            // ## A key that has an entry, expired or not: written in place
            if let Some(at) = shard.find(key.id()) {
                let slot = shard.slot(at);
                let before = Before::of(slot);
                let mut written = false;
                let reply = write(slot, &mut written);
                if written {
                    let ends = slot.ends();
                    let delta = shard.rewritten(at, before, retention);
                    self.counts.settle(delta, ends);
                }
                return Ok(reply);
            }
            // ## A new key: written aside, and inserted if there is room
            //
            // Room is reserved in the count of the whole store before the entry is inserted, so that threads on other shards
            // never pass the bound together.
            let mut slot = Slot::absent();
            let reply = write(&mut slot, &mut false);
            let ends = slot.ends();
            if ends == 0 {
                return Ok(reply);
            }
            if self.counts.reserve(1) {
                let delta = shard.insert(key.id(), slot, retention, now);
                self.counts.settle(delta, ends);
                return Ok(reply);
            }
            // ## No room: made here or in another shard, and then tried again
            //
            self.make_room(shard, now)?;
        }
        Err(StoreError::not_applied(ErrorKind::Full))
    }

    #[inline]
    pub(super) fn shard(&self, key: &Key<'_>) -> &Mutex<Shard> {
        &self.shards[key.tag()[0] as usize & (self.shards.len() - 1)].0
    }
}
