//! Refusals as the owner of a layer wants them, and the fields that clients of old read.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::{convert::Infallible, time::Duration};

use axum::body::Body;
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use layer_store::{
    Clock, Effect, ErrorKind, MemoryStore, SharedStore,
    conformance::{Fault, FaultInjector},
};
use rate_limit_layer::{
    Content, KeyExtractor, Quota, RateLimitLayer, RateLimitRefusal, Unavailable, header,
};
use tower::{Layer, ServiceExt, service_fn};

type Answer = Response<layer_http::Body<Body>>;

async fn ask(layer: &RateLimitLayer, path: &str) -> Answer {
    let hello = service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(Response::new(Body::from("hello")))
    });
    let request = Request::get(path).body(Body::empty()).unwrap();
    layer.layer(hello).oneshot(request).await.unwrap()
}

async fn body(response: Answer) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn numbers(response: &Answer) -> Option<[&str; 3]> {
    let number = |name: &str| response.headers().get(name)?.to_str().ok();
    Some([
        number("x-ratelimit-limit")?,
        number("x-ratelimit-remaining")?,
        number("x-ratelimit-reset")?,
    ])
}

fn on_a_stopped_clock() -> SharedStore {
    let (clock, _) = Clock::manual(1_767_225_600_000_042);
    SharedStore::new(MemoryStore::with_clock(100, clock))
}

#[tokio::test]
async fn a_client_of_grpc_gets_the_fields_and_a_refusal_of_grpc() {
    let policy = Quota::per_minute(1).fail_open();
    let layer = RateLimitLayer::new(on_a_stopped_clock(), policy)
        .legacy_headers(true)
        .on_refused(|_, _, response| {
            *response.status_mut() = StatusCode::IM_A_TEAPOT;
            *response.body_mut() = Content::new("too often");
            let one = HeaderValue::from_static("1");
            response.headers_mut().insert("x-own", one);
        });
    let call = || {
        let hello = service_fn(|_: Request<Body>| async {
            Ok::<_, Infallible>(Response::new(Body::from("hello")))
        });
        let request = Request::post("/a.B/C").header(CONTENT_TYPE, "application/grpc");
        layer
            .layer(hello)
            .oneshot(request.body(Body::empty()).unwrap())
    };
    call().await.unwrap();
    let refused = call().await.unwrap();
    assert_eq!(refused.status(), 200);
    assert_eq!(refused.headers()["grpc-status"], "8");
    assert_eq!(refused.headers()["x-own"], "1");
    assert_eq!(numbers(&refused), Some(["1", "0", "60"]));
    assert_eq!(body(refused).await, "");
}

#[tokio::test]
async fn a_refusal_keeps_what_is_not_changed() {
    let policy = Quota::per_minute(1).fail_open();
    let layer =
        RateLimitLayer::new(on_a_stopped_clock(), policy).on_refused(|refusal, head, response| {
            assert!(matches!(refusal, RateLimitRefusal::QuotaExceeded(_)));
            *response.status_mut() = StatusCode::IM_A_TEAPOT;
            *response.body_mut() = Content::new(format!("too often: {}", head.path()));
            let text = HeaderValue::from_static("text/plain");
            response.headers_mut().insert(CONTENT_TYPE, text);
            response
                .headers_mut()
                .insert("x-own", HeaderValue::from_static("1"));
        });
    assert_eq!(ask(&layer, "/cars").await.status(), 200);
    let refused = ask(&layer, "/cars").await;
    assert_eq!(refused.status(), StatusCode::IM_A_TEAPOT);
    for (name, value) in [
        ("content-type", "text/plain"),
        ("x-own", "1"),
        ("retry-after", "60"),
        ("ratelimit", "\"1/min\";r=0;t=60"),
        ("ratelimit-policy", "\"1/min\";q=1;w=60"),
    ] {
        assert_eq!(refused.headers()[name], value);
    }
    assert!(refused.extensions().get::<RateLimitRefusal>().is_some());
    assert_eq!(body(refused).await, "too often: /cars");
}

