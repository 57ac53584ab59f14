use std::{
    array, fmt,
    future::{Future, ready},
    mem, slice,
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};

use self::{
    counts::Counts,
    shard::{Before, Shard},
};
use crate::{
    Arg, Clock, Condition, Context, ErrorKind, Expiry, Key, Op, Output, Program, Reply, Retention,
    SharedStore, Store, StoreError, StoreInfo, Transaction, Ttl, Value, Watch,
    op::{check_batch, check_program},
    transaction::{Slot, expiry},
};

mod counts;
mod shard;
mod table;

/// A store in the memory of this process. It is sharded and bounded, and its calls never wait.
///
/// An entry stays until it expires, or until its place is needed. Expired entries go first, then
/// [`Evictable`](Retention::Evictable) ones that were not read lately. A [`Pinned`](Retention::Pinned) entry is never dropped
/// early: if all entries are pinned, a write of a new key fails with [`Full`](ErrorKind::Full). Clones share their entries.
/// Nothing outlives the process.
///
/// ```
/// use layer_store::{Clock, MemoryStore};
///
/// let store = MemoryStore::with_capacity(100_000);
/// assert!(store.is_empty());
///
/// // For tests: a clock that the test moves.
/// let (clock, time) = Clock::manual(0);
/// let store = MemoryStore::with_clock(100, clock);
/// time.advance(std::time::Duration::from_secs(60));
/// # drop(store);
/// ```
///
/// # Defaults
///
/// | Setting | Default |
/// | --- | --- |
/// | capacity | 1,000,000 entries; a small one takes about 55 bytes |
/// | clock | the [system clock](Clock::system) |
#[derive(Clone)]
pub struct MemoryStore(Arc<Shared>);

struct Shared {
    /// Their number is a power of two.
    shards: Box<[Aligned]>,
    clock: Clock,
    counts: Counts,
}

/// A shard on lines of its own, so that two threads on two shards do not meet.
#[derive(Default)]
#[repr(align(64))]
struct Aligned(Mutex<Shard>);

/// Enough that two threads rarely meet at a lock, and that growing one shard takes a short time.
const MAX_SHARDS: usize = 1024;
/// A store for few entries has fewer shards, so that each shard has a choice when it must make room.
const MIN_PER_SHARD: usize = 64;
/// The attempts of a write to find room before others take it.
const MAX_TRIES: usize = 8;
/// A program with at most this many keys allocates nothing.
const FEW: usize = 8;

impl MemoryStore {
    /// The capacity of [`new`](Self::new).
    pub(crate) const DEFAULT_CAPACITY: usize = 1_000_000;

    /// Makes an empty store of at most 1,000,000 entries.
    pub fn new() -> Self {
        Self::with_capacity(Self::DEFAULT_CAPACITY)
    }

    /// Makes an empty store of at most `entries`.
    ///
    /// # Panics
    ///
    /// If `entries` is zero.
    #[track_caller]
    pub fn with_capacity(entries: usize) -> Self {
        Self::with_clock(entries, Clock::system())
    }

    /// Makes an empty store of at most `entries` that takes its time from `clock`.
    ///
    /// # Panics
    ///
    /// If `entries` is zero: such a store could keep nothing.
    #[track_caller]
    pub fn with_clock(entries: usize, clock: Clock) -> Self {
        assert!(
            entries > 0,
            "a store of no entries keeps nothing: write how many it may hold, as in with_capacity(100_000)"
        );
        let shards = (entries / MIN_PER_SHARD)
            .next_power_of_two()
            .min(MAX_SHARDS);
        Self(Arc::new(Shared {
            shards: (0..shards).map(|_| Aligned::default()).collect(),
            clock,
            counts: Counts::new(entries),
        }))
    }

    /// Returns the number of entries. Expired entries that were not removed yet are included.
    pub fn len(&self) -> usize {
        self.0.counts.len()
    }

    /// Returns true if there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl From<MemoryStore> for SharedStore {
    fn from(store: MemoryStore) -> Self {
        Self::new(store)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("len", &self.len())
            .field("capacity", &self.0.counts.capacity())
            .finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
impl Store for MemoryStore {
    fn call<'a>(
        &'a self,
        op: &'a Op<'a>,
        _: &'a Context,
    ) -> impl Future<Output = Result<Reply, StoreError>> + Send + 'a {
        ready(self.0.apply(op))
    }

    #[inline]
    fn call_now(&self, op: &Op<'_>, _: &Context) -> Option<Result<Reply, StoreError>> {
        Some(self.0.apply(op))
    }

    fn watch(&self, _: &Key<'_>) -> Watch {
        Watch::never()
    }

    fn info(&self) -> StoreInfo {
        let mut info = StoreInfo::new("memory");
        info.answers_now = true;
        info.keeps_deadlines = true;
        info
    }
}

