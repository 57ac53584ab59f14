use std::{
    hash::{BuildHasher, RandomState},
    ops::RangeInclusive,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::call_end::CallEnd;
use crate::{
    Context, Effect, ErrorKind, Key, Op, Reply, SharedStore, Store, StoreError, StoreInfo, Watch,
};

/// Repeats a failed call if that can do no harm: once, after a short pause, inside its deadline.
///
/// | The error | Repeated |
/// | --- | --- |
/// | not applied, `Unavailable` or `Throttled` | any operation |
/// | effect unknown, `Unavailable`, `Throttled` or `Timeout` | `Get`, `GetMany`, `Scan`, `Ping`, a `Delete` without a value to compare, `DeleteMany`, and a batch of these alone |
/// | any other | nothing |
///
/// So no operation is applied twice that would count twice. The count of a repeated delete may lack what its first try deleted.
/// If a try may have been applied, the effect of the last error is unknown, too. A call that failed because this process is
/// [too busy](ErrorKind::Overloaded) is not repeated, because that would add to its work. Only a whole batch is repeated, not
/// the operations in it that failed.
///
/// All tries share one end: the caller's [deadline](Context::deadline), or without one the inner store's own
/// [limit of a call](StoreInfo::call_limit). No try begins after it, and a pause that does not end before it is not begun.
///
/// The pause does not grow. A retry bridges what is over in milliseconds: a connection that was lost and is made again. It
/// happens while a request waits, whose limit has no room for a series of longer pauses. For a longer outage there is the
/// [`Breaker`](super::Breaker), which is outside: a call and its retry count as one.
///
/// A reply of [`call_now`](Store::call_now) is passed on as it is, because a pause would be to wait.
///
/// # Defaults
///
/// | Setting | Default |
/// | --- | --- |
/// | [`times`](Self::times) | 1 |
/// | [`pause`](Self::pause) | 10 ms to 50 ms, by chance |
///
/// # Example
///
/// ```
/// use std::time::Duration;
///
/// use layer_store::{MemoryStore, wrap::{Breaker, Retry, Timeout}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # let reached_over_a_network = MemoryStore::new();
/// let bounded = Timeout::new(reached_over_a_network, Duration::from_millis(250));
/// let store = Breaker::new(Retry::new(bounded), tokio::runtime::Handle::current());
/// # drop(store);
/// # });
/// ```
///
/// # Panics
///
/// [`call`](Store::call) needs a tokio runtime with a timer.
#[derive(Clone, Debug)]
pub struct Retry<T> {
    inner: T,
    times: u32,
    pause: RangeInclusive<Duration>,
    /// The inner store's own.
    limit: Duration,
}

impl<T: Store> Retry<T> {
    /// Repeats a failed call of `inner` once.
    pub fn new(inner: T) -> Self {
        Self {
            // A store without a limit has the caller's deadline alone.
            limit: inner.info().call_limit.unwrap_or(Duration::MAX),
            inner,
            times: 1,
            pause: MIN_PAUSE..=MAX_PAUSE,
        }
    }

    /// Sets how often a call is repeated. Default 1. With 0 nothing is repeated.
    #[must_use]
    pub const fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Sets the shortest and the longest pause before a try. Default 10 ms to 50 ms.
    ///
    /// The pause is chosen by chance between the two, so that calls that failed together do not come back together.
    ///
    /// # Panics
    ///
    /// If the first is longer than the second.
    #[must_use]
    #[track_caller]
    pub fn pause(mut self, pause: RangeInclusive<Duration>) -> Self {
        assert!(
            !pause.is_empty(),
            "a shortest pause is not longer than the longest: write such as 10 ms..=50 ms"
        );
        self.pause = pause;
        self
    }

    /// Waits before another try. Returns false if it would not end before `end`.
    async fn wait(&self, end: Instant) -> bool {
        let pause = between(&self.pause, RandomState::new().hash_one(()));
        let ends_in_time = Instant::now()
            .checked_add(pause)
            .is_some_and(|next| next < end);
        if ends_in_time {
            sleep(pause).await;
        }
        ends_in_time
    }
}

impl<T: Store> From<Retry<T>> for SharedStore {
    fn from(store: Retry<T>) -> Self {
        Self::new(store)
    }
}

#[deny(clippy::missing_trait_methods)]
impl<T: Store> Store for Retry<T> {
    async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
        if self.times == 0 {
            return self.inner.call(op, cx).await;
        }
        let own = CallEnd::of(Instant::now(), self.limit, op, cx.deadline)?;
        // The end of all tries is each one's deadline: without it a second try would have a whole limit again.
        let end = cx.deadline.map_or(own.at, Instant::from_std);
        let cx = cx.until(end.into_std());
        let (mut left, mut effect) = (self.times, Effect::NotApplied);
        loop {
            // ## Trying => (Replied | Pausing | Failed)
            let error = match self.inner.call(op, &cx).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            if error.effect() == Effect::Unknown {
                effect = Effect::Unknown;
            }
            // ## Pausing => (Trying | Failed)
            if left == 0 || !may_repeat(op, &error) || !self.wait(end).await {
                return Err(own.blame(error).with_effect(effect));
            }
            left -= 1;
            tracing::debug!(error = %error.report(), "a call is repeated");
        }
    }

    #[inline]
    fn call_now(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        self.inner.call_now(op, cx)
    }

    fn watch(&self, key: &Key<'_>) -> Watch {
        self.inner.watch(key)
    }

    fn info(&self) -> StoreInfo {
        self.inner.info()
    }
}

