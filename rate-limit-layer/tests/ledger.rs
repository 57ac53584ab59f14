//! What a process counts by itself over a store behind a network: what costs no command, and what passes while the store fails.

use std::{convert::Infallible, time::Duration};

use http::{Request, Response};
use layer_store::{
    Clock, Effect, ErrorKind, ManualClock, MemoryStore, SharedStore, conformance::FaultInjector,
};
use rate_limit_layer::{
    Limiter, Policy, Quota, RateLimitLayer, RateLimitRefusal, Unavailable, Verdict, header,
};
use tower::{Layer, ServiceExt, service_fn};

const START: u64 = 1_767_225_600_000_000;
const SECOND: Duration = Duration::from_secs(1);

/// A store behind a network, and one clock for it and for the processes.
struct World {
    store: FaultInjector<MemoryStore>,
    clock: Clock,
    time: ManualClock,
}

impl World {
    fn new() -> Self {
        let (clock, time) = Clock::manual(START);
        let memory = MemoryStore::with_clock(1_000, clock.clone());
        Self {
            store: FaultInjector::new(memory).networked(),
            clock,
            time,
        }
    }

    /// One process. Each has a ledger of its own.
    fn process(&self, policy: Policy) -> Limiter {
        let store = SharedStore::new(self.store.clone());
        Limiter::new(store, policy).clock(self.clock.clone())
    }

    fn layer(&self, policy: Policy) -> RateLimitLayer {
        let store = SharedStore::new(self.store.clone());
        RateLimitLayer::new(store, policy).clock(self.clock.clone())
    }

    fn commands(&self) -> usize {
        self.store.take_calls().len()
    }
}

async fn admitted(limiter: &Limiter, requests: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..requests {
        admitted += usize::from(limiter.check("ada").await.is_admitted());
    }
    admitted
}

#[tokio::test]
async fn a_blocked_key_costs_no_command_for_a_second_and_then_one() {
    let world = World::new();
    let limiter = world.process(Quota::per_hour(3).fail_closed());
    assert_eq!(admitted(&limiter, 4).await, 3);
    assert_eq!(
        world.commands(),
        3,
        "the third reply says that nothing is left"
    );
    for _ in 0..5 {
        assert_eq!(admitted(&limiter, 100).await, 0);
        assert_eq!(world.commands(), 0);
        world.time.advance(Duration::from_millis(950));
        assert_eq!(admitted(&limiter, 100).await, 0);
        assert_eq!(world.commands(), 1);
    }
}

#[tokio::test]
async fn a_wait_that_the_ledger_tells_is_the_stores() {
    let world = World::new();
    let limiter = world.process(Quota::per_minute(6).burst(2).fail_closed());
    assert_eq!(admitted(&limiter, 2).await, 2);
    world.time.advance(Duration::from_millis(300));
    let Verdict::Refused(exceeded) = limiter.check("ada").await else {
        panic!("nothing is left")
    };
    assert_eq!(world.commands(), 2);
    assert_eq!(exceeded.retry_after(), Duration::from_millis(9_700));
    world
        .time
        .advance(exceeded.retry_after() - Duration::from_micros(1));
    assert_eq!(admitted(&limiter, 1).await, 0);
    world.time.advance(Duration::from_micros(1));
    assert_eq!(admitted(&limiter, 2).await, 1);
}

#[tokio::test]
async fn a_process_that_fails_open_lets_its_quota_through_and_no_more() {
    for kind in [
        ErrorKind::Unavailable,
        ErrorKind::Timeout,
        ErrorKind::Overloaded,
    ] {
        for effect in [Effect::NotApplied, Effect::Unknown] {
            let world = World::new();
            let processes = [0, 1].map(|_| world.process(Quota::per_minute(6).fail_open()));
            // 4 of 6 while the store works: all of them know of their own, and those that asked of the others'.
            assert_eq!(admitted(&processes[0], 4).await, 4);
            world.store.fail(kind, effect);
            assert_eq!(admitted(&processes[0], 10).await, 2);
            assert_eq!(admitted(&processes[1], 10).await, 6);
            world.time.advance(10 * SECOND);
            assert_eq!(
                admitted(&processes[0], 10).await,
                1,
                "one is earned in 10 s"
            );
            world.store.heal();
            // The store has counted 4. The ledger has counted 7.
            assert_eq!(admitted(&processes[0], 10).await, 0);
        }
    }
}

#[tokio::test]
async fn a_quota_is_shared_out_among_the_instances() {
    let world = World::new();
    let policy = Quota::per_minute(100).fail_local(4);
    let processes = [0, 1, 2, 3].map(|_| world.process(policy.clone()));
    world.store.fail(ErrorKind::Unavailable, Effect::NotApplied);
    for process in &processes {
        assert_eq!(admitted(process, 100).await, 25);
    }
    world.time.advance(60 * SECOND);
    for process in &processes {
        assert_eq!(admitted(process, 100).await, 25);
    }
}

