use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use layer_http::{Body, RequestHead, take_ready};
use tower_service::Service;

use super::{
    future::ResponseFuture,
    shared::{LockNeed, Shared},
};
use crate::lease::{acquiring, waiting};

/// The service of [`LockLayer`](crate::LockLayer).
#[derive(Clone)]
pub struct Lock<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Lock<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
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

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Lock<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    ReqBody: Send + 'static,
{
    type Response = Response<Body<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, ReqBody, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Request<ReqBody>) -> Self::Future {
        let holder = match self.shared.lock_for(&RequestHead::of(&req)) {
            LockNeed::Nothing => {
                return ResponseFuture::calling(self.inner.call(req), None, None);
            }
            LockNeed::Refused(refusal) => {
                return ResponseFuture::refused(refusal.response_to(&RequestHead::of(&req)));
            }
            LockNeed::Lock(holder) => holder,
        };
        let (wait, hold) = (self.shared.wait, self.shared.hold_for(&holder));
        if !wait.is_zero() {
            let inner = take_ready(&mut self.inner);
            return ResponseFuture::acquiring(waiting::acquire(holder, wait), inner, req, hold);
        }
        match acquiring::acquire_now(&holder) {
            Some(Ok(guard)) => {
                req.extensions_mut().insert(guard.context());
                ResponseFuture::calling(self.inner.call(req), Some(guard), hold)
            }
            Some(Err(error)) => ResponseFuture::refused(error.response_to(&RequestHead::of(&req))),
            // The store has to wait: the instance that reported ready travels with the request, its clone stays behind.
            None => {
                let inner = take_ready(&mut self.inner);
                ResponseFuture::acquiring(acquiring::acquire(holder), inner, req, hold)
            }
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for Lock<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
