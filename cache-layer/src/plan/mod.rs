//! Deciding on one request: send what is stored, wait for another request, or call the handler.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use layer_store::StoreError;

use crate::{
    body::reader::FillReader,
    fill::validate::StaleEntry,
    flight::{FlightEnd, FlightKey, Follower, arriving::ArrivingEntry, flight_key},
    http::{
        cache_control::Directives,
        cache_status::{CacheStatus, Detail, Fwd},
        request::CacheRequest,
        reuse::{Need, Reuse, decide_reuse},
        vary::VaryFields,
    },
    join::{MAX_ROUNDS, PendingFill, Turn, join_flight},
    route::Route,
    stats::count,
    stored::{
        entry::{Entry, EntryHead, EntryKind},
        lookup::{Found, MissReason},
    },
};

/// The way in which a request is answered.
#[derive(Debug)]
pub(crate) enum RequestPlan {
    /// With a stored response.
    Serve(Hit, CacheStatus),
    /// With a stored response that is stale, while a new one is fetched behind it (RFC 5861, section 3).
    ServeAndRefresh(Hit, CacheStatus, Box<Refresh>),
    /// With the response of another request, which is arriving.
    Join(JoinedResponse, CacheStatus),
    /// With 504: the request asked for a stored response or nothing, and there is none.
    OnlyIfCached,
    /// By the handler, whose response may be stored.
    Fill(Fwd, PendingFill, Option<StaleEntry>),
    /// By the handler, whose response is not stored.
    Forward(Fwd, Option<Detail>),
}

/// A stored response that may be sent to this request.
#[derive(Debug)]
pub(crate) struct Hit {
    pub(crate) entry: Arc<Entry>,
    /// The time since it was received.
    pub(crate) resident: Duration,
    use_as: UseAs,
}

/// The state in which a stored response is sent.
#[derive(Clone, Copy, Debug)]
enum UseAs {
    /// It stays fresh for this long.
    Fresh(Duration),
    /// It has been stale for this long, which the client accepts.
    Stale(Duration),
}

/// The fetch of a new response behind a stale one.
#[derive(Debug)]
pub(crate) struct Refresh {
    pub(crate) found: Found,
    pub(crate) key: FlightKey,
    pub(crate) stale: StaleEntry,
}

/// The use of a stored response for one request.
enum Judged {
    Serve(Hit),
    ServeAndRefresh(Hit),
    /// It is not sent as it is.
    Miss(Fwd, Option<StaleEntry>),
}

/// A response that is arriving for another request, and may be sent to this one.
#[derive(Debug)]
pub(crate) struct JoinedResponse {
    pub(crate) entry: Arc<ArrivingEntry>,
    pub(crate) body: FillReader,
    /// The time since it was received.
    pub(crate) resident: Duration,
}

/// The next thing to do after another request's handler call.
enum Followed {
    Join(JoinedResponse, CacheStatus),
    /// That request left or its handler failed.
    LookAgain,
    /// Its response varies by these fields, and is for another variant. This request waits for its own.
    Variant(VaryFields),
    /// Its response is not for this request, and waiting for another one would take as long again.
    GoAlone,
}

/// Decides without waiting, from what the store answered at once. `None` if it is not a hit.
pub(crate) fn plan_now(
    route: &Route,
    request: &CacheRequest,
    found: &Result<Found, StoreError>,
) -> Option<(Hit, CacheStatus)> {
    match judge(route, request, found.as_ref().ok()?, None) {
        Judged::Serve(hit) => Some(serve(route, hit)),
        // A fetch behind it needs the request.
        Judged::ServeAndRefresh(_) | Judged::Miss(..) => None,
    }
}

/// Decides without a command, from a copy that was verified a moment ago. `None` if it is not a hit.
pub(crate) fn plan_copy(
    route: &Route,
    request: &CacheRequest,
    fields: &HeaderMap,
) -> Option<(Hit, CacheStatus)> {
    let entry = route.shared.copy(&request.address, fields)?;
    match judge_entry(route, request, &entry, false) {
        Judged::Serve(hit) => Some(serve(route, hit)),
        Judged::ServeAndRefresh(_) | Judged::Miss(..) => None,
    }
}

