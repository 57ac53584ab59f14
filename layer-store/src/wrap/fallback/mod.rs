use std::{fmt, sync::Arc, time::Duration};

use tokio::runtime::Handle;

use self::{sent::Sent, settings::Settings, shared::Shared, state::Phase};
use crate::{
    Clock, Context, FallbackHandle, Key, Op, Reply, SharedStore, Store, StoreError, StoreInfo,
    Watch,
    wrap::{
        keys,
        kinds::{Kinds, Share, is_kind},
    },
};

mod deleted_key;
mod pace;
mod replay;
mod sent;
mod settings;
mod shared;
mod state;
mod status;

/// Answers from the memory of this process while the store is failing, for the kinds of keys that the user names.
///
/// - **Here.** Calls go to the store. One that fails with [`Unavailable`](crate::ErrorKind::Unavailable),
///   [`Timeout`](crate::ErrorKind::Timeout) or [`Throttled`](crate::ErrorKind::Throttled) begins an outage, with one warning.
/// - **Away.** The memory answers at once, also through [`call_now`](Store::call_now). It is empty at first: everything is
///   absent that was not written during this outage. Deletes are remembered, each key once. A background task tries the store.
/// - **Returning.** The store answers again. It gets the deletes in the order in which they were made, and the memory still
///   answers. When all are applied, calls go to the store again, with one more warning, and the memory is dropped.
///
/// So no value that was deleted during the outage is read again. What was written during the outage is lost, deletes excepted.
///
/// Calls for other kinds always go to the store and fail with it. So do [`Op::Ping`] and [`Op::Scan`]. An operation with
/// several keys falls back if all of its kinds may.
///
/// # Kinds
///
/// | Kind | Sensible | While the store is away |
/// | --- | --- | --- |
/// | `limit`, `sliding`, `window`, `log`, `block`, `permit` | yes | each process counts for itself, from zero |
/// | `entry` with `stamp` | yes | each process caches for itself; it does not see the purges of the others |
/// | `lock`, `fence`, `record` | no | two processes would hold one lock, or run one request twice: only with [`allow_split_brain`](Self::allow_split_brain) |
///
/// Name `entry` and `stamp` together: they are read in one operation.
///
/// # Defaults
///
/// | Setting | Default |
/// | --- | --- |
/// | [`kinds`](Self::kinds) | none |
/// | [`capacity`](Self::capacity) | 100,000 entries |
/// | [`bytes`](Self::bytes) | 256 MiB |
/// | [`max_deletes`](Self::max_deletes) | 10,000 keys |
/// | [`refuse_for`](Self::refuse_for) | 24 hours |
/// | time to the first try | 100 ms, doubling up to 1 s |
///
/// # Example
///
/// ```
/// use std::time::Duration;
///
/// use layer_store::{MemoryStore, Store, wrap::{Breaker, Fallback, Timeout}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # let reached_over_a_network = MemoryStore::new();
/// let runtime = tokio::runtime::Handle::current();
/// let bounded = Timeout::new(reached_over_a_network, Duration::from_millis(100));
/// let guarded = Breaker::new(bounded, runtime.clone());
/// let store = Fallback::new(guarded, runtime).kinds(["limit", "entry", "stamp"]);
/// assert!(!store.info().degraded);
/// # });
/// ```
///
/// # Deletes
///
/// These are remembered and replayed: [`Op::Delete`], [`Op::DeleteMany`], and programs over keys of the kind `stamp`, as
/// deletes of these keys. Also if the store may have applied them (a lost reply), and if the future of the call was dropped.
/// A delete of a certain value is remembered if the memory had that value.
///
/// If more than [`max_deletes`](Self::max_deletes) keys are deleted in an outage, or the store does not accept a delete, all
/// values of that kind may be out of date. After the return, [`Op::Get`] and [`Op::GetMany`] then answer values of that kind
/// as absent for [`refuse_for`](Self::refuse_for). Choose it as long as such values live. A third warning names the kinds.
/// [`FallbackHandle::trust`] ends it. Programs and conditions see what the store holds also in this time.
///
/// # After a lost reply
///
/// A write whose effect is unknown is applied to the memory too, since the call needs a reply. The two never meet, because
/// nothing is copied back. A request of a rate limit is counted at most once extra: once by the store and once by the memory.
///
/// # What it does not promise
///
/// - A value that was overwritten during an outage shows its older version again after it, until that expires. Delete a value,
///   rather than write over it, if the older one must not be seen.
/// - Other processes that still reach the store read what this process could not delete yet. A process that ends during an
///   outage loses its deletes.
/// - A write that the store applies after its sender gave up, and after the return, is not undone.
/// - A [`watch`](Store::watch) gets no hints during an outage. Its user's timer decides.
/// - The memory is bounded. When it is full of limits, new ones fail with [`Full`](crate::ErrorKind::Full). A value that takes more
///   than an eighth of its bytes fails with [`TooLarge`](crate::ErrorKind::TooLarge).
///
/// # Layer order
///
/// Fallback > [`Breaker`](super::Breaker) > [`Timeout`](super::Timeout) > backend. Without the timeout a store that hangs
/// holds its calls, and nothing falls back.
///
/// # Cancel safety
///
/// The deletes of a dropped call are sent again in the background. Other operations may or may not have been applied.
pub struct Fallback<T> {
    shared: Arc<Shared<T>>,
    settings: Arc<Settings>,
}

