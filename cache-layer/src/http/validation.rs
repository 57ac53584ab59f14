//! Asking the origin if a stored response still holds, and taking its answer (RFC 9111, sections 4.3.1 and 4.3.4).

use std::time::SystemTime;

use http::{
    HeaderMap, StatusCode,
    header::{
        AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MODIFIED_SINCE,
        IF_NONE_MATCH, LAST_MODIFIED,
    },
};
use layer_http::strip_hop_by_hop;

use crate::http::{conditional, date, etag};

/// Returns true if the response has a validator: an `ETag`, or a `Last-Modified`.
pub(crate) fn has_validator(stored: &HeaderMap) -> bool {
    stored.contains_key(ETAG) || stored.contains_key(LAST_MODIFIED)
}

/// Makes a request ask if `stored` still holds, instead of what its client asked. False if there is no validator.
pub(crate) fn ask_if_changed(stored: &HeaderMap, request: &mut HeaderMap) -> bool {
    conditional::strip(request);
    for (validator, condition) in [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)] {
        if let Some(value) = stored.get(validator) {
            request.insert(condition, value.clone());
        }
    }
    has_validator(stored)
}

/// Makes the fields of a stored response from those of a 304, which arrived at `now` (section 3.2).
///
/// `None`: the 304 is about another response, and the stored one may not be used.
///
/// Each field of the 304 replaces that of the stored response, but those of the connection, and those that tell of the stored
/// body. `Date` and `Age` are always those of the 304.
pub(crate) fn update(
    stored: &HeaderMap,
    not_modified: &HeaderMap,
    now: SystemTime,
) -> Option<HeaderMap> {
    if !is_about(stored, not_modified) {
        return None;
    }
    let mut new = not_modified.clone();
    strip_hop_by_hop(&mut new);
    for name in OF_THE_BODY {
        new.remove(name);
    }
    date::record(&mut new, now);
    let mut updated = stored.clone();
    updated.remove(AGE);
    for name in new.keys() {
        updated.remove(name);
    }
    for (name, value) in &new {
        updated.append(name, value.clone());
    }
    Some(updated)
}

/// Returns true if the origin failed, so that a stale response may be sent instead (RFC 5861, section 4).
pub(crate) fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// Returns true if a 304 tells of this stored response (section 4.3.4).
///
/// One without a validator does: it is the answer to a condition that names this response alone.
fn is_about(stored: &HeaderMap, not_modified: &HeaderMap) -> bool {
    match (stored.get(ETAG), not_modified.get(ETAG)) {
        (Some(stored), Some(new)) if etag::is_strong(new) => stored == new,
        (Some(stored), Some(new)) => etag::is_weakly_equal(stored, new),
        // A strong tag that the stored response does not have tells of another one.
        (None, Some(new)) if etag::is_strong(new) => false,
        (None, Some(_)) | (Some(_), None) => true,
        (None, None) => match (stored.get(LAST_MODIFIED), not_modified.get(LAST_MODIFIED)) {
            (Some(stored), Some(new)) => stored == new,
            _ => true,
        },
    }
}