/// Decides, beginning with `first` if the store has answered already. `fields` are those of the request.
pub(crate) async fn plan(
    route: &Route,
    request: &CacheRequest,
    fields: &HeaderMap,
    mut first: Option<Result<Found, StoreError>>,
) -> RequestPlan {
    let (shared, address) = (&route.shared, &*request.address);
    let mut fwd = Fwd::Miss;
    let mut vary = VaryFields::default();
    let mut goes_alone = false;
    let came = route.now();
    let mut since = None;
    for _ in 0..MAX_ROUNDS {
        // ## Look up
        // Nothing may be served while a purge is outstanding.
        if !shared.purger.settle().await {
            return store_down(route, request);
        }
        let found = match first.take() {
            Some(found) => found,
            None => shared.look_up(address, fields).await,
        };
        let mut found = match found {
            Ok(found) => found,
            Err(error) => {
                tell_failed(&error);
                return store_down(route, request);
            }
        };

        // ## Look up => (Serve | OnlyIfCached | Forward)
        // A fresh entry is sent. Without one it may be clear from the request that nothing will be stored.
        let stale;
        (fwd, stale) = match judge(route, request, &found, since) {
            Judged::Serve(hit) => {
                let (hit, status) = serve(route, hit);
                return RequestPlan::Serve(hit, status);
            }
            Judged::ServeAndRefresh(hit) => {
                return serve_and_refresh(route, request, fields, hit, found);
            }
            Judged::Miss(fwd, stale) => (fwd, stale),
        };
        if request.directives.only_if_cached {
            return RequestPlan::OnlyIfCached;
        }
        if let Some(detail) = never_stored(request, &found) {
            return RequestPlan::Forward(fwd, Some(detail));
        }

        // ## Look up => (Fill | Wait | Look up)
        // Another's response may have shown by which fields it varies, before the store knows.
        vary = found.vary.union(&vary).unwrap_or(vary);
        let key = flight_key(address, request.credentialed, &vary.variant(fields));
        // What is stored from now on was fetched after this request came.
        since = Some(came);
        let wants_its_own = fwd == Fwd::Request && !route.settings.coalesces();
        let alone = goes_alone || wants_its_own || shared.is_hit_for_miss(&key, &found.observed);
        let follower = match join_flight(shared, address, key, alone, &mut found).await {
            Turn::Fill(fill) => return RequestPlan::Fill(fwd, fill, stale),
            Turn::StoreDown => return store_down(route, request),
            Turn::LookAgain => continue,
            Turn::Wait(follower) => follower,
        };

        // ## Wait => (Join | Look up)
        // The end of the other's call decides.
        match follow(route, request, fields, follower, fwd).await {
            Followed::Join(joined, status) => return RequestPlan::Join(joined, status),
            Followed::LookAgain => {}
            Followed::Variant(fields) => vary = fields,
            Followed::GoAlone => goes_alone = true,
        }
    }
    RequestPlan::Forward(fwd, None)
}

/// Serves a stale response, and has a new one fetched if nobody does yet.
fn serve_and_refresh(
    route: &Route,
    request: &CacheRequest,
    fields: &HeaderMap,
    hit: Hit,
    found: Found,
) -> RequestPlan {
    let key = flight_key(
        &request.address,
        request.credentialed,
        &found.vary.variant(fields),
    );
    let is_fetched = never_stored(request, &found).is_none()
        && !request.directives.only_if_cached
        && !route.shared.is_hit_for_miss(&key, &found.observed);
    let stale = StaleEntry {
        is_validated: hit.entry.has_validator(),
        entry: hit.entry.clone(),
        // Nobody waits for it.
        if_error: Duration::ZERO,
    };
    let (hit, status) = serve(route, hit);
    match is_fetched {
        false => RequestPlan::Serve(hit, status),
        true => {
            let refresh = Refresh { found, key, stale };
            RequestPlan::ServeAndRefresh(hit, status, Box::new(refresh))
        }
    }
}

/// Waits for another request's response.
async fn follow(
    route: &Route,
    request: &CacheRequest,
    fields: &HeaderMap,
    follower: Follower,
    fwd: Fwd,
) -> Followed {
    let entry = match follower.end().await {
        FlightEnd::Shared(entry) => entry,
        FlightEnd::Abandoned => return Followed::LookAgain,
        FlightEnd::NotShared | FlightEnd::TooLong => return Followed::GoAlone,
    };
    if !entry.head.matches(fields) {
        return Followed::Variant(entry.head.vary_fields());
    }
    // It may not be fresh enough for this request.
    let resident = entry.head.resident(route.now());
    let is_new = route.settings.coalesces();
    let status = match reuse(route, request, &entry.head, || false, is_new) {
        Ok(Reuse::Serve(left)) => CacheStatus::Collapsed { left, fwd },
        Ok(Reuse::ServeStale { .. }) => CacheStatus::Collapsed {
            left: Duration::ZERO,
            fwd,
        },
        // The handler has failed for all who wait.
        Ok(Reuse::Validate(need) | Reuse::Fetch(need))
            if entry.handler_failed && !need.if_error.is_zero() =>
        {
            CacheStatus::Stale {
                over: entry.head.over(route.now()),
            }
        }
        // It was never fresh, and it was fetched for all who wait.
        Ok(_) if is_new && !entry.handler_failed => CacheStatus::Collapsed {
            left: Duration::ZERO,
            fwd,
        },
        _ => return Followed::GoAlone,
    };
    // It may have become too long meanwhile.
    let Some(body) = FillReader::begin(&entry.body) else {
        return Followed::GoAlone;
    };
    count(&route.shared.stats.collapsed);
    let joined = JoinedResponse {
        entry,
        body,
        resident,
    };
    Followed::Join(joined, status)
}

