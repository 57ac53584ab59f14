//! Deciding if a handler's response is stored, and as what.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header::CONTENT_TYPE, response};

use super::commit::Fill;
use crate::{
    call::Received,
    grpc_calls::reply::CallReply,
    http::{
        cache_status::Detail,
        date,
        request::CacheRequest,
        storable::{StorePolicy, is_lasting, store_policy},
        vary::{self, VaryAny},
    },
    join::PendingFill,
    route::Route,
    stored::{
        entry::{EntryHead, EntryKind, life},
        write::Variant,
    },
};

/// Makes the fill of a response that may be stored. `fields` are those of the request.
///
/// # Errors
///
/// It may not be stored. Those who wait for it call the handler now, and if the next response will probably be the same, the
/// next requests do not queue up for it.
pub(super) fn decide<B>(
    route: &Route,
    request: &CacheRequest,
    fields: &HeaderMap,
    pending: PendingFill,
    received: &Received<B>,
) -> Result<Fill, Detail>
where
    B: http_body::Body,
{
    let now = route.now();
    let received_at = SystemTime::UNIX_EPOCH + Duration::from_millis(now);
    let decided = policy(route, request, fields, received, received_at).and_then(|policy| {
        let variant = variant(&pending, &policy, fields)?;
        admit(route, request, &policy, variant.as_ref(), &received.parts)?;
        Ok((variant, policy))
    });
    let (variant, policy) = match decided {
        Ok(decided) => decided,
        Err(detail) => {
            if is_lasting(detail, request, received.parts.status) {
                route
                    .shared
                    .mark_hit_for_miss(&pending.key, &pending.snapshot);
            }
            pending.not_shared();
            return Err(detail);
        }
    };
    let mut headers = policy.stored_fields(&received.parts.headers);
    route.settings.keys.strip_unstored(&mut headers);
    date::record(&mut headers, received_at);
    let value = |name: &http::HeaderName| (name.clone(), vary::value(fields, name));
    let head = EntryHead {
        kind: EntryKind::Http {
            status: received.parts.status,
            public: policy.public,
            vary_values: policy.vary.iter().map(value).collect(),
        },
        received_at: now,
        freshness: policy.freshness,
        terms: policy.terms,
    };
    Ok(Fill {
        shared: route.shared.clone(),
        clock: route.settings.clock.clone(),
        address: request.address.clone(),
        key: pending.key,
        snapshot: pending.snapshot,
        leader: pending.leader,
        lease: pending.lease,
        head,
        headers,
        makes_etag: route.settings.makes_etags,
        tags: policy.tags,
        variant,
    })
}

/// Decides if the response may be stored. It arrived at `now`.
fn policy<B: http_body::Body>(
    route: &Route,
    request: &CacheRequest,
    fields: &HeaderMap,
    received: &Received<B>,
    now: SystemTime,
) -> Result<StorePolicy, Detail> {
    let Received { parts, body, delay } = received;
    if request.is_call && CallReply::of_head(&parts.headers).is_none() {
        return Err(Detail::GrpcStatus);
    }
    let policy = store_policy(&route.settings, request, fields, parts, now, *delay)?;
    // An application whose handlers are not written for it gains nothing from a response that is asked for each time.
    if route.settings.is_safe() && policy.terms.kept_stale(false).is_zero() {
        policy.is_ever_fresh()?;
    }
    if is_endless(&parts.headers) {
        return Err(Detail::Endless);
    }
    match body.size_hint().lower() > route.settings.max_body as u64 {
        true => Err(Detail::TooLarge),
        false => Ok(policy),
    }
}

/// Returns true for the types of bodies that go on for as long as the client listens.
fn is_endless(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    let essence = content_type.and_then(|value| value.split(|byte| *byte == b';').next());
    essence.is_some_and(|essence| {
        let essence = essence.trim_ascii();
        ENDLESS
            .iter()
            .any(|endless| essence.eq_ignore_ascii_case(endless))
    })
}

/// Finds the place of a response among the variants of its address. `None` if it is the only one.
///
/// The vary rule holds the fields of all responses so far: a response that varies by fewer of them stays in the place that
/// the next lookup will ask for.
fn variant(
    pending: &PendingFill,
    policy: &StorePolicy,
    fields: &HeaderMap,
) -> Result<Option<Variant>, Detail> {
    let vary = pending.vary.union(&policy.vary);
    let vary = vary.map_err(|VaryAny| Detail::VaryAny)?;
    Ok((!vary.is_empty()).then(|| Variant {
        rest: vary.variant(fields),
        has_rule: pending.has_rule && vary == pending.vary,
        vary,
    }))
}

/// Checks that the address has room for one more variant, and counts it in.
fn admit(
    route: &Route,
    request: &CacheRequest,
    policy: &StorePolicy,
    variant: Option<&Variant>,
    response: &response::Parts,
) -> Result<(), Detail> {
    let Some(variant) = variant else {
        return Ok(());
    };
    let life = life(&policy.freshness, &policy.terms, &response.headers);
    let (variants, max) = (&route.shared.variants, route.settings.max_variants);
    match variants.admit(&request.address, &variant.rest, life, max) {
        true => Ok(()),
        false => Err(Detail::TooManyVariants),
    }
}

/// Server-sent events, and parts that replace each other, as cameras send them.
const ENDLESS: [&[u8]; 2] = [b"text/event-stream", b"multipart/x-mixed-replace"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_without_an_end_are_known_by_their_type() {
        let is_endless = |content_type: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
            is_endless(&headers)
        };
        assert!(is_endless("text/event-stream"));
        assert!(is_endless(" Text/Event-Stream ; charset=utf-8"));
        assert!(is_endless("multipart/x-mixed-replace;boundary=a"));
        assert!(!is_endless("text/event-streams") && !is_endless("text/html"));
        assert!(!super::is_endless(&HeaderMap::new()));
    }
}
