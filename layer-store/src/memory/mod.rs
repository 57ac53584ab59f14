use std::{
    fmt,
    future::{Future, ready},
    sync::Arc,
};

use parking_lot::Mutex;

use self::{counts::Counts, shard::Shard};
use crate::{Clock, Context, Key, Op, Reply, SharedStore, Store, StoreError, StoreInfo, Watch};

mod counts;
mod operations;
mod programs;
mod room;
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

#[cfg(test)]
mod tests;
