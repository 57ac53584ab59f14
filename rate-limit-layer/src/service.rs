use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use layer_http::{Body, RequestHead, take_ready};
use tower_service::Service;

use crate::{
    future::{Checked, ResponseFuture},
    layer::{Mark, Shared},
    verdict::Outcome,
};

/// Limits the rate at which `S` is called. See the [crate docs](crate).
///
/// Ready when the inner service is: a quota is spent by a call, not by readiness.
#[derive(Clone, Debug)]
pub struct RateLimit<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> RateLimit<S> {
    pub(crate) const fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }

    /// The wrapped service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The wrapped service.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Takes the wrapped service out.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for RateLimit<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    ReqBody: Send + 'static,
{
    type Response = Response<Body<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<ReqBody>) -> Self::Future {
        match self.shared.check_peer_now(&req) {
            Some(Outcome::Admitted(account)) => match self.shared.mark(account) {
                None => ResponseFuture::calling(self.inner.call(req), None),
                Some(mark) => self.call_marked(req, mark),
            },
            Some(outcome) => ResponseFuture::refused(self.shared.refuse(Ok(outcome))),
            None => self.call_by_head(req),
        }
    }
}

impl<S> RateLimit<S> {
    /// Calls the inner service for a response that gets headers. Not inlined: with this out of its way, the future of one that
    /// does not is made where it is returned, and not copied there.
    #[inline(never)]
    fn call_marked<ReqBody>(
        &mut self,
        req: Request<ReqBody>,
        mark: Mark,
    ) -> ResponseFuture<S::Future>
    where
        S: Service<Request<ReqBody>>,
    {
        ResponseFuture::calling(self.inner.call(req), Some(mark))
    }

    /// The same by anything in the request's head. Not inlined: an extractor behind a pointer may keep what it is lent, as far
    /// as the compiler knows, and then the request is copied on its way to the inner service.
    #[inline(never)]
    fn call_by_head<ReqBody>(&mut self, req: Request<ReqBody>) -> ResponseFuture<S::Future>
    where
        S: Service<Request<ReqBody>> + Clone + Send + 'static,
        S::Future: Send,
        ReqBody: Send + 'static,
    {
        match self.shared.check_now(&RequestHead::of(&req)) {
            Some(Ok(Outcome::Admitted(account))) => {
                let response = self.inner.call(req);
                ResponseFuture::calling(response, self.shared.mark(account))
            }
            Some(outcome) => ResponseFuture::refused(self.shared.refuse(outcome)),
            // The store has to wait: the instance that reported ready travels with the request, its clone stays behind.
            None => {
                let inner = take_ready(&mut self.inner);
                ResponseFuture::checking(check(self.shared.clone(), inner, req))
            }
        }
    }
}

/// Waits for the store, then calls the inner service or refuses.
async fn check<S, ReqBody>(
    shared: Arc<Shared>,
    mut inner: S,
    req: Request<ReqBody>,
) -> Checked<S::Future>
where
    S: Service<Request<ReqBody>>,
{
    let head = RequestHead::of(&req);
    match shared.check(&head).await {
        Ok(Outcome::Admitted(account)) => Checked::Call {
            response: inner.call(req),
            mark: shared.mark(account),
        },
        outcome => Checked::Refused(shared.refuse(outcome)),
    }
}
