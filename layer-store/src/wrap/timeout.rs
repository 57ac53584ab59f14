use std::{
    error::Error,
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use crate::{Context, ErrorKind, Key, Op, Reply, SharedStore, Store, StoreError, StoreInfo, Watch};

/// Ends every call at a limit, or at the caller's [deadline](Context::deadline) if that is earlier.
///
/// | End of a call | Error | Weight for a [`Breaker`](super::Breaker) |
/// | --- | --- | --- |
/// | the limit | [`Timeout`](ErrorKind::Timeout), effect unknown | a failure |
/// | the limit, while bytes of replies came in | `Timeout`, effect unknown | a tenth: the store lives, the reply is long or late |
/// | the caller's deadline | [`Deadline`](ErrorKind::Deadline), effect unknown | nothing |
/// | the caller's deadline, before the call | `Deadline`, not applied | nothing |
///
/// A deadline that leaves a call at least nine tenths of the limit counts as the limit. So a caller can set one deadline of
/// [`call_limit`](StoreInfo::call_limit) for several calls, and a store that hangs still opens the breaker.
///
/// The time of the last successful call is in [`Health::last_latency`](crate::Health::last_latency). A reply of
/// [`call_now`](Store::call_now) is not measured, because reading the clock would cost as much as the call.
///
/// ```
/// use std::time::Duration;
///
/// use layer_store::{MemoryStore, Store, wrap::Timeout};
///
/// let limit = Duration::from_millis(100);
/// let store = Timeout::new(MemoryStore::new(), limit);
/// assert_eq!(store.info().call_limit, Some(limit));
/// ```
///
/// # Panics
///
/// [`call`](Store::call) needs a tokio runtime with a timer.
#[derive(Debug)]
pub struct Timeout<T> {
    inner: T,
    limit: Duration,
    latency: Latency,
}

impl<T: Store> Timeout<T> {
    /// Ends each call of `inner` after `limit`. A limit that is too long for any clock is a year.
    ///
    /// # Panics
    ///
    /// If `limit` is zero.
    #[track_caller]
    pub const fn new(inner: T, limit: Duration) -> Self {
        assert!(
            !limit.is_zero(),
            "a limit of zero lets no call through: write such as Duration::from_millis(100)"
        );
        Self {
            inner,
            limit,
            latency: Latency(AtomicU64::new(NOT_MEASURED)),
        }
    }
}

impl<T: Store> From<Timeout<T>> for SharedStore {
    fn from(store: Timeout<T>) -> Self {
        Self::new(store)
    }
}

#[deny(clippy::missing_trait_methods)]
impl<T: Store> Store for Timeout<T> {
    async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
        let start = Instant::now();
        let end = End::of(start, self.limit, cx.deadline.map(Instant::from_std))?;
        // Bytes that arrive for any call show that the store lives: replies come in order, over one connection.
        let received = self.inner.info().received;
        let Ok(result) = timeout_at(end.at, self.inner.call(op, cx)).await else {
            return Err(end.error(self.inner.info().received != received));
        };
        if result.is_ok() {
            self.latency.note(start.elapsed());
        }
        result
    }

    #[inline]
    fn call_now(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        self.inner.call_now(op, cx)
    }

    fn watch(&self, key: &Key<'_>) -> Watch {
        self.inner.watch(key)
    }

    fn info(&self) -> StoreInfo {
        let mut info = self.inner.info();
        let inner = info.call_limit.unwrap_or(Duration::MAX);
        info.call_limit = Some(self.limit.min(inner));
        info.health.last_latency = self.latency.last().or(info.health.last_latency);
        info
    }
}

/// The source of a [`Timeout`](ErrorKind::Timeout) error if bytes came in during the call.
#[derive(Debug)]
pub(crate) struct StillReceiving;

impl fmt::Display for StillReceiving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the store was still sending when the limit on the call ran out")
    }
}

impl Error for StillReceiving {}

/// The time of the last successful call, in nanoseconds, or [`NOT_MEASURED`]. On a cache line of its own, because each call
/// writes it.
#[derive(Debug)]
#[repr(align(64))]
struct Latency(AtomicU64);

impl Latency {
    fn note(&self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(NOT_MEASURED);
        self.0.store(nanos, Relaxed);
    }

    fn last(&self) -> Option<Duration> {
        match self.0.load(Relaxed) {
            NOT_MEASURED => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }
}

/// The end of a call.
struct End {
    at: Instant,
    by: By,
}

/// The one to blame when a call ends without a reply.
enum By {
    /// The store, which was too slow.
    Limit,
    /// The caller, whose deadline was shorter than the store's limit.
    Caller,
}

impl End {
    fn of(now: Instant, limit: Duration, deadline: Option<Instant>) -> Result<Self, StoreError> {
        // No clock counts a limit of `Duration::MAX` from now.
        let own = now.checked_add(limit).unwrap_or(now + MAX_LIMIT);
        // ## No deadline, or a later one: the limit ends the call
        let Some(deadline) = deadline.filter(|deadline| *deadline < own) else {
            return Ok(Self {
                at: own,
                by: By::Limit,
            });
        };
        // ## A deadline that has passed: the call is not made
        let left = deadline.saturating_duration_since(now);
        if left.is_zero() {
            return Err(StoreError::not_applied(ErrorKind::Deadline));
        }
        // ## An earlier deadline: it ends the call
        //
        // One that leaves nearly the whole limit is blamed on the store all the same. It is the first call of a talk, and a
        // store that takes that long is as slow as one that reaches the limit.
        let by = match left >= limit.saturating_sub(limit / 10) {
            true => By::Limit,
            false => By::Caller,
        };
        Ok(Self { at: deadline, by })
    }

