//! One request that was not a hit at once. It is answered from the store after all, with the response of another request, or
//! by the handler.

use std::{future::Future, sync::Arc};

use http::{HeaderMap, Request};
use layer_http::{Body, Handler, KeepableBody, grpc::ClientProtocol};
use layer_store::StoreError;
use tokio::runtime::Handle;
use tracing::Instrument;

use crate::{
    body::{CacheResponse, HandlerBody, budget::FillPermit},
    call::{call_handler, pass_on},
    fill::{
        task::{FillRequest, fill},
        validate::StaleEntry,
    },
    http::{
        cache_status::{CacheStatus, Detail, Fwd},
        request::CacheRequest,
    },
    join::{PendingFill, Turn, join_flight},
    plan::{Refresh, RequestPlan, plan},
    respond::{interrupted, joined_response, only_if_cached, stored_response},
    route::Route,
    stats::count,
    stored::lookup::Found,
};

/// Answers a request. `first` is what the store answered at once.
pub(crate) async fn fetch<S, ReqBody, ResBody>(
    route: Arc<Route>,
    inner: S,
    request: Request<ReqBody>,
    cache_request: CacheRequest,
    first: Option<Result<Found, StoreError>>,
) -> Result<CacheResponse<ResBody>, S::Error>
where
    S: Handler<ReqBody, ResBody>,
    ReqBody: Send + 'static,
    ResBody: KeepableBody,
{
    let fetch = Fetch {
        fields: request.headers().clone(),
        route,
        inner,
        request,
        cache_request,
    };
    fetch.answer(first).await
}

/// A request, and its handler.
struct Fetch<S, ReqBody> {
    route: Arc<Route>,
    inner: S,
    request: Request<ReqBody>,
    cache_request: CacheRequest,
    /// The handler consumes the request, and only its response tells by which fields it varies.
    fields: HeaderMap,
}

impl<S, ReqBody> Fetch<S, ReqBody> {
    async fn answer<ResBody>(
        self,
        first: Option<Result<Found, StoreError>>,
    ) -> Result<CacheResponse<ResBody>, S::Error>
    where
        S: Handler<ReqBody, ResBody>,
        ReqBody: Send + 'static,
        ResBody: KeepableBody,
    {
        let (route, fields) = (&self.route, &self.fields);
        let settings = &route.settings;
        let (fwd, pending, detail) = match plan(route, &self.cache_request, fields, first).await {
            RequestPlan::Serve(hit, status) => {
                let is_head = self.cache_request.is_head;
                match stored_response(settings, &hit, is_head, fields, status) {
                    Some(response) => return Ok(response),
                    None if self.cache_request.directives.only_if_cached => {
                        return Ok(only_if_cached(settings, &ClientProtocol::of(fields)));
                    }
                    None => (Fwd::Miss, None, None),
                }
            }
            RequestPlan::ServeAndRefresh(hit, status, planned) => {
                match stored_response(settings, &hit, false, fields, status) {
                    Some(response) => {
                        spawn(self.refresh(*planned));
                        return Ok(response);
                    }
                    None => (Fwd::Miss, None, None),
                }
            }
            RequestPlan::Join(joined, status) => {
                return Ok(joined_response(settings, joined, fields, status));
            }
            RequestPlan::OnlyIfCached => {
                return Ok(only_if_cached(settings, &ClientProtocol::of(fields)));
            }
            RequestPlan::Fill(fwd, pending, stale) => (fwd, Some((pending, stale)), None),
            RequestPlan::Forward(fwd, detail) => (fwd, None, detail),
        };
        count(&route.shared.stats.misses);
        let detail = match pending {
            None => detail,
            // ## A fill, if there is room for one more
            Some((pending, stale)) => match (route.shared.fills.begin(), Handle::try_current()) {
                (Some(permit), Ok(_)) => {
                    let (route, protocol) = (route.clone(), ClientProtocol::of(fields));
                    let outlives_clients = settings.fills_outlive_clients;
                    let filled = self.fill(fwd, pending, stale, permit, outlives_clients);
                    return filled
                        .await
                        .unwrap_or_else(|| Ok(interrupted(&route.settings, &protocol)));
                }
                _ => {
                    pending.not_shared();
                    Some(Detail::NoRoom)
                }
            },
        };
        let received = call_handler(route, self.inner, self.request).await?;
        let status = CacheStatus::Forwarded { fwd, detail };
        let response = pass_on(route, status, received);
        Ok(response.map(|body| Body::inner(HandlerBody::passed(body))))
    }

    /// Fetches a new response behind a stale one that was sent. If another request does so already, nothing is done.
    async fn refresh<ResBody>(self, mut planned: Refresh)
    where
        S: Handler<ReqBody, ResBody>,
        ReqBody: Send + 'static,
        ResBody: KeepableBody,
    {
        let (shared, address) = (&self.route.shared, &self.cache_request.address);
        let turn = join_flight(shared, address, planned.key, false, &mut planned.found).await;
        let (Turn::Fill(pending), Some(permit)) = (turn, shared.fills.begin()) else {
            return;
        };
        // It never had a client. Nobody reads the response. An error and a panic of the handler end with it.
        let filled = self.fill(Fwd::Stale, pending, Some(planned.stale), permit, true);
        drop(filled.await);
    }

    /// Calls the handler in a task. `None`: the runtime is ending.
    async fn fill<ResBody>(
        self,
        fwd: Fwd,
        pending: PendingFill,
        stale: Option<StaleEntry>,
        permit: FillPermit,
        outlives_clients: bool,
    ) -> Option<Result<CacheResponse<ResBody>, S::Error>>
    where
        S: Handler<ReqBody, ResBody>,
        ReqBody: Send + 'static,
        ResBody: KeepableBody,
    {
        let fill_request = FillRequest {
            route: self.route,
            request: self.cache_request,
            fields: self.fields,
            fwd,
            pending,
            stale,
            permit,
            outlives_clients,
        };
        fill(fill_request, self.inner, self.request).await
    }
}

/// Runs work behind a response, if there is a runtime for it.
fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(work.in_current_span());
    }
}
