//! One request that was not a hit at once. It is answered from the store after all, with the response of another request, or
//! by the handler.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use layer_http::{Body, BoxError};
use layer_store::StoreError;
use tokio::runtime::Handle;
use tower_service::Service;
use tracing::Instrument;

use crate::{
    body::{CacheResponse, HandlerBody},
    call::{call_handler, pass_on},
    fill::task::{FillRequest, fill},
    http::{
        cache_status::{CacheStatus, Detail, Fwd},
        request::CacheRequest,
    },
    join::{Turn, join_flight},
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
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    ReqBody: Send + 'static,
    ResBody: http_body::Body<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    // The handler consumes the request, and only its response tells by which fields it varies.
    let fields = request.headers().clone();
    let (fwd, pending, detail) = match plan(&route, &cache_request, &fields, first).await {
        RequestPlan::Serve(hit, status) => {
            let (settings, is_head) = (&route.settings, cache_request.is_head);
            match stored_response(settings, &hit, is_head, &fields, status) {
                Some(response) => return Ok(response),
                None if cache_request.directives.only_if_cached => {
                    return Ok(only_if_cached(settings));
                }
                None => (Fwd::Miss, None, None),
            }
        }
        RequestPlan::ServeAndRefresh(hit, status, planned) => {
            let response = stored_response(&route.settings, &hit, false, &fields, status);
            match response {
                Some(response) => {
                    let refresh = refresh(route, inner, request, cache_request, fields, *planned);
                    spawn(refresh);
                    return Ok(response);
                }
                None => (Fwd::Miss, None, None),
            }
        }
        RequestPlan::Join(joined, status) => {
            return Ok(joined_response(&route.settings, joined, &fields, status));
        }
        RequestPlan::OnlyIfCached => return Ok(only_if_cached(&route.settings)),
        RequestPlan::Fill(fwd, pending, stale) => (fwd, Some((pending, stale)), None),
        RequestPlan::Forward(fwd, detail) => (fwd, None, detail),
    };
    count(&route.shared.stats.misses);
    let detail = match pending {
        None => detail,
        // ## A fill, if there is room for one more
        Some((pending, stale)) => match (route.shared.fills.begin(), Handle::try_current()) {
            (Some(permit), Ok(_)) => {
                let fill_request = FillRequest {
                    outlives_clients: route.settings.fills_outlive_clients,
                    route: route.clone(),
                    request: cache_request,
                    fields,
                    fwd,
                    pending,
                    stale,
                    permit,
                };
                let filled = fill(fill_request, inner, request).await;
                return filled.unwrap_or_else(|| Ok(interrupted(&route.settings)));
            }
            _ => {
                pending.not_shared();
                Some(Detail::NoRoom)
            }
        },
    };
    let received = call_handler(&route, inner, request).await?;
    let status = CacheStatus::Forwarded { fwd, detail };
    let response = pass_on(&route, status, received);
    Ok(response.map(|body| Body::inner(HandlerBody::passed(body))))
}

/// Fetches a new response behind a stale one that was sent. If another request does so already, nothing is done.
async fn refresh<S, ReqBody, ResBody>(
    route: Arc<Route>,
    inner: S,
    request: Request<ReqBody>,
    cache_request: CacheRequest,
    fields: HeaderMap,
    mut planned: Refresh,
) where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    ReqBody: Send + 'static,
    ResBody: http_body::Body<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    let (shared, address) = (&route.shared, &cache_request.address);
    let turn = join_flight(shared, address, planned.key, false, &mut planned.found).await;
    let (Turn::Fill(pending), Some(permit)) = (turn, route.shared.fills.begin()) else {
        return;
    };
    let fill_request = FillRequest {
        // It never had a client.
        outlives_clients: true,
        route: route.clone(),
        request: cache_request,
        fields,
        fwd: Fwd::Stale,
        pending,
        stale: Some(planned.stale),
        permit,
    };
    // Nobody reads the response. An error and a panic of the handler end with it.
    drop(fill(fill_request, inner, request).await);
}

/// Runs work behind a response, if there is a runtime for it.
fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(work.in_current_span());
    }
}
