//! Requests that are charged in advance: over a store in memory that counts as networked, on clocks that are moved by hand.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::{convert::Infallible, time::Duration};

use http::{Request, Response};
use layer_store::{
    Clock, Effect, ErrorKind, ManualClock, MemoryStore, SharedStore, conformance::FaultInjector,
};
use rate_limit_layer::{Limiter, Policy, Quota, RateLimitLayer, Verdict, header};
use tower::{Layer, ServiceExt, service_fn};

struct Fixture {
    store: FaultInjector<MemoryStore>,
    clock: Clock,
    hand: ManualClock,
}

impl Fixture {
    fn new() -> Self {
        let (clock, hand) = Clock::manual(1_767_225_600_000_000);
        let memory = MemoryStore::with_clock(10_000, clock.clone());
        Self {
            store: FaultInjector::new(memory).networked(),
            clock,
            hand,
        }
    }

    fn limiter(&self, policy: Policy) -> Limiter {
        let store = SharedStore::new(self.store.clone());
        Limiter::new(store, policy).clock(self.clock.clone())
    }

    async fn pass(&self, time: Duration) {
        self.hand.advance(time);
        tokio::time::advance(time).await;
        settle().await;
    }
}

async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

async fn remaining(limiter: &Limiter) -> u64 {
    settle().await;
    limiter.peek("ada").await.unwrap()[0].remaining()
}

const MILLI: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn one_command_is_enough_for_many_checks_of_a_busy_key() {
    let fixture = Fixture::new();
    let policy = Quota::per_second(100_000).fail_closed();
    let limiter = fixture.limiter(policy.clone()).prepaid(10);
    for _ in 0..1_000 {
        assert!(limiter.check("ada").await.is_admitted());
        fixture.pass(MILLI).await;
    }
    let commands = fixture.store.take_calls().len();
    // 1, 2, 4, 8 and 16 checks, then 10 each time.
    assert!((98..=104).contains(&commands), "{commands}");

    // All that ask at once share one.
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let limiter = limiter.clone();
        all.spawn(async move { limiter.check("ada").await.is_admitted() });
    }
    assert!(all.join_all().await.into_iter().all(|admitted| admitted));
    settle().await;
    let commands = fixture.store.take_calls().len();
    assert!(commands <= 2, "{commands}");

    // Off by default.
    let limiter = fixture.limiter(policy);
    for _ in 0..100 {
        let _ = limiter.check("ada").await;
    }
    assert_eq!(fixture.store.take_calls().len(), 100);
}

/// Over a store that takes its time, whoever comes while a command is under way shares the next one.
#[tokio::test(start_paused = true)]
async fn a_command_is_shared_by_all_who_wait_for_it() {
    let fixture = Fixture::new();
    let limiter = fixture
        .limiter(Quota::per_second(100_000).fail_closed())
        .prepaid(10);
    assert!(limiter.check("ada").await.is_admitted());
    settle().await;
    fixture.store.take_calls();
    fixture.store.delay(MILLI);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let limiter = limiter.clone();
        all.spawn(async move {
            let mut passed = 0;
            for _ in 0..100 {
                passed += u32::from(limiter.check("ada").await.is_admitted());
            }
            passed
        });
    }
    let begun = tokio::time::Instant::now();
    assert_eq!(all.join_all().await.into_iter().sum::<u32>(), 6_400);
    settle().await;
    // 64 and 10 in advance each time: 1 command for 74 checks.
    let commands = fixture.store.take_calls().len();
    assert!(commands <= 100, "{commands}");
    assert!(begun.elapsed() <= 200 * MILLI, "{:?}", begun.elapsed());
}

/// The one that takes the last does not wait for the next charge, and neither does one that comes after it.
#[tokio::test(start_paused = true)]
async fn the_next_charge_begins_with_the_last_of_a_stock() {
    let fixture = Fixture::new();
    let limiter = fixture
        .limiter(Quota::per_second(100_000).fail_closed())
        .prepaid(10);
    for _ in 0..100 {
        assert!(limiter.check("ada").await.is_admitted());
        settle().await;
    }
    fixture.store.delay(5 * MILLI);
    let begun = tokio::time::Instant::now();
    let mut waited = Duration::ZERO;
    for _ in 0..100 {
        let asked = tokio::time::Instant::now();
        assert!(limiter.check("ada").await.is_admitted());
        waited += asked.elapsed();
        tokio::time::sleep(6 * MILLI).await;
    }
    assert_eq!(waited, Duration::ZERO, "{:?}", begun.elapsed());
}

