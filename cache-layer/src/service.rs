use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use layer_http::{Body, BoxError, RequestHead, grpc::ClientProtocol};
use layer_store::StoreError;
use tower_service::Service;

use crate::{
    body::{CacheResponse, HandlerBody},
    fetch::fetch,
    future::{BypassNote, ResponseFuture},
    http::{
        cache_status::Detail,
        request::{
            Bypass, CacheRequest, KeyedRequest, changed_target, has_content, wants_only_stored,
        },
    },
    plan::{Hit, plan_copy, plan_now},
    purge::count::PurgeCount,
    recall,
    respond::{only_if_cached, stored_response},
    route::Route,
    stored::lookup::Found,
};

/// Answers from the cache, or from the inner service, whose response it may store. See the [crate docs](crate).
#[derive(Clone)]
pub struct Cache<S> {
    inner: S,
    route: Arc<Route>,
}

impl<S> Cache<S> {
    pub(crate) fn new(inner: S, route: Arc<Route>) -> Self {
        Self { inner, route }
    }

    /// Returns a reference to the wrapped service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the wrapped service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the wrapped service.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// Asks a store that needs no waiting. `None`: it has to wait, or a purge is outstanding.
    fn look_up_now(
        &self,
        request: &CacheRequest,
        fields: &HeaderMap,
    ) -> Option<Result<Found, StoreError>> {
        let shared = &self.route.shared;
        match shared.purger.is_behind() {
            true => None,
            false => shared.look_up_now(&request.address, fields),
        }
    }

    /// Finds out from the request alone if the cache takes part.
    fn read<ReqBody>(&self, request: &Request<ReqBody>) -> Result<KeyedRequest, Bypass>
    where
        ReqBody: http_body::Body,
    {
        let keyed = KeyedRequest::of(&self.route.settings, &RequestHead::of(request))?;
        match has_content(request.body()) && !keyed.is_call() {
            true => Err(Bypass::because(Detail::Content)),
            false => Ok(keyed),
        }
    }

    /// Answers with what was sent of an entry in this second, from a store that needs no waiting.
    fn recall<B>(&self, keyed: &KeyedRequest, fields: &HeaderMap) -> Option<CacheResponse<B>> {
        match self.route.shared.purger.is_behind() {
            true => None,
            false => recall::recall(&self.route, keyed, fields),
        }
    }

    /// Answers with a stored response that needs no waiting: one that the store has found, or a copy of a moment ago.
    fn answer_now<B>(
        &self,
        request: &CacheRequest,
        fields: &HeaderMap,
        found: Option<&Result<Found, StoreError>>,
        purges: PurgeCount,
    ) -> Option<CacheResponse<B>> {
        let route = &*self.route;
        let respond = |hit: &Hit, status| {
            stored_response(&route.settings, hit, request.is_head, fields, status)
        };
        if let Some((hit, status)) = found.and_then(|found| plan_now(route, request, found))
            && let Some(response) = respond(&hit, status)
        {
            if !request.is_head {
                recall::remember(route, &hit, status, purges, &response);
            }
            return Some(response);
        }
        let (hit, status) = plan_copy(route, request, fields)?;
        respond(&hit, status)
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Cache<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    ReqBody: http_body::Body + Send + 'static,
    ResBody: http_body::Body<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    type Response = Response<Body<HandlerBody<ResBody>>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, ReqBody, ResBody>;

    /// Always ready: a hit needs no inner service. On a miss the future waits for it.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let route = &self.route;
        if !route.settings.enabled || route.is_inside(request.extensions()) {
            return ResponseFuture::passing(self.inner.clone(), request, None);
        }
        // A request that passes by is known without a store.
        let keyed = match self.read(&request) {
            Ok(keyed) => keyed,
            Err(_) if wants_only_stored(&route.settings, &RequestHead::of(&request)) => {
                let protocol = ClientProtocol::of(request.headers());
                return ResponseFuture::ready(only_if_cached(&route.settings, &protocol));
            }
            Err(bypass) => {
                let changed = bypass
                    .is_unsafe
                    .then(|| changed_target(&RequestHead::of(&request)));
                let note = BypassNote::new(route.clone(), bypass, changed);
                return ResponseFuture::passing(self.inner.clone(), request, Some(note));
            }
        };
        // A hit on a store that needs no waiting ends here, without a task or a box.
        if let Some(response) = self.recall(&keyed, request.headers()) {
            return ResponseFuture::ready(response);
        }
        // Before the stamps are read.
        let purges = self.route.shared.purges.count();
        let cacheable = keyed.with_scopes(&route.settings, &RequestHead::of(&request));
        let found = self.look_up_now(&cacheable, request.headers());
        let answer = self.answer_now(&cacheable, request.headers(), found.as_ref(), purges);
        if let Some(response) = answer {
            return ResponseFuture::ready(response);
        }
        // The clone is made ready by the future: this service was never asked if it is.
        let (route, inner) = (route.clone(), self.inner.clone());
        ResponseFuture::working(fetch(route, inner, request, cacheable, found))
    }
}

impl<S: fmt::Debug> fmt::Debug for Cache<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
