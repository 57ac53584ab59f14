//! Conditions of a client (RFC 9110, section 13): 304 instead of a response that the client has already.

use std::time::SystemTime;

use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{
        CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE,
        ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
    },
};

use crate::http::{date, etag};

/// Removes the conditions from a request, so that its handler answers in full.
pub(crate) fn strip(request: &mut HeaderMap) {
    request.remove(IF_NONE_MATCH);
    request.remove(IF_MODIFIED_SINCE);
}

/// Returns true if the client of a `GET` or `HEAD` has this response already, so that 304 is the answer.
///
/// `request` holds the conditions, `response` the validators; it was received at `received`. Only a 200 is compared
/// (RFC 9111, section 4.3.2).
pub(crate) fn is_unchanged(
    request: &HeaderMap,
    status: StatusCode,
    response: &HeaderMap,
    received: SystemTime,
) -> bool {
    if status != StatusCode::OK {
        return false;
    }
    if request.contains_key(IF_NONE_MATCH) {
        // `If-Modified-Since` is then ignored (RFC 9110, section 13.1.3).
        return is_listed(request, response);
    }
    request.contains_key(IF_MODIFIED_SINCE) && is_unmodified(request, response, received)
}

/// Turns the fields of a 200 into those of a 304 (RFC 9110, section 15.4.5).
///
/// Those that describe the content go. All others stay, as the client updates what it has with them.
pub(crate) fn keep_fields_of_304(headers: &mut HeaderMap) {
    for name in OF_THE_CONTENT {
        headers.remove(name);
    }
    // Of use only if there is no tag.
    if headers.contains_key(ETAG) {
        headers.remove(LAST_MODIFIED);
    }
}

/// Evaluates `If-None-Match`, weakly (section 13.1.2).
fn is_listed(request: &HeaderMap, response: &HeaderMap) -> bool {
    let tag = response.get(ETAG);
    let mut lines = request.get_all(IF_NONE_MATCH).iter();
    lines.any(|line| {
        line.as_bytes().trim_ascii() == b"*" || tag.is_some_and(|tag| etag::lists(line, tag))
    })
}

/// Evaluates `If-Modified-Since` (section 13.1.3).
///
/// A response without `Last-Modified` was modified at its `Date` (RFC 9111, section 4.3.2).
fn is_unmodified(request: &HeaderMap, response: &HeaderMap, received: SystemTime) -> bool {
    let mut lines = request.get_all(IF_MODIFIED_SINCE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return false;
    };
    let Some(since) = date::parse(line.as_bytes(), received) else {
        return false;
    };
    let read = |name| date::read(response, name, received);
    let modified = read(&LAST_MODIFIED).or_else(|| read(&DATE));
    modified.unwrap_or(received) <= since
}