#[tokio::test]
async fn what_is_removed_is_gone_and_an_admitted_response_is_not_touched() {
    let policy = Quota::per_minute(1).fail_open();
    let layer = RateLimitLayer::new(MemoryStore::new(), policy)
        .legacy_headers(true)
        .on_refused(|_, _, response| *response = Response::new(Content::new("gone")));
    let admitted = ask(&layer, "/").await;
    assert!(numbers(&admitted).is_some());
    assert_eq!(body(admitted).await, "hello");
    let refused = ask(&layer, "/").await;
    assert!(refused.headers().is_empty());
    assert_eq!(
        (refused.status(), body(refused).await),
        (StatusCode::OK, "gone".into())
    );
}

/// 503 and 400 as well, over a store that has to be waited for too.
#[tokio::test]
async fn every_refusal_is_shown_with_its_reason() {
    let store = FaultInjector::new(MemoryStore::new()).networked();
    store.inject(Fault::Fail(ErrorKind::Unavailable, Effect::NotApplied));
    let down = RateLimitLayer::new(SharedStore::new(store), Quota::per_hour(1).fail_closed());
    let by = header("x-user").or_refuse();
    let nobody = RateLimitLayer::new(MemoryStore::new(), Quota::per_hour(1).fail_open().by(by));
    let changed = |layer: RateLimitLayer| {
        layer.on_refused(|refusal, _, response| {
            *response.status_mut() = match refusal {
                RateLimitRefusal::Unavailable(Unavailable::StoreDown) => StatusCode::BAD_GATEWAY,
                RateLimitRefusal::NoIdentity => StatusCode::UNAUTHORIZED,
                other => panic!("{other:?}"),
            };
        })
    };
    let unavailable = ask(&changed(down), "/").await;
    assert_eq!(unavailable.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(unavailable.headers()["retry-after"], "1");
    let refused = ask(&changed(nobody), "/").await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_old_fields_are_sent_only_if_asked_for() {
    let policy = || Quota::per_minute(60).burst(2).fail_open();
    let without = RateLimitLayer::new(on_a_stopped_clock(), policy());
    assert_eq!(numbers(&ask(&without, "/").await), None);

    for headers in [true, false] {
        let layer = RateLimitLayer::new(on_a_stopped_clock(), policy())
            .headers(headers)
            .legacy_headers(true);
        let admitted = ask(&layer, "/").await;
        assert_eq!(numbers(&admitted), Some(["2", "1", "1"]));
        assert_eq!(admitted.headers().contains_key("ratelimit"), headers);
        assert_eq!(numbers(&ask(&layer, "/").await), Some(["2", "0", "2"]));
        let refused = ask(&layer, "/").await;
        assert_eq!(refused.status(), 429);
        assert_eq!(numbers(&refused), Some(["2", "0", "1"]));
        assert_eq!(refused.headers().contains_key("ratelimit"), headers);
    }
}

#[tokio::test]
async fn the_old_fields_tell_of_the_tightest_policy() {
    let (clock, hand) = Clock::manual(1_767_225_600_000_042);
    let layer = RateLimitLayer::new(
        MemoryStore::with_clock(100, clock),
        Quota::per_minute(60).burst(10).fail_open(),
    )
    .and(Quota::per_hour(3).fail_open())
    .headers(false)
    .legacy_headers(true);
    assert_eq!(numbers(&ask(&layer, "/").await), Some(["3", "2", "2400"]));
    hand.advance(Duration::from_secs(2_400));
    for _ in 0..3 {
        assert_eq!(ask(&layer, "/").await.status(), 200);
    }
    let refused = ask(&layer, "/").await;
    assert_eq!(numbers(&refused), Some(["3", "0", "1200"]));
}
