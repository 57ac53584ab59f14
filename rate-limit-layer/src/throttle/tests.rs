//! Waiting, in tokio's paused time.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, Waker},
    time::Duration,
};

use layer_store::{
    Clock, Context, Effect, ErrorKind, MemoryStore, Op, Reply, SharedStore, Store, StoreError,
    StoreInfo, conformance::FaultInjector,
};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::{BoxError, IntoPolicy, Limiter, Quota, ThrottleError, ThrottleLayer, Unavailable};

/// A memory store that takes some time for each call.
struct Slow {
    memory: MemoryStore,
    latency: Duration,
}

impl Slow {
    fn new(latency: Duration, clock: Clock) -> Self {
        Self {
            memory: MemoryStore::with_clock(1_000, clock),
            latency,
        }
    }
}

impl Store for Slow {
    async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
        sleep(self.latency / 2).await;
        let reply = self.memory.call(op, cx).await;
        sleep(self.latency / 2).await;
        reply
    }

    fn call_now(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        self.latency
            .is_zero()
            .then(|| self.memory.call_now(op, cx))?
    }

    fn info(&self) -> StoreInfo {
        match self.latency.is_zero() {
            true => self.memory.info(),
            false => StoreInfo::new("slow"),
        }
    }
}

/// A clock that shows tokio's time.
fn paused() -> Clock {
    let start = Instant::now();
    Clock::from_fn(move || START + start.elapsed().as_micros() as u64)
}

const START: u64 = 1_767_225_600_000_000;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn limiter(policy: impl IntoPolicy) -> Limiter {
    slow_limiter(Duration::ZERO, policy)
}

fn slow_limiter(latency: Duration, policy: impl IntoPolicy) -> Limiter {
    let clock = paused();
    let store = SharedStore::new(Slow::new(latency, clock.clone()));
    Limiter::new(store, policy).clock(clock)
}

/// One each second, and none at once but the first.
fn each_second() -> Quota {
    Quota::per_second(1)
}

fn within(wait: Duration) -> Instant {
    Instant::now() + wait
}

