use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::call_end::CallEnd;
use crate::{Context, Key, Op, Reply, SharedStore, Store, StoreError, StoreInfo, Watch};

/// Ends every call at a limit, or at the caller's [deadline](Context::deadline) if that is earlier.
///
/// | End of a call | Error | Weight for a [`Breaker`](super::Breaker) |
/// | --- | --- | --- |
/// | the limit | [`Timeout`](crate::ErrorKind::Timeout), effect unknown | a failure |
/// | the limit, while bytes of replies came in | `Timeout`, effect unknown | a tenth: the store lives, the reply is long or late |
/// | the caller's deadline | [`Deadline`](crate::ErrorKind::Deadline), effect unknown | nothing |
/// | the caller's deadline, before the call | `Deadline`, not applied | nothing |
///
/// A deadline that leaves a call at least nine tenths of the limit counts as the limit. So a caller can set one deadline of
/// [`call_limit`](StoreInfo::call_limit) for several calls, and a store that hangs still opens the breaker.
///
/// # Large values
///
/// The limit of a call grows with [what it sends](Op::size): by 1 ms for each KB, the time that 1 MB/s takes. Less than 4 KiB
/// adds nothing. With a limit of 100 ms:
///
/// | What is sent | Time for the call |
/// | --- | --- |
/// | a check of a rate limit, 150 bytes | 100 ms |
/// | a response of 20 KB | 120 ms |
/// | a response of 4 MB, which takes 4 s at 8 Mbit/s | 4.1 s |
///
/// The caller's deadline does not grow here. [`Caller`](crate::Caller) adds the allowance to the deadline of a talk.
///
/// # Stores that keep deadlines
///
/// A store that ends its own calls by their deadline ([`keeps_deadlines`](StoreInfo::keeps_deadlines)) gets the end of the
/// call as its deadline, and no timer is set. Such a store knows more than a timer: if the server was silent, if a call was
/// not sent in time, or if its reply was not read in time ([`Overloaded`](crate::ErrorKind::Overloaded)). Its `Timeout` becomes
/// `Deadline` if the caller's deadline was the end. Its other errors are passed on.
///
/// # Latency
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
    /// True if the inner store ends its calls by itself.
    keeps_deadlines: bool,
    latency: Latency,
}

impl<T: Store> Timeout<T> {
    /// Ends each call of `inner` after `limit`. A limit that is too long for any clock is a year.
    ///
    /// # Panics
    ///
    /// If `limit` is zero.
    #[track_caller]
    pub fn new(inner: T, limit: Duration) -> Self {
        assert!(
            !limit.is_zero(),
            "a limit of zero lets no call through: write such as Duration::from_millis(100)"
        );
        // Asked once: a call must not pay for it.
        let info = inner.info();
        Self {
            limit: info.call_limit.map_or(limit, |inner| inner.min(limit)),
            keeps_deadlines: info.keeps_deadlines,
            inner,
            latency: Latency(AtomicU64::new(NOT_MEASURED)),
        }
    }

