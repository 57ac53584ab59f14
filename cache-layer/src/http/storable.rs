use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{
        ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, SET_COOKIE,
        TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    },
    response,
};

use crate::{
    http::cache_control::Directives,
    http::cache_status::Detail,
    http::freshness::Freshness,
    http::request::Question,
    http::vary::Names,
    purge::tags::{MOST_LEARNT, Tags, within_bounds},
    settings::{Profile, Rule},
};

/// On which terms an answer may be stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Terms {
    pub(crate) freshness: Freshness,
    /// Whether it is for requests with credentials too.
    pub(crate) public: bool,
    pub(crate) names: Names,
    pub(crate) tags: Vec<Box<str>>,
}

/// Whether the answer to `question`, which came at `now` after `delay`, may be stored and shared (RFC 9111, section 3).
pub(crate) fn terms(
    rule: &Rule,
    question: &Question,
    request: &HeaderMap,
    response: &response::Parts,
    now: SystemTime,
    delay: Duration,
) -> Result<Terms, Detail> {
    let headers = &response.headers;
    let directives = Directives::of(headers, &CACHE_CONTROL);
    let safe = rule.profile == Profile::Safe;
    if question.directives.no_store || directives.no_store {
        return Err(Detail::NoStore);
    }
    if directives.private {
        return Err(Detail::Private);
    }
    // It may be stored, but not used without asking the origin, which this cache does not.
    if directives.no_cache {
        return Err(Detail::NoCache);
    }
    if safe && headers.contains_key(SET_COOKIE) {
        return Err(Detail::SetCookie);
    }
    if !is_whole(response.status) {
        return Err(Detail::StatusCode);
    }
    let public = directives.public || directives.s_maxage.is_some();
    let said_for_all = public || (!safe && directives.must_revalidate);
    let names_who = match rule.profile {
        Profile::Safe => question.credentialed,
        Profile::Rfc => request.contains_key(AUTHORIZATION),
    };
    if names_who && !said_for_all {
        return Err(Detail::Credentials);
    }
    let mut names = Names::of(headers).map_err(|_any| Detail::VaryAny)?;
    if safe && headers.contains_key(CONTENT_ENCODING) {
        // An answer that was encoded for one client, by a handler that forgot to say so.
        names.add(ACCEPT_ENCODING);
    }
    let tags = response
        .extensions
        .get::<Tags>()
        .cloned()
        .unwrap_or_default();
    if !within_bounds(tags.as_slice(), MOST_LEARNT) {
        return Err(Detail::TooManyTags);
    }
    let freshness = Freshness::stated(headers, &directives, now, delay)
        .or_else(|| given(rule, response.status))
        .ok_or(Detail::NoLifetime)?;
    if freshness.left() < Duration::from_millis(1) {
        return Err(Detail::Expired);
    }
    Ok(Terms {
        freshness,
        public,
        names,
        tags: tags.as_slice().to_vec(),
    })
}

/// Whether an answer refused for this reason says something about the next one. A failure does not, nor does what this one
/// request brought about.
pub(crate) fn is_lasting(detail: Detail, question: &Question, status: StatusCode) -> bool {
    let own = detail == Detail::NoStore && question.directives.no_store;
    !own && is_whole(status) && (status.is_success() || status.is_redirection())
}

/// Drops what concerns one connection alone (RFC 9110, section 7.6.1).
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    for name in listed.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Whether the answer is the whole of what is at the address: no part of it, and no word about a condition.
fn is_whole(status: StatusCode) -> bool {
    let partial = [
        StatusCode::PARTIAL_CONTENT,
        StatusCode::NOT_MODIFIED,
        StatusCode::PRECONDITION_FAILED,
        StatusCode::RANGE_NOT_SATISFIABLE,
    ];
    !status.is_informational() && !partial.contains(&status)
}

/// The route's lifetime, for answers that stand for something.
fn given(rule: &Rule, status: StatusCode) -> Option<Freshness> {
    let lifetime = rule.ttl?;
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308).then(|| Freshness::given(lifetime))
}

