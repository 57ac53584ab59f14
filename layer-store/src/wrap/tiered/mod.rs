use std::time::Duration;

use self::copies::{Begun, Copies};
use crate::{
    Clock, Context, Key, Op, Reply, SharedStore, Store, StoreError, StoreInfo, Value, Watch,
    wrap::{
        keys,
        kinds::{Kinds, Share},
    },
};

mod copies;

/// Keeps copies of values that were read, in the memory of this process, before a store that is reached over a network.
///
/// Only [`Op::Get`] and [`Op::GetMany`] of the kinds of keys that the user names are answered from a copy. A copy lives for one
/// second after its read was sent, so a value is at most that much out of date. Everything else goes to the store.
///
/// - A write, delete, touch or program of this process drops the copies of its keys, before and after the call. A read that
///   was under way meanwhile leaves no copy. So a process reads its own writes.
/// - A write of another process is seen when the copy ends. With [`watched`](Self::watched) it is mostly seen at once.
/// - An absent value has no copy: who waits for a value sees it as soon as it is there.
/// - A hit allocates nothing but what the value's clone does. [`Store::call_now`] answers it at once.
/// - Several misses of one key at once are several reads.
///
/// # Kinds
///
/// A read does not show if a value may be out of date, so the user says it, by kind. `stamp`, `lock`, `fence`, `record`, `limit` (with
/// `sliding`, `window`, `log` and `block`) and `permit` are refused: a stamp of before a purge would make responses valid that were
/// purged, and the others must be read from the store itself. So must every value of your own that is [pinned](crate::Retention::Pinned).
///
/// `entry` without `stamp` is safe: the cache compares an entry with stamps that it reads from the store.
///
/// # Defaults
///
/// | Setting | Default |
/// | --- | --- |
/// | [`kinds`](Self::kinds) | none |
/// | [`bound`](Self::bound) | 1 s |
/// | [`capacity`](Self::capacity) | 10,000 copies |
/// | [`bytes`](Self::bytes) | 64 MiB |
/// | [`watched`](Self::watched) | no; at most 1,024 keys |
///
/// # Example
///
/// ```
/// use std::time::Duration;
///
/// use layer_store::{Context, Identity, Key, KeySpace, MemoryStore, StoreExt, Ttl, wrap::Tiered};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # let reached_over_a_network = MemoryStore::new();
/// let store = Tiered::new(reached_over_a_network).kinds(["entry"]).bound(Duration::from_millis(500));
/// let (cx, minute) = (Context::new("example"), Ttl::from_millis(60_000).unwrap());
/// let prices = KeySpace::new("entry", "prices");
/// let car = Identity::from("car:7");
/// let key = Key::new(&prices, car.as_ref());
///
/// store.put(&cx, &key, &"90".into(), minute).await?;
/// assert_eq!(store.get(&cx, &key).await?, Some("90".into())); // from the store
/// assert_eq!(store.get(&cx, &key).await?, Some("90".into())); // from the copy
/// store.put(&cx, &key, &"80".into(), minute).await?;
/// assert_eq!(store.get(&cx, &key).await?, Some("80".into())); // its own write
/// # Ok::<_, layer_store::StoreError>(())
/// # }).unwrap();
/// ```
///
/// # What it does not promise
///
/// - Two processes may read two values of one key for the length of the bound. Two keys of one `GetMany` may be of different
///   instants, by at most the bound.
/// - A value may be answered for the length of the bound after it has expired, because a read does not tell when that is.
/// - A write with an unknown effect may be applied late. Until the next copy ends, its older value may be read.
/// - A hint of a [watch](Store::watch) and a read right after it do not fit together: the read may be answered from a copy.
///
/// # Layer order
///
/// Tiered > [`Fallback`](super::Fallback) > [`Breaker`](super::Breaker) > [`Timeout`](super::Timeout) > backend. Before a
/// memory store it is of no use.
///
/// # Cancel safety
///
/// A dropped write drops the copies of its keys. A dropped read leaves no copy.
#[derive(Debug)]
pub struct Tiered<T> {
    inner: T,
    kinds: Kinds,
    settings: Settings,
    copies: Copies,
}

#[derive(Clone, Debug)]
struct Settings {
    bound: Duration,
    capacity: usize,
    bytes: usize,
    clock: Clock,
    watched: bool,
}

