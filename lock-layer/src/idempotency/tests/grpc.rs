//! Calls of gRPC: which of them need a key, how they are judged, and what they replay.

use std::future::ready;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use layer_store::Identity;

use super::{Frames, Guarded, Handler, LayerResponse, both, is_replay, send};
use crate::{
    IdempotencyLayer, IdempotencyRefusal, RunOutcome,
    testing::{World, worlds},
};

const BOOK: &str = "/cars.Cars/Book";
const MESSAGE: &[u8] = b"\0\0\0\0\x03car";

fn call(path: &str, key: Option<&str>, body: &'static [u8]) -> Request<Full<Bytes>> {
    let mut request = Request::post(path).header("content-type", "application/grpc");
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    request.body(Full::from(body)).unwrap()
}

/// A response with its code in the trailers, or in the headers.
fn reply(code: u8, in_trailers: bool) -> Response<Frames> {
    let code = code.to_string();
    let frames = match in_trailers {
        true => {
            let code = HeaderValue::from_str(&code).unwrap();
            let mut frames = Frames::of(&["\0\0\0\0\x06booked"]);
            let trailers = HeaderMap::from_iter([
                ("grpc-status".parse().unwrap(), code),
                (
                    "x-sum-bin".parse().unwrap(),
                    HeaderValue::from_static("/+8"),
                ),
            ]);
            frames
                .frames
                .push_back(http_body::Frame::trailers(trailers));
            frames
        }
        false => Frames::default(),
    };
    let mut response = Response::new(frames);
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    if !in_trailers {
        headers.insert("grpc-status", HeaderValue::from_str(&code).unwrap());
    }
    response
}

/// Reads a response to its end, so that its record is written.
async fn read(response: LayerResponse) -> (Bytes, Option<HeaderMap>) {
    let read = response.into_body().collect().await.unwrap();
    let trailers = read.trailers().cloned();
    (read.to_bytes(), trailers)
}

fn refusal(response: &LayerResponse) -> Option<IdempotencyRefusal> {
    response.extensions().get().copied()
}

fn counting(handler: &Handler, layer: &IdempotencyLayer) -> Guarded {
    handler.under(layer, async |_, _| reply(0, true))
}

