//! The events of `RUST_LOG=rate_limit_layer=debug`, and the counts. An identity is never told.

use std::convert::Infallible;

use http::{Request, Response};
use layer_store::{
    Effect, ErrorKind, MemoryStore, SharedStore,
    conformance::{FaultInjector, Logs},
};
use rate_limit_layer::{KeyExtractor, Limiter, Quota, RateLimitLayer, header};
use tower::{Layer, ServiceExt, service_fn};

const SECRET: &str = "ada@example.org";

fn failing() -> SharedStore {
    let store = FaultInjector::new(MemoryStore::new());
    store.fail(ErrorKind::Corrupt, Effect::NotApplied);
    store.into()
}

async fn send(layer: &RateLimitLayer, request: Request<()>) -> u16 {
    let hello = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });
    let response = layer.layer(hello).oneshot(request).await.unwrap();
    response.status().as_u16()
}

fn of_ada() -> Request<()> {
    let request = Request::builder().header("x-user", SECRET);
    request.body(()).expect("it is a request")
}

#[tokio::test]
async fn a_refusal_tells_its_policy_its_limit_its_cost_and_the_wait() {
    let logs = Logs::debug("rate_limit_layer");
    let quota = Quota::per_hour(3).burst(4);
    let policy = quota.by(header("x-user")).fail_closed().name("sms");
    let layer = RateLimitLayer::new(MemoryStore::new(), policy).cost(4);
    assert_eq!(send(&layer, of_ada()).await, 200);
    assert_eq!(logs.take(), [""; 0], "an admitted request tells nothing");
    assert_eq!(send(&layer, of_ada()).await, 429);
    let lines = logs.take();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let told = "rate limit refused policy=sms limit=3/h;b=4 cost=4 retry_after_s=4";
    assert!(lines[0].starts_with(told), "{lines:?}");
    assert!(!lines[0].contains(SECRET), "{lines:?}");
}

#[tokio::test]
async fn a_limiter_without_http_tells_the_same() {
    let logs = Logs::debug("rate_limit_layer");
    let hourly = Quota::per_hour(1).fail_open();
    let limiter = Limiter::new(MemoryStore::new(), hourly).and(Quota::per_day(9).fail_open());
    for _ in 0..2 {
        let _ = limiter.check(SECRET).await;
    }
    let lines = logs.take();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let told = "rate limit refused policy=1/h limit=1/h cost=1 retry_after_s=3599.9";
    assert!(lines[0].starts_with(told), "{lines:?}");
    assert!(!lines[0].contains(SECRET), "{lines:?}");
}

#[tokio::test]
async fn a_failed_check_tells_its_cause_and_what_became_of_the_request() {
    let logs = Logs::debug("rate_limit_layer");
    for (policy, outcome, status) in [
        (Quota::per_hour(1).fail_open(), "failed_open", 200),
        (Quota::per_hour(1).fail_closed(), "failed_closed", 503),
    ] {
        let layer = RateLimitLayer::new(failing(), policy.by(header("x-user")));
        assert_eq!(send(&layer, of_ada()).await, status);
        let lines = logs.take();
        let told = format!(
            "rate limit not checked policy=1/h outcome={outcome} kind=corrupt \
             error=the stored value or the reply is not readable"
        );
        assert_eq!(lines[0], told);
        assert!(!lines.concat().contains(SECRET), "{lines:?}");
    }
}

#[tokio::test]
async fn a_request_without_an_identity_tells_why_it_is_refused() {
    let logs = Logs::debug("rate_limit_layer");
    let policy = Quota::per_hour(1).by(header("x-user").or_refuse());
    let layer = RateLimitLayer::new(MemoryStore::new(), policy.fail_open());
    assert_eq!(send(&layer, Request::new(())).await, 400);
    assert_eq!(logs.take(), ["rate limit refused reason=no_identity"]);
}

#[cfg(feature = "metrics")]
#[tokio::test]
async fn decisions_are_counted_by_policy_and_outcome() {
    use metrics_exporter_prometheus::PrometheusBuilder;

    let recorder = PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let by_user = || Quota::per_hour(2).by(header("x-user"));
    let one = RateLimitLayer::new(MemoryStore::new(), by_user().fail_open().name("one"));
    let two = RateLimitLayer::new(MemoryStore::new(), by_user().fail_open().name("a"))
        .and(Quota::per_day(9).by(header("x-user")).fail_open().name("b"));
    let open = RateLimitLayer::new(failing(), by_user().fail_open().name("open"));
    let closed = RateLimitLayer::new(failing(), by_user().fail_closed().name("closed"));
    for layer in [one, two, open, closed] {
        for _ in 0..3 {
            send(&layer, of_ada()).await;
        }
    }
    let text = recorder.handle().render();
    let mut lines: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("rate_limit_decisions_total"))
        .collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            r#"{policy="a",outcome="admitted"} 2"#,
            r#"{policy="a",outcome="refused"} 1"#,
            r#"{policy="b",outcome="admitted"} 2"#,
            r#"{policy="closed",outcome="failed_closed"} 3"#,
            r#"{policy="one",outcome="admitted"} 2"#,
            r#"{policy="one",outcome="refused"} 1"#,
            r#"{policy="open",outcome="failed_open"} 3"#,
        ]
    );
    assert!(!text.contains(SECRET), "{text}");
}
