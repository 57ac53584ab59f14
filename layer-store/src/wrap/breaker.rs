use std::{
    error::Error,
    fmt,
    num::NonZeroU32,
    sync::{
        Arc, Weak,
        atomic::{AtomicU8, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::timeout::StillReceiving;
use crate::{
    BreakerHandle, BreakerState, Context, ErrorKind, Key, Op, Reply, SharedStore, Store,
    StoreError, StoreExt, StoreInfo, Watch, info::BreakerControl,
};

/// Refuses calls at once while the store is failing, and finds out by itself when it is back.
///
/// - **Closed.** So many failures in a row open it, with one warning. [`Unavailable`](ErrorKind::Unavailable),
///   [`Timeout`](ErrorKind::Timeout) and [`Throttled`](ErrorKind::Throttled) are failures; a reply ends the row; any other
///   error and a dropped call do neither. A timeout during which the store was still sending is a tenth of a failure: one
///   long answer says nothing, fifty in a row without a reply say that the store is too slow for its limit.
/// - **Open.** Every call is answered `Unavailable`, not applied, by [`call_now`](Store::call_now) already. A task of its
///   own sends [`Op::Ping`], and no user's request is tried on the store.
/// - **Half open.** A ping came back: the second follows at once. Two in a row close it, with one more warning.
///
/// # Defaults
///
/// 5 failures open it; the first ping is sent after 1 s, the next every second.
pub struct Breaker<T> {
    inner: Arc<T>,
    circuit: Arc<Circuit>,
}

impl<T: Store> Breaker<T> {
    /// Guards `inner`, whose calls end by themselves (a [`Timeout`](super::Timeout)). The pings run on `runtime`.
    pub fn new(inner: T, runtime: Handle) -> Self {
        Self::with_limits(inner, runtime, OPEN_AFTER, OPEN_FOR)
    }

    /// The same, opened by `open_after` failures in a row and first pinging after `open_for`; later pings follow every
    /// `open_for` too, but at least every second. It is cut to between a millisecond and a year.
    pub fn with_limits(
        inner: T,
        runtime: Handle,
        open_after: NonZeroU32,
        open_for: Duration,
    ) -> Self {
        let circuit = Circuit {
            state: AtomicU8::new(CLOSED),
            failures: AtomicU32::new(0),
            successes: AtomicU32::new(0),
            name: inner.info().name,
            open_after: open_after.get().saturating_mul(FAILURE),
            open_for: open_for.clamp(SHORTEST, LONGEST),
            runtime,
            probe: Mutex::new(None),
        };
        Self {
            inner: Arc::new(inner),
            circuit: Arc::new(circuit),
        }
    }

    /// Opens it, as at a start during an outage. The warning says `why`.
    #[must_use]
    pub fn opened(self, why: impl fmt::Display) -> Self {
        self.open(&why);
        self
    }

    /// One failure, or the end of a row of them.
    #[inline]
    fn note(&self, result: &Result<Reply, StoreError>) {
        match result {
            Ok(_) => self.circuit.succeeded(),
            Err(error) => {
                if self.circuit.failed(weight(error)) {
                    let why: &dyn Error = error.source().unwrap_or(error);
                    self.open(why);
                }
            }
        }
    }

    #[cold]
    fn open(&self, why: &(impl fmt::Display + ?Sized)) {
        let mut probe = self.circuit.probe.lock();
        if !self.circuit.turn(CLOSED, OPEN) {
            return;
        }
        self.circuit.successes.store(0, Relaxed);
        tracing::warn!(
            store = self.circuit.name,
            failures = self.circuit.failures(),
            error = %why,
            "the store fails: calls are refused until it answers a ping"
        );
        let first = Instant::now() + self.circuit.open_for;
        let task = probe_until_closed(Arc::downgrade(&self.inner), self.circuit.clone(), first);
        let task = self.circuit.runtime.spawn(task);
        if let Some(old) = probe.replace(task.abort_handle()) {
            old.abort();
        }
    }
}

impl<T: Store> From<Breaker<T>> for SharedStore {
    fn from(store: Breaker<T>) -> Self {
        Self::new(store)
    }
}

#[deny(clippy::missing_trait_methods)]
impl<T: Store> Store for Breaker<T> {
    async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
        if !self.circuit.is_closed() {
            return Err(refused());
        }
        let result = self.inner.call(op, cx).await;
        self.note(&result);
        result
    }

    #[inline]
    fn call_now(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        if !self.circuit.is_closed() {
            return Some(Err(refused()));
        }
        let result = self.inner.call_now(op, cx);
        if let Some(result) = &result {
            self.note(result);
        }
        result
    }

    fn watch(&self, key: &Key<'_>) -> Watch {
        self.inner.watch(key)
    }

    fn info(&self) -> StoreInfo {
        let mut info = self.inner.info();
        info.health.breaker = Some(BreakerHandle::new(self.circuit.clone()));
        info
    }
}

impl<T> Drop for Breaker<T> {
    fn drop(&mut self) {
        if let Some(probe) = self.circuit.probe.lock().take() {
            probe.abort();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Breaker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("state", &self.circuit.state())
            .field("inner", &self.inner)
            .finish()
    }
}

/// What a breaker knows without its store, so that a handle to it keeps no store alive.
struct Circuit {
    state: AtomicU8,
    /// In tenths, as is `open_after`.
    failures: AtomicU32,
    successes: AtomicU32,
    name: &'static str,
    open_after: u32,
    open_for: Duration,
    runtime: Handle,
    /// The task that pings while it is open. Held locked over every change of state but to half-open and back.
    probe: Mutex<Option<AbortHandle>>,
}

impl Circuit {
    #[inline]
    fn is_closed(&self) -> bool {
        self.state.load(Relaxed) == CLOSED
    }

    #[inline]
    fn turn(&self, from: u8, to: u8) -> bool {
        self.state
            .compare_exchange(from, to, Relaxed, Relaxed)
            .is_ok()
    }

    /// Ends a row of failures. Writes nothing if there is none: all threads read this line on every call.
    #[inline]
    fn succeeded(&self) {
        if self.failures.load(Relaxed) != 0 && self.is_closed() {
            self.failures.store(0, Relaxed);
        }
    }

    /// Counts a failure of this weight. Whether it was the last one.
    #[cold]
    fn failed(&self, weight: u32) -> bool {
        // What was sent before it opened and fails now is no news.
        if weight == 0 || !self.is_closed() {
            return false;
        }
        self.failures.fetch_add(weight, Relaxed) + weight >= self.open_after
    }

    /// Closes it, under the lock on `probe` that the caller holds.
    fn close(&self) {
        // Before the state: once that is closed, the next failure is the first.
        self.failures.store(0, Relaxed);
        if self.state.swap(CLOSED, Relaxed) == CLOSED {
            return;
        }
        tracing::warn!(
            store = self.name,
            "the store is back: calls are let through"
        );
    }
}

impl BreakerControl for Circuit {
    fn state(&self) -> BreakerState {
        match self.state.load(Relaxed) {
            CLOSED => BreakerState::Closed,
            HALF_OPEN => BreakerState::HalfOpen,
            _ => BreakerState::Open,
        }
    }

    fn failures(&self) -> u32 {
        self.failures.load(Relaxed) / FAILURE
    }

    fn successes(&self) -> u32 {
        self.successes.load(Relaxed)
    }

    fn reset(&self) {
        let mut probe = self.probe.lock();
        self.close();
        // The task must not ping on into a later outage, whose own task counts for itself.
        if let Some(task) = probe.take() {
            task.abort();
        }
    }
}

/// Pings from `first` on, until the circuit is closed or the store is gone.
async fn probe_until_closed<T: Store>(store: Weak<T>, circuit: Arc<Circuit>, first: Instant) {
    let period = circuit.open_for.min(PERIOD);
    let mut ticks = interval_at(first, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let cx = Context::new("breaker");
    loop {
        ticks.tick().await;
        // Open => Half open => Closed: the second ping follows the first at once.
        while let Some(store) = store.upgrade() {
            if store.ping(&cx).await.is_err() {
                circuit.successes.store(0, Relaxed);
                circuit.turn(HALF_OPEN, OPEN);
                break;
            }
            circuit.turn(OPEN, HALF_OPEN);
            if circuit.successes.fetch_add(1, Relaxed) + 1 >= CLOSE_AFTER {
                let _probe = circuit.probe.lock();
                return circuit.close();
            }
        }
        if circuit.is_closed() || store.strong_count() == 0 {
            return;
        }
    }
}

/// How much an error says against the store, in tenths of a failure.
fn weight(error: &StoreError) -> u32 {
    let is_late = |error: &StoreError| {
        let source = error.source();
        source.is_some_and(|source| source.is::<StillReceiving>())
    };
    match error.kind() {
        ErrorKind::Timeout if is_late(error) => LATE,
        ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Throttled => FAILURE,
        _ => 0,
    }
}

const fn refused() -> StoreError {
    StoreError::not_applied(ErrorKind::Unavailable)
}

const FAILURE: u32 = 10;
const LATE: u32 = 1;
const OPEN_AFTER: NonZeroU32 = NonZeroU32::new(5).expect("5 is not zero");
const OPEN_FOR: Duration = Duration::from_secs(1);
/// The longest between two pings.
const PERIOD: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
const CLOSE_AFTER: u32 = 2;

const CLOSED: u8 = 0;
const OPEN: u8 = 1;
const HALF_OPEN: u8 = 2;

#[cfg(test)]
mod tests;
