//! One request that was not a hit at once. It is answered from the store after all, or it goes to the handler, whose
//! response may be stored as it passes.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, response};
use layer_http::{Body, BoxError, strip_hop_by_hop};
use layer_store::StoreError;
use tokio::time::Instant;
use tower_service::Service;

use crate::{
    body::{CacheResponse, Tee},
    http::{
        cache_status::{CacheStatus, Detail, Fwd},
        request::CacheRequest,
        storable::{StorePolicy, is_lasting, store_policy},
        vary::{self, VaryAny},
    },
    join::PendingFill,
    plan::{RequestPlan, plan},
    purge::invalidation::invalidated,
    respond::{only_if_cached, stored_response},
    route::Route,
    stats::count,
    stored::{
        entry::{EntryHead, EntryKind},
        fill::Fill,
        lookup::Found,
        write::Variant,
    },
};

/// A handler's response, taken apart.
struct Received<B> {
    parts: response::Parts,
    body: B,
    /// The time that the handler took.
    delay: Duration,
}

/// Answers a request. `first` is what the store answered at once.
pub(crate) async fn fetch<S, ReqBody, ResBody>(
    route: Arc<Route>,
    mut inner: S,
    mut request: Request<ReqBody>,
    cache_request: CacheRequest,
    first: Option<Result<Found, StoreError>>,
) -> Result<CacheResponse<ResBody>, S::Error>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: http_body::Body<Data = Bytes>,
    ResBody::Error: Into<BoxError>,
{
    // The handler consumes the request, and only its response tells by which fields it varies.
    let fields = request.headers().clone();
    let (fwd, fill, detail) = match plan(&route, &cache_request, &fields, first).await {
        RequestPlan::Serve(hit, status) => {
            match stored_response(&route.settings, &hit, cache_request.is_head, status) {
                Some(response) => return Ok(response),
                None => (Fwd::Miss, None, None),
            }
        }
        RequestPlan::OnlyIfCached => return Ok(only_if_cached(&route.settings)),
        RequestPlan::Fill(fwd, fill) => (fwd, Some(fill), None),
        RequestPlan::Forward(fwd, detail) => (fwd, None, detail),
    };
    count(&route.shared.stats.misses);
    // A service of this cache further in must not wait for this one.
    route.enter(request.extensions_mut());
    let sent = Instant::now();
    std::future::poll_fn(|cx| inner.poll_ready(cx)).await?;
    let (parts, body) = inner.call(request).await?.into_parts();
    let delay = sent.elapsed();
    // The handler's change is purged before the client learns of it.
    let scopes = invalidated(&parts);
    route.shared.purger.purge_before_response(scopes).await;
    let received = Received { parts, body, delay };
    Ok(match fill {
        Some(fill) => store_as_it_passes(&route, cache_request, &fields, fill, fwd, received),
        None => pass_on(&route, CacheStatus::Forwarded { fwd, detail }, received),
    })
}

/// Sends the response on, and stores it as it passes if that is allowed.
fn store_as_it_passes<ResBody>(
    route: &Route,
    request: CacheRequest,
    fields: &HeaderMap,
    fill: PendingFill,
    fwd: Fwd,
    mut received: Received<ResBody>,
) -> CacheResponse<ResBody>
where
    ResBody: http_body::Body<Data = Bytes>,
{
    let now = route.now();
    let stored = policy(route, &request, fields, &received, now)
        .and_then(|policy| Ok((variant(&fill, &policy, fields)?, policy)));
    let (variant, policy) = match stored {
        Ok(stored) => stored,
        Err(detail) => return do_not_store(route, &request, fill, fwd, detail, received),
    };
    // The client gets all fields, the store those that do not concern the connection.
    let mut headers = received.parts.headers.clone();
    strip_hop_by_hop(&mut headers);
    let value = |name: &http::HeaderName| (name.clone(), vary::value(fields, name));
    let head = EntryHead {
        kind: EntryKind::Http {
            status: received.parts.status,
            public: policy.public,
            vary_values: policy.vary.iter().map(value).collect(),
        },
        received_at: now,
        freshness: policy.freshness,
    };
    let fill = Fill {
        shared: route.shared.clone(),
        clock: route.settings.clock.clone(),
        address: request.address,
        credentialed: request.credentialed,
        snapshot: fill.snapshot,
        leader: fill.leader,
        head,
        headers,
        tags: policy.tags,
        variant,
    };
    let body = Tee::copying(received.body, fill, route.settings.max_body);
    let headers = &mut received.parts.headers;
    route.settings.mark(headers, CacheStatus::Stored { fwd });
    Response::from_parts(received.parts, Body::inner(body))
}

/// Sends the response on and does not store it, for the reason `detail`.
fn do_not_store<ResBody>(
    route: &Route,
    request: &CacheRequest,
    fill: PendingFill,
    fwd: Fwd,
    detail: Detail,
    received: Received<ResBody>,
) -> CacheResponse<ResBody> {
    // The next requests for this address do not wait for each other.
    if is_lasting(detail, request, received.parts.status) {
        route
            .shared
            .mark_uncacheable(&request.address, request.credentialed);
    }
    // Those that wait for this one call the handler now.
    if let Some(leader) = fill.leader {
        leader.not_shared();
    }
    let detail = Some(detail);
    pass_on(route, CacheStatus::Forwarded { fwd, detail }, received)
}

/// Sends the response on and stores nothing.
fn pass_on<ResBody>(
    route: &Route,
    status: CacheStatus,
    mut received: Received<ResBody>,
) -> CacheResponse<ResBody> {
    let headers = &mut received.parts.headers;
    route.settings.mark(headers, status);
    let body = Body::inner(Tee::through(received.body));
    Response::from_parts(received.parts, body)
}

/// Decides if the response may be stored. It arrived at `now`, in Unix milliseconds.
fn policy<ResBody: http_body::Body>(
    route: &Route,
    request: &CacheRequest,
    fields: &HeaderMap,
    received: &Received<ResBody>,
    now: u64,
) -> Result<StorePolicy, Detail> {
    let Received { parts, body, delay } = received;
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(now);
    let policy = store_policy(&route.settings, request, fields, parts, now, *delay)?;
    match body.size_hint().lower() > route.settings.max_body as u64 {
        true => Err(Detail::TooLarge),
        false => Ok(policy),
    }
}

/// Finds the place of a response among the variants of its address. `None` if it is the only one.
///
/// The vary rule holds the fields of all responses so far: a response that varies by fewer of them stays in the place that
/// the next lookup will ask for.
fn variant(
    fill: &PendingFill,
    policy: &StorePolicy,
    fields: &HeaderMap,
) -> Result<Option<Variant>, Detail> {
    let vary = fill.vary.union(&policy.vary);
    let vary = vary.map_err(|VaryAny| Detail::VaryAny)?;
    Ok((!vary.is_empty()).then(|| Variant {
        rest: vary.variant(fields),
        has_rule: fill.has_rule && vary == fill.vary,
        vary,
    }))
}