impl<T: Store> Fallback<T> {
    /// Wraps `inner`, whose calls must end by themselves. No kind falls back until [`kinds`](Self::kinds) names it.
    ///
    /// The task that brings the store back runs on the runtime of the call that needs it, or else on `runtime`.
    pub fn new(inner: T, runtime: Handle) -> Self {
        Self {
            shared: Arc::new(Shared::new(inner)),
            settings: Arc::new(Settings {
                kinds: Kinds::default(),
                split_brain: Kinds::default(),
                capacity: CAPACITY,
                bytes: BYTES,
                clock: Clock::system(),
                max_deletes: MAX_DELETES,
                refuse_for: REFUSE_FOR,
                runtime,
            }),
        }
    }

    /// Adds kinds of keys for which the memory answers. Default none.
    ///
    /// # Panics
    ///
    /// If one is `lock`, `fence` or `record`, or is no [kind](crate::KeySpace::new).
    #[must_use]
    #[track_caller]
    pub fn kinds(mut self, kinds: impl IntoIterator<Item = &'static str>) -> Self {
        let settings = Arc::make_mut(&mut self.settings);
        settings.kinds.add(kinds, reason_against_fallback);
        self
    }

    /// Adds kinds for which the memory answers although two processes may then both hold what only one should, such as
    /// `lock`. Default none.
    ///
    /// For a single process, or where a handler that runs twice does no harm. Fencing tokens start anew with each outage.
    ///
    /// # Panics
    ///
    /// If one is no [kind](crate::KeySpace::new).
    #[must_use]
    #[track_caller]
    pub fn allow_split_brain(mut self, kinds: impl IntoIterator<Item = &'static str>) -> Self {
        let settings = Arc::make_mut(&mut self.settings);
        for kind in kinds {
            settings.kinds.add([kind], |_| None);
            settings.split_brain.add([kind], |_| None);
        }
        self
    }

    /// Sets the most entries of the memory. Default 100,000. It takes room only during an outage.
    ///
    /// # Panics
    ///
    /// If `entries` is zero.
    #[must_use]
    #[track_caller]
    pub fn capacity(mut self, entries: usize) -> Self {
        assert!(
            entries > 0,
            "a memory of no entries answers nothing: write how many it may hold, as in capacity(100_000)"
        );
        Arc::make_mut(&mut self.settings).capacity = entries;
        self
    }

