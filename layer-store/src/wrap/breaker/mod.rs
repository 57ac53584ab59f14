use std::{error::Error, fmt, num::NonZeroU32, sync::Arc, time::Duration};

use tokio::{runtime::Handle, task::AbortHandle};

use self::{
    circuit::{Circuit, Weight},
    probe::Probe,
};
use crate::{
    BreakerHandle, Context, ErrorKind, Key, Op, Reply, SharedStore, Store, StoreError, StoreInfo,
    Watch, background, info::BreakerControl,
};

mod circuit;
mod probe;

/// Refuses calls at once while the store is failing, and finds out by itself when it is back.
///
/// - **Closed.** Calls go through. 5 failures in a row open the breaker, with one warning. Failures are
///   [`Unavailable`](crate::ErrorKind::Unavailable), [`Timeout`](crate::ErrorKind::Timeout) and
///   [`Throttled`](crate::ErrorKind::Throttled). A reply ends the row; other errors and dropped calls change nothing. A
///   timeout during which the store was still sending is a tenth of a failure: one long reply says nothing, 50 in a row
///   say that the store is too slow for its limit.
/// - **Open.** Every call fails with `Unavailable`, not applied, also through [`call_now`](Store::call_now). A background
///   task sends probes; no user's request is used to try the store.
/// - **Half open.** A probe was answered and the second follows at once. Two answers in a row close the breaker, with one
///   more warning.
///
/// # Probes
///
/// A probe does what the failed calls did. It is [`Op::Ping`], and if a write failed, an answered ping is followed by a write:
/// a value of one byte under a key of the kind `probe`, which lives for 10 s. A read-only replica, for example, answers pings
/// and refuses writes; after pings alone the breaker would close and open again for as long as the outage lasts.
///
/// An error that is no failure, such as [`Rejected`](crate::ErrorKind::Rejected) or [`Full`](crate::ErrorKind::Full), is an
/// answer. [`Overloaded`](crate::ErrorKind::Overloaded) is none, and no failure: the next probe decides.
///
/// # Runtimes
///
/// The probes run on the runtime of the call that opens the breaker. If that runtime ends, the next call that is refused
/// starts them again on its own. So a breaker in a `static` works for every `#[tokio::test]`.
///
/// # Defaults
///
/// | Setting | Default |
/// | --- | --- |
/// | failures in a row that open it | 5 |
/// | time until the first probe | 1 s |
/// | time between two probes | the same, at most 1 s |
/// | answered probes in a row that close it | 2 |
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
    /// Made once: an outage under load refuses many calls.
    refusal: StoreError,
}

impl<T: Store> Breaker<T> {
    /// Makes a closed breaker round `inner`, whose calls must end by themselves: put a [`Timeout`](super::Timeout) between.
    ///
    /// `runtime` runs the probes if the call that opens the breaker is made outside a runtime.
    pub fn new(inner: T, runtime: Handle) -> Self {
        Self::with_limits(inner, runtime, OPEN_AFTER, OPEN_FOR)
    }

    /// Makes a breaker that `open_after` failures in a row open and that sends its first probe after `open_for`.
    ///
    /// Later probes follow every `open_for`, and at least every second. `open_for` is cut to between 1 ms and a year.
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
            refusal: StoreError::not_applied(ErrorKind::Unavailable).with_source(IsOpen),
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

    /// Counts the result of `op` for or against the store.
    #[inline]
    fn note(&self, op: &Op<'_>, result: &Result<Reply, StoreError>) {
        match result {
            Ok(_) => self.circuit.succeeded(),
            Err(error) => {
                if self.circuit.failed(Weight::of(error), !op.is_read()) {
                    self.open(&error.report());
                }
            }
        }
    }

    #[cold]
    fn open(&self, why: &impl fmt::Display) {
        let start_probe = || self.start_probe(self.open_for);
        self.circuit.open(why, start_probe);
    }

    /// Refuses a call, and looks after the probe.
    #[cold]
    fn refuse(&self) -> StoreError {
        let start_probe = || self.start_probe(Duration::ZERO);
        self.circuit.keep_probing(start_probe);
        self.refusal.clone()
    }

    fn start_probe(&self, first: Duration) -> AbortHandle {
        let probe = Probe::new(Arc::downgrade(&self.inner), self.circuit.clone());
        let period = self.open_for.min(MAX_PROBE_PERIOD);
        background::spawn(&self.runtime, probe.run(first, period))
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
            return Err(self.refuse());
        }
        let result = self.inner.call(op, cx).await;
        self.note(op, &result);
        result
    }

    #[inline]
    fn call_now(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        if !self.circuit.is_closed() {
            return Some(Err(self.refuse()));
        }
        let result = self.inner.call_now(op, cx);
        if let Some(result) = &result {
            self.note(op, result);
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

/// The source of the error of a call that an open breaker refuses.
#[derive(Debug)]
struct IsOpen;

impl fmt::Display for IsOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its circuit breaker is open")
    }
}

impl Error for IsOpen {}

const OPEN_AFTER: NonZeroU32 = NonZeroU32::new(5).expect("5 is not zero");
const OPEN_FOR: Duration = Duration::from_secs(1);
const MAX_PROBE_PERIOD: Duration = Duration::from_secs(1);
const MIN_OPEN_FOR: Duration = Duration::from_millis(1);
/// A year: no clock counts [`Duration::MAX`] from now.
const MAX_OPEN_FOR: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests;
