//! Requests that are refused before a handler runs.

use std::time::Duration;

use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use layer_store::{IdentityRef, Key, KeySpace, StoreExt, Ttl, Value};
use tower::ServiceExt;

use super::{Handler, both, created, record_name_of, send};
use crate::{
    IdempotencyRefusal,
    testing::{CX, World, post, problem, settle, text, worlds},
};

#[tokio::test(start_paused = true)]
async fn a_key_that_comes_with_another_request_is_refused_during_the_run_and_after() {
    for world in worlds() {
        for layer in both(&world) {
            let handler = Handler::new();
            let service = handler.under(&layer, async |_, _| {
                tokio::time::sleep(Duration::from_secs(1)).await;
                created("done")
            });
            let key = layer_store::conformance::unique();
            let first = tokio::spawn(service.clone().oneshot(post(&key, "car 7")));
            settle().await;
            for _ in 0..2 {
                let reused = send(&service, post(&key, "car 7\0")).await;
                assert_eq!(reused.status(), StatusCode::UNPROCESSABLE_ENTITY);
                assert_eq!(
                    reused.extensions().get(),
                    Some(&IdempotencyRefusal::KeyReused)
                );
                assert_eq!(problem(reused).await, "key-reused");
                world.pass(Duration::from_secs(2)).await;
            }
            first.await.unwrap().unwrap();
            assert_eq!(handler.runs(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_or_impossible_key_is_refused_without_asking_the_store() {
    let world = World::near();
    for layer in both(&world) {
        let handler = Handler::new();
        let service = handler.counting(&layer);
        let missing = Request::post("/bookings").body(Full::default()).unwrap();
        let mut twice = post("1", "");
        twice
            .headers_mut()
            .append("idempotency-key", HeaderValue::from_static("1"));
        for (request, expected) in [
            (missing, "key-missing"),
            (twice, "key-invalid"),
            (post(&"k".repeat(256), ""), "key-invalid"),
            (post(&"k".repeat(10_000_000), ""), "key-invalid"),
            (post("a b", ""), "key-invalid"),
            (post("\"open", ""), "key-invalid"),
        ] {
            let response = send(&service, request).await;
            assert_eq!(response.status(), StatusCode::BAD_REQUEST);
            assert_eq!(problem(response).await, expected);
        }
        assert_eq!(handler.runs(), 0);
        assert!(world.fault_injector.calls().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_handed_on_whole_and_one_too_long_is_refused() {
    let world = World::near();
    let [layer, _] = both(&world);
    let layer = layer.max_request_body(10);
    let handler = Handler::new();
    let service = handler.under(&layer, async |_, request| {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        created(str::from_utf8(&body).unwrap())
    });
    let first = send(&service, post("1", "1234567890")).await;
    assert_eq!(text(first).await, "1234567890");
    let refused = send(&service, post("2", "12345678901")).await;
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(problem(refused).await, "body-too-large");
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_record_cannot_be_read_is_not_run() {
    let world = World::near();
    let [layer, _] = both(&world);
    let handler = Handler::new();
    let service = handler.counting(&layer);
    let request = post("1", "");
    let name = record_name_of(&request);
    let space = KeySpace::new("record", "http");
    let key = Key::new(&space, IdentityRef::Text(name.as_bytes()));
    let ttl = Ttl::from_millis(60_000).unwrap();
    world
        .store()
        .put(&CX, &key, &Value::from("2 of another version"), ttl)
        .await
        .unwrap();
    assert_eq!(
        problem(send(&service, request).await).await,
        "outcome-unknown"
    );
    assert_eq!(handler.runs(), 0);
}
