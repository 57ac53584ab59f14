use std::task::{Context, Poll};

use http::{Request, Response};
use layer_http::{Body, RequestHead, take_ready};
use tower_service::Service;

use super::{
    body::InFlightBody,
    future::{AfterTake, InFlightFuture},
    layer::Shared,
};
use crate::check::partition::Partition;

/// A service that limits how many requests are in flight. See [`InFlightLayer`](crate::InFlightLayer).
///
/// It is ready when the inner service is: a permit is taken by a call, not by readiness.
#[derive(Clone, Debug)]
pub struct InFlight<S> {
    inner: S,
    shared: Shared,
}

impl<S> InFlight<S> {
    pub(super) const fn new(inner: S, shared: Shared) -> Self {
        Self { inner, shared }
    }

    /// Returns the inner service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns the inner service.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Takes the inner service out.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for InFlight<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    ReqBody: Send + 'static,
{
    type Response = Response<Body<InFlightBody<ResBody>>>;
    type Error = S::Error;
    type Future = InFlightFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<ReqBody>) -> Self::Future {
        let (permit, waiting) = match self.shared.partition(&RequestHead::of(&req)) {
            Ok(None) => (None, None),
            Ok(Some(partition)) => match self.shared.take_now(&partition) {
                Some(Ok(permit)) => (Some(permit), None),
                Some(Err(refusal)) => return self.refused(&req, refusal),
                None => (None, Some(partition.into_owned())),
            },
            Err(unpartitioned) => return self.refused(&req, unpartitioned),
        };
        let shared = self.shared.clone();
        match waiting {
            None => InFlightFuture::calling(self.inner.call(req), shared, permit),
            // The store has to wait: the instance that reported ready travels with the request, its clone stays behind.
            Some(partition) => {
                let inner = take_ready(&mut self.inner);
                let take = take(shared.clone(), partition, inner, req);
                InFlightFuture::taking(take, shared)
            }
        }
    }
}

impl<S> InFlight<S> {
    #[cold]
    fn refused<ReqBody, F>(
        &self,
        req: &Request<ReqBody>,
        refusal: impl Into<crate::InFlightRefusal>,
    ) -> InFlightFuture<F> {
        let response = self.shared.refuse(refusal.into(), req.headers());
        InFlightFuture::refused(response, self.shared.clone())
    }
}

/// Waits for a permit, then calls the inner service or refuses.
async fn take<S, ReqBody>(
    shared: Shared,
    partition: Partition<'static>,
    mut inner: S,
    req: Request<ReqBody>,
) -> AfterTake<S::Future>
where
    S: Service<Request<ReqBody>>,
{
    match shared.take(partition).await {
        Ok(permit) => AfterTake::Call {
            response: inner.call(req),
            permit,
        },
        Err(refusal) => AfterTake::Refused(shared.refuse(refusal, req.headers())),
    }
}
