//! What a client sees of each algorithm, in memory and over a network.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::time::Duration;

use axum::{Router, body::Body, routing::get};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use layer_store::{
    Clock, Effect, ErrorKind, ManualClock, MemoryStore, SharedStore, conformance::FaultInjector,
};
use rate_limit_layer::{Limiter, Policy, Quota, RateLimitLayer, Verdict, header};
use tower::ServiceExt;

/// The edge of a minute.
const START: u64 = 1_767_225_600_000_000;
const MINUTE: Duration = Duration::from_secs(60);
const MICRO: Duration = Duration::from_micros(1);

/// 5 a minute, by each algorithm.
fn quotas() -> [Quota; 4] {
    let quota = Quota::per_minute(5);
    [
        quota,
        quota.sliding_window(),
        quota.fixed_window(),
        Quota::exact(5, MINUTE),
    ]
}

/// A store, and one clock for it and for the processes.
struct World {
    memory: MemoryStore,
    network: FaultInjector<MemoryStore>,
    clock: Clock,
    time: ManualClock,
}

impl World {
    fn new() -> Self {
        let (clock, time) = Clock::manual(START);
        let memory = MemoryStore::with_clock(1_000, clock.clone());
        Self {
            network: FaultInjector::new(memory.clone()).networked(),
            memory,
            clock,
            time,
        }
    }

    fn stores(&self) -> [SharedStore; 2] {
        [
            SharedStore::new(self.memory.clone()),
            SharedStore::new(self.network.clone()),
        ]
    }

    fn limiter(&self, policy: Policy) -> Limiter {
        let store = SharedStore::new(self.network.clone());
        Limiter::new(store, policy).clock(self.clock.clone())
    }

    fn app(&self, store: SharedStore, quota: Quota) -> Router {
        let policy = quota.name("a").by(header("x-user")).fail_closed();
        let layer = RateLimitLayer::new(store, policy).clock(self.clock.clone());
        Router::new()
            .route("/", get(|| async { "hello" }))
            .layer(layer)
    }

    fn commands(&self) -> usize {
        self.network.take_calls().len()
    }
}

async fn ask(app: &Router, user: &str) -> Response<Body> {
    let request = Request::get("/").header("x-user", user);
    let request = request.body(Body::empty()).unwrap();
    app.clone().oneshot(request).await.unwrap()
}

fn field(response: &Response<Body>, name: &str) -> String {
    response.headers()[name].to_str().unwrap().into()
}

async fn admitted(limiter: &Limiter, requests: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..requests {
        admitted += usize::from(limiter.check("ada").await.is_admitted());
    }
    admitted
}

fn refused(verdict: &Verdict) -> Duration {
    match verdict {
        Verdict::Refused(exceeded) => exceeded.retry_after(),
        verdict => panic!("{verdict:?}"),
    }
}

