use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use layer_http::{Body, Rebuild, RequestHead, take_ready};
use tower_service::Service;

use super::{future::ResponseFuture, handle::handle, layer::Shared};
use crate::body::{BoxError, Resumed};

/// Answers repeated requests. See [`IdempotencyLayer`](crate::IdempotencyLayer).
#[derive(Clone)]
pub struct Idempotency<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Idempotency<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Idempotency<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    ReqBody: Rebuild,
    ResBody: HttpBody<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    type Response = Response<Body<Resumed<ResBody>>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResBody, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<ReqBody>) -> Self::Future {
        if !self.shared.guards(req.method()) {
            return ResponseFuture::passing(self.inner.call(req));
        }
        match self.shared.record_name(&RequestHead::of(&req)) {
            // The instance that reported ready travels with the request, its clone stays behind.
            Ok(name) => {
                let inner = take_ready(&mut self.inner);
                ResponseFuture::handling(handle(self.shared.clone(), name, inner, req))
            }
            Err(refusal) => ResponseFuture::refused(refusal.into_response()),
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for Idempotency<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