impl<T: Store> Tiered<T> {
    /// Keeps no copies of values of `inner` yet: [`kinds`](Self::kinds) names those that may be out of date.
    pub fn new(inner: T) -> Self {
        let settings = Settings {
            bound: BOUND,
            capacity: CAPACITY,
            bytes: BYTES,
            clock: Clock::system(),
            watched: false,
        };
        Self {
            inner,
            kinds: Kinds::default(),
            copies: settings.copies(),
            settings,
        }
    }

    /// Adds kinds of keys whose values may be read from a copy. Default none.
    ///
    /// # Panics
    ///
    /// If one is `stamp`, `lock`, `fence`, `record`, `limit`, `sliding`, `window`, `log`, `block` or `permit`, or is no
    /// [kind](crate::KeySpace::new).
    #[must_use]
    #[track_caller]
    pub fn kinds(mut self, kinds: impl IntoIterator<Item = &'static str>) -> Self {
        self.kinds.add(kinds, reason_against);
        self
    }

    /// Sets how much a value may be out of date. Default 1 s.
    ///
    /// # Panics
    ///
    /// If `bound` is shorter than a millisecond.
    #[must_use]
    #[track_caller]
    pub fn bound(self, bound: Duration) -> Self {
        assert!(
            bound >= Duration::from_millis(1),
            "a copy of less than a millisecond is of no use: write such as Duration::from_millis(500)"
        );
        self.with(|settings| settings.bound = bound)
    }

    /// Sets the most copies. Default 10,000. The least read go first.
    ///
    /// # Panics
    ///
    /// If `entries` is zero.
    #[must_use]
    #[track_caller]
    pub fn capacity(self, entries: usize) -> Self {
        self.with(|settings| settings.capacity = entries)
    }

    /// Sets the most bytes of all copies, as [`MemoryStore::with_bounds`](crate::MemoryStore::with_bounds) counts them. Default
    /// 64 MiB. A value that takes more than an eighth has no copy.
    ///
    /// # Panics
    ///
    /// If `bytes` is zero.
    #[must_use]
    #[track_caller]
    pub fn bytes(self, bytes: usize) -> Self {
        self.with(|settings| settings.bytes = bytes)
    }