/// The fields that tell of the stored body, which a 304 does not change.
const OF_THE_BODY: [http::HeaderName; 3] = [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;

    use super::*;
    use crate::testing::{Lines, fields};

    fn updated(stored: Lines<'_>, new: Lines<'_>) -> Option<HeaderMap> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        update(&fields(stored), &fields(new), now)
    }

    const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    #[test]
    fn the_origin_is_asked_by_both_validators_and_not_by_those_of_the_client() {
        let stored = fields(&[("etag", "W/\"a\""), ("last-modified", NOW)]);
        let mut request = fields(&[("if-none-match", "\"x\""), ("accept", "text/html")]);
        assert!(ask_if_changed(&stored, &mut request));
        let expected = [
            ("accept", "text/html"),
            ("if-none-match", "W/\"a\""),
            ("if-modified-since", NOW),
        ];
        assert_eq!(request, fields(&expected));
        let mut request = fields(&[("if-modified-since", NOW)]);
        assert!(!ask_if_changed(&fields(&[]), &mut request));
        assert!(request.is_empty());
    }

    #[test]
    fn fields_of_a_304_replace_those_that_are_stored() {
        let stored = [
            ("etag", "\"a\""),
            ("x-kept", "1"),
            ("x-two", "1"),
            ("x-two", "2"),
            ("cache-control", "max-age=1"),
            ("age", "100"),
            ("date", "Sat, 05 Nov 1994 08:49:37 GMT"),
            ("content-type", "text/plain"),
            ("content-length", "4"),
            ("content-encoding", "gzip"),
        ];
        let new = [
            ("etag", "\"a\""),
            ("x-two", "3"),
            ("x-two", "4"),
            ("cache-control", "max-age=2"),
            ("content-type", "text/html"),
            ("content-length", "0"),
            ("content-encoding", "br"),
            ("content-range", "bytes 0-1/2"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("x-new", "1"),
        ];
        let expected = [
            ("etag", "\"a\""),
            ("x-kept", "1"),
            ("x-two", "3"),
            ("x-two", "4"),
            ("cache-control", "max-age=2"),
            ("date", NOW),
            ("content-type", "text/html"),
            ("content-length", "4"),
            ("content-encoding", "gzip"),
            ("x-new", "1"),
        ];
        assert_eq!(updated(&stored, &new).unwrap(), fields(&expected));
    }

    #[test]
    fn the_age_and_date_are_those_of_the_304() {
        let new = [("age", "7"), ("date", "Sat, 05 Nov 1994 08:49:37 GMT")];
        let updated = updated(&[("age", "100"), ("date", NOW)], &new).unwrap();
        assert_eq!(updated, fields(&new));
    }

    #[test]
    fn a_304_about_another_response_updates_nothing() {
        let is_about = |stored: Lines<'_>, new: Lines<'_>| updated(stored, new).is_some();
        let (a, b, weak) = (
            [("etag", "\"a\"")],
            [("etag", "\"b\"")],
            [("etag", "W/\"a\"")],
        );
        let dated = [("last-modified", NOW)];
        assert!(is_about(&a, &a) && is_about(&weak, &weak));
        assert!(!is_about(&a, &b) && !is_about(&weak, &b));
        // A strong tag is compared strongly, a weak one weakly.
        assert!(!is_about(&weak, &a) && is_about(&a, &weak));
        assert!(!is_about(&dated, &a));
        assert!(is_about(&dated, &weak));
        assert!(is_about(&dated, &dated));
        let later = [("last-modified", "Mon, 07 Nov 1994 08:49:37 GMT")];
        assert!(!is_about(&dated, &later));
        // An answer to our condition needs no validator.
        assert!(is_about(&a, &[]) && is_about(&dated, &[]) && is_about(&[], &[]));
    }

    #[test]
    fn a_failure_is_one_of_four_statuses() {
        let failures: Vec<u16> = (100..600)
            .filter(|status| is_failure(StatusCode::from_u16(*status).unwrap()))
            .collect();
        assert_eq!(failures, [500, 502, 503, 504]);
    }

    #[test]
    fn a_validator_is_a_tag_or_a_date() {
        let has = |lines: Lines<'_>| has_validator(&fields(lines));
        assert!(has(&[("etag", "\"a\"")]) && has(&[("last-modified", NOW)]));
        assert!(!has(&[("date", NOW)]));
        let odd = HeaderValue::from_bytes(b"\"\xff\"").unwrap();
        let mut request = HeaderMap::new();
        let stored = HeaderMap::from_iter([(ETAG, odd.clone())]);
        assert!(ask_if_changed(&stored, &mut request));
        assert_eq!(request[IF_NONE_MATCH], odd);
    }
}