const OF_THE_CONTENT: [HeaderName; 8] = [
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("repr-digest"),
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{Lines, fields};

    const BEFORE: &str = "Sat, 05 Nov 1994 08:49:37 GMT";
    const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

    /// Asks at `NOW` for a response with these fields.
    fn asks(request: Lines<'_>, response: Lines<'_>) -> bool {
        let received = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        is_unchanged(
            &fields(request),
            StatusCode::OK,
            &fields(response),
            received,
        )
    }

    fn if_none_match(value: &str, response: Lines<'_>) -> bool {
        asks(&[("if-none-match", value)], response)
    }

    fn if_modified_since(value: &str, response: Lines<'_>) -> bool {
        asks(&[("if-modified-since", value)], response)
    }

    #[test]
    fn a_request_without_a_condition_gets_the_response() {
        assert!(!asks(&[], &[("etag", "\"a\""), ("last-modified", NOW)]));
    }

    #[test]
    fn tags_are_compared_weakly_over_all_lines() {
        let (strong, weak) = ([("etag", "\"a\"")], [("etag", "W/\"a\"")]);
        for response in [&strong, &weak] {
            for list in ["\"a\"", "W/\"a\"", "\"x\", W/\"a\"", "*", " * "] {
                assert!(if_none_match(list, response), "{list}");
            }
            for list in ["\"x\"", "", "\"*\"", "a"] {
                assert!(!if_none_match(list, response), "{list}");
            }
        }
        let lines = [("if-none-match", "\"x\""), ("if-none-match", "\"a\"")];
        assert!(asks(&lines, &strong));
        // Any response is one, with or without a tag.
        assert!(if_none_match("*", &[]));
        assert!(!if_none_match("\"a\"", &[]));
    }

    #[test]
    fn a_date_is_compared_with_the_last_modification() {
        let modified = [("last-modified", NOW), ("date", LATER)];
        assert!(!if_modified_since(BEFORE, &modified));
        assert!(if_modified_since(NOW, &modified));
        assert!(if_modified_since(LATER, &modified));
        assert!(if_modified_since(
            "sunday, 06-NOV-94 08:49:37 gmt",
            &modified
        ));
    }

    #[test]
    fn without_a_last_modification_the_date_or_the_arrival_is_compared() {
        assert!(if_modified_since(LATER, &[("date", LATER)]));
        assert!(!if_modified_since(NOW, &[("date", LATER)]));
        assert!(if_modified_since(NOW, &[]));
        assert!(!if_modified_since(BEFORE, &[]));
    }

    #[test]
    fn a_date_that_is_none_or_more_than_one_is_ignored() {
        let modified = [("last-modified", BEFORE)];
        assert!(!if_modified_since("soon", &modified));
        assert!(!if_modified_since("", &modified));
        let twice = [("if-modified-since", NOW), ("if-modified-since", NOW)];
        assert!(!asks(&twice, &modified));
        let list = format!("{NOW}, {NOW}");
        assert!(!if_modified_since(&list, &modified));
    }

    #[test]
    fn a_date_beside_tags_is_ignored() {
        let response = [("etag", "\"a\""), ("last-modified", BEFORE)];
        let both = |tag| [("if-none-match", tag), ("if-modified-since", NOW)];
        assert!(asks(&both("\"a\""), &response));
        assert!(!asks(&both("\"x\""), &response));
        // Even if the response has no tag.
        assert!(!asks(&both("\"x\""), &[("last-modified", BEFORE)]));
    }

    #[test]
    fn only_a_200_is_compared() {
        for status in 100..600 {
            let status = StatusCode::from_u16(status).unwrap();
            let (request, none) = (fields(&[("if-none-match", "*")]), HeaderMap::new());
            let unchanged = is_unchanged(&request, status, &none, SystemTime::UNIX_EPOCH);
            assert_eq!(unchanged, status == StatusCode::OK, "{status}");
        }
    }

    #[test]
    fn a_304_has_the_fields_that_it_must_have_and_none_of_the_content() {
        let must = [
            ("content-location", "/a"),
            ("date", NOW),
            ("etag", "\"a\""),
            ("vary", "accept"),
            ("cache-control", "max-age=60"),
            ("expires", LATER),
            ("access-control-allow-origin", "*"),
        ];
        let mut headers = fields(&must);
        for name in OF_THE_CONTENT {
            headers.insert(name, "1".parse().unwrap());
        }
        headers.insert(LAST_MODIFIED, BEFORE.parse().unwrap());
        keep_fields_of_304(&mut headers);
        assert_eq!(headers, fields(&must));
        // Without a tag the date is the validator.
        let mut headers = fields(&[("last-modified", BEFORE), ("content-type", "text/plain")]);
        keep_fields_of_304(&mut headers);
        assert_eq!(headers, fields(&[("last-modified", BEFORE)]));
    }

    #[test]
    fn only_conditions_are_stripped() {
        let kept = [("if-range", "\"a\""), ("accept", "text/html")];
        let mut request = fields(&kept);
        request.insert(IF_NONE_MATCH, "\"a\"".parse().unwrap());
        request.insert(IF_MODIFIED_SINCE, NOW.parse().unwrap());
        strip(&mut request);
        assert_eq!(request, fields(&kept));
    }
}
