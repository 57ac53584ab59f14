//! A hit that is sent as it was before in the same second: the store is asked for the entry alone, and not for its stamps.
//!
//! [`purge::count`](crate::purge::count) tells why that is enough, and on which stores.

use http::{HeaderMap, Response};
use layer_http::{Body, Content};

use crate::{
    body::CacheResponse,
    http::{cache_status::CacheStatus, request::KeyedRequest},
    plan::Hit,
    purge::count::PurgeCount,
    respond::or_not_modified,
    route::Route,
    stats::count,
    stored::{
        entry::EntryKind,
        kept::KeptEntry,
        sent::{Second, SentHead},
    },
};

/// Answers a request with these fields as before in this second. `None`: the stamps have to be read.
pub(crate) fn recall<B>(
    route: &Route,
    request: &KeyedRequest,
    fields: &HeaderMap,
) -> Option<CacheResponse<B>> {
    if !may_recall(route) || !request.is_plain() {
        return None;
    }
    let (shared, settings) = (&route.shared, &route.settings);
    let value = shared.value_now(&settings.space, &request.text, fields)?;
    let entry = KeptEntry::read(&value, &request.text)?;
    let sent = entry.last_sent.get(shared.id)?;
    let EntryKind::Http { status, public, .. } = entry.head.kind else {
        return None;
    };
    // Both are for the usual way to decide.
    if (request.credentialed && !public) || !entry.head.matches(fields) {
        return None;
    }
    let freshness = &entry.head.freshness;
    let age = freshness.age + entry.head.resident(route.now());
    let left = freshness.lifetime.saturating_sub(age);
    // It was fresh when it was sent, and may have become stale since.
    if left.is_zero() {
        return None;
    }
    if sent.second != second(age, left) {
        return None;
    }
    count(&shared.stats.hits);
    settings.tell(CacheStatus::Hit { left });
    let mut response = Response::new(Body::own(sent.content.clone()));
    *response.status_mut() = status;
    *response.headers_mut() = sent.fields.clone();
    match request.is_conditional {
        true => Some(or_not_modified(fields, entry.head.received_at(), response)),
        false => Some(response),
    }
}

/// Remembers a response that was made of a hit. `purges` was read before the lookup that found it.
pub(crate) fn remember<B>(
    route: &Route,
    hit: &Hit,
    status: CacheStatus,
    purges: PurgeCount,
    response: &CacheResponse<B>,
) {
    let entry = &hit.entry;
    let EntryKind::Http { status: code, .. } = entry.head.kind else {
        return;
    };
    let CacheStatus::Hit { left } = status else {
        return;
    };
    // The fields of a 304 are not all.
    if !may_recall(route) || response.status() != code {
        return;
    }
    let age = entry.head.freshness.age + hit.resident;
    entry.last_sent.set(SentHead {
        cache: route.shared.id,
        purges,
        second: second(age, left),
        fields: response.headers().clone(),
        content: Content::new(entry.body.clone()).with_trailers(entry.trailers.clone()),
    });
}

/// Returns true if the count of purges tells if an entry is valid, and its address tells its stamps.
fn may_recall(route: &Route) -> bool {
    route.shared.counts_purges && route.settings.keys.key.is_none()
}

fn second(age: std::time::Duration, left: std::time::Duration) -> Second {
    Second {
        age: age.as_secs(),
        left: left.as_secs(),
    }
}

#[cfg(test)]
mod tests;
