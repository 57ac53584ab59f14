use http::HeaderName;

/// The fields in which a rate limit tells a client of its quota: those of draft-ietf-httpapi-ratelimit-headers, and the older ones.
///
/// They are true for one client at one time. A cache and a replay leave them out.
pub static QUOTA_FIELDS: [HeaderName; 5] = [
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("x-ratelimit-limit"),
    HeaderName::from_static("x-ratelimit-remaining"),
    HeaderName::from_static("x-ratelimit-reset"),
];
