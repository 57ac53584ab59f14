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
    let sent = entry.last_sent.get(shared.id, shared.purges.count())?;
    // Both are for the usual way to decide.
    if (request.credentialed && !sent.public) || !entry.head.matches(fields) {
        return None;
    }
    // It was fresh when it was sent, and may have become stale since.
    if !sent.second.has(route.now()) {
        return None;
    }
    count(&shared.stats.hits);
    settings.tell(sent.status);
    let mut response = Response::new(Body::own(sent.content.clone()));
    *response.status_mut() = sent.code;
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
    let (entry, head) = (&hit.entry, &hit.entry.head);
    let EntryKind::Http {
        status: code,
        public,
        ..
    } = head.kind
    else {
        return;
    };
    let CacheStatus::Hit { left } = status else {
        return;
    };
    // The fields of a 304 are not all.
    if !may_recall(route) || response.status() != code {
        return;
    }
    let sent_at = head.received_at + hit.resident.as_millis() as u64;
    entry.last_sent.set(SentHead {
        cache: route.shared.id,
        purges,
        second: Second::around(sent_at, head.freshness.age + hit.resident, left),
        status,
        code,
        public,
        fields: response.headers().clone(),
        content: Content::new(entry.body.clone()).with_trailers(entry.trailers.clone()),
    });
}

/// Returns true if the count of purges tells if an entry is valid, and its address tells its stamps.
fn may_recall(route: &Route) -> bool {
    route.shared.counts_purges && route.settings.keys.key.is_none()
}

#[cfg(test)]
mod tests;
