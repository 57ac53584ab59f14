use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use layer_http::{
    Body, BoxError, ReadRequest, Rebuild, RequestHead, grpc::ClientProtocol, take_ready,
};
use tower_service::Service;

use super::{
    config::{IdempotencyConfig, RecordNeed},
    future::ResponseFuture,
    keyed_request::KeyedRequest,
};
use crate::body::Resumed;

/// The service of [`IdempotencyLayer`](crate::IdempotencyLayer).
#[derive(Clone)]
pub struct Idempotency<S> {
    inner: S,
    config: Arc<IdempotencyConfig>,
}

impl<S> Idempotency<S> {
    pub(super) fn new(inner: S, config: Arc<IdempotencyConfig>) -> Self {
        Self { inner, config }
    }

    /// Returns the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns the inner service, to change it.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Takes the inner service out.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Idempotency<S>
where
    S: Service<Request<ReqBody::Rebuilt>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    ReqBody: Rebuild,
    ResBody: HttpBody<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    type Response = Response<Body<Resumed<ResBody>>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, ReqBody, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<ReqBody>) -> Self::Future {
        match self.config.record_for(&RequestHead::of(&req)) {
            RecordNeed::Nothing => ResponseFuture::passing(self.inner.call(req.map(Rebuild::pass))),
            RecordNeed::Refused(refusal) => {
                let protocol = ClientProtocol::of(req.headers());
                ResponseFuture::refused(refusal.refuse(&protocol))
            }
            // The instance that reported ready travels with the request, its clone stays behind.
            RecordNeed::Record(record) => {
                let (parts, body) = req.into_parts();
                let protocol = ClientProtocol::of(&parts.headers);
                let body = ReadRequest::new(body, self.config.max_request_body);
                let body = match protocol.is_plain_grpc() {
                    true => body.unary(),
                    false => body,
                };
                let request = KeyedRequest {
                    config: self.config.clone(),
                    record,
                    protocol,
                    inner: take_ready(&mut self.inner),
                    parts,
                };
                ResponseFuture::reading(body, request)
            }
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