fn wait_of<T: std::fmt::Debug>(result: Result<T, ThrottleError>) -> Duration {
    match result {
        Err(ThrottleError::WaitTooLong { wait }) => wait,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn it_passes_at_once_or_at_the_time_that_the_store_tells() {
    let limiter = limiter(each_second().fail_open());
    let start = Instant::now();
    for seconds in 0..4 {
        let standing = limiter.until_ready("ada", within(SECOND * 9)).await;
        assert_eq!(standing.unwrap().unwrap().remaining(), 0);
        let waited = start.elapsed();
        assert!(
            waited >= SECOND * seconds && waited < SECOND * seconds + MS * 2,
            "{waited:?}"
        );
    }
    limiter.until_ready("bob", within(MS)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wait_past_the_deadline_is_refused_at_once_and_costs_nothing() {
    let limiter = limiter(each_second().fail_open());
    let start = Instant::now();
    limiter.until_ready("ada", start).await.unwrap();
    let wait = wait_of(limiter.until_ready("ada", within(MS * 999)).await);
    assert_eq!((wait, start.elapsed()), (SECOND, Duration::ZERO));
    limiter.until_ready("ada", within(SECOND)).await.unwrap();
    assert!(start.elapsed() < SECOND + MS * 2);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_pass_in_the_order_in_which_they_came() {
    let limiter = limiter(each_second().fail_open());
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let (limiter, order) = (limiter.clone(), order.clone());
            tokio::spawn(async move {
                limiter
                    .until_ready("ada", within(SECOND * 99))
                    .await
                    .unwrap();
                order.lock().unwrap().push(number);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn one_identity_does_not_hold_up_another() {
    let limiter = limiter(each_second().fail_open());
    let start = Instant::now();
    limiter.until_ready("ada", start).await.unwrap();
    let mut waiting = pin!(limiter.until_ready("ada", within(SECOND * 9)));
    assert!(is_pending(waiting.as_mut()));
    limiter.until_ready("bob", start).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// Who stands behind one that waits for 5 s cannot pass in 3 s, and need not wait to learn it.
#[tokio::test(start_paused = true)]
async fn who_stands_behind_a_longer_wait_is_refused_at_once_also_when_it_waits_already() {
    let five = Quota::try_new(1, SECOND * 5).unwrap();
    let limiter = limiter(five.fail_open());
    let start = Instant::now();
    limiter.until_ready("ada", start).await.unwrap();
    let first = {
        let limiter = limiter.clone();
        tokio::spawn(async move { limiter.until_ready("ada", within(SECOND * 6)).await })
    };
    sleep(MS).await;
    let late = limiter.until_ready("ada", within(SECOND * 3)).await;
    assert!(wait_of(late) > SECOND * 4);
    assert_eq!(start.elapsed(), MS);
    // This one waits for its turn, and learns at the turn of the second that it would be late.
    let second = {
        let limiter = limiter.clone();
        tokio::spawn(async move { limiter.until_ready("ada", within(SECOND * 20)).await })
    };
    sleep(MS).await;
    let late = limiter.until_ready("ada", within(SECOND * 7)).await;
    assert!(wait_of(late) > SECOND * 4);
    let at = start.elapsed();
    assert!(at >= SECOND * 5 && at < SECOND * 5 + MS * 10, "{at:?}");
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_dropped_costs_nothing_and_gives_up_its_place() {
    let limiter = limiter(each_second().fail_open());
    let start = Instant::now();
    limiter.until_ready("ada", start).await.unwrap();
    {
        let mut first = pin!(limiter.until_ready("ada", within(SECOND * 9)));
        let mut second = pin!(limiter.until_ready("ada", within(SECOND * 9)));
        assert!(is_pending(first.as_mut()) && is_pending(second.as_mut()));
        sleep(MS * 500).await;
    }
    limiter.until_ready("ada", within(SECOND)).await.unwrap();
    assert!(start.elapsed() < SECOND + MS * 2);
    assert_eq!(format!("{:?}", limiter.queues()), "Queues { queues: 0 }");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_past_the_deadline_whatever_is_awaited() {
    // For the store, which answers within its own limit of 100 ms.
    let slow = slow_limiter(MS * 90, each_second().fail_open());
    let start = Instant::now();
    let late = slow.until_ready("ada", within(MS * 10)).await;
    assert_eq!(wait_of(late), Duration::ZERO);
    assert_eq!(start.elapsed(), MS * 10);
    // For one who is first and asks the store.
    let first = {
        let limiter = slow.clone();
        tokio::spawn(async move { limiter.until_ready("bob", within(SECOND * 9)).await })
    };
    tokio::task::yield_now().await;
    let start = Instant::now();
    let late = slow.until_ready("bob", within(MS * 20)).await;
    assert_eq!(wait_of(late), Duration::ZERO);
    assert_eq!(start.elapsed(), MS * 20);
    first.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn over_a_network_the_rate_is_kept_and_never_passed() {
    let limiter = slow_limiter(MS * 4, Quota::per_second(10).burst(2).fail_closed());
    let start = Instant::now();
    let tasks: Vec<_> = (0..42)
        .map(|_| {
            let limiter = limiter.clone();
            tokio::spawn(async move { limiter.until_ready("ada", within(SECOND * 60)).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let took = start.elapsed();
    assert!(took >= SECOND * 4 && took < MS * 4_600, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_does_what_the_policy_says_at_once() {
    let failing = |policy| {
        let store = FaultInjector::new(MemoryStore::new());
        store.fail(ErrorKind::Unavailable, Effect::NotApplied);
        Limiter::new(store, policy)
    };
    let start = Instant::now();
    let open = failing(each_second().fail_open());
    for _ in 0..3 {
        let passed = open.until_ready("ada", within(SECOND)).await;
        assert!(passed.unwrap().is_none());
    }
    let closed = failing(each_second().fail_closed());
    assert!(matches!(
        closed.until_ready("ada", within(SECOND)).await,
        Err(ThrottleError::Unavailable(Unavailable::StoreDown))
    ));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_cost_waits_until_all_of_it_is_there() {
    let limiter = limiter(Quota::per_second(1).burst(5).fail_open());
    let start = Instant::now();
    let cost = |cost| limiter.until_ready_cost("ada", cost, within(SECOND * 9));
    cost(5).await.unwrap();
    cost(3).await.unwrap();
    let waited = start.elapsed();
    assert!(
        waited >= SECOND * 3 && waited < SECOND * 3 + MS * 2,
        "{waited:?}"
    );
    for wrong in [0, 6] {
        let error = cost(wrong).await.unwrap_err();
        assert!(matches!(error, ThrottleError::InvalidCost(_)), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn any_service_waits_and_is_made_ready_after_the_wait() {
    /// It panics if it is called unready, and notes when it was asked.
    #[derive(Clone)]
    struct Inner {
        ready: bool,
        asked: Arc<std::sync::Mutex<Vec<Duration>>>,
        start: Instant,
    }

    impl Service<u32> for Inner {
        type Response = u32;
        type Error = std::convert::Infallible;
        type Future = std::future::Ready<Result<u32, Self::Error>>;

        fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
            self.ready = true;
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, number: u32) -> Self::Future {
            assert!(std::mem::take(&mut self.ready));
            self.asked.lock().unwrap().push(self.start.elapsed());
            std::future::ready(Ok(number))
        }
    }

    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let inner = Inner {
        ready: false,
        asked: asked.clone(),
        start: Instant::now(),
    };
    let layer = ThrottleLayer::new(
        limiter(each_second().fail_open()),
        SECOND,
        |number: &u32| (*number % 2).into(),
    );
    let mut service = layer.layer(inner);
    let mut responses = Vec::new();
    for number in [1, 2, 3, 4] {
        service.ready().await.unwrap();
        responses.push(service.call(number));
    }
    // Two of each key: the second one of each waits. A third would have to wait for 2 s, and is refused.
    let mut futures = responses.into_iter().map(tokio::spawn).collect::<Vec<_>>();
    tokio::task::yield_now().await;
    let refused = service.ready().await.unwrap().call(5).await.unwrap_err();
    let refused = refused.downcast_ref::<ThrottleError>().unwrap();
    assert!(matches!(refused, ThrottleError::WaitTooLong { .. }));
    for (number, future) in [1, 2, 3, 4].into_iter().zip(futures.drain(..)) {
        assert_eq!(future.await.unwrap().unwrap(), number);
    }
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked[..2], [Duration::ZERO; 2]);
    assert!(asked[2..].iter().all(|at| *at >= SECOND), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn an_inner_error_and_an_inner_service_that_is_not_ready_are_passed_on() {
    let layer = ThrottleLayer::new(limiter(each_second().fail_open()), SECOND, |_: &()| {
        "all".into()
    });
    let failing = service_fn(|(): ()| async { Err::<(), BoxError>("no".into()) });
    let error = layer.layer(failing).oneshot(()).await.unwrap_err();
    assert_eq!(error.to_string(), "no");
    let free = layer.cost(6);
    let error = free.layer(failing).oneshot(()).await.unwrap_err();
    assert_eq!(error.to_string(), "no request can have this cost");
    assert!(format!("{free:?}").starts_with("ThrottleLayer { limiter: Limiter"));
}

#[test]
fn a_throttle_is_sent_between_threads() {
    fn check<T: Send + Sync>(_: &T) {}
    let limiter = Limiter::new(MemoryStore::new(), Quota::per_hour(1).fail_open());
    let layer = ThrottleLayer::new(limiter, SECOND, |_: &()| "all".into());
    check(&layer);
    let inner = service_fn(|(): ()| async { Ok::<_, BoxError>(()) });
    let mut service = layer.layer(inner);
    check(&service);
    fn sent<T: Send>(_: T) {}
    sent(service.call(()));
}

fn is_pending<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
    future
        .poll(&mut TaskContext::from_waker(Waker::noop()))
        .is_pending()
}
