//! The contract of a Tower service.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer, Service, ServiceExt};

use super::both;
use crate::{
    ClientScope, Idempotency, IdempotencyLayer,
    testing::{World, post, worlds},
};

/// Panics if it is called without having been polled ready.
struct Unready(bool);

impl Clone for Unready {
    fn clone(&self) -> Self {
        Self(false)
    }
}

impl Service<Request<Full<Bytes>>> for Unready {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0 = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        assert!(std::mem::take(&mut self.0), "called without being ready");
        std::future::ready(Ok(Response::default()))
    }
}

#[tokio::test(start_paused = true)]
async fn the_instance_that_was_ready_is_the_one_that_is_called() {
    for world in worlds() {
        for layer in both(&world) {
            let mut service = layer.layer(Unready(false));
            for _ in 0..3 {
                let key = layer_store::conformance::unique();
                let mut passing = post(&key, "");
                *passing.method_mut() = Method::GET;
                for request in [post(&key, ""), post(&key, ""), passing] {
                    let ready = ServiceExt::<Request<Full<Bytes>>>::ready(&mut service).await;
                    let response = ready.unwrap().call(request).await.unwrap();
                    assert_eq!(response.status(), StatusCode::OK);
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn connections_share_their_records_and_an_unready_service_is_waited_for() {
    let world = World::near();
    let [layer, _] = both(&world);
    let first = layer
        .layer(Unready(false))
        .oneshot(post("1", ""))
        .await
        .unwrap();
    assert!(!first.headers().contains_key("idempotency-replayed"));
    let second = layer
        .layer(Unready(false))
        .oneshot(post("1", ""))
        .await
        .unwrap();
    assert!(second.headers().contains_key("idempotency-replayed"));

    type Mock = tower_test::mock::Spawn<
        Idempotency<tower_test::mock::Mock<Request<Full<Bytes>>, Response<Full<Bytes>>>>,
    >;
    let (mut service, mut handle): (Mock, _) = tower_test::mock::spawn_layer(layer);
    handle.allow(0);
    assert!(service.poll_ready::<Request<Full<Bytes>>>().is_pending());
    handle.allow(1);
    assert!(service.poll_ready::<Request<Full<Bytes>>>().is_ready());
}

#[test]
fn layer_service_and_future_are_send() {
    fn check<T: Send + Sync + 'static>() {}
    check::<IdempotencyLayer>();
    check::<Idempotency<Unready>>();
    check::<ClientScope>();
    fn is_send<T: Send + 'static>() {}
    is_send::<<Idempotency<Unready> as Service<Request<Full<Bytes>>>>::Future>();
}
