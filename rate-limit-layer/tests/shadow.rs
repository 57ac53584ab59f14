//! Policies on trial: they count, and nothing of them reaches a request.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::{convert::Infallible, time::Duration};

use http::{Request, Response, StatusCode};
use layer_store::{
    Effect, ErrorKind, MemoryStore, SharedStore,
    conformance::{Fault, FaultInjector, Logs},
};
use rate_limit_layer::{
    Body, KeyExtractor, Limiter, Policy, Quota, RateLimitLayer, header, path_param,
};
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};

async fn answer(layer: &RateLimitLayer, user: &str) -> Response<Body<()>> {
    let hello = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });
    let request = Request::builder().header("x-user", user).body(()).unwrap();
    layer.layer(hello).oneshot(request).await.unwrap()
}

async fn ask(layer: &RateLimitLayer, user: &str) -> StatusCode {
    answer(layer, user).await.status()
}

fn real(limit: u64) -> Policy {
    let by_user = Quota::per_hour(limit).by(header("x-user"));
    by_user.name("real").fail_open()
}

fn shadow(limit: u64) -> Policy {
    let by_user = Quota::per_hour(limit).by(header("x-user"));
    by_user.name("trial").fail_closed().shadow()
}

/// A store over a network that works, or fails as it is told.
fn networked() -> (SharedStore, FaultInjector<MemoryStore>) {
    let store = FaultInjector::new(MemoryStore::new()).networked();
    (SharedStore::new(store.clone()), store)
}

/// Lets tasks run that nobody waits for.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

fn would_refuse(logs: &Logs) -> usize {
    let told = "rate limit would have refused policy=trial limit=2/h cost=1";
    let lines = logs.take();
    let would = lines.iter().filter(|line| line.starts_with(told));
    would.count()
}

#[tokio::test(start_paused = true)]
async fn a_shadow_tells_what_it_would_have_refused_and_refuses_nothing() {
    let memory = SharedStore::new(MemoryStore::new());
    for store in [memory, networked().0] {
        let logs = Logs::debug("rate_limit_layer");
        let without = RateLimitLayer::new(store.clone(), real(9));
        let layer = without.clone().and(shadow(2));
        for _ in 0..5 {
            let response = answer(&layer, "ada").await;
            assert_eq!(response.status(), 200);
            for field in ["ratelimit", "ratelimit-policy"] {
                let field = format!("{:?}", response.headers()[field]);
                assert!(!field.contains("trial"), "{field}");
            }
            settle().await;
        }
        assert_eq!(would_refuse(&logs), 3);
        assert_eq!(ask(&layer, "bob").await, 200);
        settle().await;
        assert_eq!(would_refuse(&logs), 0);
    }
}

