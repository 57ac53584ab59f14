use std::{
    error::Error,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use layer_http::{Body, RequestHead};
use tower_service::Service;

use crate::{
    body::Tee,
    fetch::{Shared, Way, exchange},
    future::{Note, ResponseFuture},
    http::cache_status::Detail,
    http::request::{Asked, Pass},
    purge::scope::Scope,
};

/// Answers from the cache, or from the inner service and keeps what that answers. See the [crate docs](crate).
#[derive(Clone)]
pub struct Cache<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Cache<S> {
    pub(crate) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }

    /// The wrapped service.
    pub fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Cache<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    ReqBody: Send + 'static,
    ResBody: http_body::Body<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<Body<Tee<ResBody>>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, ReqBody, ResBody>;

    /// Always ready: a hit needs no inner service. On a miss the future waits for it.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let shared = &self.shared;
        if !shared.rule.enabled || shared.is_inside(request.extensions()) {
            return ResponseFuture::passing(self.inner.clone(), request, None);
        }
        let head = RequestHead::of(&request);
        let pass = match Asked::of(&shared.rule, &head) {
            Asked::Pass(pass) => pass,
            Asked::Question(question) => {
                let (core, address) = (&shared.core, &question.address);
                if !core.is_refused(address, question.credentialed) {
                    let first = match core.failed.any() {
                        true => None,
                        false => core.find_now(address, request.headers()),
                    };
                    if let Some(Way::Serve(servable, status)) = first
                        .as_ref()
                        .and_then(|found| shared.serve_now(&question, found))
                        && let Some(response) = shared.respond(&question, &servable, status)
                    {
                        return ResponseFuture::ready(response);
                    }
                    let (shared, inner) = (shared.clone(), self.inner.clone());
                    return ResponseFuture::working(exchange(
                        shared, inner, request, question, first,
                    ));
                }
                Pass::bypass(Detail::Uncacheable)
            }
        };
        let changes = pass.is_unsafe.then(|| Scope::page(head.path()));
        let note = Note::new(shared.clone(), pass, changes);
        ResponseFuture::passing(self.inner.clone(), request, Some(note))
    }
}

impl<S: fmt::Debug> fmt::Debug for Cache<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