#[tokio::test]
async fn what_is_not_checked_fails_closed_with_its_reason() {
    for (kind, reason) in [
        (ErrorKind::Overloaded, Unavailable::Overloaded),
        (ErrorKind::Timeout, Unavailable::StoreDown),
    ] {
        let world = World::new();
        world.store.fail(kind, Effect::NotApplied);
        let limiter = world.process(Quota::per_minute(6).fail_closed());
        let Verdict::Unavailable(unavailable) = limiter.check("ada").await else {
            panic!("{kind:?} is no answer")
        };
        assert_eq!(unavailable, reason);
        // It was not let through, so it costs nothing.
        world.store.heal();
        assert_eq!(admitted(&limiter, 10).await, 6);
    }
}

#[tokio::test]
async fn a_reset_here_is_seen_at_once_and_one_elsewhere_after_a_second() {
    let world = World::new();
    let [here, elsewhere] = [0, 1].map(|_| world.process(Quota::per_hour(2).fail_open()));
    assert_eq!(admitted(&here, 3).await, 2);
    here.reset("ada").await.unwrap();
    assert_eq!(admitted(&here, 3).await, 2);
    assert_eq!(admitted(&elsewhere, 3).await, 0);
    here.reset("ada").await.unwrap();
    assert_eq!(admitted(&elsewhere, 3).await, 0);
    world.time.advance(SECOND);
    assert_eq!(admitted(&elsewhere, 3).await, 2);
}

#[tokio::test]
async fn the_ledger_of_a_request_that_another_policy_refuses_is_taken_back() {
    let world = World::new();
    let by_user = Quota::per_hour(10)
        .by(header("x-user"))
        .name("user")
        .fail_open();
    let by_car = Quota::per_hour(1)
        .by(header("x-car"))
        .name("car")
        .fail_open();
    let layer = world.layer(by_user).and(by_car);
    let ask = |car: u32| {
        let request = Request::builder()
            .header("x-user", "ada")
            .header("x-car", car);
        let hello = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });
        layer.layer(hello).oneshot(request.body(()).unwrap())
    };
    assert_eq!(ask(7).await.unwrap().status(), 200);
    world.time.advance(2 * SECOND);
    for _ in 0..20 {
        assert_eq!(ask(7).await.unwrap().status(), 429);
        tokio::task::yield_now().await;
    }
    // Nothing of the 20 is owed: while the store is away, 9 more pass by the user's own count, with other cars.
    world.store.fail(ErrorKind::Unavailable, Effect::NotApplied);
    let mut passed = 0;
    for car in 8..30 {
        passed += usize::from(ask(car).await.unwrap().status() == 200);
    }
    assert_eq!(passed, 9);
}

#[tokio::test]
async fn a_layer_refuses_by_its_ledger_with_the_whole_answer() {
    let world = World::new();
    let layer = world.layer(Quota::per_minute(2).fail_open());
    let ask = || {
        let hello = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });
        layer.layer(hello).oneshot(Request::new(()))
    };
    for _ in 0..2 {
        assert_eq!(ask().await.unwrap().status(), 200);
    }
    world.commands();
    let refused = ask().await.unwrap();
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "30");
    assert_eq!(refused.headers()["ratelimit"], "\"2/min\";r=0;t=30");
    let refusal = refused.extensions().get::<RateLimitRefusal>();
    assert!(matches!(refusal, Some(RateLimitRefusal::QuotaExceeded(_))));
    assert_eq!(world.commands(), 0);
}

/// 1,000 requests of one key at once, at a store that takes its time.
#[tokio::test(start_paused = true)]
async fn a_flood_of_one_key_leaves_the_store_to_others() {
    let world = World::new();
    let limiter = world.process(Quota::per_hour(10).fail_open());
    world.store.delay(Duration::from_millis(1));
    let flood = (0..1_000).map(|_| limiter.check("ada"));
    let verdicts = futures_util::future::join_all(flood).await;
    let passed = verdicts.iter().filter(|verdict| verdict.is_admitted());
    assert_eq!(passed.count(), 10);
    // Those that were under way before the first reply.
    assert!(world.commands() <= 32 + 10);
}

#[tokio::test]
async fn a_memory_store_needs_no_ledger() {
    let (clock, time) = Clock::manual(START);
    let memory = MemoryStore::with_clock(1_000, clock);
    let limiter = Limiter::new(memory, Quota::per_hour(2).fail_open());
    assert_eq!(admitted(&limiter, 3).await, 2);
    limiter.reset("ada").await.unwrap();
    assert_eq!(admitted(&limiter, 3).await, 2);
    time.advance(SECOND);
    assert_eq!(admitted(&limiter, 3).await, 0);
}
