//! The events of `RUST_LOG=lock_layer=debug`, and the counts. A key, a client or a unit is never told.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use layer_store::{
    Effect, ErrorKind, MemoryStore, SharedStore,
    conformance::{FaultInjector, Logs},
};
use lock_layer::{
    ClientScope, IdempotencyLayer, KeyExtractor, LockLayer, Locks, PeerAddr, PeerIp, header,
};
use tower::{Layer, ServiceExt, service_fn};

const SECRET: &str = "secret-of-ada";

fn memory() -> SharedStore {
    MemoryStore::new().into()
}

fn failing() -> SharedStore {
    let store = FaultInjector::new(MemoryStore::new());
    store.fail(ErrorKind::Rejected, Effect::NotApplied);
    store.into()
}

fn post(key: Option<&str>, body: &'static str) -> Request<Full<Bytes>> {
    let mut request = Request::post("/payments");
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let body = Full::from(body);
    request.body(body).expect("it is a request")
}

async fn pay(layer: &IdempotencyLayer, request: Request<Full<Bytes>>) -> u16 {
    let handler = service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("paid")))
    });
    let response = layer.layer(handler).oneshot(request).await.unwrap();
    response.status().as_u16()
}

/// Compares the lines. The times in them are cut.
#[track_caller]
fn check(logs: &Logs, expected: &[&str]) {
    let lines = logs.take();
    let cut = |line: &String| match line.split_once(" took_s=") {
        Some((told, _)) => told.to_owned(),
        None => line.clone(),
    };
    assert_eq!(lines.iter().map(cut).collect::<Vec<_>>(), expected);
    assert!(!lines.concat().contains(SECRET), "{lines:?}");
}

fn at_most_once(store: SharedStore) -> IdempotencyLayer {
    IdempotencyLayer::at_most_once(store, ClientScope::global())
}

#[tokio::test]
async fn a_scope_that_names_nobody_warns_once_unless_that_was_said() {
    let logs = Logs::debug("lock_layer");
    let from_peer = || {
        let mut request = post(Some(SECRET), SECRET);
        let address = "192.0.2.7:1".parse().expect("it is an address");
        request.extensions_mut().insert(PeerAddr(address));
        request
    };
    let scopes = [
        ClientScope::of(header("x-user")),
        ClientScope::of(header("x-user")).or(PeerIp),
    ];
    for (scope, warnings) in scopes.into_iter().zip([1, 0]) {
        let layer = IdempotencyLayer::at_most_once(memory(), scope);
        for _ in 0..3 {
            assert_eq!(pay(&layer, from_peer()).await, 200);
        }
        let lines = logs.take();
        let warned = lines.iter().filter(|line| line.contains(".or(PeerIp)"));
        assert_eq!(warned.count(), warnings, "{lines:?}");
    }
}

#[tokio::test]
async fn a_run_a_replay_and_each_refusal_tell_what_they_are() {
    let logs = Logs::debug("lock_layer");
    let layer = at_most_once(memory());
    logs.take();
    assert_eq!(pay(&layer, post(Some(SECRET), SECRET)).await, 200);
    check(
        &logs,
        &[
            "idempotent run begins",
            "idempotent run ends outcome=recorded",
        ],
    );
    assert_eq!(pay(&layer, post(Some(SECRET), SECRET)).await, 200);
    check(&logs, &["idempotent request replayed status=200"]);
    assert_eq!(pay(&layer, post(Some(SECRET), "another")).await, 422);
    check(&logs, &["idempotent request refused reason=key_reused"]);
    assert_eq!(pay(&layer, post(None, SECRET)).await, 400);
    check(&logs, &["idempotent request refused reason=key_missing"]);
}

#[tokio::test]
async fn a_request_whose_first_is_running_tells_so() {
    let logs = Logs::debug("lock_layer");
    let layer = at_most_once(memory());
    logs.take();
    let (layer, again) = (layer.clone(), layer);
    let handler = service_fn(|_: Request<Full<Bytes>>| async {
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>().await
    });
    let first = tokio::spawn(layer.layer(handler).oneshot(post(Some(SECRET), SECRET)));
    while !logs.take().concat().contains("run begins") {
        tokio::task::yield_now().await;
    }
    assert_eq!(pay(&again, post(Some(SECRET), SECRET)).await, 409);
    check(&logs, &["idempotent request refused reason=in_progress"]);
    first.abort();
}

#[tokio::test]
async fn a_store_that_fails_tells_its_error() {
    let logs = Logs::debug("lock_layer");
    let layer = at_most_once(failing());
    let locks = Locks::new(failing());
    logs.take();
    assert_eq!(pay(&layer, post(Some(SECRET), SECRET)).await, 503);
    check(
        &logs,
        &[
            "an idempotency key could not be looked up kind=rejected error=the store rejected the operation",
            "idempotent request refused reason=store_unavailable",
        ],
    );
    assert!(locks.group(SECRET).try_acquire(SECRET).await.is_err());
    check(
        &logs,
        &[
            "lock not acquired reason=unavailable kind=rejected error=the store rejected the operation",
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_not_taken_tells_why_and_for_how_long() {
    let logs = Logs::debug("lock_layer");
    let locks = Locks::new(memory()).lease(Duration::from_secs(3600));
    logs.take();
    let group = locks.group(SECRET);
    let held = group.try_acquire([SECRET]).await.unwrap();
    assert!(group.try_acquire([SECRET]).await.is_err());
    let lines = logs.take();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let told = "lock not acquired reason=busy retry_after_s=3";
    assert!(lines[0].starts_with(told), "{lines:?}");
    assert!(!lines[0].contains(SECRET), "{lines:?}");
    held.release().await.unwrap();

    let none: [&str; 0] = [];
    assert!(group.try_acquire(none).await.is_err());
    check(&logs, &["lock not acquired reason=no_units"]);

    let layer = LockLayer::new(memory(), header("x-car").or_refuse());
    let handler = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });
    let refused = layer.layer(handler).oneshot(Request::new(()));
    assert_eq!(refused.await.unwrap().status(), 400);
    check(&logs, &["lock not acquired reason=key_not_found"]);
}

#[cfg(feature = "metrics")]
#[tokio::test]
async fn requests_and_locks_are_counted_by_outcome() {
    use metrics_exporter_prometheus::PrometheusBuilder;

    let recorder = PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let layer = at_most_once(memory());
    for _ in 0..3 {
        pay(&layer, post(Some(SECRET), SECRET)).await;
    }
    pay(&layer, post(None, SECRET)).await;
    let group = Locks::new(memory()).group(SECRET);
    let held = group.try_acquire(SECRET).await.unwrap();
    assert!(group.try_acquire(SECRET).await.is_err());
    held.release().await.unwrap();
    let text = recorder.handle().render();
    let mut lines: Vec<_> = text
        .lines()
        .filter(|line| line.contains("_total{"))
        .collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            r#"idempotency_requests_total{outcome="key_missing"} 1"#,
            r#"idempotency_requests_total{outcome="replayed"} 2"#,
            r#"idempotency_requests_total{outcome="run"} 1"#,
            r#"lock_acquisitions_total{outcome="acquired"} 1"#,
            r#"lock_acquisitions_total{outcome="busy"} 1"#,
        ]
    );
    assert!(!text.contains(SECRET), "{text}");
}