    /// Sets the most bytes of the memory, as [`MemoryStore::with_bounds`](crate::MemoryStore::with_bounds) counts them. Default
    /// 256 MiB. It takes room only during an outage.
    ///
    /// # Panics
    ///
    /// If `bytes` is zero.
    #[must_use]
    #[track_caller]
    pub fn bytes(mut self, bytes: usize) -> Self {
        assert!(
            bytes > 0,
            "a memory of no bytes answers nothing: write how many it may take, as in bytes(64 << 20)"
        );
        Arc::make_mut(&mut self.settings).bytes = bytes;
        self
    }

    /// Sets the clock of the memory. Default the system's. For tests.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        Arc::make_mut(&mut self.settings).clock = clock;
        self
    }

    /// Sets how many deleted keys are remembered. Default 10,000. One takes about 400 bytes.
    #[must_use]
    pub fn max_deletes(mut self, keys: usize) -> Self {
        Arc::make_mut(&mut self.settings).max_deletes = keys;
        self
    }

    /// Sets for how long values are answered as absent after more was deleted than could be remembered. Default 24 hours, the
    /// longest life of a cached response.
    #[must_use]
    pub fn refuse_for(mut self, time: Duration) -> Self {
        Arc::make_mut(&mut self.settings).refuse_for = time;
        self
    }

    /// Returns a handle, which [`Health::fallback`](crate::Health::fallback) has too.
    pub fn handle(&self) -> FallbackHandle {
        FallbackHandle::new(self.shared.state.status().clone())
    }

    fn inner(&self) -> &T {
        &self.shared.inner
    }

    /// Calls the store, and answers from the memory if the store fails.
    async fn call_store<'a>(
        &'a self,
        op: &'a Op<'a>,
        cx: &'a Context,
    ) -> Result<Reply, StoreError> {
        let sent = Sent::new(self, op);
        let result = self.inner().call(op, cx).await;
        sent.ended();
        self.settle(op, result)
    }

    /// Sends `deletes` to a store that is returning, and answers from the memory. `None`: the store is back.
    async fn call_returning<'a>(
        &'a self,
        op: &'a Op<'a>,
        deletes: &'a [Key<'a>],
        cx: &'a Context,
    ) -> Option<Result<Reply, StoreError>> {
        let sent = Sent::new(self, op);
        let result = self.inner().call(&Op::DeleteMany(deletes), cx).await;
        sent.ended();
        match result {
            Ok(_) => self.answer(op, &[]),
            Err(_) => {
                self.shared.state.still_away();
                self.answer(op, deletes)
            }
        }
    }

    /// Turns the result of the store into that of the call.
    fn settle(&self, op: &Op<'_>, result: Result<Reply, StoreError>) -> Result<Reply, StoreError> {
        match result {
            // The store may fail in the middle of a batch.
            Ok(Reply::Batch(results)) => {
                let results = keys::parts(op).iter().zip(results);
                let settled = results.map(|(part, result)| self.settle(part, result));
                Ok(Reply::Batch(settled.collect()))
            }
            Ok(reply) => Ok(self.shared.state.status().hide(op, reply)),
            Err(error) if error.kind().is_outage() => self.fall_back(op, error),
            Err(error) => Err(error),
        }
    }

    /// Returns true if the store's result may not be that of the call.
    #[inline]
    fn must_settle(&self, result: &Option<Result<Reply, StoreError>>) -> bool {
        match result {
            None => false,
            Some(Ok(Reply::Batch(_)) | Err(_)) => true,
            Some(Ok(_)) => self.shared.state.status().refuses(),
        }
    }

    #[cold]
    fn settle_now(&self, op: &Op<'_>, result: &mut Option<Result<Reply, StoreError>>) {
        *result = result.take().map(|result| self.settle(op, result));
    }

    /// Answers an operation from the memory with which the store failed, if its kinds allow that.
    #[cold]
    fn fall_back(&self, op: &Op<'_>, error: StoreError) -> Result<Reply, StoreError> {
        if self.settings.kinds.share_of(op) != Share::All {
            return Err(error);
        }
        let deletes = self.settings.deleted_by(op);
        // The outage may be over before the answer. Then this failure begins another one.
        loop {
            self.shared.state.begin(&error, &self.settings);
            if let Some(result) = self.answer(op, &deletes) {
                return result;
            }
        }
    }

    /// Answers from the memory, and remembers `deletes` for the store. `None`: the store is here.
    fn answer(&self, op: &Op<'_>, deletes: &[Key<'_>]) -> Option<Result<Reply, StoreError>> {
        let result = self.shared.state.answer(op, deletes, &self.settings)?;
        self.shared.keep_trying(&self.settings);
        Some(result)
    }

    fn call_now_degraded(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        if self.settings.kinds.share_of(op) != Share::All {
            let result = self.inner().call_now(op, cx)?;
            self.shared.state.forget(op);
            return Some(result);
        }
        let deletes = self.settings.deleted_by(op);
        match self.shared.state.phase() {
            // The deletes are sent first, which has to wait.
            Phase::Returning if !deletes.is_empty() => None,
            // Back meanwhile: `call` looks again.
            _ => self.answer(op, &deletes),
        }
    }

    /// Sends the deletes of an operation once more, whose end nobody waited for.
    #[cold]
    fn send_again(&self, op: &Op<'_>) {
        let deletes = self.settings.deleted_by(op);
        if !deletes.is_empty() {
            self.shared.state.add(&deletes, &self.settings);
            self.shared.keep_trying(&self.settings);
        }
    }
}

