//! The service, with its call in several functions.
//!
//! One would do. The calls that are not inlined keep the most frequent one short: a request that is admitted by its peer's address in
//! this process's memory, and gets nothing written on it. With the rest out of its way, its future is made where it is returned.
//! And a function that is not inlined may keep what it is lent, as far as the compiler knows, so that a request which one has
//! seen is copied on its way to the inner service: an extractor behind a pointer, or a look for a header. They get the whole request.
//! Bars: `cargo xtask instructions`.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use layer_http::{Body, RequestHead, take_ready};
use layer_store::IdentityRef;
use tower_service::Service;

use crate::{
    check::{
        decision::{Checked, Debt, Decision},
        unasked::Unasked,
    },
    future::{AfterCheck, ResponseFuture},
    shared::{Annotation, Shared},
};

/// A service that refuses requests over a quota. See the [crate docs](crate).
///
/// It is ready when the inner service is: a quota is spent by a call, not by readiness.
#[derive(Clone, Debug)]
pub struct RateLimit<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> RateLimit<S> {
    pub(crate) const fn new(inner: S, shared: Arc<Shared>) -> Self {
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
        let Some(peer) = self.shared.served_peer(&req) else {
            return self.call_at_once(req);
        };
        match self.shared.charge_peer_in_place(peer) {
            Some(0..) if !self.shared.annotates() => {
                ResponseFuture::calling(self.inner.call(req), None)
            }
            Some(owed @ 0..) => self.call_admitted(req, Some(Debt::of_one(owed))),
            Some(refusal) => self.refuse_reply(req, refusal),
            None => self.call_by_peer(req, peer),
        }
    }
}

impl<S> RateLimit<S> {
    /// Does what was decided on a request.
    #[inline(never)]
    fn call_decided<ReqBody>(
        &mut self,
        req: Request<ReqBody>,
        decision: Decision,
    ) -> ResponseFuture<S::Future>
    where
        S: Service<Request<ReqBody>>,
    {
        match decision {
            Decision::Admit(debt) => self.call_admitted(req, debt),
            refused => refuse(&self.shared, req, Ok(refused.into())),
        }
    }

    /// Calls the inner service for a request that was admitted with this debt.
    #[inline(never)]
    fn call_admitted<ReqBody>(
        &mut self,
        req: Request<ReqBody>,
        debt: Option<Debt>,
    ) -> ResponseFuture<S::Future>
    where
        S: Service<Request<ReqBody>>,
    {
        match self.shared.annotation(debt, None) {
            Some(annotation) if annotation.is_for_request() => self.call_annotated(req, annotation),
            annotation => ResponseFuture::calling(self.inner.call(req), annotation),
        }
    }

    /// Refuses a request by the reply of a charge in place.
    #[inline(never)]
    fn refuse_reply<ReqBody>(
        &mut self,
        mut req: Request<ReqBody>,
        reply: i64,
    ) -> ResponseFuture<S::Future>
    where
        S: Service<Request<ReqBody>>,
    {
        match self.shared.read_reply(reply) {
            // The value was not ours, and the policy fails open.
            Decision::Admit(debt) => self.call_admitted(req, debt),
            refused => ResponseFuture::refused(self.shared.refuse(Ok(refused.into()), &mut req)),
        }
    }

    /// Checks a request by its peer, over any store that needs no waiting.
    #[inline(never)]
    fn call_by_peer<ReqBody>(
        &mut self,
        req: Request<ReqBody>,
        peer: IdentityRef<'static>,
    ) -> ResponseFuture<S::Future>
    where
        S: Service<Request<ReqBody>> + Clone + Send + 'static,
        S::Future: Send,
        ReqBody: Send + 'static,
    {
        match self.shared.charge_peer_now(peer) {
            Some(Decision::Admit(_)) if !self.shared.annotates() => {
                ResponseFuture::calling(self.inner.call(req), None)
            }
            Some(decision) => self.call_decided(req, decision),
            None => self.call_by_head(req),
        }
    }