#[tokio::test]
async fn a_response_tells_the_policy_what_remains_and_when_to_come_back() {
    // After 5 at 45 s of a minute: the seconds to wait, as each algorithm counts them.
    for (quota, wait) in quotas().into_iter().zip([12, 27, 15, 60]) {
        for number in 0..2 {
            let case = format!("{quota} {number}");
            let world = World::new();
            let app = world.app(world.stores()[number].clone(), quota);
            world.time.advance(Duration::from_secs(45));
            for left in (0..5).rev() {
                let response = ask(&app, "ada").await;
                assert_eq!(response.status(), StatusCode::OK, "{case}");
                assert_eq!(field(&response, "ratelimit-policy"), r#""a";q=5;w=60"#);
                let standing = field(&response, "ratelimit");
                assert!(
                    standing.starts_with(&format!(r#""a";r={left};t="#)),
                    "{standing}"
                );
            }
            let response = ask(&app, "ada").await;
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS, "{case}");
            assert_eq!(field(&response, "retry-after"), wait.to_string(), "{case}");
            assert_eq!(
                field(&response, "ratelimit"),
                format!(r#""a";r=0;t={wait}"#)
            );
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(document["violated-policies"], serde_json::json!(["a"]));
            assert_eq!(ask(&app, "bob").await.status(), StatusCode::OK);
            // Obeyed exactly.
            world.time.advance(Duration::from_secs(wait));
            assert_eq!(ask(&app, "ada").await.status(), StatusCode::OK, "{case}");
        }
    }
}

#[tokio::test]
async fn a_blocked_key_costs_no_command_and_is_told_the_stores_time() {
    for quota in quotas() {
        let world = World::new();
        let limiter = world.limiter(quota.fail_closed());
        world.time.advance(MICRO);
        assert_eq!(admitted(&limiter, 5).await, 5);
        world.commands();
        let store = Limiter::new(world.memory.clone(), quota.fail_closed());
        let told = refused(&store.check("ada").await);
        assert_eq!(refused(&limiter.check("ada").await), told, "{quota}");
        world.time.advance(Duration::from_millis(300));
        assert_eq!(
            refused(&limiter.check("ada").await),
            told - Duration::from_millis(300)
        );
        assert_eq!(admitted(&limiter, 100).await, 0);
        assert_eq!(world.commands(), 0, "{quota}");
        world
            .time
            .advance(told - Duration::from_millis(300) - MICRO);
        assert_eq!(admitted(&limiter, 1).await, 0, "{quota}");
        world.time.advance(MICRO);
        assert_eq!(admitted(&limiter, 1).await, 1, "{quota}");
    }
}

/// 3 are left: 5 do not pass, and a request that does is not refused for it.
#[tokio::test]
async fn a_refused_cost_does_not_block_a_smaller_one() {
    for quota in quotas() {
        let world = World::new();
        let limiter = world.limiter(quota.fail_closed());
        world.time.advance(MICRO);
        assert_eq!(admitted(&limiter, 2).await, 2);
        for _ in 0..2 {
            let verdict = limiter.check_cost("ada", 5).await.unwrap();
            let wait = refused(&verdict);
            assert!(wait > Duration::from_secs(20), "{quota}: {wait:?}");
        }
        assert_eq!(admitted(&limiter, 4).await, 3, "{quota}");
    }
}

#[tokio::test]
async fn policies_of_several_algorithms_are_charged_all_or_none() {
    for number in 0..2 {
        let world = World::new();
        let [gcra, sliding, fixed, log] = quotas().map(Quota::fail_closed);
        let limiter = Limiter::new(world.stores()[number].clone(), gcra)
            .and(sliding)
            .and(fixed.name("fixed"))
            .and(log)
            .and(Quota::per_hour(3).fixed_window().fail_closed())
            .clock(world.clock.clone());
        world.commands();
        world.time.advance(MICRO);
        for left in [2, 1, 0] {
            let Verdict::Admitted(Some(standing)) = limiter.check("ada").await else {
                panic!("3 pass")
            };
            assert_eq!(
                (standing.policy(), standing.remaining()),
                ("3/h fixed", left)
            );
        }
        assert_eq!(world.commands(), [0, 3][number], "one command each");
        let verdict = limiter.check_cost("ada", 3).await.unwrap();
        let Verdict::Refused(exceeded) = &verdict else {
            panic!("none is left")
        };
        let violated: Vec<_> = exceeded.violated().collect();
        let all = [
            "5/min",
            "5/min sliding",
            "fixed",
            "5/min exact",
            "3/h fixed",
        ];
        assert_eq!(violated, all);
        // The latest of all, and nothing was charged.
        let hour = Duration::from_secs(3_600);
        assert_eq!(exceeded.retry_after(), hour - MICRO);
        let standings = limiter.peek("ada").await.unwrap();
        let left: Vec<_> = standings
            .iter()
            .map(|standing| standing.remaining())
            .collect();
        assert_eq!(left, [2, 2, 2, 2, 0]);
        world.time.advance(exceeded.retry_after());
        assert!(limiter.check("ada").await.is_admitted());
    }
}

/// Units that are given back after the window of their charge are no part of the next one.
#[tokio::test]
async fn what_is_given_back_late_is_not_credited_to_the_next_window() {
    for quota in &quotas()[1..] {
        for number in 0..2 {
            let world = World::new();
            let limiter = Limiter::new(world.stores()[number].clone(), quota.fail_closed());
            let limiter = limiter.clock(world.clock.clone());
            let reserved = limiter.reserve("ada", 4).await.unwrap().unwrap();
            world.time.advance(Duration::from_secs(30));
            reserved.commit(3);
            settle().await;
            assert_eq!(left(&limiter).await, 2, "in time: {quota}");
            let reserved = limiter.reserve("ada", 2).await.unwrap().unwrap();
            world.time.advance(2 * MINUTE);
            assert_eq!(admitted(&limiter, 4).await, 4);
            drop(reserved);
            settle().await;
            assert_eq!(left(&limiter).await, 1, "too late: {quota}");
        }
    }
}

async fn left(limiter: &Limiter) -> u64 {
    limiter.peek("ada").await.unwrap()[0].remaining()
}

/// Lets the task of a refund end.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// A charge that a later identity refuses is given back, whatever the algorithms are.
#[tokio::test]
async fn a_charge_is_given_back_if_another_identity_is_refused() {
    for quota in quotas() {
        let world = World::new();
        let by = |quota: Quota, name: &'static str| quota.name(name).by(header(name)).fail_closed();
        let store = SharedStore::new(world.memory.clone());
        let layer = RateLimitLayer::new(store, by(quota, "x-user"))
            .and(by(Quota::exact(1, MINUTE), "x-car"))
            .clock(world.clock.clone());
        let limiter = layer.handle();
        let app: Router = Router::new()
            .route("/", get(|| async { "hello" }))
            .layer(layer);
        let request = || {
            let request = Request::get("/")
                .header("x-user", "ada")
                .header("x-car", "7");
            request.body(Body::empty()).unwrap()
        };
        for status in [200, 429, 429] {
            let response = app.clone().oneshot(request()).await.unwrap();
            assert_eq!(response.status(), status);
        }
        assert_eq!(
            limiter.peek("ada").await.unwrap()[0].remaining(),
            4,
            "{quota}"
        );
    }
}

#[tokio::test]
async fn a_process_that_fails_open_holds_the_bound_of_each_algorithm() {
    for (quota, most) in quotas().into_iter().zip([5, 10, 10, 5]) {
        let world = World::new();
        let limiter = world.limiter(quota.fail_open());
        world
            .network
            .fail(ErrorKind::Unavailable, Effect::NotApplied);
        assert_eq!(admitted(&limiter, 100).await, most, "{quota}");
        world.time.advance(Duration::from_secs(24));
        assert_eq!(admitted(&limiter, 100).await, 2, "{quota}");
    }
}

#[tokio::test]
async fn what_one_algorithm_keeps_no_other_reads() {
    let world = World::new();
    for number in 0..2 {
        for quota in quotas() {
            let named = [quota.fail_closed(), quota.fail_closed().name("a")];
            let limiter = world.limiter(named[number].clone());
            assert_eq!(admitted(&limiter, 6).await, 5, "{quota}");
        }
    }
}

#[tokio::test]
async fn a_cost_above_the_limit_never_passes_and_says_what_to_write() {
    let world = World::new();
    let limiter = world.limiter(Quota::exact(5, MINUTE).fail_closed());
    let error = limiter.check_cost("ada", 6).await.unwrap_err().to_string();
    let expected = "over the limit of 5 of the policy `5/min exact` and would never pass: write a limit of 6 or more";
    assert!(error.contains(expected), "{error}");
}

#[test]
#[should_panic(
    expected = "only GCRA charges in advance: write the quota 5/min sliding without an algorithm"
)]
fn only_gcra_charges_in_advance() {
    let world = World::new();
    let quota = Quota::per_minute(5).sliding_window();
    let _ = world.limiter(quota.fail_closed()).prepaid(10);
}