/// A client that leaves ends nobody else's charge, and what it was charged is given back.
#[tokio::test(start_paused = true)]
async fn who_leaves_takes_nobody_along_and_gets_its_share_back() {
    let fixture = Fixture::new();
    let limiter = fixture
        .limiter(Quota::per_day(1_000).fail_closed())
        .prepaid(10);
    for _ in 0..2 {
        assert!(limiter.check("ada").await.is_admitted());
    }
    let before = remaining(&limiter).await;
    fixture.store.take_calls();
    fixture.store.delay(10 * MILLI);
    // The stock has one.
    assert!(limiter.check("ada").await.is_admitted());
    let mut checks: Vec<_> = (0..20)
        .map(|_| {
            let limiter = limiter.clone();
            tokio::spawn(async move { limiter.check("ada").await.is_admitted() })
        })
        .collect();
    // After one that charges in advance alone, a command is under way with all of them.
    tokio::time::sleep(15 * MILLI).await;
    for check in checks.drain(..9) {
        check.abort();
    }
    for check in checks {
        assert!(check.await.unwrap());
    }
    tokio::time::sleep(20 * MILLI).await;
    // The third gives back what those that left were charged.
    assert_eq!(fixture.store.take_calls().len(), 3);
    fixture.store.heal();
    for _ in 0..6 {
        fixture.pass(250 * MILLI).await;
    }
    // The one that passed first was charged before.
    assert_eq!(remaining(&limiter).await, before - 11);
}

/// … also one that leaves when it was charged and has not seen it yet.
#[tokio::test(start_paused = true)]
async fn a_share_that_nobody_takes_is_given_back() {
    let fixture = Fixture::new();
    let limiter = fixture
        .limiter(Quota::per_day(1_000).fail_closed())
        .prepaid(10);
    assert!(limiter.check("ada").await.is_admitted());
    let before = remaining(&limiter).await;
    let mut check = Box::pin(limiter.check("ada"));
    assert!(futures_util::FutureExt::now_or_never(&mut check).is_none());
    // It was charged, with one in advance.
    assert_eq!(remaining(&limiter).await, before - 2);
    drop(check);
    assert_eq!(remaining(&limiter).await, before - 1);
}

/// A limiter that has room for some of those who wait lets these pass, and refuses the others.
#[tokio::test(start_paused = true)]
async fn of_those_who_wait_as_many_pass_as_the_quota_allows() {
    let fixture = Fixture::new();
    let limiter = fixture
        .limiter(Quota::per_day(100).fail_closed())
        .prepaid(10);
    for _ in 0..2 {
        assert!(limiter.check("ada").await.is_admitted());
    }
    fixture.store.delay(MILLI);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let limiter = limiter.clone();
        all.spawn(async move { limiter.check("ada").await.is_admitted() });
    }
    let passed = all.join_all().await.into_iter().filter(|passed| *passed);
    assert_eq!(passed.count(), 98);
}