    fn error(&self, receiving: bool) -> StoreError {
        match self.by {
            By::Caller => StoreError::unknown(ErrorKind::Deadline),
            By::Limit if receiving => {
                StoreError::unknown(ErrorKind::Timeout).with_source(StillReceiving)
            }
            By::Limit => StoreError::unknown(ErrorKind::Timeout),
        }
    }
}

const NOT_MEASURED: u64 = u64::MAX;
/// A year.
const MAX_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wrap::fake::{Fake, Mode};

    const LIMIT: Duration = Duration::from_millis(100);

    /// Pings. Returns the result, the time it took, and the operations that reached the store.
    async fn ping(
        mode: Mode,
        deadline: Option<Duration>,
    ) -> (Result<Reply, StoreError>, Duration, Vec<String>) {
        let fake = Fake::new(mode);
        let store = Timeout::new(fake.clone(), LIMIT);
        let start = Instant::now();
        let mut cx = Context::new("test");
        cx.deadline = deadline.map(|deadline| (start + deadline).into_std());
        let result = store.call(&Op::Ping, &cx).await;
        (result, start.elapsed(), fake.sent())
    }

    fn error(result: Result<Reply, StoreError>) -> (ErrorKind, crate::Effect) {
        let error = result.unwrap_err();
        (error.kind(), error.effect())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_ends_at_the_limit() {
        for deadline in [None, Some(LIMIT), Some(LIMIT * 2)] {
            let (result, took, _) = ping(Mode::Hang, deadline).await;
            assert_eq!(error(result), (ErrorKind::Timeout, crate::Effect::Unknown));
            assert_eq!(took, LIMIT);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_callers_shorter_deadline_ends_it_and_is_told_from_the_limit() {
        let (result, took, _) = ping(Mode::Hang, Some(Duration::from_millis(30))).await;
        assert_eq!(error(result), (ErrorKind::Deadline, crate::Effect::Unknown));
        assert_eq!(took, Duration::from_millis(30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_all_but_leaves_the_limit_is_the_limit() {
        for (millis, kind) in [
            (99, ErrorKind::Timeout),
            (90, ErrorKind::Timeout),
            (89, ErrorKind::Deadline),
        ] {
            let (result, took, _) = ping(Mode::Hang, Some(Duration::from_millis(millis))).await;
            assert_eq!(error(result).0, kind);
            assert_eq!(took, Duration::from_millis(millis));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_after_the_deadline() {
        let (result, took, sent) = ping(Mode::Reply, Some(Duration::ZERO)).await;
        assert_eq!(
            error(result),
            (ErrorKind::Deadline, crate::Effect::NotApplied)
        );
        assert_eq!((took, sent.len()), (Duration::ZERO, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_runs_out_while_bytes_come_in_is_marked() {
        for (mode, marked) in [(Mode::Drip, true), (Mode::Hang, false)] {
            let error = ping(mode, None).await.0.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout);
            assert_eq!(
                error.source().is_some_and(|s| s.is::<StillReceiving>()),
                marked
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_time_is_passed_on_and_its_time_noted() {
        let time = Duration::from_millis(7);
        let store = Timeout::new(Fake::new(Mode::ReplyAfter(time)), LIMIT);
        assert_eq!(store.info().health.last_latency, None);
        let cx = Context::new("test");
        assert!(matches!(store.call(&Op::Ping, &cx).await, Ok(Reply::Pong)));
        assert_eq!(store.info().health.last_latency, Some(time));
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_beyond_the_clock_is_a_very_long_one() {
        let store = Timeout::new(Fake::new(Mode::ReplyAfter(LIMIT)), Duration::MAX);
        assert!(store.call(&Op::Ping, &Context::new("test")).await.is_ok());
    }

    /// Without a runtime, and so without a clock.
    #[test]
    fn an_answer_without_waiting_is_passed_on() {
        let cx = Context::new("test");
        let store = Timeout::new(Fake::new(Mode::Now), LIMIT);
        assert!(matches!(
            store.call_now(&Op::Ping, &cx),
            Some(Ok(Reply::Pong))
        ));
        let store = Timeout::new(Fake::new(Mode::Reply), LIMIT);
        assert!(store.call_now(&Op::Ping, &cx).is_none());
    }

    #[test]
    fn the_shortest_of_nested_limits_is_shown() {
        let fake = Fake::new(Mode::Reply);
        let store = Timeout::new(Timeout::new(fake.clone(), LIMIT), LIMIT * 2);
        assert_eq!(store.info().call_limit, Some(LIMIT));
        let store = Timeout::new(Timeout::new(fake, LIMIT * 2), LIMIT);
        assert_eq!(store.info().call_limit, Some(LIMIT));
    }
}