/// What the policies in force refuse would never have reached one more.
#[tokio::test(start_paused = true)]
async fn a_refused_request_is_not_counted() {
    for store in [SharedStore::new(MemoryStore::new()), networked().0] {
        let logs = Logs::debug("rate_limit_layer");
        let layer = RateLimitLayer::new(store.clone(), real(1)).and(shadow(2));
        assert_eq!(ask(&layer, "ada").await, 200);
        for _ in 0..5 {
            assert_eq!(ask(&layer, "ada").await, 429);
            settle().await;
        }
        let alone = RateLimitLayer::new(store, shadow(2));
        assert_eq!(would_refuse(&logs), 0);
        for (asked, told) in [(1, 0), (2, 1)] {
            assert_eq!(ask(&alone, "ada").await, 200, "{asked}");
            settle().await;
            assert_eq!(would_refuse(&logs), told, "{asked}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_failure_of_its_store_reaches_a_request() {
    let (store, faults) = networked();
    let layer = RateLimitLayer::new(store, shadow(2));
    for fault in [
        Fault::Fail(ErrorKind::Unavailable, Effect::NotApplied),
        Fault::Fail(ErrorKind::Full, Effect::NotApplied),
        Fault::Fail(ErrorKind::Corrupt, Effect::Unknown),
        Fault::Hang,
        Fault::Delay(Duration::from_secs(9)),
    ] {
        faults.inject_by(move |_| Some(fault));
        for user in 0..200 {
            let start = Instant::now();
            let response = answer(&layer, &user.to_string()).await;
            assert_eq!(response.status(), 200);
            assert_eq!(start.elapsed(), Duration::ZERO, "{fault:?}");
            assert!(response.headers().is_empty());
        }
        // They are a few, and end.
        settle().await;
        let waiting = matches!(fault, Fault::Hang | Fault::Delay(_));
        assert_eq!(faults.in_flight(), if waiting { 64 } else { 0 });
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(faults.in_flight(), 0);
    }
}

#[tokio::test]
async fn a_full_store_in_memory_counts_nobody_for_another() {
    let logs = Logs::debug("rate_limit_layer");
    let layer = RateLimitLayer::new(MemoryStore::with_capacity(1), shadow(2));
    for user in 0..5_000 {
        assert_eq!(ask(&layer, &user.to_string()).await, 200);
    }
    let lines = logs.take();
    assert!(lines.iter().any(|line| line.contains("shadow_unchecked")));
    assert!(!lines.iter().any(|line| line.contains("would have")));
}

#[tokio::test]
async fn a_request_that_lacks_the_identity_of_a_shadow_passes() {
    let logs = Logs::debug("rate_limit_layer");
    let by = header("x-other").or_refuse();
    let trial = Quota::per_hour(2).by(by).name("trial").fail_closed();
    let layer = RateLimitLayer::new(MemoryStore::new(), trial.shadow());
    assert_eq!(ask(&layer, "ada").await, 200);
    let told = "rate limit would have refused policy=trial reason=no_identity";
    assert_eq!(logs.take(), [told]);
}

/// A policy in force would answer 500.
#[tokio::test]
async fn a_request_whose_route_lacks_the_parameter_of_a_shadow_passes() {
    let logs = Logs::debug("rate_limit_layer");
    let by_car = Quota::per_hour(2).by(path_param("id")).name("trial");
    let layer = RateLimitLayer::new(MemoryStore::new(), by_car.fail_closed().shadow());
    for _ in 0..2 {
        assert_eq!(ask(&layer, "ada").await, 200);
    }
    let lines = logs.take();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[0].starts_with("a limit on trial counts by a path parameter"),
        "{lines:?}"
    );
    let told = "rate limit would have refused policy=trial reason=misconfigured";
    assert_eq!(lines[1..], [told; 2]);
}

#[tokio::test]
async fn a_limiter_without_http_has_shadows_too_and_resets_them() {
    let logs = Logs::debug("rate_limit_layer");
    let limiter = Limiter::new(MemoryStore::new(), real(9)).and(shadow(2));
    for _ in 0..3 {
        assert!(limiter.check("ada").await.is_admitted());
    }
    assert_eq!(would_refuse(&logs), 1);
    limiter.reset("ada").await.unwrap();
    assert!(limiter.check("ada").await.is_admitted());
    assert_eq!(would_refuse(&logs), 0);
}

#[test]
#[should_panic(expected = "two shadow policies named \"trial\"")]
fn two_shadows_of_one_name_panic() {
    let _ = RateLimitLayer::new(MemoryStore::new(), shadow(2)).and(shadow(3));
}

#[cfg(feature = "metrics")]
#[tokio::test(start_paused = true)]
async fn its_decisions_have_outcomes_of_their_own() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (store, faults) = networked();
    let layer = RateLimitLayer::new(store, real(9)).and(shadow(2));
    for _ in 0..5 {
        assert_eq!(ask(&layer, "ada").await, 200);
        settle().await;
    }
    faults.fail(ErrorKind::Unavailable, Effect::NotApplied);
    assert_eq!(ask(&layer, "bob").await, 200);
    settle().await;
    let text = recorder.handle().render();
    let lines = text.lines();
    let mut lines: Vec<_> = lines
        .filter_map(|line| line.strip_prefix("rate_limit_decisions_total"))
        .collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            r#"{policy="real",outcome="admitted"} 5"#,
            r#"{policy="real",outcome="failed_open"} 1"#,
            r#"{policy="trial",outcome="shadow_admitted"} 2"#,
            r#"{policy="trial",outcome="shadow_unchecked"} 1"#,
            r#"{policy="trial",outcome="would_refuse"} 3"#,
        ]
    );
}