impl<T: Store> From<Fallback<T>> for SharedStore {
    fn from(store: Fallback<T>) -> Self {
        Self::new(store)
    }
}

#[deny(clippy::missing_trait_methods)]
impl<T: Store> Store for Fallback<T> {
    async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
        loop {
            let phase = self.shared.state.phase();
            if phase == Phase::Here {
                return self.call_store(op, cx).await;
            }
            if self.settings.kinds.share_of(op) != Share::All {
                // Some of its keys may be in the memory.
                self.shared.state.forget(op);
                return self.call_store(op, cx).await;
            }
            let deletes = self.settings.deleted_by(op);
            let answer = match phase {
                Phase::Returning if !deletes.is_empty() => {
                    self.call_returning(op, &deletes, cx).await
                }
                _ => self.answer(op, &deletes),
            };
            // `None`: the store is back meanwhile.
            if let Some(result) = answer {
                return result;
            }
        }
    }

    #[inline]
    fn call_now(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        let degraded = self.shared.state.status().degraded();
        // One variable, which is never moved: to move a reply costs as much as a call on memory.
        let mut result = match degraded {
            true => self.call_now_degraded(op, cx),
            false => self.inner().call_now(op, cx),
        };
        if !degraded && self.must_settle(&result) {
            self.settle_now(op, &mut result);
        }
        result
    }

    fn watch(&self, key: &Key<'_>) -> Watch {
        self.inner().watch(key)
    }

    fn info(&self) -> StoreInfo {
        let mut info = self.inner().info();
        info.degraded |= self.shared.state.status().degraded();
        // The memory's changes give no hints, and those of the store do not come.
        info.watches &= !info.degraded;
        info.health.fallback = Some(self.handle());
        info
    }
}

impl<T> Drop for Fallback<T> {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl<T: fmt::Debug> fmt::Debug for Fallback<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback")
            .field("degraded", &self.shared.state.status().degraded())
            .field("inner", &self.shared.inner)
            .finish_non_exhaustive()
    }
}

pub(crate) fn reason_against_fallback(kind: &str) -> Option<&'static str> {
    match kind {
        "lock" | "fence" => Some(
            "two processes would both hold a lock while the store is away; write allow_split_brain([..]) if that does no harm",
        ),
        "record" => Some(
            "two processes would both run a request while the store is away; write allow_split_brain([..]) if that does no harm",
        ),
        kind if !is_kind(kind) => Some("no key has this kind; write such as \"limit\""),
        _ => None,
    }
}

const CAPACITY: usize = 100_000;
const BYTES: usize = 256 << 20;
const MAX_DELETES: usize = 10_000;
const REFUSE_FOR: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
#[cfg(feature = "test-util")]
mod tests;
