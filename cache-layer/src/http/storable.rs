use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{
        ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE,
        PROXY_AUTHORIZATION, SET_COOKIE,
    },
    response,
};
use layer_http::{QUOTA_FIELDS, strip_hop_by_hop};

use crate::{
    http::cache_control::Directives,
    http::cache_status::Detail,
    http::freshness::Freshness,
    http::request::CacheRequest,
    http::reuse::{Grace, StaleTerms},
    http::validation::has_validator,
    http::vary::VaryFields,
    purge::tags::{MAX_NAMED_TAGS, Tags, within_bounds},
    settings::{CacheSettings, Profile},
};

/// The terms on which a response is stored: its freshness, its audience, its fields and tags.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StorePolicy {
    pub(crate) freshness: Freshness,
    pub(crate) terms: StaleTerms,
    /// True if it may also be sent to requests with credentials.
    pub(crate) public: bool,
    pub(crate) vary: VaryFields,
    /// The tags that the handler named.
    pub(crate) tags: Vec<Box<str>>,
    /// The fields that are not stored, by `no-cache="x"` and `private="x"`, and [those of one client](QUOTA_FIELDS).
    left_out: Vec<HeaderName>,
}

impl StorePolicy {
    /// Returns the fields that are stored: all but those of the connection, and those that the response excepts (section 3.1).
    pub(crate) fn stored_fields(&self, response: &HeaderMap) -> HeaderMap {
        let mut fields = response.clone();
        strip_hop_by_hop(&mut fields);
        fields.remove(PROXY_AUTHORIZATION);
        for name in &self.left_out {
            fields.remove(name);
        }
        fields
    }

    /// Checks that the response may be sent to another request as it is, if only for a moment.
    ///
    /// # Errors
    ///
    /// The reason why the origin has to be asked first.
    pub(crate) fn is_ever_fresh(&self) -> Result<(), Detail> {
        if self.terms.always_validate {
            return Err(Detail::NoCache);
        }
        match self.freshness.left() < SHORTEST_LIFE {
            true => Err(Detail::Expired),
            false => Ok(()),
        }
    }
}

/// Decides if the response to `request` may be stored and shared (RFC 9111, section 3).
///
/// It arrived at `now`, `delay` after the request was sent. `fields` are those of the request.
///
/// # Errors
///
/// The first reason not to store it, in the order of the rules below.
pub(crate) fn store_policy(
    settings: &CacheSettings,
    request: &CacheRequest,
    fields: &HeaderMap,
    response: &response::Parts,
    now: SystemTime,
    delay: Duration,
) -> Result<StorePolicy, Detail> {
    let headers = &response.headers;
    let directives = Directives::of(headers, &CACHE_CONTROL);
    let safe = settings.profile == Profile::Safe;
    // Section 5.2.2.3: it limits the response to caches that know the status, and replaces `no-store` for them.
    let understood = directives.must_understand && is_understood(response.status);
    // Sections 5.2.1.5 and 5.2.2.5.
    if request.directives.no_store || (directives.no_store && !understood) {
        return Err(Detail::NoStore);
    }
    // Section 5.2.2.7: for one client alone, who may have an address of their own.
    if directives.private && !request.is_personal {
        return Err(Detail::Private);
    }
    // A cookie is for one client, though the RFC allows to share it.
    if safe && headers.contains_key(SET_COOKIE) {
        return Err(Detail::SetCookie);
    }
    if !is_whole(response.status) || (directives.must_understand && !understood) {
        return Err(Detail::StatusCode);
    }
    // A part, whatever its status says (RFC 9110, section 14.4).
    if headers.contains_key(CONTENT_RANGE) {
        return Err(Detail::Range);
    }
    let stated = Freshness::stated(headers, &directives, now, delay);
    if !settings.stores(response.status, stated.is_some()) {
        return Err(Detail::StatusCode);
    }
    // Section 3.5: a response to a credential is shared only if it is marked.
    let public = directives.public || directives.s_maxage.is_some();
    let is_shared_explicitly = public || (!safe && directives.must_revalidate);
    let has_credential = match settings.profile {
        Profile::Safe => request.credentialed,
        Profile::Rfc => !request.is_personal && fields.contains_key(AUTHORIZATION),
    };
    if has_credential && !is_shared_explicitly {
        return Err(Detail::Credentials);
    }
    let mut vary = VaryFields::of(headers).map_err(|_any| Detail::VaryAny)?;
    if safe && headers.contains_key(CONTENT_ENCODING) {
        // The handler encoded it for this client and may have forgotten to write `Vary`.
        vary.add(ACCEPT_ENCODING);
    }
    let tags = response
        .extensions
        .get::<Tags>()
        .cloned()
        .unwrap_or_default();
    if !within_bounds(tags.as_slice(), MAX_NAMED_TAGS) {
        return Err(Detail::TooManyTags);
    }
    // Section 4.2.1. A response without a lifetime is not stored, unless the layer gives it one, or it is to be validated.
    let freshness = stated
        .or_else(|| {
            let validated = directives.no_cache.then_some(Duration::ZERO);
            let lifetime = validated.or(settings.lifetime_of(response.status))?;
            Some(Freshness::granted(headers, lifetime, now, delay))
        })
        .ok_or(Detail::NoLifetime)?;
    // The time of a shared error is short: the windows of the route would prolong it.
    let is_shared_error = stated.is_none() && settings.shared_error(response.status).is_some();
    let grace = match is_shared_error {
        true => Grace::default(),
        false => settings.grace,
    };
    let policy = StorePolicy {
        freshness,
        terms: StaleTerms::of(&directives, grace),
        public,
        vary,
        tags: tags.as_slice().to_vec(),
        left_out: {
            let stated = directives.no_cache_fields.into_iter();
            let of_one_client = QUOTA_FIELDS.iter().filter(|_| safe).cloned();
            stated
                .chain(directives.private_fields)
                .chain(of_one_client)
                .collect()
        },
    };
    // One that is never fresh is of use if it may be validated, or sent stale.
    match policy.is_ever_fresh() {
        Err(detail) if policy.terms.kept_stale(has_validator(headers)).is_zero() => Err(detail),
        _ => Ok(policy),
    }
}

/// Returns true if the next response will probably not be storable either.
///
/// Not so for a failure, or if this one request asked for `no-store`.
pub(crate) fn is_lasting(detail: Detail, request: &CacheRequest, status: StatusCode) -> bool {
    let own = detail == Detail::NoStore && request.directives.no_store;
    let is_failure = detail == Detail::GrpcStatus;
    !own && !is_failure && is_whole(status) && (status.is_success() || status.is_redirection())
}

/// Returns true if the response is the whole of what is at the address, and not a part of it or the result of a condition.
pub(crate) fn is_whole(status: StatusCode) -> bool {
    let partial = [
        StatusCode::PARTIAL_CONTENT,
        StatusCode::NOT_MODIFIED,
        StatusCode::PRECONDITION_FAILED,
        StatusCode::RANGE_NOT_SATISFIABLE,
    ];
    !status.is_informational() && !partial.contains(&status)
}

/// Returns true for a status whose rules for caches this cache follows: those of RFC 9110.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=205 | 300..=303 | 305 | 307 | 308 | 400..=411 | 413..=415 | 417 | 421 | 422 | 426 | 500..=505
    )
}

const SHORTEST_LIFE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests;