impl Shared {
    #[inline]
    fn apply(&self, op: &Op<'_>) -> Result<Reply, StoreError> {
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

    #[inline]
    fn run_one(
        &self,
        program: &'static Program,
        key: &Key<'_>,
        args: &[Arg<'_>],
        now: u64,
    ) -> Result<Reply, StoreError> {
        // ## A new key: the general way
        let mut shard = self.shard(key).lock();
        let Some(at) = shard.find(key.id()) else {
            drop(shard);
            return self.run_new(program, key, args, now);
        };
        // ## A known key: the twin works on the entry itself
        //
        // This is the path of a rate limit. Nothing is copied, and the counts are settled only if they changed.
        let slot = shard.slot(at);
        let before = Before::of(slot);
        let mut transaction = Transaction::new(now, slice::from_mut(slot));
        let output = program.run(&mut transaction, args);
        if transaction.written() != 0 && !before.holds_for(slot, program.retention()) {
            let ends = slot.ends();
            let delta = shard.rewritten(at, before, program.retention());
            self.counts.settle(delta, ends);
        }
        // Unlocked before the reply is moved: an unlock waits until the words of the reply are written, and a move right
        // after that would stall on them.
        drop(shard);
        Ok(Reply::Output(output))
    }

    #[cold]
    fn run_new(
        &self,
        program: &'static Program,
        key: &Key<'_>,
        args: &[Arg<'_>],
        now: u64,
    ) -> Result<Reply, StoreError> {
        self.with_slot(key, program.retention(), now, |slot, written| {
            let mut transaction = Transaction::new(now, slice::from_mut(slot));
            let output = program.run(&mut transaction, args);
            *written = transaction.written() != 0;
            Reply::Output(output)
        })
    }

    /// Lends the slot of `key` to `write`, which says through its second argument if it wrote the slot.
    ///
    /// `write` runs again if room had to be made.
    fn with_slot<T>(
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
            let mut written = false;
            let reply = write(&mut slot, &mut written);
            let ends = slot.ends();
            if !written || ends == 0 {
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

    /// Runs a program over several keys, on copies of their slots that are written back together.
    ///
    /// All keys have one tag and so live in one shard, whose lock makes the program atomic.
    fn run(
        &self,
        program: &'static Program,
        keys: &[Key<'_>],
        args: &[Arg<'_>],
        now: u64,
    ) -> Result<Output, StoreError> {
        check_program(keys)?;
        let mut few: [Slot; FEW] = array::from_fn(|_| Slot::absent());
        let mut many = Vec::new();
        let slots = match few.get_mut(..keys.len()) {
            Some(slots) => slots,
            None => {
                many.resize(keys.len(), Slot::absent());
                &mut many[..]
            }
        };
        for _ in 0..MAX_TRIES {
            // ## Load: an absent key gets an absent slot
            let mut shard = self.shard(&keys[0]).lock();
            for (key, slot) in keys.iter().zip(&mut *slots) {
                *slot = match shard.find(key.id()) {
                    Some(at) => shard.slot(at).clone(),
                    None => Slot::absent(),
                };
            }
            // ## Run, and count the keys that would become entries
            let mut transaction = Transaction::new(now, slots);
            let output = program.run(&mut transaction, args);
            let written = transaction.written();
            let is_new = |&i: &usize| shard.find(keys[i].id()).is_none();
            let new = bits(written)
                .filter(is_new)
                .fold(0, |new, i| new | 1_u128 << i);
            let added = bits(new).filter(|&i| slots[i].ends() != 0).count();
            // ## Write back all slots, if there is room for all
            //
            // Otherwise nothing is written and the program runs again, on fresh copies, after room was made.
            if self.counts.reserve(added) {
                // Existing entries are written first. An insert sweeps its shard and could remove one that has expired, for
                // which no room was reserved.
                for i in bits(written & !new).chain(bits(new)) {
                    let slot = mem::replace(&mut slots[i], Slot::absent());
                    self.write_back(&mut shard, &keys[i], slot, program.retention(), now);
                }
                return Ok(output);
            }
            self.make_room(shard, now)?;
        }
        Err(StoreError::not_applied(ErrorKind::Full))
    }

    /// Writes one slot of a program. If its key is new, room was reserved for it.
    fn write_back(
        &self,
        shard: &mut Shard,
        key: &Key<'_>,
        new: Slot,
        retention: Retention,
        now: u64,
    ) {
        let ends = new.ends();
        let delta = match shard.find(key.id()) {
            Some(at) => {
                let slot = shard.slot(at);
                let before = Before::of(slot);
                *slot = new;
                shard.rewritten(at, before, retention)
            }
            None if ends == 0 => return,
            None => shard.insert(key.id(), new, retention, now),
        };
        self.counts.settle(delta, ends);
    }

    #[inline]
    fn shard(&self, key: &Key<'_>) -> &Mutex<Shard> {
        &self.shards[key.tag()[0] as usize & (self.shards.len() - 1)].0
    }

    fn make_room_in(&self, shard: &mut Shard, now: u64) -> bool {
        let delta = shard.evict(now);
        self.counts.settle(delta, u64::MAX);
        delta.len != 0
    }

    /// Makes room in `shard`, else in another one.
    ///
    /// Another shard is looked at only after this one is unlocked: no thread holds two locks.
    fn make_room(&self, mut shard: MutexGuard<'_, Shard>, now: u64) -> Result<(), StoreError> {
        if self.make_room_in(&mut shard, now) {
            return Ok(());
        }
        drop(shard);
        self.make_room_anywhere(now)
    }

    /// Makes room in the first shard that has something to drop. If none has, notes until when the next search is in vain.
    fn make_room_anywhere(&self, now: u64) -> Result<(), StoreError> {
        let full = StoreError::not_applied(ErrorKind::Full);
        if self.counts.is_full_at(now) {
            return Err(full);
        }
        let start = self.counts.begin_search();
        let mut soonest = u64::MAX - 1;
        for i in 0..self.shards.len() {
            let mut shard = self.shards[start.wrapping_add(i) % self.shards.len()]
                .0
                .lock();
            if self.make_room_in(&mut shard, now) {
                self.counts.found_room();
                return Ok(());
            }
            soonest = soonest.min(shard.soonest());
        }
        self.counts.found_none(soonest);
        Err(full)
    }
}

/// Returns the positions of the bits that are set.
fn bits(mask: u128) -> impl Iterator<Item = usize> {
    (0..u128::BITS as usize).filter(move |i| mask >> i & 1 == 1)
}

#[cfg(test)]
mod tests;
