//! Responses whose body comes bit by bit: the client has each bit at once, and a repetition gets them all.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use layer_store::Effect;
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};

use super::{both, fail_program};
use crate::{
    BoxError, IdempotencyLayer, IdempotencyRefusal,
    testing::{World, post, problem, text, worlds},
};

type Chunk = Result<Frame<Bytes>, BoxError>;
type Bits = StreamBody<BoxStream<'static, Chunk>>;
type BitsResponse = Response<layer_http::Body<crate::body::Resumed<Bits>>>;
type Guarded = BoxCloneSyncService<Request<Full<Bytes>>, BitsResponse, Infallible>;

/// The frame that a stream sends in one second.
#[derive(Clone, Copy)]
enum Bit {
    Data(&'static str),
    Error,
    Panic,
}

/// Makes a service whose response has these bits, one each second, and no word about its length.
fn streaming(layer: &IdempotencyLayer, bits: &'static [Bit]) -> Guarded {
    BoxCloneSyncService::new(layer.layer(service_fn(move |_| async move {
        let bits = futures_util::stream::iter(bits).then(|bit| async move {
            sleep(Duration::from_secs(1)).await;
            match bit {
                Bit::Data(text) => Ok(Frame::data(Bytes::from(*text))),
                Bit::Error => Err(BoxError::from("broke off")),
                Bit::Panic => panic!("as it was asked to"),
            }
        });
        Ok(Response::new(StreamBody::new(bits.boxed())))
    })))
}

async fn send(service: &Guarded, key: &str) -> BitsResponse {
    service.clone().oneshot(post(key, "")).await.unwrap()
}

const HELLO: &[Bit] = &[Bit::Data("he"), Bit::Data("ll"), Bit::Data("o")];

#[tokio::test(start_paused = true)]
async fn each_bit_is_there_when_the_handler_sends_it_and_a_repetition_gets_them_all() {
    for world in worlds() {
        for layer in both(&world) {
            let service = streaming(&layer, HELLO);
            let key = layer_store::conformance::unique();
            let begun = Instant::now();
            let mut first = send(&service, &key).await.into_body();
            assert_eq!(begun.elapsed(), Duration::ZERO, "the head is there at once");
            for (second, bit) in (1..).zip(["he", "ll", "o"]) {
                let frame = first.frame().await.unwrap().unwrap();
                assert_eq!(frame.into_data().unwrap(), bit);
                assert_eq!(begun.elapsed(), Duration::from_secs(second));
                if second < 3 {
                    let meanwhile = send(&service, &key).await;
                    assert_eq!(meanwhile.status(), StatusCode::CONFLICT);
                }
            }
            assert!(first.frame().await.is_none());
            // Its client has seen the end, so the record is there.
            let second = send(&service, &key).await;
            assert_eq!(second.headers()["idempotency-replayed"], "true");
            assert_eq!(text(second).await, "hello");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_type_that_is_not_kept_passes_at_once_and_its_repetition_does_not_run() {
    for world in worlds() {
        for layer in both(&world) {
            let layer = layer.unkept_types(["application/x-ndjson"]);
            let inner = BoxCloneSyncService::new(service_fn(|_: Request<Full<Bytes>>| async {
                let bits = futures_util::stream::iter(["1\n", "2\n"]).then(|line| async move {
                    sleep(Duration::from_secs(60)).await;
                    Chunk::Ok(Frame::data(Bytes::from(line)))
                });
                let mut response = Response::new(StreamBody::new(bits.boxed()));
                let kind = "application/x-ndjson; charset=utf-8".parse().unwrap();
                response.headers_mut().insert("content-type", kind);
                Ok::<_, Infallible>(response)
            }));
            let service: Guarded = BoxCloneSyncService::new(layer.layer(inner));
            let key = layer_store::conformance::unique();
            let begun = Instant::now();
            let first = send(&service, &key).await;
            assert_eq!(begun.elapsed(), Duration::ZERO);
            // It is known as done before its body has ended.
            let again = send(&service, &key).await;
            let refusal = IdempotencyRefusal::BodyNotKept {
                status: StatusCode::OK,
            };
            assert_eq!(again.extensions().get(), Some(&refusal));
            assert_eq!(layer.tracker().running(), 0, "no task copies it");
            assert_eq!(text(first).await, "1\n2\n");
            assert_eq!(begun.elapsed(), Duration::from_secs(120));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_in_the_middle_finds_all_of_it_later() {
    for world in worlds() {
        for layer in both(&world) {
            let service = streaming(&layer, HELLO);
            let key = layer_store::conformance::unique();
            let mut first = send(&service, &key).await.into_body();
            first.frame().await.unwrap().unwrap();
            assert_eq!(layer.tracker().running(), 1);
            drop(first);
            world.pass(Duration::from_secs(4)).await;
            let second = send(&service, &key).await;
            assert_eq!(text(second).await, "hello");
            assert_eq!(layer.tracker().running(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_off_or_panics_does_so_for_its_client_and_follows_the_policy() {
    let world = World::far();
    for (layer, next) in both(&world).into_iter().zip(["outcome-unknown", ""]) {
        let service = streaming(&layer, &[Bit::Data("he"), Bit::Error]);
        let key = layer_store::conformance::unique();
        let mut first = send(&service, &key).await.into_body();
        let frame = first.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "he");
        let error = first.frame().await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "broke off");
        check_next(send(&service, &key).await, next).await;

        let service = streaming(&layer, &[Bit::Panic]);
        let key = layer_store::conformance::unique();
        let mut first = send(&service, &key).await.into_body();
        let read = tokio::spawn(async move { first.frame().await.is_some() });
        let panic = read.await.unwrap_err().into_panic();
        assert_eq!(panic.downcast_ref(), Some(&"as it was asked to"));
        check_next(send(&service, &key).await, next).await;
    }
}

/// Checks that a repetition gets this problem, or a response if there is none.
async fn check_next(response: BitsResponse, next: &str) {
    match next {
        "" => assert_eq!(response.status(), StatusCode::OK),
        next => assert_eq!(problem(response).await, next),
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_too_long_or_outlasts_the_expected_run_goes_on_and_is_not_kept() {
    let world = World::far();
    for layer in both(&world) {
        for layer in [
            layer.clone().max_response_body(3),
            layer.clone().expected_run(Duration::from_secs(2)),
        ] {
            let service = streaming(&layer, HELLO);
            let key = layer_store::conformance::unique();
            let begun = Instant::now();
            let first = send(&service, &key).await;
            assert_eq!(text(first).await, "hello");
            assert_eq!(begun.elapsed(), Duration::from_secs(3));
            let second = send(&service, &key).await;
            let status = StatusCode::OK;
            assert_eq!(
                second.extensions().get(),
                Some(&IdempotencyRefusal::BodyNotKept { status })
            );
        }
    }
}

/// The record of a stream is written later if the store is away at its end.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_at_the_end_of_a_stream_does_not_hold_up_its_client() {
    let world = World::far();
    for layer in both(&world) {
        let service = streaming(&layer, HELLO);
        let key = layer_store::conformance::unique();
        let first = send(&service, &key).await;
        fail_program(&world, "record_write", Effect::NotApplied);
        assert_eq!(text(first).await, "hello");
        world.fault_injector.heal();
        world.pass(Duration::from_secs(2)).await;
        assert_eq!(text(send(&service, &key).await).await, "hello");
    }
}
