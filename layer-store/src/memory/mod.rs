use std::{
    fmt,
    future::{Future, ready},
    sync::Arc,
};

use parking_lot::Mutex;

use self::{counts::Counts, shard::Shard};
use crate::{
    Clock, Context, Key, Op, Reply, Retention, SharedStore, Store, StoreError, StoreInfo,
    Transaction, Value, Watch, Watchers, key::Id,
};

mod counts;
mod listing;
mod operations;
mod patrol;
mod programs;
mod room;
mod shard;
mod table;
mod write;

/// A store in the memory of this process. It is sharded and bounded, and its calls never wait.
///
/// An entry stays until it expires, or until its place is needed. Expired entries are removed by later writes: each new entry
/// looks at its own shard, and each write of 1 KiB or more at some of the others. After 128 such writes, all that had expired
/// before them is gone. Without writes it stays. If room is needed, expired entries go first, then
/// [`Evictable`](crate::Retention::Evictable) ones that were not read lately. A [`Pinned`](crate::Retention::Pinned) entry is
/// never dropped early: if all entries are pinned, a write that needs room fails with [`Full`](crate::ErrorKind::Full). Clones
/// share their entries. Nothing outlives the process.
///
/// A value that is an [object](crate::Object) stays one. A [watch](Store::watch) gets its hint at once, for each write of its
/// key, and when the entry is deleted, evicted, or removed after it expired.
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
/// | capacity | 1,000,000 entries; a small one takes about 55 bytes, and its key's text if a [`Scan`](crate::Scan) lists it |
/// | bytes | no bound; set by [`with_bounds`](Self::with_bounds) |
/// | clock | the [system clock](Clock::system) |
#[derive(Clone)]
pub struct MemoryStore(Arc<Shared>);

struct Shared {
    /// Their number is a power of two.
    shards: Box<[Aligned]>,
    clock: Clock,
    watchers: Watchers<Id>,
    /// Beside what every operation reads. The bound itself is on the line of the counts, which writes of others invalidate.
    has_max_bytes: bool,
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
        Self::with_bounds_and_clock(entries, usize::MAX, clock)
    }

    /// Makes an empty store of at most `entries` that together take at most `bytes`.
    ///
    /// An entry counts with the bytes of its value, the size of its [object](crate::Object), the text of its key if a scan
    /// lists it, and 56 to 126 bytes for the store's own. It is an estimate of what the process allocates. A value that would
    /// take more than an eighth of `bytes` is refused with [`TooLarge`](crate::ErrorKind::TooLarge).
    ///
    /// What the process has may be more: an allocator keeps what lies between the values that stay. After 3.6 million requests for pages
    /// of up to 64 KiB and a bound of 16 MiB, a process had 51 MB with glibc's allocator, and 34 MB with jemalloc.
    ///
    /// # Panics
    ///
    /// If `entries` or `bytes` is zero.
    ///
    /// # Example
    ///
    /// ```
    /// use layer_store::MemoryStore;
    ///
    /// let store = MemoryStore::with_bounds(1_000_000, 64 << 20); // 64 MiB
    /// assert_eq!(store.bytes(), 0);
    /// ```
    #[track_caller]
    pub fn with_bounds(entries: usize, bytes: usize) -> Self {
        Self::with_bounds_and_clock(entries, bytes, Clock::system())
    }

    /// Makes an empty store with the bounds of [`with_bounds`](Self::with_bounds) that takes its time from `clock`.
    ///
    /// # Panics
    ///
    /// If `entries` or `bytes` is zero.
    #[track_caller]
    pub fn with_bounds_and_clock(entries: usize, bytes: usize, clock: Clock) -> Self {
        assert!(
            entries > 0,
            "a store of no entries keeps nothing: write how many it may hold, as in with_capacity(100_000)"
        );
        assert!(
            bytes > 0,
            "a store of no bytes keeps nothing: write how many it may hold, as in with_bounds(100_000, 64 << 20)"
        );
        let shards = (entries / MIN_PER_SHARD)
            .next_power_of_two()
            .min(MAX_SHARDS);
        Self(Arc::new(Shared {
            shards: (0..shards).map(|_| Aligned::default()).collect(),
            clock,
            watchers: Watchers::new(),
            has_max_bytes: bytes != usize::MAX,
            counts: Counts::new(entries, bytes),
        }))
    }

    /// Runs a program's twin on the entry of a key, as [`Caller::run_in_place`](crate::Caller::run_in_place) describes.
    #[inline]
    pub(crate) fn run_in_place<R>(
        &self,
        key: &Key<'_>,
        retention: Retention,
        twin: impl FnOnce(&mut Transaction<'_>) -> R,
    ) -> Option<R> {
        self.0
            .run_in_place(key, retention, self.0.clock.now(), twin)
    }

    /// Reads a value without an operation and its reply, which would be moved on the way to a caller of two words.
    #[inline(always)]
    pub(crate) fn value(&self, key: &Key<'_>) -> Option<crate::Value> {
        self.0.get(key, self.0.clock.now())
    }

    /// Returns the number of entries. Expired entries that were not removed yet are included.
    pub fn len(&self) -> usize {
        self.0.counts.len()
    }

    /// Returns about how many bytes the entries take. Counted as in [`with_bounds`](Self::with_bounds), which need not be set.
    pub fn bytes(&self) -> usize {
        self.0.counts.bytes()
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
            .field("bytes", &self.bytes())
            .field("max_bytes", &self.0.counts.max_bytes())
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

    fn watch(&self, key: &Key<'_>) -> Watch {
        self.0.watchers.watch(key.id())
    }

    fn info(&self) -> StoreInfo {
        let mut info = StoreInfo::new("memory");
        info.answers_now = true;
        info.keeps_deadlines = true;
        info.watches = true;
        info.max_value = Value::longest_in(self.0.counts.max_value());
        info
    }
}

#[cfg(test)]
mod tests;
