//! The balance of a request, for its handler and for the callers of a limiter.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::time::Duration;

use axum::{Router, body::Body, routing::get};
use http::{Request, Response};
use http_body_util::BodyExt;
use layer_store::{Clock, Effect, ErrorKind, MemoryStore, SharedStore, conformance::FaultInjector};
use rate_limit_layer::{KeyExtractor, Limiter, Quota, RateLimitLayer, Standing, header};
use tower::ServiceExt;

async fn balance(standing: Option<Standing>) -> String {
    match standing {
        Some(standing) => format!("{} of {}", standing.remaining(), standing.policy()),
        None => "none".into(),
    }
}

async fn ask(layer: &RateLimitLayer) -> (Response<()>, String) {
    let app: Router = Router::new().route("/", get(balance)).layer(layer.clone());
    let request = Request::get("/").header("x-user", "ada");
    let response = app
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    (Response::from_parts(parts, ()), text)
}

fn layer(store: impl Into<SharedStore>) -> RateLimitLayer {
    RateLimitLayer::new(store, Quota::per_hour(3).fail_open())
}

#[tokio::test]
async fn a_handler_sees_the_standing_where_that_is_switched_on() {
    let layer = layer(MemoryStore::new());
    assert_eq!(ask(&layer).await.1, "none");
    let layer = layer.standing(true);
    let (response, text) = ask(&layer).await;
    assert_eq!(text, "1 of 3/h");
    assert!(response.headers().contains_key("ratelimit"));
    assert_eq!(ask(&layer.standing(false)).await.1, "none");
}

#[tokio::test]
async fn the_standing_needs_no_headers_and_the_headers_no_standing() {
    let layer = layer(MemoryStore::new());
    for (layer, standing) in [
        (layer.clone().standing(true).headers(false), true),
        (layer.clone().headers(false).standing(true), true),
        (layer.clone().headers(false).standing(false), false),
    ] {
        let (response, text) = ask(&layer).await;
        assert!(!response.headers().contains_key("ratelimit"));
        assert_eq!(text != "none", standing);
        layer.handle().reset("ada").await.unwrap();
    }
    let both = layer.standing(true).headers(false).headers(true);
    let by_user = Quota::per_hour(9).by(header("x-user")).fail_open();
    let both = both.standing(false).standing(true).and(by_user);
    let text = format!("{both:?}");
    assert!(text.contains("headers: true, standing: true"), "{text}");
}

#[tokio::test]
async fn any_way_through_the_check_gives_the_standing() {
    let by_user = || Quota::per_hour(3).by(header("x-user")).fail_open();
    let networked = || FaultInjector::new(MemoryStore::new()).networked();
    for layer in [
        RateLimitLayer::new(MemoryStore::new(), by_user()),
        RateLimitLayer::new(networked(), by_user()),
        layer(MemoryStore::new()).and(Quota::per_hour(9).fail_open()),
        layer(networked()).and(by_user().name("user")),
    ] {
        let (_, text) = ask(&layer.standing(true)).await;
        assert_eq!(text, "2 of 3/h");
    }
}

#[tokio::test]
async fn a_request_that_was_not_checked_has_no_standing() {
    let down = FaultInjector::new(MemoryStore::new());
    down.fail(ErrorKind::Unavailable, Effect::NotApplied);
    let skipped = Quota::per_hour(3)
        .by(header("x-other").or_skip())
        .fail_open();
    for layer in [
        layer(down),
        layer(MemoryStore::new()).enabled(false),
        RateLimitLayer::new(MemoryStore::new(), skipped),
    ] {
        let (response, text) = ask(&layer.standing(true)).await;
        assert_eq!(text, "none");
        assert!(!response.headers().contains_key("ratelimit"));
    }
}

#[tokio::test]
async fn a_standing_tells_what_is_left_and_when_all_is_back() {
    let (clock, hand) = Clock::manual(1_767_225_600_000_042);
    let store = MemoryStore::with_clock(1_000, clock);
    let quota = Quota::per_minute(6).burst(3);
    let limiter = Limiter::new(store, quota.name("a").fail_open());
    let _ = limiter.check_cost("ada", 2).await.unwrap();
    hand.advance(Duration::from_micros(1));
    let standings = limiter.peek("ada").await.unwrap();
    let [standing] = &standings[..] else {
        panic!("one policy");
    };
    assert_eq!((standing.policy(), standing.quota()), ("a", quota));
    assert_eq!(standing.remaining(), 1);
    assert_eq!(standing.reset_after(), Duration::from_micros(19_999_999));
    assert_eq!(
        format!("{standing:?}"),
        r#"Standing { policy: "a", remaining: 1, reset_after: 19.999999s }"#
    );
}