#[tokio::test(start_paused = true)]
async fn a_replay_has_the_message_and_the_trailers_of_the_first_call() {
    for world in worlds() {
        for layer in both(&world) {
            let handler = Handler::new();
            let service = counting(&handler, &layer);
            let key = layer_store::conformance::unique();
            let first = send(&service, call(BOOK, Some(&key), MESSAGE)).await;
            assert!(!is_replay(&first));
            let first = read(first).await;
            assert_eq!(first.0, "\0\0\0\0\x06booked");
            assert_eq!(first.1.as_ref().unwrap()["x-sum-bin"], "/+8");
            let second = send(&service, call(BOOK, Some(&key), MESSAGE)).await;
            assert!(is_replay(&second));
            assert_eq!(read(second).await, first);
            assert_eq!(handler.runs(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_may_be_tried_again_runs_again_wherever_its_status_is() {
    for world in worlds() {
        for in_trailers in [true, false] {
            for (code, [once, safe]) in [
                (0, [1, 1]),
                (2, [1, 2]),
                (3, [1, 1]),
                (6, [1, 1]),
                (10, [1, 2]),
                (14, [2, 2]),
            ] {
                for (layer, runs) in both(&world).into_iter().zip([once, safe]) {
                    let handler = Handler::new();
                    let service =
                        handler.under(&layer, move |_, _| ready(reply(code, in_trailers)));
                    let key = layer_store::conformance::unique();
                    for _ in 0..2 {
                        read(send(&service, call(BOOK, Some(&key), MESSAGE)).await).await;
                    }
                    assert_eq!(handler.runs(), runs, "{code} {in_trailers} {layer:?}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_says_of_its_run_comes_before_its_code() {
    let world = World::near();
    let [_, layer] = both(&world);
    for (told, code, runs) in [
        (RunOutcome::Executed, 14, 1),
        (RunOutcome::NotExecuted, 0, 2),
    ] {
        let handler = Handler::new();
        let service = handler.under(&layer, move |_, _| {
            let mut response = reply(code, true);
            response.extensions_mut().insert(told);
            ready(response)
        });
        let key = layer_store::conformance::unique();
        for _ in 0..2 {
            read(send(&service, call(BOOK, Some(&key), MESSAGE)).await).await;
        }
        assert_eq!(handler.runs(), runs, "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_without_a_status_is_no_success() {
    let world = World::near();
    for (layer, runs) in both(&world).into_iter().zip([1, 2]) {
        let handler = Handler::new();
        let service = handler.under(&layer, async |_, _| {
            let mut response = reply(0, true);
            response.body_mut().frames.pop_back();
            response
        });
        let key = layer_store::conformance::unique();
        for _ in 0..2 {
            read(send(&service, call(BOOK, Some(&key), MESSAGE)).await).await;
        }
        assert_eq!(handler.runs(), runs, "{layer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_of_methods_that_are_not_listed_pass_and_http_needs_its_key() {
    let world = World::near();
    for layer in both(&world) {
        let handler = Handler::new();
        let service = counting(&handler, &layer.grpc_methods([BOOK]));
        let two = b"\0\0\0\0\0\0\0\0\0\0";
        for request in [
            call("/cars.Cars/Show", None, MESSAGE),
            call("/cars.Cars/Show", Some("1"), two),
            call("/cars.Cars/Show", Some("1"), two),
        ] {
            assert_eq!(refusal(&send(&service, request).await), None);
        }
        assert_eq!(handler.runs(), 3);
        let missing = send(&service, call(BOOK, None, MESSAGE)).await;
        assert_eq!(refusal(&missing), Some(IdempotencyRefusal::KeyMissing));
        let http = Request::post("/any").body(Full::default()).unwrap();
        let missing = send(&service, http).await;
        assert_eq!(missing.status(), 400);
        assert_eq!(handler.runs(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_with_a_key_and_not_one_message_is_refused() {
    let world = World::near();
    for layer in both(&world) {
        let handler = Handler::new();
        let service = counting(&handler, &layer);
        for body in [
            &b""[..],
            b"\0\0\0",
            b"\0\0\0\0\x02x",
            b"\0\0\0\0\0\0\0\0\0\0",
        ] {
            let refused = send(&service, call(BOOK, Some("1"), body)).await;
            assert_eq!(refusal(&refused), Some(IdempotencyRefusal::NotUnary));
            assert_eq!(refused.headers()["grpc-status"], "12", "{body:?}");
        }
        assert_eq!(handler.runs(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_comes_from_the_message_in_which_a_call_without_one_may_pass() {
    for world in worlds() {
        let [_, layer] = both(&world);
        let handler = Handler::new();
        let layer = layer.payload(crate::PayloadRule::none());
        let layer = layer.optional_key().key_from_message(|_, message| {
            let key = message.get(..3)?;
            Some(Identity::from(key))
        });
        let service = counting(&handler, &layer);
        for (body, runs) in [
            (MESSAGE, 1),
            (b"\0\0\0\0\x04car7", 1),
            (b"\0\0\0\0\x03bus", 2),
            (b"\0\0\0\0\x01x", 3),
            (b"\0\0\0\0\x01x", 4),
        ] {
            let response = send(&service, call(BOOK, None, body)).await;
            assert_eq!(refusal(&response), None);
            read(response).await;
            assert_eq!(handler.runs(), runs, "{body:?}");
        }
        let compressed = send(&service, call(BOOK, None, b"\x01\0\0\0\x03car")).await;
        assert_eq!(refusal(&compressed), Some(IdempotencyRefusal::KeyInvalid));
    }
}

#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)]
async fn a_request_that_breaks_off_is_refused() {
    use tower::{Layer, ServiceExt, service_fn};

    let world = World::near();
    let [layer, _] = both(&world);
    let service = layer.layer(service_fn(|_: Request<axum::body::Body>| async {
        Ok::<_, std::convert::Infallible>(reply(0, true))
    }));
    let request = call(BOOK, Some("1"), MESSAGE);
    let torn = Frames::of(&["\0\0"]).breaking();
    let response = service
        .oneshot(request.map(|_| axum::body::Body::new(torn)))
        .await;
    assert_eq!(
        refusal(&response.unwrap()),
        Some(IdempotencyRefusal::BodyUnreadable)
    );
}