/// Decides if an operation may be sent again after `error`.
fn may_repeat(op: &Op<'_>, error: &StoreError) -> bool {
    match (error.effect(), error.kind()) {
        (Effect::NotApplied, ErrorKind::Unavailable | ErrorKind::Throttled) => true,
        (Effect::Unknown, ErrorKind::Unavailable | ErrorKind::Throttled | ErrorKind::Timeout) => {
            is_idempotent(op)
        }
        _ => false,
    }
}

/// Returns true if an operation that may have been applied can be applied again: it leaves the same values.
///
/// A `Set` is not among them, not even without a condition: it could bring back what somebody else has deleted meanwhile.
fn is_idempotent(op: &Op<'_>) -> bool {
    match op {
        Op::Delete { if_equals, .. } => if_equals.is_none(),
        Op::DeleteMany(_) => true,
        Op::Batch(ops) => ops.iter().all(is_idempotent),
        op => op.is_read(),
    }
}

/// Returns a pause between the two ends, as `random` says.
fn between(pause: &RangeInclusive<Duration>, random: u64) -> Duration {
    let (shortest, longest) = (*pause.start(), *pause.end());
    // A longer range is cut to 584 years.
    let range = u64::try_from((longest - shortest).as_nanos()).unwrap_or(u64::MAX);
    let nanos = (u128::from(range) * (u128::from(random) + 1)) >> 64;
    shortest.saturating_add(Duration::from_nanos(nanos as u64))
}

