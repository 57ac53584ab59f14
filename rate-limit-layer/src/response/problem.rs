//! The problem documents (RFC 9457) of the refusals.

use http::StatusCode;
use layer_http::Problem;

/// Makes the document of a 429 by these policies: problem type `quota-exceeded` of
/// draft-ietf-httpapi-ratelimit-headers-11.
pub(crate) fn quota_exceeded<'a>(policies: impl IntoIterator<Item = &'a str>) -> Problem {
    let policies: Vec<_> = policies.into_iter().collect();
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "Request cannot be satisfied as assigned quota has been exceeded",
    )
    .member("violated-policies", policies)
}

/// Makes the document of a 503: problem type `temporary-reduced-capacity` of the same draft.
pub(crate) fn reduced_capacity(detail: &'static str) -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
        "Request cannot be satisfied due to temporary server capacity constraints",
    )
    .detail(detail)
}

/// Makes a document without a type of its own, titled by its status (RFC 9457, section 4.2.1).
pub(crate) fn plain(status: StatusCode, detail: &'static str) -> Problem {
    let title = status.canonical_reason().unwrap_or("Error");
    Problem::new(status, "about:blank", title).detail(detail)
}