    /// Sets the clock of the copies. Default the system's. For tests.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        self.with(|settings| settings.clock = clock)
    }

    /// Watches the keys that have copies, so that a write of another process is mostly seen at once. Default false.
    ///
    /// For a store that [sends hints](StoreInfo::watches). A hint may be lost, so a copy never lives longer for it. At most 1,024
    /// keys are watched. A hit takes one more lock.
    #[must_use]
    pub fn watched(self, watched: bool) -> Self {
        self.with(|settings| settings.watched = watched)
    }

    #[track_caller]
    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self.copies = self.settings.copies();
        self
    }

    /// Returns the copy of a value. Only keys of named kinds have copies.
    #[inline(always)]
    fn copy_of(&self, key: &Key<'_>) -> Option<Value> {
        let value = self.copies.get(key)?;
        if self.settings.watched && self.copies.is_outdated(key) {
            return None;
        }
        Some(value)
    }

    /// Notes that a key is read, before the read is sent. `None`: a key of another kind.
    fn begin(&self, key: &Key<'_>) -> Option<Begun> {
        if !self.kinds.has(key) {
            return None;
        }
        Some(match self.settings.watched {
            false => self.copies.begin(key),
            true => self.copies.begin_watched(key, || self.inner.watch(key)),
        })
    }

    /// Keeps a copy of what a read has brought.
    fn fill(&self, key: &Key<'_>, begun: Option<Begun>, value: Option<&Value>) {
        if let (Some(begun), Some(value)) = (begun, value) {
            self.copies.fill(key, begun, value);
        }
    }

    /// Drops the copies of the keys that an operation writes.
    fn forget(&self, op: &Op<'_>) {
        let parts = keys::parts(op).iter();
        for key in parts.flat_map(|part| keys::written_by(part)) {
            if self.kinds.has(key) {
                self.copies.forget(key);
            }
        }
    }

    async fn read(&self, key: &Key<'_>, cx: &Context) -> Result<Reply, StoreError> {
        let begun = self.begin(key);
        let reply = self.inner.call(&Op::Get(key), cx).await?;
        if let Reply::Value(value) = &reply {
            self.fill(key, begun, value.as_ref());
        }
        Ok(reply)
    }

    /// Reads those values from the store that have no copy.
    async fn read_many(&self, keys: &[Key<'_>], cx: &Context) -> Result<Reply, StoreError> {
        let mut values: Vec<_> = keys.iter().map(|key| self.copy_of(key)).collect();
        let missing = values.iter().zip(keys);
        let missing = missing.filter_map(|(value, key)| value.is_none().then_some(*key));
        let missing: Vec<_> = missing.collect();
        if missing.is_empty() {
            return Ok(Reply::Values(values));
        }
        let begun: Vec<_> = missing.iter().map(|key| self.begin(key)).collect();
        let reply = self.inner.call(&Op::GetMany(&missing), cx).await?;
        let read = reply.into_values(missing.len())?;
        for ((key, begun), value) in missing.iter().zip(begun).zip(&read) {
            self.fill(key, begun, value.as_ref());
        }
        let mut read = read.into_iter();
        for value in values.iter_mut().filter(|value| value.is_none()) {
            *value = read.next().flatten();
        }
        Ok(Reply::Values(values))
    }

    /// Answers a `GetMany` if all of its values have copies.
    fn read_many_now(&self, keys: &[Key<'_>]) -> Option<Reply> {
        let values = keys.iter().map(|key| self.copy_of(key).map(Some));
        values.collect::<Option<_>>().map(Reply::Values)
    }

    /// Calls the store, which may answer at once, for all but a `Get` that has a copy.
    fn call_now_past_copy(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        if let Op::GetMany(keys) = op
            && self.kinds.share_of(op) == Share::All
            && let Some(reply) = self.read_many_now(keys)
        {
            return Some(Ok(reply));
        }
        let result = self.inner.call_now(op, cx);
        if result.is_some() {
            self.forget(op);
        }
        result
    }
}

impl<T: Store> From<Tiered<T>> for SharedStore {
    fn from(store: Tiered<T>) -> Self {
        Self::new(store)
    }
}

#[deny(clippy::missing_trait_methods)]
impl<T: Store> Store for Tiered<T> {
    async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
        match *op {
            Op::Get(key) if self.kinds.has(key) => match self.copy_of(key) {
                Some(value) => Ok(Reply::Value(Some(value))),
                None => self.read(key, cx).await,
            },
            Op::GetMany(keys) if self.kinds.share_of(op) != Share::None => {
                self.read_many(keys, cx).await
            }
            _ => {
                let _written = Written::new(self, op);
                self.inner.call(op, cx).await
            }
        }
    }

    #[inline]
    fn call_now(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        if let Op::Get(key) = op
            && let Some(value) = self.copy_of(key)
        {
            return Some(Ok(Reply::Value(Some(value))));
        }
        self.call_now_past_copy(op, cx)
    }

    fn watch(&self, key: &Key<'_>) -> Watch {
        self.inner.watch(key)
    }

    fn info(&self) -> StoreInfo {
        let mut info = self.inner.info();
        info.reads_may_lag |= !self.kinds.is_empty();
        info
    }
}

/// A write on its way. The copies of its keys are dropped before it and after it, also if its future is dropped.
///
/// Before: who reads while it is under way may find it applied. After: what was read meanwhile may be of before.
struct Written<'a, T: Store> {
    tiered: &'a Tiered<T>,
    op: &'a Op<'a>,
}

impl<'a, T: Store> Written<'a, T> {
    fn new(tiered: &'a Tiered<T>, op: &'a Op<'a>) -> Self {
        tiered.forget(op);
        Self { tiered, op }
    }
}

impl<T: Store> Drop for Written<'_, T> {
    fn drop(&mut self) {
        self.tiered.forget(self.op);
    }
}

impl Settings {
    #[track_caller]
    fn copies(&self) -> Copies {
        Copies::new(self.capacity, self.bytes, self.clock.clone(), self.bound)
    }
}

fn reason_against(kind: &str) -> Option<&'static str> {
    match kind {
        "stamp" => {
            Some("a copy of a stamp that a purge has deleted would make the purged responses valid")
        }
        "lock" | "fence" => Some("a copy of a lock would hide that it was released, lost or taken"),
        "record" => Some("a copy of a record would hide that its request is done"),
        "limit" | "sliding" | "window" | "log" | "block" => {
            Some("a copy of a limit would hide what other processes have admitted")
        }
        "permit" => Some("a copy of a permit would hide what other processes have in flight"),
        _ => None,
    }
}

const BOUND: Duration = Duration::from_secs(1);
const CAPACITY: usize = 10_000;
const BYTES: usize = 64 << 20;

#[cfg(test)]
#[cfg(feature = "test-util")]
mod tests;
