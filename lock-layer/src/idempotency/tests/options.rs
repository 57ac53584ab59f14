//! Idempotency for an API that has clients already: where keys come from, what counts, what is kept, and who waits.

use std::time::Duration;

use http::{HeaderValue, Request, StatusCode};
use http_body_util::Full;
use layer_store::{Identity, IdentityRef, Key, KeySpace, StoreExt};
use tokio::time::Instant;
use tower::ServiceExt;

use super::{Handler, both, created, is_replay, record_name_of, send, status};
use crate::{
    IdempotencyContext, IdempotencyRefusal, PayloadRule, ReplayHeaders, RunOutcome,
    testing::{CX, World, post, problem, settle, text, worlds},
};

fn keyless() -> Request<Full<bytes::Bytes>> {
    Request::post("/bookings")
        .body(Full::from("car 7"))
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn without_a_key_that_is_optional_the_request_runs_as_if_there_were_no_layer() {
    let world = World::near();
    for layer in both(&world) {
        let handler = Handler::new();
        let service = handler.counting(&layer.optional_key());
        for run in ["run 1", "run 2"] {
            assert_eq!(text(send(&service, keyless()).await).await, run);
        }
        assert!(world.fault_injector.take_calls().is_empty());
        let key = layer_store::conformance::unique();
        send(&service, post(&key, "")).await;
        assert!(is_replay(&send(&service, post(&key, "")).await));
        // A key that is there has to be a key.
        let invalid = send(&service, post("a b", "")).await;
        assert_eq!(problem(invalid).await, "key-invalid");
        world.fault_injector.take_calls();
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_comes_from_another_header_or_from_the_head() {
    let world = World::near();
    let [layer, _] = both(&world);
    let handler = Handler::new();
    let by_header = handler.counting(&layer.clone().key_header("x-request-id"));
    let with_id = |id: &str| {
        let mut request = keyless();
        let id = HeaderValue::from_str(id).unwrap();
        request.headers_mut().insert("x-request-id", id);
        request
    };
    assert!(!is_replay(&send(&by_header, with_id("1")).await));
    assert!(is_replay(&send(&by_header, with_id("1")).await));
    assert_eq!(
        problem(send(&by_header, post("1", "")).await).await,
        "key-missing"
    );

    let derived = layer.key(|head| {
        let id = head.headers.get("x-request-id")?.as_bytes();
        Some(Identity::from([b"event ", id].concat()))
    });
    let by_head = handler.counting(&derived);
    assert!(!is_replay(&send(&by_head, with_id("1")).await));
    assert!(is_replay(&send(&by_head, with_id("1")).await));
    assert_eq!(
        problem(send(&by_head, keyless()).await).await,
        "key-missing"
    );
    assert_eq!(handler.runs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_of_another_format_is_refused() {
    let world = World::near();
    let [layer, _] = both(&world);
    let handler = Handler::new();
    let service = handler.counting(&layer.key_format(|key| key.parse::<u32>().is_ok()));
    assert_eq!(
        send(&service, post("7", "")).await.status(),
        StatusCode::CREATED
    );
    assert_eq!(
        problem(send(&service, post("seven", "")).await).await,
        "key-invalid"
    );
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_counts_of_a_payload_is_a_choice() {
    let world = World::near();
    for layer in both(&world) {
        let handler = Handler::new();
        let service = handler.counting(&layer.payload(PayloadRule::json_fields(["car"])));
        let key = layer_store::conformance::unique();
        send(&service, post(&key, r#"{"car": 7, "at": 1}"#)).await;
        let again = send(&service, post(&key, r#"{"at": 2, "car": 7}"#)).await;
        assert!(is_replay(&again));
        let other = send(&service, post(&key, r#"{"car": 8, "at": 1}"#)).await;
        assert_eq!(problem(other).await, "key-reused");
        assert_eq!(handler.runs(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_reaches_its_client_and_not_the_store() {
    let world = World::near();
    for layer in both(&world) {
        let handler = Handler::new();
        let service = handler.under(&layer, async |_, _| {
            let mut response = created("the secret");
            let outcome = RunOutcome::ExecutedNotKept;
            response.extensions_mut().insert(outcome);
            response
        });
        let key = layer_store::conformance::unique();
        let first = send(&service, post(&key, "")).await;
        assert_eq!(text(first).await, "the secret");
        let again = send(&service, post(&key, "")).await;
        let status = StatusCode::CREATED;
        let refusal = IdempotencyRefusal::BodyNotKept { status };
        assert_eq!(again.extensions().get(), Some(&refusal));
        assert_eq!(handler.runs(), 1);
        let name = record_name_of(&post(&key, ""));
        let space = KeySpace::new("record", "http");
        let record = Key::new(&space, IdentityRef::Text(name.as_bytes()));
        let record = world.store().get(&CX, &record).await.unwrap().unwrap();
        assert_eq!(record.to_bytes().len(), 49);
    }
}

#[tokio::test(start_paused = true)]
async fn the_headers_of_a_replay_are_a_choice() {
    let world = World::near();
    let [layer, _] = both(&world);
    let headers = ReplayHeaders::only(["set-cookie"]);
    let service = Handler::new().counting(&layer.replay_headers(headers));
    send(&service, post("1", "")).await;
    let replay = send(&service, post("1", "")).await;
    assert!(is_replay(&replay));
    assert_eq!(replay.headers()["set-cookie"], "session=ada");
    assert!(!replay.headers().contains_key("location"));
}

#[tokio::test(start_paused = true)]
async fn a_handler_reads_its_key_its_record_and_its_attempt() {
    for world in worlds() {
        let [_, layer] = both(&world);
        let handler = Handler::new();
        let service = handler.under(&layer, async |run, request| {
            let context = request.extensions().get::<IdempotencyContext>().unwrap();
            assert_eq!(format!("{context:?}"), "IdempotencyContext { .. }");
            let said = [context.key(), context.record(), context.attempt()].join(" ");
            let mut response = created(&said);
            if run == 1 {
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            }
            response
        });
        let key = layer_store::conformance::unique();
        let mut said = Vec::new();
        for _ in 0..2 {
            let response = text(send(&service, post(&key, "")).await).await;
            said.push(response.split(' ').map(str::to_owned).collect::<Vec<_>>());
        }
        assert_eq!(said[0][..2], said[1][..2]);
        assert_eq!(said[0][0], key);
        let record = record_name_of(&post(&key, ""));
        assert_eq!(said[0][1].as_bytes(), record.as_bytes());
        assert_ne!(said[0][2], said[1][2], "another attempt");
        assert!(said.iter().all(|words| words[2].len() == 22));
    }
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn an_axum_handler_takes_its_context_or_tells_what_is_missing() {
    use axum::{Router, body::Body, routing::post};

    let world = World::near();
    let [layer, _] = both(&world);
    let handler = async |run: IdempotencyContext| run.key().to_owned();
    let optional = async |run: Option<IdempotencyContext>| run.is_some().to_string();
    let app = Router::new()
        .route("/with", post(handler).layer(layer))
        .route("/without", post(handler))
        .route("/optional", post(optional));
    for (path, status, body) in [
        ("/with", 200, "k"),
        ("/without", 500, "this handler takes an IdempotencyContext"),
        ("/optional", 200, "false"),
    ] {
        let request = Request::post(path).header("idempotency-key", "k");
        let request = request.body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert!(text(response).await.starts_with(body), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_repetitions_wait_for_the_first_and_get_its_response() {
    for world in worlds() {
        for layer in both(&world) {
            let handler = Handler::new();
            let layer = layer.wait(Duration::from_secs(5));
            let service = handler.under(&layer, async |run, _| {
                tokio::time::sleep(Duration::from_secs(2)).await;
                created(&format!("run {run}"))
            });
            let key = layer_store::conformance::unique();
            let begun = Instant::now();
            let mut all = tokio::task::JoinSet::new();
            for _ in 0..100 {
                let (service, request) = (service.clone(), post(&key, "car 7"));
                all.spawn(async move { service.oneshot(request).await.unwrap() });
            }
            for response in all.join_all().await {
                assert_eq!(text(response).await, "run 1");
            }
            // A hint wakes them, and no timer.
            assert_eq!(begun.elapsed(), Duration::from_secs(2));
            assert_eq!(handler.runs(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_repetition_waits_only_so_long_and_only_for_its_own_payload() {
    let world = World::far();
    for layer in both(&world) {
        let handler = Handler::new();
        let service = handler.under(&layer.wait(Duration::from_secs(5)), async |_, _| {
            tokio::time::sleep(Duration::from_secs(9)).await;
            created("done")
        });
        let key = layer_store::conformance::unique();
        let first = tokio::spawn(service.clone().oneshot(post(&key, "car 7")));
        settle().await;
        let begun = Instant::now();
        let other = send(&service, post(&key, "car 8")).await;
        assert_eq!(problem(other).await, "key-reused");
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let again = send(&service, post(&key, "car 7")).await;
        assert_eq!(problem(again).await, "in-progress");
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
        first.await.unwrap().unwrap();
        assert_eq!(handler.runs(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_repetition_may_wait_without_end() {
    for world in worlds() {
        for layer in both(&world) {
            let handler = Handler::new();
            let service = handler.under(&layer.wait(Duration::MAX), async |run, _| {
                tokio::time::sleep(Duration::from_secs(2)).await;
                created(&format!("run {run}"))
            });
            let key = layer_store::conformance::unique();
            let first = tokio::spawn(service.clone().oneshot(post(&key, "")));
            settle().await;
            assert_eq!(text(send(&service, post(&key, "")).await).await, "run 1");
            first.await.unwrap().unwrap();
        }
    }
}

/// A service that stops waits for runs, and not for those who wait for them. A client that leaves waits no longer.
#[tokio::test(start_paused = true)]
async fn a_repetition_that_waits_is_no_run_and_ends_with_its_client() {
    for world in worlds() {
        for layer in both(&world) {
            let layer = layer.wait(Duration::from_secs(60));
            let service = Handler::new().under(&layer, async |_, _| {
                tokio::time::sleep(Duration::from_secs(9)).await;
                created("done")
            });
            let key = layer_store::conformance::unique();
            let first = tokio::spawn(service.clone().oneshot(post(&key, "")));
            settle().await;
            let waits = tokio::spawn(service.clone().oneshot(post(&key, "")));
            settle().await;
            assert_eq!(layer.tracker().running(), 1);
            waits.abort();
            settle().await;
            world.fault_injector.take_calls();
            world.pass(Duration::from_secs(5)).await;
            let calls = world.fault_injector.take_calls();
            assert!(!calls.contains(&"get"), "nobody looks: {calls:?}");
            world.pass(Duration::from_secs(5)).await;
            first.await.unwrap().unwrap();
        }
    }
}

/// A run that did nothing leaves no record. Who waited for it is told to try again, and does not run.
#[tokio::test(start_paused = true)]
async fn a_repetition_that_waited_for_nothing_may_try_again() {
    let world = World::far();
    for layer in both(&world) {
        let handler = Handler::new();
        let service = handler.under(&layer.wait(Duration::from_secs(5)), async |_, _| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            status(StatusCode::TOO_MANY_REQUESTS)
        });
        let key = layer_store::conformance::unique();
        let first = tokio::spawn(service.clone().oneshot(post(&key, "")));
        settle().await;
        let begun = Instant::now();
        let again = send(&service, post(&key, "")).await;
        assert_eq!(problem(again).await, "in-progress");
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
        first.await.unwrap().unwrap();
        assert_eq!(handler.runs(), 1);
    }
}
