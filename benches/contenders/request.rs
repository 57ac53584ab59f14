use std::{
    convert::Infallible,
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use axum::{body::Body, extract::ConnectInfo};
use http::{
    HeaderValue, Method, Request, Response, Version,
    header::{CONTENT_TYPE, TE},
};
use tonic::transport::server::TcpConnectInfo;
use tower_service::Service;

/// Returns a request from the peer of this number, as axum's server makes it.
#[inline(never)]
pub fn request(peer: u32) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    let peer = SocketAddr::from((Ipv4Addr::from_bits(peer), 4711));
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

/// Returns a unary call of gRPC from the peer of this number, as tonic's server makes it.
#[inline(never)]
pub fn unary_call(peer: u32) -> Request<Body> {
    let (mut call, peer) = post("application/grpc", peer);
    *call.version_mut() = Version::HTTP_2;
    call.extensions_mut().insert(TcpConnectInfo {
        local_addr: None,
        remote_addr: Some(peer),
    });
    call
}

/// Returns a request of HTTP that is like a [`unary_call`] but for its protocol.
#[inline(never)]
pub fn json_post(peer: u32) -> Request<Body> {
    let (mut request, peer) = post("application/json", peer);
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

fn post(content_type: &'static str, peer: u32) -> (Request<Body>, SocketAddr) {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::POST;
    let fields = request.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    fields.insert(TE, HeaderValue::from_static("trailers"));
    let peer = SocketAddr::from((Ipv4Addr::from_bits(peer), 4711));
    (request, peer)
}

/// Sends a request through a service that answers at once.
///
/// `call` and `poll` are behind function calls, as they are behind the boxes of a router. A service that is inlined into the loop
/// of the bench would look faster than any real one. This itself is always inlined, so that it costs all loops alike.
#[inline(always)]
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

/// Sends a number of requests of one peer and drops the responses. This is what is counted. Never inlined, so that a profiler
/// can find it.
#[inline(never)]
pub fn drive<S, B>(service: &mut S, requests: u32)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    send_all(service, requests, request);
}

/// [`drive`] with requests of HTTP that have two fields.
#[inline(never)]
pub fn drive_posts<S, B>(service: &mut S, requests: u32)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    send_all(service, requests, json_post);
}

/// [`drive`] with unary calls of gRPC.
#[inline(never)]
pub fn drive_calls<S, B>(service: &mut S, calls: u32)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    send_all(service, calls, unary_call);
}

#[inline(always)]
fn send_all<S, B>(service: &mut S, requests: u32, make: impl Fn(u32) -> Request<Body>)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    for _ in 0..requests {
        drop(ask(service, make(0x0a00_0001)));
    }
}

#[inline(never)]
pub(crate) fn call<S: Service<Request<Body>>>(
    service: &mut S,
    request: Request<Body>,
) -> S::Future {
    service.call(request)
}

#[inline(never)]
pub(crate) fn poll<F: Future>(future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    future.poll(cx)
}
