use std::{
    array, fmt,
    future::{Future, ready},
    mem, slice,
    sync::Arc,
};

use parking_lot::Mutex;

use self::{
    counts::Counts,
    shard::{Shard, Was},
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

/// A store in the memory of this process: sharded, bounded, and never waiting.
///
/// It keeps an entry until it expires, or until there has to be room: then what has expired goes first, then what is
/// [`Evictable`](Retention::Evictable) and was not read lately. What is [`Pinned`](Retention::Pinned) is never dropped early; a
/// store full of it answers [`Full`](ErrorKind::Full). Clones share their entries; nothing outlives the process.
///
/// # Defaults
///
/// At most 1,000,000 entries, and the [system clock](Clock::system). A small entry takes about 55 bytes.
#[derive(Clone)]
pub struct MemoryStore(Arc<Shared>);

struct Shared {
    /// A power of two of them.
    shards: Box<[Aligned]>,
    clock: Clock,
    counts: Counts,
}

/// A shard on lines of its own, so that two threads on two shards do not meet.
#[derive(Default)]
#[repr(align(64))]
struct Aligned(Mutex<Shard>);

/// With this many a lock is all but never contended, and a shard's growth is short.
const SHARDS: usize = 1024;
/// A small store has fewer shards, so that each has a choice when it must make room.
const PER_SHARD: usize = 64;
/// How often an insert looks for room that others take before it.
const TRIES: usize = 8;
/// So many keys of a program need no allocation.
const FEW: usize = 8;

impl MemoryStore {
    /// The bound of [`new`](Self::new).
    pub(crate) const CAPACITY: usize = 1_000_000;

    /// An empty store of at most 1,000,000 entries.
    pub fn new() -> Self {
        Self::with_capacity(Self::CAPACITY)
    }

    /// An empty store of at most `entries`.
    ///
    /// # Panics
    ///
    /// If that is zero.
    pub fn with_capacity(entries: usize) -> Self {
        Self::with_clock(entries, Clock::system())
    }

    /// An empty store of at most `entries`, on a clock of one's own.
    ///
    /// # Panics
    ///
    /// If `entries` is zero: such a store would answer [`Full`](ErrorKind::Full) to whatever it is asked to keep.
    pub fn with_clock(entries: usize, clock: Clock) -> Self {
        assert!(
            entries > 0,
            "a store of no entries keeps nothing: write how many it may hold, as in with_capacity(100_000)"
        );
        let shards = (entries / PER_SHARD).next_power_of_two().clamp(1, SHARDS);
        Self(Arc::new(Shared {
            shards: (0..shards).map(|_| Aligned::default()).collect(),
            clock,
            counts: Counts::new(entries),
        }))
    }

    /// How many entries it holds, those included that have expired and were not swept yet.
    pub fn len(&self) -> usize {
        self.0.counts.len()
    }

    /// Whether it holds none.
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
        StoreInfo::new("memory")
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
        self.with_cell(key, retention, now, |slot, written| {
            let standing = slot.get(now);
            let applied = match condition {
                Condition::Always => true,
                Condition::Absent => standing.is_none(),
                Condition::Equals(old) => standing == Some(old),
            };
            if !applied {
                let existing = standing.cloned();
                return Reply::Set { applied, existing };
            }
            let ends = match (wanted.ttl(), wanted) {
                (Some(ttl), _) => Some(expiry(now, ttl)),
                (None, Expiry::KEEP) if standing.is_some() => slot.expires(),
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
        self.with_cell(key, Retention::Pinned, now, |slot, written| {
            let goes = match (slot.get(now), if_equals) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(standing), Some(value)) => standing == value,
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
        let lives_longer = slot.expires().is_none_or(|standing| standing >= ends);
        if slot.get(now).is_none() || (only_longer && lives_longer) {
            return Ok(0);
        }
        slot.set_ends(ends);
        let change = shard.moved(at);
        self.counts.settle(change, ends);
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
        let mut shard = self.shard(key).lock();
        let Some(at) = shard.find(key.id()) else {
            drop(shard);
            return self.run_new(program, key, args, now);
        };
        let slot = shard.slot(at);
        let was = Was::of(slot);
        let mut transaction = Transaction::new(now, slice::from_mut(slot));
        let data = program.run(&mut transaction, args);
        if transaction.written() != 0 && !was.holds_for(slot, program.retention()) {
            let ends = slot.ends();
            let change = shard.rewritten(at, was, program.retention());
            self.counts.settle(change, ends);
        }
        // Before the reply is moved: the unlock waits until all that it is made of is written, a move would stall on it.
        drop(shard);
        Ok(Reply::Output(data))
    }

    #[cold]
    fn run_new(
        &self,
        program: &'static Program,
        key: &Key<'_>,
        args: &[Arg<'_>],
        now: u64,
    ) -> Result<Reply, StoreError> {
        self.with_cell(key, program.retention(), now, |slot, written| {
            let mut transaction = Transaction::new(now, slice::from_mut(slot));
            let data = program.run(&mut transaction, args);
            *written = transaction.written() != 0;
            Reply::Output(data)
        })
    }

    /// Gives `write` the slot of `key`, and keeps what it did to it if it says that it did. It runs again if room had to be made.
    fn with_cell<T>(
        &self,
        key: &Key<'_>,
        retention: Retention,
        now: u64,
        mut write: impl FnMut(&mut Slot, &mut bool) -> T,
    ) -> Result<T, StoreError> {
        for _ in 0..TRIES {
            let mut shard = self.shard(key).lock();
            if let Some(at) = shard.find(key.id()) {
                let slot = shard.slot(at);
                let was = Was::of(slot);
                let mut written = false;
                let reply = write(slot, &mut written);
                if written {
                    let ends = slot.ends();
                    let change = shard.rewritten(at, was, retention);
                    self.counts.settle(change, ends);
                }
                return Ok(reply);
            }
            let mut slot = Slot::absent();
            let mut written = false;
            let reply = write(&mut slot, &mut written);
            let ends = slot.ends();
            if !written || ends == 0 {
                return Ok(reply);
            }
            if self.counts.reserve(1) {
                let change = shard.insert(key.id(), slot, retention, now);
                self.counts.settle(change, ends);
                return Ok(reply);
            }
            if !self.make_room_in(&mut shard, now) {
                drop(shard);
                self.make_room(now)?;
            }
        }
        Err(StoreError::not_applied(ErrorKind::Full))
    }

    /// A program over several keys: on copies of their slots, which go back together.
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
        for _ in 0..TRIES {
            let mut shard = self.shard(&keys[0]).lock();
            for (key, slot) in keys.iter().zip(&mut *slots) {
                *slot = match shard.find(key.id()) {
                    Some(at) => shard.slot(at).clone(),
                    None => Slot::absent(),
                };
            }
            let mut transaction = Transaction::new(now, slots);
            let data = program.run(&mut transaction, args);
            let written = transaction.written();
            let is_new = |&i: &usize| shard.find(keys[i].id()).is_none();
            let new = bits(written)
                .filter(is_new)
                .fold(0, |new, i| new | 1_u128 << i);
            let added = bits(new).filter(|&i| slots[i].ends() != 0).count();
            if self.counts.reserve(added) {
                // What stands is written first: an insert sweeps, and could take an expired one, whose place nobody reserved.
                for i in bits(written & !new).chain(bits(new)) {
                    let slot = mem::replace(&mut slots[i], Slot::absent());
                    self.write_back(&mut shard, &keys[i], slot, program.retention(), now);
                }
                return Ok(data);
            }
            if !self.make_room_in(&mut shard, now) {
                drop(shard);
                self.make_room(now)?;
            }
        }
        Err(StoreError::not_applied(ErrorKind::Full))
    }

    /// Writes a slot for which, if it is new, room is reserved.
    fn write_back(
        &self,
        shard: &mut Shard,
        key: &Key<'_>,
        new: Slot,
        retention: Retention,
        now: u64,
    ) {
        let ends = new.ends();
        let change = match shard.find(key.id()) {
            Some(at) => {
                let slot = shard.slot(at);
                let was = Was::of(slot);
                *slot = new;
                shard.rewritten(at, was, retention)
            }
            None if ends == 0 => return,
            None => shard.insert(key.id(), new, retention, now),
        };
        self.counts.settle(change, ends);
    }

    #[inline]
    fn shard(&self, key: &Key<'_>) -> &Mutex<Shard> {
        &self.shards[key.tag()[0] as usize & (self.shards.len() - 1)].0
    }

    fn make_room_in(&self, shard: &mut Shard, now: u64) -> bool {
        let change = shard.evict(now);
        self.counts.settle(change, u64::MAX);
        change.len != 0
    }

    /// Makes room in whichever shard has something to give. With none, remembers until when there will be none.
    fn make_room(&self, now: u64) -> Result<(), StoreError> {
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

/// The places of the bits that are set.
fn bits(mask: u128) -> impl Iterator<Item = usize> {
    (0..u128::BITS as usize).filter(move |i| mask >> i & 1 == 1)
}

#[cfg(test)]
mod tests;
