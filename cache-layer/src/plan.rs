//! Deciding on one request: send what is stored, wait for another request, or call the handler.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use layer_store::StoreError;

use crate::{
    flight::{FlightEnd, flight_key},
    http::{
        cache_status::{CacheStatus, Detail, Fwd},
        freshness::Reuse,
        request::CacheRequest,
    },
    join::{MAX_ROUNDS, PendingFill, Turn, join},
    route::Route,
    stats::count,
    stored::{
        entry::{Entry, EntryKind},
        lookup::{Found, MissReason},
    },
};

/// The way in which a request is answered.
#[derive(Debug)]
pub(crate) enum Plan {
    /// With a stored response.
    Serve(Hit, CacheStatus),
    /// With 504: the request asked for a stored response or nothing, and there is none.
    OnlyIfCached,
    /// By the handler, whose response may be stored.
    Fill(Fwd, PendingFill),
    /// By the handler, whose response is not stored.
    Forward(Fwd, Option<Detail>),
}

/// A stored response that may be sent to this request.
#[derive(Debug)]
pub(crate) struct Hit {
    pub(crate) entry: Arc<Entry>,
    /// The time since it was received.
    pub(crate) resident: Duration,
    /// The time for which it stays fresh.
    left: Duration,
}

/// Decides without waiting, from what the store answered at once. `None` if it is not a hit.
pub(crate) fn plan_now(
    route: &Route,
    request: &CacheRequest,
    found: &Result<Found, StoreError>,
) -> Option<(Hit, CacheStatus)> {
    let hit = judge(route, request, found.as_ref().ok()?).ok()?;
    Some(serve(route, hit))
}

/// Decides, beginning with `first` if the store has answered already. `fields` are those of the request.
pub(crate) async fn plan(
    route: &Route,
    request: &CacheRequest,
    fields: &HeaderMap,
    mut first: Option<Result<Found, StoreError>>,
) -> Plan {
    let (shared, address) = (&route.shared, &*request.address);
    let mut fwd = Fwd::Miss;
    for _ in 0..MAX_ROUNDS {
        // ## Look up
        // Nothing may be served while a purge is outstanding.
        if !shared.purger.settle().await {
            return store_down(route);
        }
        let found = match first.take() {
            Some(found) => found,
            None => shared.look_up(address, fields).await,
        };
        let Ok(mut found) = found else {
            return store_down(route);
        };

        // ## Look up => (Serve | OnlyIfCached | Forward)
        // A fresh entry is sent. Without one it may be clear from the request that nothing will be stored.
        fwd = match judge(route, request, &found) {
            Ok(hit) => {
                let (hit, status) = serve(route, hit);
                return Plan::Serve(hit, status);
            }
            Err(fwd) => fwd,
        };
        if request.directives.only_if_cached {
            return Plan::OnlyIfCached;
        }
        if let Some(detail) = never_stored(request, &found) {
            return Plan::Forward(fwd, Some(detail));
        }

        // ## Look up => (Fill | Wait | Look up)
        // A request that wants a fresher response than the stored one does not share another's call.
        let key = (fwd != Fwd::Request).then(|| {
            let variant = found.vary.variant(fields);
            flight_key(address, request.credentialed, &variant)
        });
        let follower = match join(shared, address, key, &mut found).await {
            Turn::Fill(fill) => return Plan::Fill(fwd, fill),
            Turn::StoreDown => return store_down(route),
            Turn::LookAgain => continue,
            Turn::Wait(follower) => follower,
        };

        // ## Wait => (Serve | Forward | Look up)
        // The other's response may be for another variant, or not fresh enough for this request: it looks again.
        match follower.end().await {
            FlightEnd::Shared(entry) if entry.matches(fields) => {
                if let Ok(hit) = judge_entry(route, request, &entry) {
                    count(&shared.stats.collapsed);
                    let left = hit.left;
                    return Plan::Serve(hit, CacheStatus::Collapsed { left, fwd });
                }
            }
            FlightEnd::Shared(_) | FlightEnd::Abandoned => {}
            FlightEnd::NotShared | FlightEnd::TooLong => {
                return Plan::Forward(fwd, Some(Detail::Uncacheable));
            }
        }
    }
    Plan::Forward(fwd, None)
}

fn judge(route: &Route, request: &CacheRequest, found: &Found) -> Result<Hit, Fwd> {
    match &found.entry {
        Ok(entry) => judge_entry(route, request, entry),
        Err(MissReason::Address) => Err(Fwd::UriMiss),
        Err(MissReason::Variant) => Err(Fwd::VaryMiss),
        Err(MissReason::Purged) => Err(Fwd::Purged),
    }
}

/// Decides if a valid entry may be sent to this request.
fn judge_entry(route: &Route, request: &CacheRequest, entry: &Arc<Entry>) -> Result<Hit, Fwd> {
    let EntryKind::Http { public, .. } = entry.head.kind else {
        return Err(Fwd::UriMiss);
    };
    if route.settings.is_safe() && request.credentialed && !public {
        return Err(Fwd::Bypass);
    }
    let resident = entry.resident(route.now());
    match entry.head.freshness.decide(resident, &request.directives) {
        Reuse::Serve(left) => Ok(Hit {
            entry: entry.clone(),
            resident,
            left,
        }),
        Reuse::Stale => Err(Fwd::Stale),
        Reuse::Refetch => Err(Fwd::Request),
    }
}

/// Counts a hit, and describes it.
fn serve(route: &Route, hit: Hit) -> (Hit, CacheStatus) {
    count(&route.shared.stats.hits);
    let left = hit.left;
    (hit, CacheStatus::Hit { left })
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

fn store_down(route: &Route) -> Plan {
    count(&route.shared.stats.store_errors);
    Plan::Forward(Fwd::Miss, Some(Detail::StoreDown))
}