const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("proxy-authenticate"),
];

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use layer_http::RequestHead;

    use super::*;
    use crate::http::request::Asked;

    type Lines<'a> = &'a [(&'a str, &'a str)];

    fn decide(
        rule: &Rule,
        asked: Lines<'_>,
        status: u16,
        answered: Lines<'_>,
    ) -> Result<Terms, Detail> {
        let mut request = Request::get("/");
        for (name, value) in asked {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let Asked::Question(question) = Asked::of(rule, &RequestHead::of(&request)) else {
            panic!("a question");
        };
        let mut response = Response::builder().status(status);
        for (name, value) in answered {
            response = response.header(*name, *value);
        }
        let (parts, ()) = response.body(()).unwrap().into_parts();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        terms(
            rule,
            &question,
            request.headers(),
            &parts,
            now,
            Duration::ZERO,
        )
    }

    fn safe() -> Rule {
        Rule::new()
    }

    fn rfc() -> Rule {
        let mut rule = Rule::new();
        rule.set_profile(Profile::Rfc);
        rule
    }

    fn with_ttl() -> Rule {
        Rule {
            ttl: Some(Duration::from_secs(5)),
            ..Rule::new()
        }
    }

    const FRESH: (&str, &str) = ("cache-control", "max-age=60");

    #[test]
    fn what_is_for_one_client_is_never_shared() {
        for (line, detail) in [
            (("cache-control", "max-age=60, PRIVATE"), Detail::Private),
            (
                ("cache-control", "private=\"x\", max-age=60"),
                Detail::Private,
            ),
            (("cache-control", "no-store, max-age=60"), Detail::NoStore),
            (
                ("cache-control", "no-cache=\"a\", max-age=60"),
                Detail::NoCache,
            ),
            (("vary", "*"), Detail::VaryAny),
        ] {
            for rule in [safe(), rfc(), with_ttl()] {
                assert_eq!(
                    decide(&rule, &[], 200, &[FRESH, line]),
                    Err(detail),
                    "{line:?}"
                );
            }
        }
        assert_eq!(
            decide(&safe(), &[], 200, &[FRESH, ("set-cookie", "a=b")]),
            Err(Detail::SetCookie)
        );
        assert!(decide(&rfc(), &[], 200, &[FRESH, ("set-cookie", "a=b")]).is_ok());
        let asked = [("cache-control", "no-store")];
        assert_eq!(decide(&safe(), &asked, 200, &[FRESH]), Err(Detail::NoStore));
    }

    #[test]
    fn an_answer_to_a_credential_is_shared_only_if_it_says_so() {
        let asked = |rule: &Rule, name, answer| {
            decide(rule, &[(name, "x")], 200, &[("cache-control", answer)])
        };
        for name in ["authorization", "cookie", "x-api-key"] {
            assert_eq!(asked(&safe(), name, "max-age=60"), Err(Detail::Credentials));
            assert_eq!(
                asked(&safe(), name, "max-age=60, must-revalidate"),
                Err(Detail::Credentials)
            );
            assert!(asked(&safe(), name, "max-age=60, public").unwrap().public);
            assert!(asked(&safe(), name, "s-maxage=60").unwrap().public);
        }
        // RFC 9111, section 3.5, knows one credential and three exceptions.
        assert_eq!(
            asked(&rfc(), "authorization", "max-age=60"),
            Err(Detail::Credentials)
        );
        assert!(asked(&rfc(), "authorization", "max-age=60, must-revalidate").is_ok());
        assert!(asked(&rfc(), "cookie", "max-age=60").is_ok());
        let ignores = Rule {
            credentials: Vec::new(),
            ..safe()
        };
        assert!(asked(&ignores, "cookie", "max-age=60").is_ok());
    }

    #[test]
    fn only_a_whole_answer_is_stored() {
        for status in [206, 304, 412, 416] {
            assert_eq!(
                decide(&with_ttl(), &[], status, &[FRESH]),
                Err(Detail::StatusCode)
            );
        }
        assert!(decide(&safe(), &[], 404, &[FRESH]).is_ok());
    }

    #[test]
    fn the_route_gives_a_lifetime_to_those_that_name_none() {
        let lifetime = |status, lines: Lines<'_>| {
            decide(&with_ttl(), &[], status, lines).map(|terms| terms.freshness.lifetime.as_secs())
        };
        assert_eq!(lifetime(200, &[]), Ok(5));
        assert_eq!(lifetime(200, &[FRESH]), Ok(60));
        assert_eq!(lifetime(200, &[("cache-control", "public")]), Ok(5));
        assert_eq!(
            lifetime(200, &[("cache-control", "max-age=0")]),
            Err(Detail::Expired)
        );
        assert_eq!(lifetime(404, &[]), Err(Detail::NoLifetime));
        assert_eq!(lifetime(500, &[]), Err(Detail::NoLifetime));
        assert_eq!(decide(&safe(), &[], 200, &[]), Err(Detail::NoLifetime));
        assert_eq!(
            decide(&safe(), &[], 200, &[FRESH, ("age", "60")]),
            Err(Detail::Expired)
        );
    }

    #[test]
    fn an_encoded_answer_varies_by_what_the_client_accepts() {
        let names = |rule: &Rule| {
            let terms = decide(
                rule,
                &[],
                200,
                &[FRESH, ("content-encoding", "gzip"), ("vary", "x")],
            );
            terms.unwrap().names.iter().len()
        };
        assert_eq!(names(&safe()), 2);
        assert_eq!(names(&rfc()), 1);
    }

    #[test]
    fn what_concerns_a_connection_is_dropped() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "X-Foo, close"),
            ("x-foo", "1"),
            ("keep-alive", "1"),
            ("te", "1"),
            ("trailer", "a"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-connection", "close"),
            ("x-bar", "1"),
        ] {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-bar"]);
    }

    #[test]
    fn a_failure_says_nothing_about_the_next_answer() {
        let request = Request::get("/").body(()).unwrap();
        let Asked::Question(question) = Asked::of(&safe(), &RequestHead::of(&request)) else {
            panic!("a question");
        };
        let lasting = |status| {
            is_lasting(
                Detail::Private,
                &question,
                StatusCode::from_u16(status).unwrap(),
            )
        };
        assert!(lasting(200) && lasting(302));
        assert!(!lasting(500) && !lasting(404) && !lasting(304) && !lasting(206));
    }
}
