use std::{
    error::Error,
    fmt,
    num::NonZeroU32,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{Instant, MissedTickBehavior, interval_at},
};

use self::circuit::{Circuit, Weight};
use crate::{
    BreakerHandle, Context, Key, Op, Reply, SharedStore, Store, StoreError, StoreExt, StoreInfo,
    Watch, error::Report, info::BreakerControl,
};

mod circuit;

/// Refuses calls at once while the store is failing, and finds out by itself when it is back.
///
/// - **Closed.** Calls go through. 5 failures in a row open the breaker, with one warning. Failures are
///   [`Unavailable`](crate::ErrorKind::Unavailable), [`Timeout`](crate::ErrorKind::Timeout) and
///   [`Throttled`](crate::ErrorKind::Throttled). A reply ends the row; other errors and dropped calls change nothing. A
///   timeout during which the store was still sending is a tenth of a failure: one long reply says nothing, 50 in a row
///   say that the store is too slow for its limit.
/// - **Open.** Every call fails with `Unavailable`, not applied, also through [`call_now`](Store::call_now). A background
///   task sends [`Op::Ping`]; no user's request is used to try the store.
/// - **Half open.** A ping was answered and the second follows at once. Two answers in a row close the breaker, with one
///   more warning.
///
/// # Defaults
///
/// | Setting | Default |
/// | --- | --- |
/// | failures in a row that open it | 5 |
/// | time until the first ping | 1 s |
/// | time between two pings | the same, at most 1 s |
/// | answered pings in a row that close it | 2 |
///
/// # Example
///
/// ```
/// use std::time::Duration;
///
/// use layer_store::{BreakerState, MemoryStore, Store, wrap::{Breaker, Timeout}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # let reached_over_a_network = MemoryStore::new();
/// let bounded = Timeout::new(reached_over_a_network, Duration::from_millis(100));
/// let store = Breaker::new(bounded, tokio::runtime::Handle::current());
/// assert_eq!(store.info().health.breaker.unwrap().state(), BreakerState::Closed);
/// # });
/// ```
pub struct Breaker<T> {
    inner: Arc<T>,
    circuit: Arc<Circuit>,
    open_for: Duration,
    runtime: Handle,
}

impl<T: Store> Breaker<T> {
    /// Makes a closed breaker round `inner`, whose calls must end by themselves: put a [`Timeout`](super::Timeout) between.
    ///
    /// The pings run on `runtime`.
    pub fn new(inner: T, runtime: Handle) -> Self {
        Self::with_limits(inner, runtime, OPEN_AFTER, OPEN_FOR)
    }

    /// Makes a breaker that `open_after` failures in a row open and that sends its first ping after `open_for`.
    ///
    /// Later pings follow every `open_for`, and at least every second. `open_for` is cut to between 1 ms and a year.
    pub fn with_limits(
        inner: T,
        runtime: Handle,
        open_after: NonZeroU32,
        open_for: Duration,
    ) -> Self {
        Self {
            circuit: Arc::new(Circuit::new(inner.info().name, open_after)),
            inner: Arc::new(inner),
            open_for: open_for.clamp(MIN_OPEN_FOR, MAX_OPEN_FOR),
            runtime,
        }
    }

    /// Opens the breaker, as for a start during an outage. `why` goes into the warning.
    ///
    /// Does nothing if it is open already.
    #[must_use]
    pub fn opened(self, why: impl fmt::Display) -> Self {
        self.open(&why);
        self
    }

    /// Counts a result for or against the store.
    #[inline]
    fn note(&self, result: &Result<Reply, StoreError>) {
        match result {
            Ok(_) => self.circuit.succeeded(),
            Err(error) => {
                if self.circuit.failed(Weight::of(error)) {
                    self.open(&Report(error.source().unwrap_or(error)));
                }
            }
        }
    }

    #[cold]
    fn open(&self, why: &impl fmt::Display) {
        self.circuit.open(why, || {
            let first = Instant::now() + self.open_for;
            let period = self.open_for.min(MAX_PING_PERIOD);
            let store = Arc::downgrade(&self.inner);
            let task = ping_until_closed(store, self.circuit.clone(), first, period);
            self.runtime.spawn(task).abort_handle()
        });
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
        self.circuit.stop_probe();
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

/// Pings from `first` on, every `period`, until the circuit is closed or the store is dropped.
async fn ping_until_closed<T: Store>(
    store: Weak<T>,
    circuit: Arc<Circuit>,
    first: Instant,
    period: Duration,
) {
    let mut ticks = interval_at(first, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let cx = Context::new("breaker");
    loop {
        ticks.tick().await;
        // After an answer the next ping follows at once, after a failure at the next tick.
        while let Some(store) = store.upgrade() {
            if store.ping(&cx).await.is_err() {
                circuit.ping_failed();
                break;
            }
            if circuit.ping_answered() {
                return;
            }
        }
        if circuit.is_closed() || store.strong_count() == 0 {
            return;
        }
    }
}

const fn refused() -> StoreError {
    StoreError::not_applied(crate::ErrorKind::Unavailable)
}

const OPEN_AFTER: NonZeroU32 = NonZeroU32::new(5).expect("5 is not zero");
const OPEN_FOR: Duration = Duration::from_secs(1);
const MAX_PING_PERIOD: Duration = Duration::from_secs(1);
const MIN_OPEN_FOR: Duration = Duration::from_millis(1);
/// A year: no clock counts [`Duration::MAX`] from now.
const MAX_OPEN_FOR: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests;