/// Each request is counted once, whoever made the command.
#[cfg(feature = "metrics")]
#[tokio::test(start_paused = true)]
async fn decisions_on_those_who_share_a_command_are_counted_one_by_one() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    for (name, quota) in [
        ("open", Quota::per_day(1_000).fail_open()),
        ("closed", Quota::per_day(1_000).fail_closed()),
    ] {
        let fixture = Fixture::new();
        let limiter = fixture.limiter(quota.name(name)).prepaid(10);
        let check_at_once = async || {
            let checks = (0..50).map(|_| limiter.check("ada"));
            futures_util::future::join_all(checks).await;
            settle().await;
        };
        for _ in 0..2 {
            let _ = limiter.check("ada").await;
        }
        check_at_once().await;
        // Nothing is in stock then.
        limiter.reset("ada").await.unwrap();
        let _ = limiter.check("ada").await;
        fixture
            .store
            .fail(ErrorKind::Unavailable, Effect::NotApplied);
        check_at_once().await;
    }
    let text = recorder.handle().render();
    let mut counts: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("rate_limit_decisions_total"))
        .collect();
    counts.sort_unstable();
    assert_eq!(
        counts,
        [
            r#"{policy="closed",outcome="admitted"} 53"#,
            r#"{policy="closed",outcome="failed_closed"} 50"#,
            r#"{policy="open",outcome="admitted"} 53"#,
            r#"{policy="open",outcome="failed_open"} 50"#,
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_left_is_given_back_after_a_second() {
    let fixture = Fixture::new();
    let limiter = fixture
        .limiter(Quota::per_day(100).fail_closed())
        .prepaid(10);
    for _ in 0..5 {
        assert!(limiter.check("ada").await.is_admitted());
    }
    // 1, 2 and 3 checks were charged, of which 5 passed; the clients see what they have left.
    assert_eq!(remaining(&limiter).await, 94);
    let Verdict::Admitted(Some(standing)) = limiter.check("ada").await else {
        panic!("not admitted");
    };
    assert_eq!(standing.remaining(), 94);
    let Verdict::Admitted(Some(standing)) = limiter.check("ada").await else {
        panic!("not admitted");
    };
    assert_eq!(standing.remaining(), 93);
    assert_eq!(remaining(&limiter).await, 89);
    for _ in 0..6 {
        fixture.pass(250 * MILLI).await;
    }
    assert_eq!(remaining(&limiter).await, 93);
    // A key with few requests is charged one by one.
    fixture.store.take_calls();
    for left in (87..93).rev() {
        assert!(limiter.check("ada").await.is_admitted());
        assert_eq!(remaining(&limiter).await, left);
        for _ in 0..6 {
            fixture.pass(250 * MILLI).await;
        }
    }
    assert_eq!(fixture.store.take_calls().len(), 12);
}

#[tokio::test(start_paused = true)]
async fn exactly_the_quota_passes_at_one_process() {
    let fixture = Fixture::new();
    let limiter = fixture
        .limiter(Quota::per_day(100).fail_closed())
        .prepaid(10);
    let mut passed = 0;
    for _ in 0..300 {
        passed += u32::from(limiter.check("ada").await.is_admitted());
    }
    assert_eq!(passed, 100);
    // What is over its quota costs no command, or one a second.
    fixture.store.take_calls();
    for _ in 0..100 {
        assert!(!limiter.check("ada").await.is_admitted());
    }
    assert_eq!(fixture.store.take_calls(), [""; 0]);
}

/// The next request may come before the task that looks each 250 ms.
#[tokio::test(start_paused = true)]
async fn what_is_old_is_given_back_before_more_is_charged() {
    let fixture = Fixture::new();
    let limiter = fixture
        .limiter(Quota::per_year(100).fail_closed())
        .prepaid(10);
    for _ in 0..5 {
        assert!(limiter.check("ada").await.is_admitted());
    }
    assert_eq!(remaining(&limiter).await, 94);
    fixture.hand.advance(1_000 * MILLI);
    assert!(limiter.check("ada").await.is_admitted());
    // 5 and 1 passed. Of 2 in advance 1 was used, so that 1 is charged now.
    assert_eq!(remaining(&limiter).await, 93);
}

/// Another process has left too little to charge in advance: that is found out once, and not by each request.
#[tokio::test(start_paused = true)]
async fn a_charge_in_advance_that_is_refused_is_not_tried_each_time() {
    let fixture = Fixture::new();
    let policy = || Quota::per_year(100).fail_closed();
    let (limiter, other) = (
        fixture.limiter(policy()).prepaid(10),
        fixture.limiter(policy()),
    );
    for _ in 0..11 {
        assert!(limiter.check("ada").await.is_admitted());
    }
    // Beside those, 8 are in stock.
    assert_eq!(remaining(&limiter).await, 81);
    assert!(other.check_cost("ada", 77).await.unwrap().is_admitted());
    fixture.store.take_calls();
    // The last of the stock: more in advance is refused. Then with one in advance; that one, and one for the next; that one; alone.
    for commands in [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1] {
        assert!(limiter.check("ada").await.is_admitted());
        settle().await;
        assert_eq!(fixture.store.take_calls().len(), commands);
    }
    assert!(!limiter.check("ada").await.is_admitted());
}

/// Two processes: what one has charged in advance is not there for the other, until it is given back.
#[tokio::test(start_paused = true)]
async fn all_processes_together_pass_the_quota() {
    let fixture = Fixture::new();
    let policy = || Quota::per_day(100).fail_closed();
    let limiters = [
        fixture.limiter(policy()).prepaid(10),
        fixture.limiter(policy()).prepaid(10),
    ];
    let mut passed = 0;
    for round in 0..40 {
        for number in 0..10 {
            let limiter = &limiters[usize::from(number % 3 == 0)];
            passed += u32::from(limiter.check("ada").await.is_admitted());
        }
        if round % 5 == 4 {
            for _ in 0..6 {
                fixture.pass(250 * MILLI).await;
            }
        }
    }
    assert_eq!(passed, 100);
}

#[tokio::test(start_paused = true)]
async fn without_a_store_the_quota_holds_and_nothing_is_given_back_to_it() {
    let fixture = Fixture::new();
    let limiter = fixture.limiter(Quota::per_day(100).fail_open()).prepaid(10);
    for _ in 0..14 {
        assert!(limiter.check("ada").await.is_admitted());
    }
    let before = remaining(&limiter).await;
    fixture
        .store
        .fail(ErrorKind::Unavailable, Effect::NotApplied);
    let mut passed = 14;
    for _ in 0..200 {
        passed += u32::from(limiter.check("ada").await.is_admitted());
    }
    assert!((85..=100).contains(&passed), "{passed}");
    fixture.store.heal();
    for _ in 0..6 {
        fixture.pass(250 * MILLI).await;
    }
    assert!(remaining(&limiter).await <= before);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_delays_all_who_wait_by_one_deadline() {
    let fixture = Fixture::new();
    let limiter = fixture
        .limiter(Quota::per_day(1_000).fail_open())
        .prepaid(10);
    for _ in 0..2 {
        assert!(limiter.check("ada").await.is_admitted());
    }
    fixture.store.hang();
    let begun = tokio::time::Instant::now();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let limiter = limiter.clone();
        all.spawn(async move { limiter.check("ada").await.is_admitted() });
    }
    assert!(all.join_all().await.into_iter().all(|admitted| admitted));
    assert_eq!(begun.elapsed(), 100 * MILLI);
}

#[tokio::test(start_paused = true)]
async fn a_reset_takes_what_was_charged_in_advance_along() {
    let fixture = Fixture::new();
    let limiter = fixture
        .limiter(Quota::per_day(100).fail_closed())
        .prepaid(10);
    for _ in 0..5 {
        assert!(limiter.check("ada").await.is_admitted());
    }
    limiter.reset("ada").await.unwrap();
    assert_eq!(remaining(&limiter).await, 100);
    for _ in 0..6 {
        fixture.pass(250 * MILLI).await;
    }
    assert_eq!(remaining(&limiter).await, 100);
    assert!(limiter.check("ada").await.is_admitted());
    assert_eq!(remaining(&limiter).await, 99);
}

#[tokio::test(start_paused = true)]
async fn a_layer_answers_from_its_stock_without_a_wait() {
    let fixture = Fixture::new();
    let policy = Quota::per_day(100).by(header("x-user")).fail_closed();
    let layer = RateLimitLayer::new(SharedStore::new(fixture.store.clone()), policy)
        .clock(fixture.clock.clone())
        .prepaid(10);
    let service = layer.layer(service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(axum::body::Body::empty()))
    }));
    let ask = || {
        let request = Request::get("/").header("x-user", "ada").body(()).unwrap();
        service.clone().oneshot(request)
    };
    for expected in [99, 98, 97, 96] {
        let response = ask().await.unwrap();
        let field = format!("\"100/day\";r={expected};t=");
        let limit = response.headers()["ratelimit"].to_str().unwrap();
        assert!(limit.starts_with(&field), "{limit}");
    }
    assert_eq!(fixture.store.take_calls().len(), 3);
    let response = futures_util::FutureExt::now_or_never(ask());
    assert_eq!(response.unwrap().unwrap().status(), 200);
    assert_eq!(fixture.store.take_calls().len(), 0);
}

#[test]
#[should_panic(expected = "only a limiter of one policy")]
fn several_policies_are_not_charged_in_advance() {
    let quota = Quota::per_day(100);
    let limiter = Limiter::new(MemoryStore::new(), quota.fail_open());
    let _ = limiter.and(quota.burst(3).fail_open()).prepaid(10);
}

#[test]
#[should_panic(expected = "only a limiter of one policy")]
fn a_policy_is_not_added_to_one_that_is_charged_in_advance() {
    let (fixture, quota) = (Fixture::new(), Quota::per_day(100));
    let limiter = fixture.limiter(quota.fail_open()).prepaid(10);
    let _ = limiter.and(quota.burst(3).fail_open());
}
