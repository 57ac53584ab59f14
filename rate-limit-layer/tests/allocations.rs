//! What an admitted request allocates in our code: nothing without headers, at most four times with both.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
};

use allocation_counter::measure;
use axum::{body::Body, extract::ConnectInfo};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use layer_store::{MemoryStore, SharedStore};
use rate_limit_layer::{InFlightLayer, MaxInFlight, Quota, RateLimitLayer, header};
use tower::{Layer, Service};

#[derive(Clone)]
struct Bare;

impl Service<Request<Body>> for Bare {
    type Response = Response<Empty<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Empty<Bytes>>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(Ok(Response::new(Empty::new())))
    }
}

fn request() -> Request<Body> {
    let mut request = Request::get("/")
        .header("x-api-key", "ada")
        .body(Body::empty())
        .unwrap();
    let peer = std::net::SocketAddr::from(([192, 0, 2, 1], 4711));
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

/// Allocations of a request on a key already held; the request is made before and the response dropped after.
fn allocations(layer: RateLimitLayer) -> u64 {
    allocations_of(layer.layer(Bare))
}

fn allocations_of<S, B>(mut service: S) -> u64
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    let mut ask = |request| {
        let mut call = pin!(service.call(request));
        match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(response)) => response,
            Poll::Pending => panic!("a store in memory never waits"),
        }
    };
    assert_eq!(ask(request()).status(), 200);
    assert_eq!(ask(request()).status(), 200);
    let request = request();
    let mut response = None;
    let count = measure(|| response = Some(ask(request))).count_total;
    assert_eq!(response.unwrap().status(), 200);
    count
}

fn layer() -> RateLimitLayer {
    let store = SharedStore::new(MemoryStore::new());
    RateLimitLayer::new(store, Quota::per_second(1_000).fail_open())
}

#[test]
fn an_admitted_request_without_headers_allocates_nothing() {
    assert_eq!(allocations(layer().headers(false)), 0);
    let by_header = Quota::per_day(1_000).fail_open().by(header("x-api-key"));
    assert_eq!(allocations(layer().and(by_header).headers(false)), 0);
    let on_the_same = Quota::per_day(1_000).fail_open();
    assert_eq!(allocations(layer().and(on_the_same).headers(false)), 0);
}

#[test]
fn both_headers_cost_at_most_four() {
    let on_the_same = Quota::per_day(1_000).fail_open();
    let by_header = on_the_same.clone().name("key").by(header("x-api-key"));
    for layer in [
        layer(),
        layer().and(on_the_same.clone()),
        layer().and(by_header.clone()),
        layer().and(on_the_same).and(by_header),
    ] {
        let with_headers = allocations(layer);
        assert!((1..=4).contains(&with_headers), "{with_headers}");
    }
}

/// The records of the permits are made anew, in two pieces; and a text is kept, to give its permit back.
#[test]
fn a_permit_costs_two_and_its_identity_if_that_is_a_text() {
    let layer = |max: MaxInFlight| {
        let store = SharedStore::new(MemoryStore::new());
        InFlightLayer::new(store, max.fail_open())
    };
    let max = || MaxInFlight::new(100);
    let without_headers = |max| layer(max).headers(false).layer(Bare);
    assert_eq!(allocations_of(without_headers(max())), 2);
    let by_header = max().by(header("x-api-key"));
    assert_eq!(allocations_of(without_headers(by_header)), 3);
    let with_headers = allocations_of(layer(max()).layer(Bare));
    assert!((3..=7).contains(&with_headers), "{with_headers}");
}
