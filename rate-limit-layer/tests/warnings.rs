//! Each mistake that is warned of, as a user makes it: one event with a code and a page, and none where nothing is wrong.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use axum::{Router, body::Body, routing::get};
use http::{Request, StatusCode};
use layer_store::{MemoryStore, SharedStore, conformance::Logs};
use rate_limit_layer::{ClientIp, Limiter, PeerAddr, PeerIp, Quota, RateLimitLayer};
use tower::ServiceExt;

fn store() -> SharedStore {
    SharedStore::new(MemoryStore::new())
}

fn logs() -> Logs {
    Logs::at(tracing::Level::WARN, "rate_limit_layer")
}

/// The codes of the warnings since the last time.
fn codes(logs: &Logs) -> Vec<String> {
    let lines = logs.take().into_iter();
    lines
        .map(|line| {
            let (_, code) = line.split_once("code=").unwrap();
            let (code, rest) = code.split_once(' ').unwrap();
            let help = format!(
                "help=https://docs.rs/rate-limit-layer/latest/rate_limit_layer/warnings/#{code} "
            );
            assert!(format!("{rest} ").contains(&help), "{line}");
            code.to_owned()
        })
        .collect()
}

fn request(path: &str) -> Request<Body> {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    let peer = PeerAddr(([10, 0, 0, 1], 1).into());
    request.extensions_mut().insert(peer);
    request
}

async fn ask(app: &Router, request: Request<Body>) -> StatusCode {
    app.clone().oneshot(request).await.unwrap().status()
}

#[tokio::test]
async fn unnamed_equal_quotas_of_two_layers_share_their_bucket() {
    let logs = logs();
    let store = store();
    let limit = || RateLimitLayer::new(store.clone(), Quota::per_minute(5).fail_open());
    let app = Router::new()
        .route("/login", get(|| async {}).layer(limit()))
        .route("/search", get(|| async {}).layer(limit()));
    assert_eq!(codes(&logs), ["shared-bucket"]);
    for _ in 0..5 {
        assert_eq!(ask(&app, request("/search")).await, StatusCode::OK);
    }
    let login = ask(&app, request("/login")).await;
    assert_eq!(login, StatusCode::TOO_MANY_REQUESTS);
    let _third = limit();
    assert_eq!(codes(&logs), [""; 0], "once for each bucket");
}

#[test]
fn names_other_quotas_other_stores_and_clones_are_not_warned_of() {
    let logs = logs();
    let (store, quota) = (store(), Quota::per_minute(6).fail_open());
    let one = RateLimitLayer::new(store.clone(), quota.clone().name("login"));
    let named = RateLimitLayer::new(store.clone(), quota.clone().name("login"));
    let other = RateLimitLayer::new(store.clone(), quota.clone());
    let clone = other.clone();
    let handle = clone.handle();
    let two = RateLimitLayer::new(store.clone(), Quota::per_minute(7).fail_open());
    let apart = RateLimitLayer::new(self::store(), quota.clone());
    assert_eq!(codes(&logs), [""; 0]);
    drop((one, named, other, clone, handle, two, apart));
    // The one before is gone.
    let again = RateLimitLayer::new(store, quota);
    assert_eq!(codes(&logs), [""; 0]);
    drop(again);
}

#[test]
fn a_second_policy_of_a_layer_is_warned_of_too() {
    let logs = logs();
    let (store, daily) = (store(), Quota::per_day(9).fail_open());
    let one = Limiter::new(store.clone(), Quota::per_minute(8).fail_open()).and(daily.clone());
    let two = Limiter::new(store, daily);
    assert_eq!(codes(&logs), ["shared-bucket"]);
    drop((one, two));
}

#[tokio::test]
async fn a_layer_on_the_router_and_its_clone_on_a_route_charge_twice() {
    let logs = logs();
    let limit = RateLimitLayer::new(store(), Quota::per_minute(10).fail_open());
    let app = Router::new()
        .route("/login", get(|| async {}).layer(limit.clone()))
        .route("/search", get(|| async {}))
        .layer(limit.clone());
    assert_eq!(ask(&app, request("/search")).await, StatusCode::OK);
    assert_eq!(codes(&logs), [""; 0]);
    for _ in 0..3 {
        assert_eq!(ask(&app, request("/login")).await, StatusCode::OK);
    }
    assert_eq!(codes(&logs), ["charged-twice"]);
    let peer: std::net::IpAddr = [10, 0, 0, 1].into();
    let standing = limit.handle().peek(peer).await.unwrap();
    assert_eq!(standing[0].remaining(), 3);
}

#[tokio::test]
async fn a_server_that_does_not_tell_the_peer_is_told_of_once() {
    let logs = logs();
    let limit = RateLimitLayer::new(store(), Quota::per_minute(11).fail_open());
    let app = Router::new().route("/", get(|| async {})).layer(limit);
    for _ in 0..3 {
        let request = Request::get("/").body(Body::empty()).unwrap();
        assert_eq!(ask(&app, request).await, StatusCode::OK);
    }
    assert_eq!(codes(&logs), ["no-peer"]);
}

#[tokio::test]
async fn forwarded_requests_that_are_counted_by_the_peer_are_told_of_once() {
    let logs = logs();
    let quota = Quota::per_minute(100).fail_open();
    for (policy, expected) in [
        (quota.clone(), &["untrusted-forwarding"][..]),
        (quota.clone().by(PeerIp), &[]),
        (quota.by(ClientIp::behind(["10.0.0.0/8"])), &[]),
    ] {
        let limit = RateLimitLayer::new(store(), policy);
        let app = Router::new().route("/", get(|| async {})).layer(limit);
        for _ in 0..20 {
            let mut request = request("/");
            let client = "203.0.113.9".parse().unwrap();
            request.headers_mut().insert("x-forwarded-for", client);
            assert_eq!(ask(&app, request).await, StatusCode::OK);
        }
        assert_eq!(codes(&logs), expected);
    }
}

#[tokio::test]
async fn a_limiter_that_is_made_for_each_request_is_told_of_once() {
    let logs = logs();
    let app = Router::new().route(
        "/",
        get(|| async {
            let sms = Limiter::new(store(), Quota::per_hour(1).fail_open().name("sms"));
            sms.check("+44").await.is_admitted().to_string()
        }),
    );
    for _ in 0..250 {
        assert_eq!(ask(&app, request("/")).await, StatusCode::OK);
    }
    assert_eq!(codes(&logs), ["limiter-per-request"]);
}