    /// Calls a store that ends the call by its deadline.
    async fn call_without_timer<'a>(
        &'a self,
        op: &'a Op<'a>,
        cx: &'a Context,
        end: &CallEnd,
    ) -> Result<Reply, StoreError> {
        let cx = cx.until(end.at.into_std());
        let result = self.inner.call(op, &cx).await;
        result.map_err(|error| end.blame(error))
    }

    /// Calls a store that may hang.
    async fn call_with_timer<'a>(
        &'a self,
        op: &'a Op<'a>,
        cx: &'a Context,
        end: &CallEnd,
    ) -> Result<Reply, StoreError> {
        // Bytes that arrive for any call show that the store lives: replies come in order, over one connection.
        let received = self.inner.info().received;
        match timeout_at(end.at, self.inner.call(op, cx)).await {
            Ok(result) => result,
            Err(_) => Err(end.error(self.inner.info().received != received)),
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
        let end = CallEnd::of(start, self.limit, op, cx.deadline)?;
        let result = match self.keeps_deadlines {
            true => self.call_without_timer(op, cx, &end).await,
            false => self.call_with_timer(op, cx, &end).await,
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
        info.call_limit = Some(self.limit);
        info.keeps_deadlines = true;
        info.health.last_latency = self.latency.last().or(info.health.last_latency);
        info
    }
}

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

const NOT_MEASURED: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;
    use crate::{
        Condition, Effect, ErrorKind, Expiry, IdentityRef, KeySpace, Retention, Value,
        wrap::{
            call_end::StillReceiving,
            fake::{Fake, Mode},
        },
    };

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

    fn error(result: Result<Reply, StoreError>) -> (ErrorKind, Effect) {
        let error = result.unwrap_err();
        (error.kind(), error.effect())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_ends_at_the_limit() {
        for deadline in [None, Some(LIMIT), Some(LIMIT * 2)] {
            let (result, took, _) = ping(Mode::Hang, deadline).await;
            assert_eq!(error(result), (ErrorKind::Timeout, Effect::Unknown));
            assert_eq!(took, LIMIT);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_callers_shorter_deadline_ends_it_and_is_told_from_the_limit() {
        let (result, took, _) = ping(Mode::Hang, Some(Duration::from_millis(30))).await;
        assert_eq!(error(result), (ErrorKind::Deadline, Effect::Unknown));
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
        assert_eq!(error(result), (ErrorKind::Deadline, Effect::NotApplied));
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
        assert!(store.info().keeps_deadlines);
    }

    /// A value of 4 MB needs 4 s at 8 Mbit/s.
    #[tokio::test(start_paused = true)]
    async fn a_large_value_has_the_time_that_a_slow_line_takes() {
        let space = KeySpace::new("data", "s");
        let key = Key::new(&space, IdentityRef::Int(1));
        let value = Value::from(vec![0; 4_000_000 - 64]);
        let set = Op::Set {
            key: &key,
            value: &value,
            expiry: Expiry::NEVER,
            condition: Condition::Always,
            retention: Retention::Evictable,
        };
        assert_eq!(set.size(), 4_000_000);
        let limit = LIMIT + Duration::from_secs(4);
        let cx = Context::new("test");
        let late = Mode::FailLate(ErrorKind::Timeout, Effect::Unknown);
        for fake in [Fake::new(Mode::Hang), Fake::keeping_deadlines(late)] {
            let store = Timeout::new(fake, LIMIT);
            let start = Instant::now();
            let result = store.call(&set, &cx).await;
            assert_eq!(error(result), (ErrorKind::Timeout, Effect::Unknown));
            assert_eq!(start.elapsed(), limit);
            // The caller's own deadline is kept to the letter.
            let soon = cx.within(LIMIT);
            let result = store.call(&set, &soon).await;
            assert_eq!(error(result), (ErrorKind::Deadline, Effect::Unknown));
            assert_eq!(start.elapsed(), limit + LIMIT);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_keeps_deadlines_is_given_the_end_of_the_call() {
        let late = |kind, effect| Fake::keeping_deadlines(Mode::FailLate(kind, effect));
        let (not_applied, unknown) = (Effect::NotApplied, Effect::Unknown);
        for (kind, effect, deadline, expected, end) in [
            (
                crate::ErrorKind::Timeout,
                unknown,
                None,
                ErrorKind::Timeout,
                100,
            ),
            (
                ErrorKind::Timeout,
                unknown,
                Some(300),
                ErrorKind::Timeout,
                100,
            ),
            (
                ErrorKind::Timeout,
                unknown,
                Some(95),
                ErrorKind::Timeout,
                95,
            ),
            (
                ErrorKind::Deadline,
                unknown,
                Some(95),
                ErrorKind::Timeout,
                95,
            ),
            (
                ErrorKind::Timeout,
                unknown,
                Some(30),
                ErrorKind::Deadline,
                30,
            ),
            (
                ErrorKind::Timeout,
                not_applied,
                Some(30),
                ErrorKind::Deadline,
                30,
            ),
            (
                ErrorKind::Overloaded,
                not_applied,
                None,
                ErrorKind::Overloaded,
                100,
            ),
            (
                ErrorKind::Overloaded,
                unknown,
                Some(30),
                ErrorKind::Overloaded,
                30,
            ),
            (
                ErrorKind::Unavailable,
                unknown,
                Some(30),
                ErrorKind::Unavailable,
                30,
            ),
        ] {
            let store = Timeout::new(late(kind, effect), LIMIT);
            let start = Instant::now();
            let mut cx = Context::new("test");
            cx.deadline = deadline.map(|ms| (start + Duration::from_millis(ms)).into_std());
            let error = store.call(&Op::Ping, &cx).await.unwrap_err();
            assert_eq!((error.kind(), error.effect()), (expected, effect));
            assert_eq!(
                error.source().unwrap().to_string(),
                "the server's own words"
            );
            assert_eq!(start.elapsed(), Duration::from_millis(end));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_keeps_deadlines_is_not_called_after_one_and_is_measured() {
        let time = Duration::from_millis(7);
        let fake = Fake::keeping_deadlines(Mode::ReplyAfter(time));
        let store = Timeout::new(fake.clone(), LIMIT);
        let cx = Context::new("test");
        let passed = cx.until(Instant::now().into_std());
        let result = store.call(&Op::Ping, &passed).await;
        assert_eq!(error(result), (ErrorKind::Deadline, Effect::NotApplied));
        assert_eq!(fake.sent().len(), 0);
        assert!(store.call(&Op::Ping, &cx).await.is_ok());
        assert_eq!(store.info().health.last_latency, Some(time));
    }

    /// The wrapper relies on the store's word: this one does not keep it.
    #[tokio::test(start_paused = true)]
    async fn no_timer_is_set_round_a_store_that_keeps_deadlines() {
        let store = Timeout::new(Fake::keeping_deadlines(Mode::Hang), LIMIT);
        let cx = Context::new("test");
        let call = tokio::time::timeout(LIMIT * 10, store.call(&Op::Ping, &cx));
        assert!(call.await.is_err());
    }

    /// The outer wrapper sets no timer: the inner one keeps the deadline that it is given.
    #[tokio::test(start_paused = true)]
    async fn the_shortest_of_nested_limits_ends_a_call() {
        for (outer, inner) in [(LIMIT, LIMIT * 2), (LIMIT * 2, LIMIT)] {
            let store = Timeout::new(Timeout::new(Fake::new(Mode::Hang), inner), outer);
            let start = Instant::now();
            let cx = Context::new("test");
            let result = store.call(&Op::Ping, &cx).await;
            assert_eq!(error(result), (ErrorKind::Timeout, Effect::Unknown));
            assert_eq!(start.elapsed(), LIMIT);
            let result = store.call(&Op::Ping, &cx.within(LIMIT / 2)).await;
            assert_eq!(error(result), (ErrorKind::Deadline, Effect::Unknown));
            assert_eq!(start.elapsed(), LIMIT * 3 / 2);
        }
    }
}