const MIN_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::{
        Arg, Condition, Expiry, IdentityRef, KeySpace, Output, Program, Retention, Scan, Ttl,
        Value,
        wrap::{
            Timeout,
            fake::{Fake, Mode},
        },
    };

    const CX: Context = Context::new("test");
    const MS: Duration = Duration::from_millis(1);
    static NOTHING: Program = Program::new("nothing", "return {}", Retention::Pinned, |_, _| {
        Output::new()
    });

    /// A store that repeats after exactly 20 ms, with a limit of 100 ms.
    fn retry(mode: Mode) -> (Fake, Retry<Timeout<Fake>>) {
        let fake = Fake::new(mode);
        let store = Retry::new(Timeout::new(fake.clone(), MS * 100)).pause(MS * 20..=MS * 20);
        (fake, store)
    }

    /// Calls, and returns the error, the time it took and the number of tries.
    async fn fail<T: Store>(
        fake: &Fake,
        store: &T,
        op: &Op<'_>,
        cx: &Context,
    ) -> (StoreError, Duration, usize) {
        let begun = Instant::now();
        fake.sent();
        let error = store.call(op, cx).await.unwrap_err();
        (error, begun.elapsed(), fake.sent().len())
    }

    /// Lends each operation, and if it may be repeated after an unknown effect.
    async fn each_operation(mut test: impl AsyncFnMut(Op<'_>, bool)) {
        let space = KeySpace::new("data", "s");
        let keys = [1, 2].map(|id| Key::new(&space, IdentityRef::Int(id)));
        let (key, value) = (&keys[0], &Value::from("v"));
        let ttl = Ttl::from_millis(1_000).unwrap();
        let set = |condition| Op::Set {
            key,
            value,
            expiry: Expiry::NEVER,
            condition,
            retention: Retention::Pinned,
        };
        let delete = |if_equals| Op::Delete { key, if_equals };
        let scan = Scan::new(&space);
        let (args, deletes, mixed) = (
            [Arg::Int(1)],
            [delete(None), Op::Get(key), Op::DeleteMany(&keys)],
            [Op::Get(key), set(Condition::Always), Op::Ping],
        );
        let compared = [delete(None), delete(Some(value))];
        for (op, idempotent) in [
            (Op::Get(key), true),
            (Op::GetMany(&keys), true),
            (Op::Scan(&scan), true),
            (Op::Ping, true),
            (delete(None), true),
            (Op::DeleteMany(&keys), true),
            (Op::Batch(&deletes), true),
            (delete(Some(value)), false),
            (set(Condition::Always), false),
            (set(Condition::Absent), false),
            (set(Condition::Equals(value)), false),
            (Op::Batch(&mixed), false),
            (Op::Batch(&compared), false),
        ] {
            test(op, idempotent).await;
        }
        let run = Op::Run {
            program: &NOTHING,
            keys: &keys[..1],
            args: &args,
        };
        let touch = Op::Touch {
            key,
            ttl,
            only_longer: true,
        };
        let add = Op::Add {
            key,
            delta: 1,
            ttl: None,
            max: None,
        };
        for op in [run, touch, add] {
            test(op, false).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_applied_is_repeated_once_after_the_pause() {
        for kind in [ErrorKind::Unavailable, ErrorKind::Throttled] {
            let (fake, store) = retry(Mode::Fail(kind));
            each_operation(async |op, _| {
                let (error, took, tries) = fail(&fake, &store, &op, &CX).await;
                assert_eq!((error.kind(), error.effect()), (kind, Effect::NotApplied));
                assert_eq!(
                    error.source().unwrap().to_string(),
                    "the server's own words"
                );
                assert_eq!((took, tries), (MS * 20, 2), "{op:?}");
            })
            .await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_been_applied_is_repeated_if_it_is_idempotent() {
        for kind in [
            ErrorKind::Unavailable,
            ErrorKind::Throttled,
            ErrorKind::Timeout,
        ] {
            let (fake, store) = retry(Mode::Lose(kind));
            each_operation(async |op, idempotent| {
                let (error, _, tries) = fail(&fake, &store, &op, &CX).await;
                assert_eq!((error.kind(), error.effect()), (kind, Effect::Unknown));
                assert_eq!(tries, 1 + usize::from(idempotent), "{op:?}");
            })
            .await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_other_error_is_worth_another_try() {
        for kind in [
            ErrorKind::Deadline,
            ErrorKind::Overloaded,
            ErrorKind::Full,
            ErrorKind::TooLarge,
            ErrorKind::Rejected,
            ErrorKind::CrossTag,
            ErrorKind::Unsupported,
            ErrorKind::Corrupt,
        ] {
            for mode in [Mode::Fail(kind), Mode::Lose(kind)] {
                let (fake, store) = retry(mode);
                each_operation(async |op, _| {
                    let (_, took, tries) = fail(&fake, &store, &op, &CX).await;
                    assert_eq!((took, tries), (Duration::ZERO, 1), "{kind:?} {op:?}");
                })
                .await;
            }
        }
        // Nobody knows of a timeout that was not applied what the server does.
        let (fake, store) = retry(Mode::Fail(ErrorKind::Timeout));
        assert_eq!(fail(&fake, &store, &Op::Ping, &CX).await.2, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_try_succeeds_and_nobody_notices() {
        let (fake, store) = retry(Mode::Fail(ErrorKind::Unavailable));
        let begun = Instant::now();
        let heal = async {
            sleep(MS * 10).await;
            fake.turn(Mode::Reply);
        };
        let (reply, ()) = tokio::join!(store.call(&Op::Ping, &CX), heal);
        assert!(matches!(reply, Ok(Reply::Pong)));
        assert_eq!((begun.elapsed(), fake.sent().len()), (MS * 20, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn all_tries_end_by_one_end() {
        let (fake, store) = retry(Mode::Fail(ErrorKind::Unavailable));
        // The first try fails at once and the second hangs.
        for (deadline, kind, took) in [
            (None, ErrorKind::Timeout, 100),
            (Some(100), ErrorKind::Timeout, 100),
            (Some(95), ErrorKind::Timeout, 95),
            (Some(60), ErrorKind::Deadline, 60),
            // A try has the store's own limit, whatever time the caller has.
            (Some(500), ErrorKind::Timeout, 120),
        ] {
            let begun = Instant::now();
            fake.turn(Mode::Fail(ErrorKind::Unavailable));
            let mut cx = CX;
            cx.deadline = deadline.map(|ms| (begun + MS * ms).into_std());
            let hang = async {
                sleep(MS * 10).await;
                fake.turn(Mode::Hang);
            };
            let (reply, ()) = tokio::join!(store.call(&Op::Ping, &cx), hang);
            let error = reply.unwrap_err();
            assert_eq!((error.kind(), error.effect()), (kind, Effect::Unknown));
            assert_eq!(begun.elapsed(), MS * took);
            assert_eq!(fake.sent().len(), 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_try_begins_at_the_end_or_after_it() {
        let (fake, store) = retry(Mode::Fail(ErrorKind::Unavailable));
        for (deadline, tries) in [(21, 2), (20, 1), (10, 1)] {
            let (error, took, tried) =
                fail(&fake, &store, &Op::Ping, &CX.within(MS * deadline)).await;
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert_eq!((tried, took), (tries, MS * 20 * (tries as u32 - 1)));
        }
        let passed = CX.within(Duration::ZERO);
        let (error, _, tries) = fail(&fake, &store, &Op::Ping, &passed).await;
        assert_eq!((error.kind(), tries), (ErrorKind::Deadline, 0));
        // A timeout has used up the whole limit, but not the time of a patient caller.
        fake.turn(Mode::Hang);
        let (_, took, tries) = fail(&fake, &store, &Op::Ping, &CX).await;
        assert_eq!((took, tries), (MS * 100, 1));
        let (error, took, tries) = fail(&fake, &store, &Op::Ping, &CX.within(MS * 150)).await;
        assert_eq!(
            (error.kind(), took, tries),
            (ErrorKind::Timeout, MS * 150, 2)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_effect_is_not_forgotten_by_a_later_try() {
        let (fake, store) = retry(Mode::Lose(ErrorKind::Unavailable));
        let space = KeySpace::new("data", "s");
        let delete = Op::DeleteMany(&[Key::new(&space, IdentityRef::Int(1))]);
        let refuse = async {
            sleep(MS * 10).await;
            fake.turn(Mode::Fail(ErrorKind::Rejected));
        };
        let (reply, ()) = tokio::join!(store.call(&delete, &CX), refuse);
        let error = reply.unwrap_err();
        assert_eq!(
            (error.kind(), error.effect()),
            (ErrorKind::Rejected, Effect::Unknown)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_repeated_as_often_as_asked() {
        for (times, took) in [(0, 0), (1, 20), (3, 60), (9, 80)] {
            let (fake, store) = retry(Mode::Fail(ErrorKind::Unavailable));
            let store = store.times(times);
            let (_, elapsed, tries) = fail(&fake, &store, &Op::Ping, &CX).await;
            assert_eq!((elapsed, tries), (MS * took, 1 + took as usize / 20));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_without_a_limit_has_the_caller_s_deadline_alone() {
        let fake = Fake::new(Mode::Fail(ErrorKind::Unavailable));
        let store = Retry::new(fake.clone()).pause(MS * 20..=MS * 20);
        assert_eq!(fail(&fake, &store, &Op::Ping, &CX).await.2, 2);
        let soon = CX.within(MS * 20);
        assert_eq!(fail(&fake, &store, &Op::Ping, &soon).await.2, 1);
        assert_eq!(store.info().call_limit, None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_pauses_of_many_calls_are_spread_between_10_and_50_ms() {
        let fake = Fake::new(Mode::Fail(ErrorKind::Unavailable));
        let store = Retry::new(fake.clone());
        let mut pauses = Vec::new();
        for _ in 0..100 {
            let (_, took, tries) = fail(&fake, &store, &Op::Ping, &CX).await;
            assert_eq!(tries, 2);
            // A timer counts whole milliseconds.
            assert!((MS * 10..=MS * 51).contains(&took), "{took:?}");
            pauses.push(took);
        }
        pauses.sort_unstable();
        assert!(pauses[10] < MS * 25 && pauses[90] > MS * 35, "{pauses:?}");
    }

    #[test]
    fn a_pause_is_between_its_ends() {
        let range = MS * 10..=MS * 50;
        assert_eq!(between(&range, 0), MS * 10);
        assert_eq!(between(&range, u64::MAX), MS * 50);
        assert_eq!(between(&range, u64::MAX / 2), MS * 30);
        assert_eq!(
            between(&(Duration::ZERO..=Duration::MAX), u64::MAX),
            Duration::from_nanos(u64::MAX)
        );
    }

    #[test]
    #[should_panic(expected = "a shortest pause is not longer than the longest")]
    fn a_pause_without_a_length_is_a_mistake() {
        let _ = Retry::new(Fake::new(Mode::Reply)).pause(MS * 2..=MS);
    }

    #[test]
    fn what_needs_no_waiting_is_passed_on() {
        let fake = Fake::new(Mode::Now);
        let store = Retry::new(fake.clone());
        assert!(store.call_now(&Op::Ping, &CX).unwrap().is_ok());
        fake.turn(Mode::Reply);
        assert!(store.call_now(&Op::Ping, &CX).is_none());
    }
}