/// Decides if the entry that was found may be sent.
///
/// `since` is the time, in Unix milliseconds, from which on a response is new to a request that wants a new one.
fn judge(route: &Route, request: &CacheRequest, found: &Found, since: Option<u64>) -> Judged {
    let entry = match &found.entry {
        Ok(entry) => entry,
        Err(MissReason::Address) => return Judged::Miss(Fwd::UriMiss, None),
        Err(MissReason::Variant) => return Judged::Miss(Fwd::VaryMiss, None),
        Err(MissReason::Purged) => return Judged::Miss(Fwd::Purged, None),
    };
    let is_new = since.is_some_and(|since| entry.head.received_at >= since);
    judge_entry(route, request, entry, is_new && route.settings.coalesces())
}

fn judge_entry(route: &Route, request: &CacheRequest, entry: &Arc<Entry>, is_new: bool) -> Judged {
    let hit = |use_as| Hit {
        entry: entry.clone(),
        resident: entry.head.resident(route.now()),
        use_as,
    };
    let stale = |is_validated, need: Need| {
        let entry = entry.clone();
        let stale = StaleEntry {
            entry,
            is_validated,
            if_error: need.if_error,
        };
        Judged::Miss(need.fwd, Some(stale))
    };
    match reuse(
        route,
        request,
        &entry.head,
        || entry.has_validator(),
        is_new,
    ) {
        Err(fwd) => Judged::Miss(fwd, None),
        Ok(Reuse::Serve(left)) => Judged::Serve(hit(UseAs::Fresh(left))),
        Ok(Reuse::ServeStale { over, refresh }) => match refresh {
            true => Judged::ServeAndRefresh(hit(UseAs::Stale(over))),
            false => Judged::Serve(hit(UseAs::Stale(over))),
        },
        // It was never fresh, and it was fetched after this request came.
        Ok(_) if is_new => Judged::Serve(hit(UseAs::Stale(entry.head.over(route.now())))),
        Ok(Reuse::Validate(need)) => stale(true, need),
        Ok(Reuse::Fetch(need)) => stale(false, need),
    }
}

/// Decides on the use of a valid entry. One that `is_new` is fresh enough for any client.
///
/// # Errors
///
/// It is not for this client.
fn reuse(
    route: &Route,
    request: &CacheRequest,
    head: &EntryHead,
    has_validator: impl FnOnce() -> bool,
    is_new: bool,
) -> Result<Reuse, Fwd> {
    let EntryKind::Http { public, .. } = head.kind else {
        return Err(Fwd::UriMiss);
    };
    if route.settings.is_safe() && request.credentialed && !public {
        return Err(Fwd::Bypass);
    }
    let nothing = Directives::default();
    let asks = match is_new {
        true => &nothing,
        false => &request.directives,
    };
    let resident = head.resident(route.now());
    Ok(decide_reuse(
        &head.freshness,
        &head.terms,
        has_validator,
        resident,
        asks,
    ))
}

/// Counts a hit, and describes it.
fn serve(route: &Route, hit: Hit) -> (Hit, CacheStatus) {
    count(&route.shared.stats.hits);
    let status = match hit.use_as {
        UseAs::Fresh(left) => CacheStatus::Hit { left },
        UseAs::Stale(over) => CacheStatus::Stale { over },
    };
    (hit, status)
}

/// Returns a reason why no response to this request will be stored.
fn never_stored(request: &CacheRequest, found: &Found) -> Option<Detail> {
    if request.is_head {
        Some(Detail::Head)
    } else if request.directives.no_store {
        Some(Detail::NoStore)
    } else if found.observed.is_unreadable() {
        Some(Detail::Stamps)
    } else {
        None
    }
}

/// Tells why the store could not be asked.
pub(crate) fn tell_failed(error: &StoreError) {
    tracing::debug!(
        kind = error.kind().as_str(),
        error = %error.report(),
        "cache lookup failed"
    );
}

fn store_down(route: &Route, request: &CacheRequest) -> RequestPlan {
    count(&route.shared.stats.store_errors);
    match request.directives.only_if_cached {
        true => RequestPlan::OnlyIfCached,
        false => RequestPlan::Forward(Fwd::Miss, Some(Detail::StoreDown)),
    }
}

#[cfg(test)]
mod tests;
