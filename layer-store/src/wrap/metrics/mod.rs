//! Counters, gauges and histograms of a store, through the facade of the crate [`metrics`](https://docs.rs/metrics).
//!
//! [`Metrics`] is the wrapper. The names are in one table ([`METRICS`]):
//!
//! | Name | Kind | Labels | What |
//! | --- | --- | --- | --- |
//! | `store_operations_total` | counter | `store`, `backend`, `source`, `operation`, `outcome` | operations that ended; `outcome` is `ok` or the kind of the error |
//! | `store_operation_duration_seconds` | histogram, seconds | `store`, `backend`, `source`, `operation` | the time of an operation that waited, with or without success |
//! | `store_hits_total` | counter | `store`, `backend`, `source` | values that `get` and `get_many` found |
//! | `store_misses_total` | counter | `store`, `backend`, `source` | keys without a value in `get` and `get_many` |
//! | `store_billed_commands_total` | counter | `store`, `backend`, `source` | an estimate of the commands that a server paid by the command charges for; of shared stores alone |
//! | `store_overloaded_total` | counter | `store`, `backend`, `source` | operations that failed because this process has too many calls under way |
//! | `store_commands_total` | counter | `store`, `backend` | commands sent, with those of connecting and of pings |
//! | `store_connections` | gauge | `store`, `backend` | open connections to the server |
//! | `store_calls_in_flight` | gauge | `store`, `backend` | calls that have no reply yet |
//! | `store_breaker_state` | gauge | `store`, `backend` | the circuit breaker: 0 closed, 1 half open, 2 open |
//! | `store_breaker_transitions_total` | counter | `store`, `backend`, `to` | changes of the circuit breaker; `to` is `closed`, `half-open` or `open` |
//!
//! - `store` is the [name](Metrics::named) of the store, by default `main`.
//! - `backend` is the store's own name, such as `memory` or `redis`.
//! - `source` is the layer that calls ([`Context::source`]), such as `ratelimit`, `cache` or `lock`. After 16 different ones it
//!   is `other`.
//! - `operation` is [`Op::name`], and `outcome` is `ok` or [`ErrorKind::as_str`](crate::ErrorKind::as_str).
//!
//! Each set of values is small and fixed. A key, an identity or a token is never a label.

use std::{fmt, sync::Arc};

use tokio::time::Instant;

#[doc(hidden)]
pub use self::counters::Counters;
pub(crate) use self::gauges::Gauges;
use self::meters::Meters;
pub use self::names::{METRICS, Metric, MetricKind};
use crate::{Context, Key, Op, Reply, SharedStore, Store, StoreError, StoreInfo, Watch};

mod counters;
mod gauges;
mod meters;
mod names;

/// Counts and times the operations of a store. The names are in the [module's table](self).
///
/// It is the outermost wrapper but [`Traced`](super::Traced), so that it sees what a caller sees: the refusals of a breaker, and
/// an operation that was retried once.
///
/// - An operation is counted when it ends. A dropped one is not counted.
/// - The time is taken of calls that wait. A reply of [`call_now`](Store::call_now) is counted and not timed, because reading
///   the clock would cost as much as the call.
/// - What only the store knows (connections, calls in flight, commands, the breaker) is published at most once a second, by a
///   call that waits or fails, and by [`SharedStore::publish_metrics`]. Call that before each scrape: a store that nobody
///   asks changes nothing here.
///
/// Install the recorder of the `metrics` crate before the first call. Handles are kept, and one that was made without a
/// recorder counts nothing.
///
/// ```
/// use layer_store::{MemoryStore, SharedStore, wrap::Metrics};
///
/// let store = SharedStore::from(Metrics::new(MemoryStore::new()).named("sessions"));
/// store.publish_metrics();
/// ```
pub struct Metrics<T> {
    inner: T,
    meters: Meters,
    gauges: Arc<Gauges>,
}

impl<T: Store> Metrics<T> {
    /// Counts the operations of `inner`, as the store `main`.
    pub fn new(inner: T) -> Self {
        Self::of(inner, "main")
    }

    /// Sets the label `store`. Default `main`. For a process with two stores of one backend, such as `locks` and `cache`.
    #[must_use]
    pub fn named(self, name: &'static str) -> Self {
        Self::of(self.inner, name)
    }

    /// Publishes what only the store knows. See [`SharedStore::publish_metrics`].
    pub fn publish(&self) {
        self.gauges.publish(&self.inner.info());
    }

    fn of(inner: T, name: &'static str) -> Self {
        let info = inner.info();
        Self {
            meters: Meters::new(name, info.name, info.shared),
            gauges: Arc::new(Gauges::new(name, info.name)),
            inner,
        }
    }

    #[cold]
    fn publish_if_due(&self, now: Instant) {
        if self.gauges.is_due(now) {
            self.publish();
        }
    }
}

impl<T: Store> From<Metrics<T>> for SharedStore {
    fn from(store: Metrics<T>) -> Self {
        Self::new(store)
    }
}

#[deny(clippy::missing_trait_methods)]
impl<T: Store> Store for Metrics<T> {
    async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
        let start = Instant::now();
        let result = self.inner.call(op, cx).await;
        let now = Instant::now();
        let source = self.meters.of(cx.source);
        source.count(op, &result);
        source.time(op, (now - start).as_secs_f64());
        self.publish_if_due(now);
        result
    }

    #[inline]
    fn call_now(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        let result = self.inner.call_now(op, cx);
        if let Some(result) = &result {
            self.meters.of(cx.source).count(op, result);
            if result.is_err() {
                self.publish_if_due(Instant::now());
            }
        }
        result
    }

    fn watch(&self, key: &Key<'_>) -> Watch {
        self.inner.watch(key)
    }

    fn info(&self) -> StoreInfo {
        let mut info = self.inner.info();
        info.gauges = Some(self.gauges.clone());
        info
    }
}

impl<T: fmt::Debug> fmt::Debug for Metrics<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Metrics").field(&self.inner).finish()
    }
}

#[cfg(test)]
mod tests;
