//! One request that was not a hit at once. It is answered from the store after all, with the response of another request, or
//! by the handler.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use layer_http::BoxError;
use layer_store::StoreError;
use tokio::runtime::Handle;
use tower_service::Service;

use crate::{
    body::CacheResponse,
    call::{call_handler, pass_on},
    fill::task::{FillRequest, fill},
    http::{
        cache_status::{CacheStatus, Detail, Fwd},
        conditional,
        request::CacheRequest,
    },
    plan::{RequestPlan, plan},
    respond::{interrupted, joined_response, only_if_cached, stored_response},
    route::Route,
    stats::count,
    stored::lookup::Found,
};

/// Answers a request. `first` is what the store answered at once.
pub(crate) async fn fetch<S, ReqBody, ResBody>(
    route: Arc<Route>,
    inner: S,
    mut request: Request<ReqBody>,
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
        RequestPlan::Join(joined, status) => {
            return Ok(joined_response(&route.settings, joined, &fields, status));
        }
        RequestPlan::OnlyIfCached => return Ok(only_if_cached(&route.settings)),
        RequestPlan::Fill(fwd, pending) => (fwd, Some(pending), None),
        RequestPlan::Forward(fwd, detail) => (fwd, None, detail),
    };
    count(&route.shared.stats.misses);
    let detail = match pending {
        None => detail,
        // ## A fill, if there is room for one more
        Some(pending) => match (route.shared.fills.begin(), Handle::try_current()) {
            (Some(permit), Ok(_)) => {
                // What is stored must be whole. The client's condition is compared with what comes.
                conditional::strip(request.headers_mut());
                let request_to_fill = FillRequest {
                    route: route.clone(),
                    request: cache_request,
                    fields,
                    fwd,
                    pending,
                    permit,
                };
                let filled = fill(request_to_fill, inner, request).await;
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
    Ok(pass_on(&route, status, received))
}
