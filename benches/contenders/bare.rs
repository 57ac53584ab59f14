use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use axum::body::Body;
use http::{Request, Response};
use tower_service::Service;

/// A service that returns an empty response at once.
#[derive(Clone, Copy, Debug)]
pub struct Bare;

impl Service<Request<Body>> for Bare {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    /// Never inlined, as no real handler is. Otherwise the optimizer removes requests that it has seen being made.
    #[inline(never)]
    fn call(&mut self, req: Request<Body>) -> Self::Future {
        drop(req);
        ready(Ok(Response::new(Body::empty())))
    }
}
