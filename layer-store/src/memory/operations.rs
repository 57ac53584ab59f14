use parking_lot::Mutex;

use super::{
    Shared,
    counts::Room,
    room::MAX_TRIES,
    shard::{Before, Entry, Shard, text_size},
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
        self.with_slot(key, retention, Listed::Yes, now, |slot, written| {
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
        self.with_slot(key, Retention::Pinned, Listed::Yes, now, |slot, written| {
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

    /// Lends the slot of `key` to `write`, which says through its second argument if it wrote the slot.
    ///
    /// `write` runs again if room had to be made.
    pub(super) fn with_slot<T>(
        &self,
        key: &Key<'_>,
        retention: Retention,
        listed: Listed,
        now: u64,
        mut write: impl FnMut(&mut Slot, &mut bool) -> T,
    ) -> Result<T, StoreError> {
        for _ in 0..MAX_TRIES {
            let mut shard = self.shard(key).lock();
            // ## A key that has no entry: written aside, and inserted if there is room
            //
            // Room is reserved in the counts of the whole store before the entry is inserted, so that threads on other shards
            // never pass a bound together.
            let Some(at) = shard.find(key.id()) else {
                let mut slot = Slot::absent();
                let reply = write(&mut slot, &mut false);
                let ends = slot.ends();
                if ends == 0 {
                    return Ok(reply);
                }
                self.check_size(&slot)?;
                let entry = Entry {
                    id: key.id(),
                    slot,
                    text: listed.text(key),
                    retention,
                };
                let room = entry.room();
                if self.counts.reserve(room) {
                    let delta = shard.insert(entry, now, &self.watchers);
                    self.counts.settle(delta, ends);
                    drop(shard);
                    self.watchers.hint(&key.id());
                    return Ok(reply);
                }
                // No room: made here or in another shard, and then tried again.
                self.make_room(shard, room, now)?;
                continue;
            };
            // ## A key that has an entry, expired or not: written in place
            let slot = shard.slot(at);
            let before = Before::of(slot);
            // Only a bound in bytes can refuse this write, and then the entry must be as it was.
            let old = self.has_max_bytes.then(|| slot.clone());
            let mut written = false;
            let reply = write(slot, &mut written);
            if !written {
                return Ok(reply);
            }
            let ends = slot.ends();
            let checked = self.check_size(slot);
            let holds = before.holds_for(slot, retention);
            // An entry that a program made has no text yet.
            let bytes = before.growth(slot);
            let text = match shard.has_text(at) {
                true => None,
                false => listed.text(key),
            };
            let room = Room {
                entries: 0,
                bytes: bytes + text.as_deref().map_or(0, text_size),
            };
            if checked.is_ok() && self.counts.reserve(room) {
                if let Some(text) = text {
                    shard.set_text(at, text);
                }
                if !holds {
                    let delta = shard.rewritten(at, before, retention);
                    self.counts.settle(delta, ends);
                }
                drop(shard);
                self.watchers.hint(&key.id());
                return Ok(reply);
            }
            // ## No room for a larger value: taken back, and tried again after room was made
            if let Some(old) = old {
                *shard.slot(at) = old;
            }
            checked?;
            self.make_room(shard, room, now)?;
        }
        Err(StoreError::not_applied(ErrorKind::Full))
    }

    /// Checks that a value is not too large for the bound in bytes.
    pub(super) fn check_size(&self, slot: &Slot) -> Result<(), StoreError> {
        match slot.heap_size() > self.counts.max_value() {
            true => Err(StoreError::not_applied(ErrorKind::TooLarge)),
            false => Ok(()),
        }
    }

    #[inline]
    pub(super) fn shard(&self, key: &Key<'_>) -> &Mutex<Shard> {
        &self.shards[key.tag()[0] as usize & (self.shards.len() - 1)].0
    }
}

/// If a scan lists the keys that an operation writes. The texts of others are not kept.
#[derive(Clone, Copy)]
pub(super) enum Listed {
    Yes,
    No,
}

impl Listed {
    fn text(self, key: &Key<'_>) -> Option<Box<[u8]>> {
        match self {
            Self::Yes => {
                let mut text = Vec::with_capacity(64);
                key.render(&mut text);
                Some(text.into_boxed_slice())
            }
            Self::No => None,
        }
    }
}
