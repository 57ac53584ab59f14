use std::{
    convert::Infallible,
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use axum::{body::Body, extract::ConnectInfo};
use http::{Request, Response};
use tower_service::Service;

/// A request from the peer of this number, as axum's server makes it.
#[inline(never)]
pub fn request(peer: u32) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    let peer = SocketAddr::from((Ipv4Addr::from_bits(peer), 4711));
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

/// Sends a request through a service that answers at once.
///
/// Call and poll stand behind calls of their own, as they do behind a router's boxes: a service that is inlined into the loop
/// that makes its requests is no service.
pub fn ask<S, B>(service: &mut S, request: Request<Body>) -> Response<B>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready(), "always ready");
    let mut answer = pin!(call(service, request));
    match poll(answer.as_mut(), &mut cx) {
        Poll::Ready(Ok(response)) => response,
        Poll::Pending => panic!("a store in memory never waits"),
    }
}

/// What is counted: so many requests of one peer, the response dropped. Never inlined, so that a profiler can find it.
#[inline(never)]
pub fn drive<S, B>(service: &mut S, requests: u32)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    for _ in 0..requests {
        drop(ask(service, request(0x0a00_0001)));
    }
}

#[inline(never)]
fn call<S: Service<Request<Body>>>(service: &mut S, request: Request<Body>) -> S::Future {
    service.call(request)
}

#[inline(never)]
fn poll<F: Future>(future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    future.poll(cx)
}