    /// Checks a request whose peer something else tells, or that is looked at for forwarding headers; or by anything in its head.
    #[inline(never)]
    fn call_at_once<ReqBody>(&mut self, req: Request<ReqBody>) -> ResponseFuture<S::Future>
    where
        S: Service<Request<ReqBody>> + Clone + Send + 'static,
        S::Future: Send,
        ReqBody: Send + 'static,
    {
        match self.shared.check_peer_now(&req) {
            Some(decision) => self.call_decided(req, decision),
            None => self.call_by_head(req),
        }
    }

    /// Calls the inner service for an admitted request that gets something written on it.
    #[inline(never)]
    fn call_annotated<ReqBody>(
        &mut self,
        mut req: Request<ReqBody>,
        annotation: Annotation,
    ) -> ResponseFuture<S::Future>
    where
        S: Service<Request<ReqBody>>,
    {
        annotation.on_request(&mut req);
        ResponseFuture::calling(self.inner.call(req), Some(annotation))
    }

    /// Checks a request by anything in its head, over any store.
    #[inline(never)]
    fn call_by_head<ReqBody>(&mut self, mut req: Request<ReqBody>) -> ResponseFuture<S::Future>
    where
        S: Service<Request<ReqBody>> + Clone + Send + 'static,
        S::Future: Send,
        ReqBody: Send + 'static,
    {
        let head = RequestHead::of(&req);
        if self.shared.lets_pass(&head) {
            return ResponseFuture::calling(self.inner.call(req), None);
        }
        let other;
        let shared = match self.shared.varies() {
            false => &self.shared,
            true => match self.shared.under_quotas_now(&head) {
                Some(shared) => {
                    other = shared;
                    &other
                }
                None => {
                    let inner = take_ready(&mut self.inner);
                    return ResponseFuture::checking(find_quotas(self.shared.clone(), inner, req));
                }
            },
        };
        let begun_at = shared.begun_at();
        match shared.check_now(&head) {
            Some(Ok(checked)) if checked.is_admitted() => {
                let annotation = annotate(shared, checked, begun_at, &mut req);
                ResponseFuture::calling(self.inner.call(req), annotation)
            }
            Some(refused) => refuse(shared, req, refused),
            // The store has to wait: the instance that reported ready travels with the request, its clone stays behind.
            None => {
                let inner = take_ready(&mut self.inner);
                ResponseFuture::checking(check(shared.clone(), inner, req))
            }
        }
    }
}

/// Refuses a request. It takes it, so that no reference to one that is admitted is ever made.
#[inline(never)]
fn refuse<ReqBody, F>(
    shared: &Shared,
    mut req: Request<ReqBody>,
    refused: Result<Checked, Unasked>,
) -> ResponseFuture<F> {
    ResponseFuture::refused(shared.refuse(refused, &mut req))
}

/// Waits for the quotas of a request, then checks it.
async fn find_quotas<S, ReqBody>(
    shared: Arc<Shared>,
    inner: S,
    req: Request<ReqBody>,
) -> AfterCheck<S::Future>
where
    S: Service<Request<ReqBody>>,
{
    let shared = shared.under_quotas(&RequestHead::of(&req)).await;
    check(shared, inner, req).await
}

/// Waits for the store, then calls the inner service or refuses.
async fn check<S, ReqBody>(
    shared: Arc<Shared>,
    mut inner: S,
    mut req: Request<ReqBody>,
) -> AfterCheck<S::Future>
where
    S: Service<Request<ReqBody>>,
{
    let head = RequestHead::of(&req);
    let begun_at = shared.begun_at();
    match shared.check(&head).await {
        Ok(checked) if checked.is_admitted() => {
            let annotation = annotate(&shared, checked, begun_at, &mut req);
            AfterCheck::Call {
                response: inner.call(req),
                annotation,
            }
        }
        refused => AfterCheck::Refused(shared.refuse(refused, &mut req)),
    }
}

/// Does what is to be done for an admitted request before it is handed on.
fn annotate<B>(
    shared: &Arc<Shared>,
    checked: Checked,
    begun_at: u64,
    req: &mut Request<B>,
) -> Option<Annotation> {
    let head = RequestHead::of(req);
    shared.charge_shadows(&head);
    let annotation = shared.annotation_of(checked, &head, begun_at)?;
    annotation.on_request(req);
    Some(annotation)
}
