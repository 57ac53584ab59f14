//! Responses that the cache makes itself: a stored one, and the refusal of `only-if-cached`.

use http::{Response, StatusCode, header};
use layer_http::{Body, Content};

use crate::{
    body::CacheResponse, http::cache_status::CacheStatus, plan::Hit, refusal::CacheRefusal,
    settings::Settings, stored::entry::EntryKind,
};

/// Makes the response of a hit. `None` if the entry's fields cannot be read.
///
/// A `HEAD` gets the fields of the `GET` and no body (RFC 9110, section 9.3.2).
pub(crate) fn stored_response<B>(
    settings: &Settings,
    hit: &Hit,
    is_head: bool,
    status: CacheStatus,
) -> Option<CacheResponse<B>> {
    let entry = &hit.entry;
    let EntryKind::Http { status: code, .. } = entry.head.kind else {
        return None;
    };
    let mut headers = entry.headers()?;
    let age = (entry.head.freshness.age + hit.resident).as_secs();
    headers.insert(header::AGE, age.into());
    settings.cache_name.append(&mut headers, status);
    let content = match is_head {
        true => {
            let length = entry.body.len();
            headers
                .entry(header::CONTENT_LENGTH)
                .or_insert_with(|| length.into());
            Content::default()
        }
        false => Content::new(entry.body.clone()).with_trailers(entry.trailers()?),
    };
    let mut response = Response::new(Body::own(content));
    *response.status_mut() = code;
    *response.headers_mut() = headers;
    Some(response)
}

/// Makes the response to a request that wants a stored response or none (RFC 9111, section 5.2.1.7).
pub(crate) fn only_if_cached<B>(settings: &Settings) -> CacheResponse<B> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    response.extensions_mut().insert(CacheRefusal::OnlyIfCached);
    let headers = response.headers_mut();
    settings
        .cache_name
        .append(headers, CacheStatus::OnlyIfCached);
    response
}
