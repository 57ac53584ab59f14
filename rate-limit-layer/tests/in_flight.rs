//! In-flight limits on memory, with faults injected: when a permit is held, and when it is given back.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Future, Ready, ready},
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use layer_store::{
    Clock, Effect, ErrorKind, ManualClock, MemoryStore, Op, SharedStore,
    conformance::{Fault, FaultInjector},
};
use rate_limit_layer::{
    Body, InFlightBody, InFlightLayer, InFlightLimiter, InFlightPolicy, InFlightRefusal,
    KeyExtractor, MaxInFlight, Permit, Unavailable, header,
};
use tower::{Layer, Service, ServiceExt, service_fn};

/// A body of frames and, at its end, perhaps an error.
#[derive(Default)]
struct Frames(VecDeque<Result<Frame<Bytes>, &'static str>>, bool);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        Poll::Ready(self.0.pop_front())
    }

    fn is_end_stream(&self) -> bool {
        self.1 && self.0.is_empty()
    }
}

fn data(text: &'static str) -> Result<Frame<Bytes>, &'static str> {
    Ok(Frame::data(Bytes::from(text)))
}

fn frames(frames: impl IntoIterator<Item = Result<Frame<Bytes>, &'static str>>) -> Frames {
    Frames(frames.into_iter().collect(), false)
}

fn memory() -> SharedStore {
    SharedStore::new(MemoryStore::new())
}

/// A store behind a network, with its clock. Tokio's clock is moved with it.
fn networked() -> (FaultInjector<MemoryStore>, ManualClock) {
    let (clock, hand) = Clock::manual(1_767_225_600_000_000);
    let store = MemoryStore::with_clock(1_000, clock);
    (FaultInjector::new(store).networked(), hand)
}

async fn pass(hand: &ManualClock, millis: u64) {
    // In steps, as tasks run between them.
    for _ in 0..millis.div_ceil(STEP) {
        hand.advance(Duration::from_millis(STEP));
        tokio::time::advance(Duration::from_millis(STEP)).await;
        settle().await;
    }
}

/// Lets tasks run that need no time.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

const STEP: u64 = 100;

fn policy(limit: u32) -> InFlightPolicy {
    MaxInFlight::new(limit).by(header("x-user")).fail_closed()
}

fn request(user: &str) -> Request<()> {
    Request::get("/").header("x-user", user).body(()).unwrap()
}

type Answer = Response<Body<InFlightBody<Frames>>>;

/// A service that answers a request of ada with this body.
async fn ask(layer: &InFlightLayer, body: Frames) -> Answer {
    let body = Arc::new(std::sync::Mutex::new(Some(body)));
    let service = layer.layer(service_fn(move |_: Request<()>| {
        let body = body.lock().unwrap().take().unwrap();
        async { Ok::<_, Infallible>(Response::new(body)) }
    }));
    service.oneshot(request("ada")).await.unwrap()
}

async fn in_flight(layer: &InFlightLayer) -> u32 {
    settle().await;
    layer.handle().in_flight("ada").await.unwrap()
}

fn layers() -> [InFlightLayer; 2] {
    [
        InFlightLayer::new(memory(), policy(3)),
        InFlightLayer::new(SharedStore::new(networked().0), policy(3)),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_held_until_the_body_has_ended() {
    for layer in layers() {
        // To its end, with trailers.
        let trailers = Frame::trailers(HeaderMap::new());
        let mut response = ask(&layer, frames([data("a"), data("b"), Ok(trailers)])).await;
        for _ in 0..3 {
            assert_eq!(in_flight(&layer).await, 1);
            assert!(response.body_mut().frame().await.unwrap().is_ok());
        }
        assert_eq!(in_flight(&layer).await, 1);
        assert!(response.body_mut().frame().await.is_none());
        assert_eq!(in_flight(&layer).await, 0, "the body is still there");

        // A server does not ask again after a frame that says that it was the last.
        let mut response = ask(&layer, Frames([data("a")].into(), true)).await;
        assert_eq!(in_flight(&layer).await, 1);
        assert!(response.body_mut().frame().await.unwrap().is_ok());
        assert!(response.body().is_end_stream());
        assert_eq!(in_flight(&layer).await, 0);

        // Dropped before its end.
        let response = ask(&layer, frames([data("a")])).await;
        assert_eq!(in_flight(&layer).await, 1);
        drop(response);
        assert_eq!(in_flight(&layer).await, 0);

        // Broken.
        let mut response = ask(&layer, frames([Err("torn"), data("a")])).await;
        assert_eq!(
            response.body_mut().frame().await.unwrap().unwrap_err(),
            "torn"
        );
        assert_eq!(in_flight(&layer).await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_given_back_when_the_handler_fails_panics_or_is_left() {
    for layer in layers() {
        let failing = service_fn(|_: Request<()>| async { Err::<Response<Frames>, _>("broken") });
        let result = layer.layer(failing).oneshot(request("ada")).await;
        assert_eq!(result.unwrap_err(), "broken");
        assert_eq!(in_flight(&layer).await, 0);

        let panicking = service_fn(|_: Request<()>| async { panic!("in its future") });
        let call = layer.layer(panicking).oneshot(request("ada"));
        let call: Pin<Box<dyn Future<Output = Result<Answer, Infallible>>>> = Box::pin(call);
        assert!(AssertUnwindSafe(call).catch_unwind().await.is_err());
        assert_eq!(in_flight(&layer).await, 0);

        let panicking = service_fn(
            |_: Request<()>| -> Ready<Result<Response<Frames>, Infallible>> {
                panic!("in its call")
            },
        );
        let call = async { layer.layer(panicking).oneshot(request("ada")).await };
        assert!(AssertUnwindSafe(call).catch_unwind().await.is_err());
        assert_eq!(in_flight(&layer).await, 0);

        let hanging = service_fn(|_: Request<()>| {
            std::future::pending::<Result<Response<Frames>, Infallible>>()
        });
        let mut call = Box::pin(layer.layer(hanging).oneshot(request("ada")));
        assert!(call.as_mut().now_or_never().is_none());
        assert_eq!(in_flight(&layer).await, 1);
        drop(call);
        assert_eq!(in_flight(&layer).await, 0);
    }
}

/// Whenever a request is dropped, and whatever the store has done by then, nothing stays.
#[tokio::test(start_paused = true)]
async fn a_request_that_is_dropped_at_any_await_leaves_nothing() {
    for polls in 0..12 {
        let (store, _) = networked();
        store.delay(Duration::from_millis(1));
        let layer = InFlightLayer::new(SharedStore::new(store.clone()), policy(3));
        let slow = service_fn(|_: Request<()>| async {
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(Response::new(frames([data("a")])))
        });
        let mut call = Box::pin(async {
            let response = layer.layer(slow).oneshot(request("ada")).await.unwrap();
            tokio::task::yield_now().await;
            response
        });
        let mut has_ended = false;
        for _ in 0..polls {
            has_ended = has_ended || call.as_mut().now_or_never().is_some();
            tokio::time::advance(Duration::from_micros(500)).await;
            if has_ended {
                break;
            }
        }
        drop(call);
        assert!(has_ended || polls < 8, "it takes fewer polls");
        store.heal();
        // The command that gives it back has its delay already.
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(in_flight(&layer).await, 0, "after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn one_command_takes_and_one_gives_back() {
    let (store, _) = networked();
    let limiter = InFlightLimiter::new(SharedStore::new(store.clone()), policy(2));
    for _ in 0..5 {
        let permit = limiter.try_acquire("ada").await.unwrap();
        assert_eq!(store.take_calls(), ["run"]);
        drop(permit);
        settle().await;
        assert_eq!(store.take_calls(), ["run"]);
    }
    // A request that this process knows to find all permits held costs none.
    let _held = [
        limiter.try_acquire("ada").await.unwrap(),
        limiter.try_acquire("ada").await.unwrap(),
    ];
    store.take_calls();
    for _ in 0..100 {
        assert!(limiter.try_acquire("ada").await.is_err());
    }
    assert_eq!(store.take_calls(), [""; 0]);
    assert!(limiter.try_acquire("bob").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_keeps_permits_beyond_their_lease_by_one_command_a_key() {
    let (store, hand) = networked();
    let max = MaxInFlight::new(50).lease(Duration::from_secs(6));
    let limiter = InFlightLimiter::new(SharedStore::new(store.clone()), max.fail_closed());
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(limiter.try_acquire("ada").await.unwrap());
    }
    held.push(limiter.try_acquire("bob").await.unwrap());
    store.take_calls();
    pass(&hand, 60_000).await;
    let renewals = store.take_calls();
    // Ten leases, each renewed three or four times, and two keys.
    assert!((60..=80).contains(&renewals.len()), "{}", renewals.len());
    assert_eq!(limiter.in_flight("ada").await.unwrap(), 20);
    drop(held.drain(..15));
    settle().await;
    assert_eq!(limiter.in_flight("ada").await.unwrap(), 5);
    drop(held);
    settle().await;
    store.take_calls();
    pass(&hand, 12_000).await;
    assert_eq!(store.take_calls(), [""; 0], "nothing is held");
}

/// The runtime of a process is gone without a word: nobody renews.
#[test]
fn the_permits_of_a_process_that_died_are_free_within_one_lease() {
    let (store, hand) = networked();
    let max = || {
        MaxInFlight::new(50)
            .lease(Duration::from_secs(3))
            .fail_closed()
    };
    let begin = || InFlightLimiter::new(SharedStore::new(store.clone()), max());
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    };
    let dies = runtime();
    dies.block_on(async {
        let limiter = begin();
        for _ in 0..50 {
            std::mem::forget(limiter.try_acquire("ada").await.unwrap());
        }
        pass(&hand, 10_000).await;
        assert_eq!(limiter.in_flight("ada").await.unwrap(), 50);
    });
    drop(dies);
    runtime().block_on(async {
        let limiter = begin();
        assert!(limiter.try_acquire("ada").await.is_err());
        pass(&hand, 3_000).await;
        assert_eq!(limiter.in_flight("ada").await.unwrap(), 0);
        let mut held = Vec::new();
        for _ in 0..50 {
            held.push(limiter.try_acquire("ada").await.unwrap());
        }
        assert!(limiter.try_acquire("ada").await.is_err());
    });
}

/// A permit outlives the runtime on which it was taken: the next take of the same limiter begins another keeper.
#[test]
fn a_second_runtime_goes_on_renewing() {
    let (store, hand) = networked();
    let max = MaxInFlight::new(50).lease(Duration::from_secs(3));
    let limiter = InFlightLimiter::new(SharedStore::new(store), max.fail_closed());
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    };
    let first = runtime();
    let held = first.block_on(async { limiter.try_acquire("ada").await.unwrap() });
    drop(first);
    runtime().block_on(async {
        let other = limiter.try_acquire("bob").await.unwrap();
        pass(&hand, 9_000).await;
        assert_eq!(limiter.in_flight("ada").await.unwrap(), 1);
        drop((held, other));
        settle().await;
        assert_eq!(limiter.in_flight("ada").await.unwrap(), 0);
    });
}

#[tokio::test(start_paused = true)]
async fn a_take_whose_reply_was_lost_holds_nothing() {
    let (store, hand) = networked();
    let limiter = InFlightLimiter::new(SharedStore::new(store.clone()), policy(2));
    store.lose_replies(ErrorKind::Timeout);
    let refused = limiter.try_acquire("ada").await.unwrap_err();
    assert!(matches!(
        refused,
        InFlightRefusal::Unavailable(Unavailable::StoreDown)
    ));
    store.heal();
    settle().await;
    assert_eq!(limiter.in_flight("ada").await.unwrap(), 0);

    // The command that would give it back fails, too: its lease ends.
    store.inject_by({
        let mut calls = 0;
        move |op| {
            calls += usize::from(matches!(op, Op::Run { .. }));
            Some(match calls {
                1 => Fault::LoseReply(ErrorKind::Timeout),
                _ => Fault::Fail(ErrorKind::Unavailable, Effect::NotApplied),
            })
        }
    });
    assert!(limiter.try_acquire("ada").await.is_err());
    settle().await;
    pass(&hand, 29_900).await;
    store.heal();
    assert_eq!(limiter.in_flight("ada").await.unwrap(), 1);
    pass(&hand, 100).await;
    assert_eq!(limiter.in_flight("ada").await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_given_back_is_given_back_soon() {
    let (store, hand) = networked();
    let limiter = InFlightLimiter::new(SharedStore::new(store.clone()), policy(2));
    let permit = limiter.try_acquire("ada").await.unwrap();
    store.fail(ErrorKind::Unavailable, Effect::NotApplied);
    drop(permit);
    settle().await;
    store.heal();
    assert_eq!(limiter.in_flight("ada").await.unwrap(), 1);
    pass(&hand, 2_600).await;
    assert_eq!(limiter.in_flight("ada").await.unwrap(), 0);
    store.take_calls();
    pass(&hand, 60_000).await;
    assert_eq!(store.take_calls(), [""; 0]);
}

/// A renewal puts back what is gone. So what ends while it is under way waits for it.
#[tokio::test(start_paused = true)]
async fn what_ends_during_a_renewal_does_not_come_back() {
    let (store, hand) = networked();
    let max = MaxInFlight::new(9)
        .lease(Duration::from_secs(6))
        .fail_closed();
    let limiter = InFlightLimiter::new(SharedStore::new(store.clone()), max);
    let (kept, dropped) = (
        limiter.try_acquire("ada").await.unwrap(),
        limiter.try_acquire("ada").await.unwrap(),
    );
    pass(&hand, 1_400).await;
    store.delay(Duration::from_millis(80));
    store.take_calls();
    while store.in_flight() == 0 {
        hand.advance(Duration::from_millis(10));
        tokio::time::advance(Duration::from_millis(10)).await;
        settle().await;
    }
    drop(dropped);
    settle().await;
    assert_eq!(store.take_calls(), ["run"], "the renewal alone");
    pass(&hand, 400).await;
    store.heal();
    assert_eq!(limiter.in_flight("ada").await.unwrap(), 1);
    drop(kept);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_forgets_learns_of_the_permits_again() {
    let (store, hand) = networked();
    let max = MaxInFlight::new(2)
        .lease(Duration::from_secs(6))
        .fail_closed();
    let limiter = InFlightLimiter::new(SharedStore::new(store.clone()), max.clone());
    let other = InFlightLimiter::new(SharedStore::new(store.clone()), max);
    let _held = [
        limiter.try_acquire("ada").await.unwrap(),
        limiter.try_acquire("ada").await.unwrap(),
    ];
    let (clock, hand_of_the_new) = Clock::manual(hand.now());
    store.replace(MemoryStore::with_clock(1_000, clock));
    pass(&hand_of_the_new, 2_000).await;
    assert_eq!(limiter.in_flight("ada").await.unwrap(), 2);
    assert!(other.try_acquire("ada").await.is_err());
}

/// A renewal that failed is tried again within a twelfth of the lease, so that one success before its end is enough.
#[tokio::test(start_paused = true)]
async fn a_renewal_that_failed_is_tried_again_soon() {
    let (store, hand) = networked();
    let max = MaxInFlight::new(9)
        .lease(Duration::from_secs(6))
        .fail_closed();
    let limiter = InFlightLimiter::new(SharedStore::new(store.clone()), max);
    let _held = limiter.try_acquire("ada").await.unwrap();
    pass(&hand, 1_000).await;
    store.fail(ErrorKind::Unavailable, Effect::NotApplied);
    pass(&hand, 4_400).await;
    store.heal();
    pass(&hand, 500).await;
    assert_eq!(store.take_calls().len(), 1 + 8 + 1, "a take and renewals");
    pass(&hand, 1_000).await;
    assert_eq!(limiter.in_flight("ada").await.unwrap(), 1);
}

/// Takes under way count while others pass without the store: it may let them through.
#[tokio::test(start_paused = true)]
async fn takes_under_way_leave_less_for_those_that_pass_without_the_store() {
    let (store, _) = networked();
    let max = MaxInFlight::new(10).fail_open();
    let limiter = InFlightLimiter::new(SharedStore::new(store.clone()), max);
    store.hang();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let limiter = limiter.clone();
        waiting.spawn(async move { limiter.try_acquire("ada").await });
    }
    settle().await;
    assert_eq!(store.in_flight(), 8);
    store.fail(ErrorKind::Unavailable, Effect::NotApplied);
    let held = acquire(&limiter, 20).await;
    assert_eq!(held.len(), 2);
    let waited = waiting.join_all().await;
    assert_eq!(waited.iter().filter(|taken| taken.is_ok()).count(), 8);
}

/// The first replies tell those that wait for their turn.
#[tokio::test(start_paused = true)]
async fn a_flood_on_one_identity_costs_few_commands() {
    let (store, _) = networked();
    store.delay(Duration::from_millis(1));
    let limiter = InFlightLimiter::new(SharedStore::new(store.clone()), policy(5));
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let limiter = limiter.clone();
        flood.spawn(async move { limiter.try_acquire("ada").await });
    }
    let answers = flood.join_all().await;
    assert_eq!(answers.iter().filter(|taken| taken.is_ok()).count(), 5);
    assert_eq!(store.take_calls().len(), 32);
}

/// The renewal of the first permit does not wait for that of the last.
#[tokio::test(start_paused = true)]
async fn permits_that_are_taken_all_the_time_are_all_renewed() {
    let (store, hand) = networked();
    let max = MaxInFlight::new(100).lease(Duration::from_secs(6));
    let limiter = InFlightLimiter::new(SharedStore::new(store), max.fail_closed());
    let mut held = Vec::new();
    for number in 1..30 {
        held.push(limiter.try_acquire("ada").await.unwrap());
        assert_eq!(limiter.in_flight("ada").await.unwrap(), number);
        pass(&hand, 1_000).await;
    }
}

async fn acquire(limiter: &InFlightLimiter, count: usize) -> Vec<Permit> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.extend(limiter.try_acquire("ada").await);
    }
    held
}

/// Each process counts for itself, and what it let through is counted when the store is back.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_leaves_each_process_its_own_count() {
    let (store, hand) = networked();
    let max = || MaxInFlight::new(10).lease(Duration::from_secs(6));
    let limiter = |policy| InFlightLimiter::new(SharedStore::new(store.clone()), policy);
    let (open, local, closed) = (
        limiter(max().name("open").fail_open()),
        limiter(max().name("local").fail_local(4)),
        limiter(max().name("closed").fail_closed()),
    );
    let before = acquire(&open, 4).await;
    assert_eq!(before[3].in_flight(), Some(4));
    store.fail(ErrorKind::Unavailable, Effect::NotApplied);
    let held = acquire(&open, 20).await;
    assert_eq!((held.len(), held[0].in_flight()), (6, None));
    let refused = open.try_acquire("ada").await.unwrap_err();
    assert!(matches!(refused, InFlightRefusal::LimitReached(_)));
    let shared = acquire(&local, 20).await;
    assert_eq!(shared.len(), 2);
    store.take_calls();
    let refused = closed.try_acquire("ada").await.unwrap_err();
    assert!(matches!(refused, InFlightRefusal::Unavailable(_)));
    settle().await;
    assert_eq!(store.take_calls(), ["run"], "nothing was taken");
    // One that ends makes room.
    drop(held);
    settle().await;
    let held = acquire(&open, 20).await;
    assert_eq!(held.len(), 6);

    store.heal();
    pass(&hand, 2_500).await;
    assert_eq!(open.in_flight("ada").await.unwrap(), 10);
    assert_eq!(local.in_flight("ada").await.unwrap(), 2);
    drop((before, held, shared));
    pass(&hand, 1_000).await;
    assert_eq!(open.in_flight("ada").await.unwrap(), 0);
    assert_eq!(local.in_flight("ada").await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hung_store_delays_a_request_by_its_deadline_and_its_end_not_at_all() {
    let (store, _) = networked();
    let layer = InFlightLayer::new(
        SharedStore::new(store.clone()),
        MaxInFlight::new(2).by(header("x-user")).fail_open(),
    );
    let held = ask(&layer, frames([data("a")])).await;
    store.hang();
    let begun = tokio::time::Instant::now();
    let response = ask(&layer, frames([data("a")])).await;
    assert_eq!(begun.elapsed(), Duration::from_millis(100));
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!response.headers().contains_key("ratelimit"));
    let begun = tokio::time::Instant::now();
    for response in [held, response] {
        response.into_body().collect().await.unwrap();
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(store.in_flight(), 0, "nothing waits so far");
    settle().await;
    assert_eq!(store.in_flight(), 2, "given back by tasks");
}

/// 200 tasks over three instances come and go as they like, and requests are dropped while they wait.
#[tokio::test(start_paused = true)]
async fn never_more_than_the_limit_are_in_flight() {
    let (store, _) = networked();
    store.delay(Duration::from_millis(3));
    let instance = || InFlightLimiter::new(SharedStore::new(store.clone()), policy(7));
    let instances = [instance(), instance(), instance()];
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200_u64 {
        let limiter = instances[number as usize % 3].clone();
        let (now, most) = (now.clone(), most.clone());
        tasks.spawn(async move {
            let mut passed = 0;
            for round in 0..40 {
                let patience = Duration::from_millis(1 + (number * 7 + round * 3) % 12);
                let taken = tokio::time::timeout(patience, limiter.try_acquire("ada")).await;
                if let Ok(Ok(_permit)) = taken {
                    most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                    tokio::time::sleep(Duration::from_millis(number % 5)).await;
                    now.fetch_sub(1, SeqCst);
                    passed += 1;
                }
                tokio::time::sleep(Duration::from_millis(round % 4)).await;
            }
            passed
        });
    }
    let passed: usize = tasks.join_all().await.into_iter().sum();
    assert!(passed > 200, "{passed}");
    assert_eq!(most.load(SeqCst), 7);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(instances[0].in_flight("ada").await.unwrap(), 0);
}

#[tokio::test]
async fn a_refusal_says_what_to_do() {
    let policy = MaxInFlight::new(1).by(header("x-user").or_refuse());
    for (policy, status, problem_type) in [
        (
            policy.clone(),
            StatusCode::TOO_MANY_REQUESTS,
            "quota-exceeded",
        ),
        (
            policy.status(StatusCode::SERVICE_UNAVAILABLE),
            StatusCode::SERVICE_UNAVAILABLE,
            "temporary-reduced-capacity",
        ),
    ] {
        let layer = InFlightLayer::new(memory(), policy.fail_closed());
        let held = ask(&layer, frames([data("a")])).await;
        assert_eq!(held.headers()["ratelimit"], r#""1-in-flight";r=0"#);
        let refused = ask(&layer, Frames::default()).await;
        assert_eq!(refused.status(), status);
        let fields = refused.headers();
        assert_eq!(fields["retry-after"], "1");
        assert_eq!(fields["content-type"], "application/problem+json");
        assert_eq!(fields["ratelimit"], r#""1-in-flight";r=0"#);
        assert_eq!(
            fields["ratelimit-policy"],
            r#""1-in-flight";q=1;qu="concurrent-requests""#
        );
        let Some(InFlightRefusal::LimitReached(reached)) = refused.extensions().get() else {
            panic!("{refused:?}");
        };
        assert_eq!((reached.policy(), reached.limit()), ("1-in-flight", 1));
        assert_eq!(reached.retry_after(), Duration::from_secs(1));
        let document = refused.into_body().collect().await.unwrap().to_bytes();
        let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
        let uri = format!("https://iana.org/assignments/http-problem-types#{problem_type}");
        assert_eq!(document["type"], uri);
        assert_eq!(document["status"], status.as_u16());
        assert_eq!(document["violated-policies"][0], "1-in-flight");
    }
}

#[tokio::test]
async fn a_request_without_an_identity_is_refused_skipped_or_its_peer_s() {
    let max = || MaxInFlight::new(1);
    let ask = async |layer: InFlightLayer, times: usize| {
        let service = layer.layer(service_fn(|_: Request<()>| async {
            Ok::<_, Infallible>(Response::new(frames([data("a")])))
        }));
        let mut held = Vec::new();
        for _ in 0..times {
            held.push(service.clone().oneshot(Request::new(())).await.unwrap());
        }
        held.last().unwrap().status().as_u16()
    };
    let layer = |max: MaxInFlight| InFlightLayer::new(memory(), max.fail_closed());
    assert_eq!(ask(layer(max().by(header("x").or_refuse())), 1).await, 400);
    assert_eq!(ask(layer(max().by(header("x").or_skip())), 3).await, 200);
    assert_eq!(ask(layer(max().by(header("x"))), 1).await, 200);
    assert_eq!(ask(layer(max().by(header("x"))), 2).await, 429);
    assert_eq!(ask(layer(max()).enabled(false), 3).await, 200);
}

/// Panics if it is called without having been polled ready; a clone is not ready.
#[derive(Default)]
struct Strict(bool);

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self(false)
    }
}

impl Service<Request<()>> for Strict {
    type Response = Response<Frames>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Frames>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0 = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(std::mem::take(&mut self.0), "called unready");
        ready(Ok(Response::new(Frames::default())))
    }
}

#[tokio::test]
async fn the_instance_that_is_called_was_polled_ready() {
    for layer in layers() {
        let mut service = layer.layer(Strict::default());
        for _ in 0..3 {
            let call = service.ready().await.unwrap().call(request("ada"));
            let other = service.ready().await.unwrap().call(request("ada"));
            call.await.unwrap();
            other.await.unwrap();
        }
    }
}

#[test]
fn over_memory_there_is_no_second_poll_and_no_runtime_is_needed() {
    let layer = InFlightLayer::new(memory(), policy(1));
    let mut service = layer.layer(Strict(true));
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(response) = pin!(service.call(request("ada"))).poll(&mut cx) else {
        panic!("it waits");
    };
    let full = pin!(service.call(request("ada"))).poll(&mut cx);
    assert!(matches!(full, Poll::Ready(Ok(refused)) if refused.status() == 429));
    drop(response);
    service.get_mut().0 = true;
    let free = pin!(service.call(request("ada"))).poll(&mut cx);
    assert!(matches!(free, Poll::Ready(Ok(response)) if response.status() == 200));
}

#[test]
fn public_types_cross_threads() {
    fn check<T: Send + Sync + 'static>() {}
    check::<InFlightLayer>();
    check::<InFlightLimiter>();
    check::<InFlightPolicy>();
    check::<InFlightRefusal>();
    check::<InFlightBody<Frames>>();
    check::<MaxInFlight>();
    check::<Permit>();
    check::<rate_limit_layer::InFlight<Strict>>();
    fn sends<T: Send>() {}
    sends::<rate_limit_layer::future::InFlightFuture<Ready<()>>>();
}
