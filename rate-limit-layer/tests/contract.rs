//! The Tower contract: readiness, auto traits, bodies.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
};

use axum::body::Body;
use http::{Request, Response};
use layer_store::{MemoryStore, SharedStore, conformance::FaultInjector};
use rate_limit_layer::{
    Limiter, Policy, Quota, QuotaExceeded, RateLimit, RateLimitLayer, RateLimitRefusal, Standing,
    Unavailable, UnfinishedPolicy, Verdict, future::ResponseFuture,
};
use tower::{Layer, Service, ServiceExt};

/// Panics if it is called without having been polled ready; a clone is not ready.
#[derive(Debug, Default)]
struct Strict {
    ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<Request<Body>> for Strict {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        assert!(self.ready, "called unready");
        self.ready = false;
        ready(Ok(Response::new(Body::from("hello"))))
    }
}

fn layer(store: SharedStore) -> RateLimitLayer {
    RateLimitLayer::new(store, Quota::per_hour(1_000).fail_open())
}

#[tokio::test]
async fn the_instance_that_is_called_was_polled_ready() {
    for store in [
        SharedStore::new(MemoryStore::new()),
        SharedStore::new(FaultInjector::new(MemoryStore::new()).networked()),
    ] {
        let mut service = layer(store).layer(Strict::default());
        for _ in 0..3 {
            let call = service
                .ready()
                .await
                .unwrap()
                .call(Request::new(Body::empty()));
            // Meanwhile the clone that stayed behind is made ready and called.
            let other = service
                .ready()
                .await
                .unwrap()
                .call(Request::new(Body::empty()));
            call.await.unwrap();
            other.await.unwrap();
        }
    }
}

#[test]
fn readiness_is_the_inner_service_s() {
    #[derive(Clone)]
    struct Never;
    impl Service<Request<Body>> for Never {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Ready<Result<Response<Body>, Infallible>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Pending
        }
        fn call(&mut self, _: Request<Body>) -> Self::Future {
            unreachable!("never ready")
        }
    }
    let mut service = layer(SharedStore::new(MemoryStore::new())).layer(Never);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Service::<Request<Body>>::poll_ready(&mut service, &mut cx).is_pending());
}

#[test]
fn over_memory_the_answer_needs_no_second_poll() {
    let mut service = layer(SharedStore::new(MemoryStore::new())).layer(Strict::default());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let mut call = pin!(service.call(Request::new(Body::empty())));
    assert!(call.as_mut().poll(&mut cx).is_ready());
}

#[tokio::test]
async fn the_inner_service_s_error_is_the_service_s() {
    let failing =
        tower::service_fn(|_: Request<Body>| async { Err::<Response<Body>, _>("broken") });
    let service = layer(SharedStore::new(MemoryStore::new())).layer(failing);
    assert_eq!(
        service
            .oneshot(Request::new(Body::empty()))
            .await
            .unwrap_err(),
        "broken"
    );
}

#[tokio::test]
async fn any_body_is_carried_default_or_not() {
    struct Own;
    impl http_body::Body for Own {
        type Data = bytes::Bytes;
        type Error = Infallible;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Infallible>>> {
            Poll::Ready(None)
        }
    }
    let own = tower::service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(Own)) });
    let service = layer(SharedStore::new(MemoryStore::new())).layer(own);
    service.oneshot(Request::new(())).await.unwrap();
}

#[tokio::test]
async fn a_body_that_is_dropped_takes_the_inner_one_along() {
    let body = std::sync::Arc::new(());
    let count = body.clone();
    let counted = tower::service_fn(move |_: Request<()>| {
        let body = body.clone();
        async { Ok::<_, Infallible>(Response::new(body)) }
    });
    let service = layer(SharedStore::new(MemoryStore::new())).layer(counted);
    let response = service.clone().oneshot(Request::new(())).await.unwrap();
    let held = std::sync::Arc::strong_count(&count);
    drop(response);
    assert_eq!(std::sync::Arc::strong_count(&count), held - 1);
}

/// A refusal that somebody keeps, as a log may do, must not keep the store's memory or its connection.
#[tokio::test]
async fn a_response_that_is_kept_does_not_keep_the_store() {
    struct Watched {
        memory: MemoryStore,
        _alive: std::sync::Arc<()>,
    }

    impl layer_store::Store for Watched {
        fn call<'a>(
            &'a self,
            op: &'a layer_store::Op<'a>,
            cx: &'a layer_store::Context,
        ) -> impl Future<Output = Result<layer_store::Reply, layer_store::StoreError>> + Send + 'a
        {
            self.memory.call(op, cx)
        }

        fn info(&self) -> layer_store::StoreInfo {
            self.memory.info()
        }
    }

    let alive = std::sync::Arc::new(());
    let store = SharedStore::new(Watched {
        memory: MemoryStore::new(),
        _alive: alive.clone(),
    });
    let layer = RateLimitLayer::new(store, Quota::per_hour(1).fail_open()).standing(true);
    let standing = std::sync::Arc::new(std::sync::Mutex::new(None));
    let seen = standing.clone();
    let service = layer.layer(tower::service_fn(move |req: Request<()>| {
        *seen.lock().unwrap() = req.extensions().get::<Standing>().cloned();
        async { Ok::<_, Infallible>(Response::new(Body::empty())) }
    }));
    service.clone().oneshot(Request::new(())).await.unwrap();
    let refused = service.clone().oneshot(Request::new(())).await.unwrap();
    assert_eq!(std::sync::Arc::strong_count(&alive), 2);
    drop((layer, service));
    assert_eq!(std::sync::Arc::strong_count(&alive), 1);
    assert_eq!(standing.lock().unwrap().as_ref().unwrap().remaining(), 0);
    let Some(RateLimitRefusal::QuotaExceeded(exceeded)) = refused.extensions().get() else {
        panic!("it is refused");
    };
    assert!(exceeded.violated().eq(["1/h"]));
}

#[test]
fn public_types_cross_threads() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Limiter>();
    check::<Policy>();
    check::<RateLimit<Strict>>();
    check::<RateLimitLayer>();
    check::<QuotaExceeded>();
    check::<RateLimitRefusal>();
    check::<UnfinishedPolicy>();
    check::<Standing>();
    check::<Unavailable>();
    check::<Verdict>();
    fn sends<T: Send>() {}
    sends::<ResponseFuture<<Strict as Service<Request<Body>>>::Future>>();
}
