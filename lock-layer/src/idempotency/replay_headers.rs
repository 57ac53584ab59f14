use std::sync::Arc;

use http::{
    HeaderMap, HeaderName,
    header::{DATE, SET_COOKIE},
};
use layer_http::{QUOTA_FIELDS, strip_hop_by_hop};

/// The headers of a response that are recorded and sent with its replays.
///
/// Fields that concern one connection (RFC 9110, section 7.6.1) are always left out. By default so are `Set-Cookie`, which
/// belongs to the first client's session, `Date`, and what a rate limit told the first client ([`QUOTA_FIELDS`]).
///
/// ```
/// use lock_layer::ReplayHeaders;
///
/// let few = ReplayHeaders::only(["content-type", "location"]);
/// let nearly_all = ReplayHeaders::all_but(["set-cookie", "date", "x-request-id"]);
/// # let _ = (few, nearly_all);
/// ```
#[derive(Clone, Debug)]
pub struct ReplayHeaders(Rule);

#[derive(Clone, Debug)]
enum Rule {
    Only(Arc<[HeaderName]>),
    AllBut(Arc<[HeaderName]>),
}

impl ReplayHeaders {
    /// Records these headers alone.
    ///
    /// # Panics
    ///
    /// If one of them cannot be the name of a header.
    #[track_caller]
    pub fn only<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        Self(Rule::Only(names_of(names)))
    }

    /// Records all headers but these. Write `set-cookie` and `date` too, unless they may be sent to another client, and `ratelimit` if a rate
    /// limit inside of the layer writes it.
    ///
    /// # Panics
    ///
    /// If one of them cannot be the name of a header.
    #[track_caller]
    pub fn all_but<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        Self(Rule::AllBut(names_of(names)))
    }

    /// Returns the headers of a response that are recorded.
    pub(super) fn of(&self, headers: &HeaderMap) -> HeaderMap {
        let mut kept = headers.clone();
        strip_hop_by_hop(&mut kept);
        match &self.0 {
            Rule::AllBut(names) => {
                // Most responses have none of them.
                if kept.keys().any(|name| names.contains(name)) {
                    for name in names.iter() {
                        kept.remove(name);
                    }
                }
                kept
            }
            Rule::Only(names) => {
                let lines = names.iter().flat_map(|name| {
                    let values = kept.get_all(name).iter();
                    values.map(move |value| (name.clone(), value.clone()))
                });
                let mut only = HeaderMap::new();
                lines.for_each(|(name, value)| {
                    only.append(name, value);
                });
                only
            }
        }
    }
}

impl Default for ReplayHeaders {
    fn default() -> Self {
        let set_cookie_2 = HeaderName::from_static("set-cookie2");
        let not_replayed = [DATE, SET_COOKIE, set_cookie_2].into_iter();
        let not_replayed = not_replayed.chain(QUOTA_FIELDS.iter().cloned());
        Self(Rule::AllBut(not_replayed.collect()))
    }
}

#[track_caller]
fn names_of<'n>(names: impl IntoIterator<Item = &'n str>) -> Arc<[HeaderName]> {
    let name = |name: &str| match name.parse() {
        Ok(name) => name,
        Err(_) => panic!("{name:?} is no name of a header: write one such as \"location\""),
    };
    names.into_iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        lines.iter().map(line).collect()
    }

    fn sent() -> HeaderMap {
        headers(&[
            ("location", "/bookings/1"),
            ("content-type", "application/json"),
            ("etag", "\"1\""),
            ("set-cookie", "session=ada"),
            ("date", "Thu, 01 Jan 2026 00:00:00 GMT"),
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("ratelimit", "\"5/min\";r=3;t=20"),
            ("x-ratelimit-reset", "20"),
            ("x-kept", "yes"),
        ])
    }

    #[test]
    fn what_concerns_one_client_or_connection_is_not_replayed() {
        let kept = headers(&[
            ("location", "/bookings/1"),
            ("content-type", "application/json"),
            ("etag", "\"1\""),
            ("x-kept", "yes"),
        ]);
        assert_eq!(ReplayHeaders::default().of(&sent()), kept);
    }

    #[test]
    fn a_list_of_choice_allows_or_denies_but_no_field_of_a_connection() {
        let mut sent = sent();
        sent.append("location", HeaderValue::from_static("/bookings/2"));
        let only = ReplayHeaders::only(["location", "keep-alive", "x-other"]).of(&sent);
        let locations: Vec<_> = only.get_all("location").iter().collect();
        assert_eq!((only.len(), locations.len()), (2, 2));
        let all_but = ReplayHeaders::all_but(["x-kept", "etag"]).of(&sent);
        assert!(all_but.contains_key("set-cookie") && all_but.contains_key("date"));
        for name in ["x-kept", "etag", "keep-alive", "x-hop", "connection"] {
            assert!(!all_but.contains_key(name), "{name}");
        }
    }

    #[test]
    #[should_panic(expected = "\"x y\" is no name of a header")]
    fn an_impossible_name_says_so() {
        let _ = ReplayHeaders::only(["x y"]);
    }
}
