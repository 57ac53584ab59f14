use http::{Request, Response};
use layer_http::RequestHead;
use layer_store::Clock;

use super::*;
use crate::testing::read_request;

type Lines<'a> = &'a [(&'a str, &'a str)];

fn decide(
    settings: &CacheSettings,
    asked: Lines<'_>,
    status: u16,
    answered: Lines<'_>,
) -> Result<StorePolicy, Detail> {
    let mut request = Request::get("/");
    for (name, value) in asked {
        request = request.header(*name, *value);
    }
    let request = request.body(()).unwrap();
    let Ok(cacheable) = read_request(settings, &RequestHead::of(&request)) else {
        panic!("it is cacheable");
    };
    let mut response = Response::builder().status(status);
    for (name, value) in answered {
        response = response.header(*name, *value);
    }
    let (parts, ()) = response.body(()).unwrap().into_parts();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    store_policy(
        settings,
        &cacheable,
        request.headers(),
        &parts,
        now,
        Duration::ZERO,
    )
}

fn safe() -> CacheSettings {
    CacheSettings::new(Clock::system())
}

fn rfc() -> CacheSettings {
    let mut settings = CacheSettings::new(Clock::system());
    settings.set_profile(Profile::Rfc);
    settings
}

fn with_ttl() -> CacheSettings {
    CacheSettings {
        ttl: Some(Duration::from_secs(5)),
        ..CacheSettings::new(Clock::system())
    }
}

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

#[test]
fn responses_for_one_client_are_never_shared() {
    for (line, detail) in [
        (("cache-control", "max-age=60, PRIVATE"), Detail::Private),
        (("cache-control", "private=x, max-age=60"), Detail::Private),
        (("cache-control", "no-store, max-age=60"), Detail::NoStore),
        (("cache-control", "no-cache, max-age=60"), Detail::NoCache),
        (("vary", "*"), Detail::VaryAny),
        (("content-range", "bytes 0-1/2"), Detail::Range),
    ] {
        for settings in [safe(), rfc(), with_ttl()] {
            assert_eq!(
                decide(&settings, &[], 200, &[FRESH, line]),
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
fn a_response_to_a_credential_is_shared_only_if_it_is_marked() {
    let asked = |settings: &CacheSettings, name, answer| {
        decide(settings, &[(name, "x")], 200, &[("cache-control", answer)])
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
    let mut ignores = safe();
    ignores.set_keys(|keys| keys.credential_headers.clear());
    assert!(asked(&ignores, "cookie", "max-age=60").is_ok());
}

#[test]
fn only_a_whole_response_is_stored() {
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
        decide(&with_ttl(), &[], status, lines).map(|policy| policy.freshness.lifetime.as_secs())
    };
    assert_eq!(lifetime(200, &[]), Ok(5));
    assert_eq!(lifetime(200, &[FRESH]), Ok(60));
    assert_eq!(lifetime(200, &[("cache-control", "public")]), Ok(5));
    assert_eq!(
        lifetime(200, &[("cache-control", "max-age=0")]),
        Err(Detail::Expired)
    );
    assert_eq!(lifetime(404, &[]), Err(Detail::NoLifetime));
    assert_eq!(lifetime(500, &[]), Err(Detail::StatusCode));
    assert_eq!(decide(&safe(), &[], 200, &[]), Err(Detail::NoLifetime));
    assert_eq!(
        decide(&safe(), &[], 200, &[FRESH, ("age", "60")]),
        Err(Detail::Expired)
    );
}

#[test]
fn the_safe_profile_stores_failures_and_refusals_only_if_they_are_named() {
    let named = |mut settings: CacheSettings, status| {
        let status = StatusCode::from_u16(status).unwrap();
        settings.ttls = vec![(status, Duration::from_secs(7))];
        settings
    };
    for status in [401, 403, 428, 429, 431, 500, 502, 503, 504, 511, 599] {
        let refused = decide(&safe(), &[], status, &[FRESH]);
        assert_eq!(refused, Err(Detail::StatusCode), "{status}");
        // RFC 6585 forbids it for its own.
        let is_barred = [428, 429, 431, 511].contains(&status);
        let by_the_rfc = decide(&rfc(), &[], status, &[FRESH]);
        assert_eq!(by_the_rfc.is_ok(), !is_barred, "{status}");
        let settings = named(safe(), status);
        let lifetime = |lines| {
            let policy = decide(&settings, &[], status, lines).unwrap();
            policy.freshness.left().as_secs()
        };
        assert_eq!((lifetime(&[]), lifetime(&[FRESH])), (7, 60));
    }
    let missing = decide(&named(with_ttl(), 404), &[], 404, &[]).unwrap();
    assert_eq!(missing.freshness.left().as_secs(), 7);
    let other = decide(&named(with_ttl(), 404), &[], 200, &[]).unwrap();
    assert_eq!(other.freshness.left().as_secs(), 5);
}

#[test]
fn errors_without_a_lifetime_are_shared_for_that_of_the_route() {
    let mut sharing = with_ttl();
    sharing.shared_errors = Some(Duration::from_secs(2));
    sharing.grace.while_revalidate = Duration::from_secs(60);
    let shared = |status, lines: Lines<'_>| {
        let policy = decide(&sharing, &[], status, lines)?;
        assert_eq!(policy.terms.while_revalidate, Duration::ZERO, "{status}");
        Ok(policy.freshness.left().as_secs())
    };
    for status in [404, 410, 500, 502, 503, 504, 599] {
        assert_eq!(shared(status, &[]), Ok(2), "{status}");
        let no_store = [("cache-control", "no-store")];
        assert_eq!(shared(status, &no_store), Err(Detail::NoStore));
        let cookie = [("set-cookie", "a=b")];
        assert_eq!(shared(status, &cookie), Err(Detail::SetCookie));
    }
    for status in [401, 403, 429] {
        assert_eq!(shared(status, &[]), Err(Detail::StatusCode), "{status}");
    }
    assert_eq!(shared(400, &[]), Err(Detail::NoLifetime));
    // One that states a lifetime is treated as without the setting.
    assert_eq!(shared(503, &[FRESH]), Err(Detail::StatusCode));
    let missing = decide(&sharing, &[], 404, &[FRESH]).unwrap();
    assert_eq!(missing.freshness.left().as_secs(), 60);
    assert_eq!(missing.terms.while_revalidate.as_secs(), 60);
    // So is one whose status has a lifetime of its own.
    sharing.ttls = vec![(StatusCode::NOT_FOUND, Duration::from_secs(7))];
    let missing = decide(&sharing, &[], 404, &[]).unwrap();
    assert_eq!(missing.freshness.left().as_secs(), 7);
    assert_eq!(missing.terms.while_revalidate.as_secs(), 60);
    sharing.set_profile(Profile::Rfc);
    let failed = decide(&sharing, &[], 503, &[]).unwrap();
    assert_eq!(failed.freshness.left().as_secs(), 2);
}

#[test]
fn must_understand_replaces_no_store_for_a_known_status() {
    let answered = |status, line| decide(&rfc(), &[], status, &[("cache-control", line)]);
    let both = "no-store, must-understand, max-age=60";
    assert!(answered(200, both).is_ok());
    assert_eq!(answered(299, both), Err(Detail::NoStore));
    let alone = "must-understand, max-age=60";
    assert!(answered(404, alone).is_ok());
    assert_eq!(answered(299, alone), Err(Detail::StatusCode));
    assert!(answered(299, "max-age=60").is_ok());
}

#[test]
fn what_is_never_fresh_is_stored_to_be_validated_or_sent_stale() {
    let tag = ("etag", "\"a\"");
    let fresh = |lines: Lines<'_>| decide(&safe(), &[], 200, lines)?.is_ever_fresh();
    let stored = |lines: Lines<'_>| decide(&safe(), &[], 200, lines).map(|_| ());
    for (line, detail) in [
        ("no-cache", Detail::NoCache),
        ("no-cache, max-age=60", Detail::NoCache),
        ("max-age=0", Detail::Expired),
    ] {
        let line = ("cache-control", line);
        assert_eq!(stored(&[line]), Err(detail));
        assert_eq!(stored(&[line, tag]), Ok(()));
        assert_eq!(fresh(&[line, tag]), Err(detail));
    }
    let stale = ("cache-control", "max-age=0, stale-while-revalidate=5");
    assert_eq!(stored(&[stale]), Ok(()));
    assert_eq!(fresh(&[stale]), Err(Detail::Expired));
    assert_eq!(fresh(&[FRESH]), Ok(()));
    assert_eq!(stored(&[tag]), Err(Detail::NoLifetime));
}

#[test]
fn the_fields_of_the_connection_and_those_that_are_excepted_are_not_stored() {
    let lines = [
        ("cache-control", "max-age=60, no-cache=\"X-Once\""),
        ("cache-control", "private=\"X-User, X-Mail\""),
        ("x-once", "1"),
        ("x-user", "ada"),
        ("x-mail", "1"),
        ("x-kept", "1"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("proxy-authorization", "1"),
    ];
    let mut response = Response::builder();
    for (name, value) in lines {
        response = response.header(name, value);
    }
    let response = response.body(()).unwrap();
    let policy = decide(&safe(), &[], 200, &lines).unwrap();
    let stored = policy.stored_fields(response.headers());
    let names: Vec<_> = stored.keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["cache-control", "x-kept"]);
}

/// A limit inside of the cache told them to the client that asked first.
#[test]
fn what_is_left_of_a_quota_is_not_stored_unless_the_rfc_alone_counts() {
    let lines = [
        ("cache-control", "max-age=60"),
        ("ratelimit", "\"a\";r=3;t=60"),
        ("ratelimit-policy", "\"a\";q=9;w=60"),
        ("x-ratelimit-limit", "9"),
        ("x-ratelimit-remaining", "3"),
        ("x-ratelimit-reset", "60"),
    ];
    let mut response = Response::builder();
    for (name, value) in lines {
        response = response.header(name, value);
    }
    let response = response.body(()).unwrap();
    for (settings, stored) in [(safe(), 1), (rfc(), lines.len())] {
        let policy = decide(&settings, &[], 200, &lines).unwrap();
        let fields = policy.stored_fields(response.headers());
        assert_eq!(fields.len(), stored, "{fields:?}");
    }
}

#[test]
fn the_stale_windows_are_those_of_the_response_or_of_the_route() {
    let mut settings = safe();
    settings.grace.if_error = Duration::from_secs(9);
    let terms = |line| {
        let policy = decide(&settings, &[], 200, &[("cache-control", line)]);
        policy.unwrap().terms
    };
    assert_eq!(terms("max-age=60").if_error.as_secs(), 9);
    assert_eq!(terms("max-age=60, stale-if-error=5").if_error.as_secs(), 5);
}

#[test]
fn an_encoded_response_varies_by_what_the_client_accepts() {
    let names = |settings: &CacheSettings| {
        let policy = decide(
            settings,
            &[],
            200,
            &[FRESH, ("content-encoding", "gzip"), ("vary", "x")],
        );
        policy.unwrap().vary.iter().len()
    };
    assert_eq!(names(&safe()), 2);
    assert_eq!(names(&rfc()), 1);
}

#[test]
fn a_failure_tells_nothing_of_the_next_response() {
    let request = Request::get("/").body(()).unwrap();
    let Ok(cacheable) = read_request(&safe(), &RequestHead::of(&request)) else {
        panic!("it is cacheable");
    };
    let lasting = |status| {
        is_lasting(
            Detail::Private,
            &cacheable,
            StatusCode::from_u16(status).unwrap(),
        )
    };
    assert!(lasting(200) && lasting(302));
    assert!(!lasting(500) && !lasting(404) && !lasting(304) && !lasting(206));
}

#[test]
fn six_statuses_get_the_default_lifetime() {
    let stored: Vec<u16> = (200..600)
        .filter(|status| decide(&with_ttl(), &[], *status, &[]).is_ok())
        .collect();
    assert_eq!(stored, [200, 203, 204, 300, 301, 308]);
}

#[test]
fn the_first_reason_that_lasts_is_that_of_the_response() {
    let lasting = |lines: Lines<'_>, detail| {
        let mut request = Request::get("/");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let Ok(cacheable) = read_request(&safe(), &RequestHead::of(&request)) else {
            panic!("it is cacheable");
        };
        is_lasting(detail, &cacheable, StatusCode::OK)
    };
    let no_store = [("cache-control", "no-store")];
    assert!(!lasting(&no_store, Detail::NoStore));
    assert!(lasting(&no_store, Detail::Private));
    assert!(lasting(&[], Detail::NoStore));
}

#[test]
fn too_many_tags_store_nothing() {
    let tagged = |count| {
        let request = Request::get("/").body(()).unwrap();
        let head = RequestHead::of(&request);
        let Ok(cacheable) = read_request(&with_ttl(), &head) else {
            panic!("it is cacheable");
        };
        let mut response = Response::new(());
        response
            .extensions_mut()
            .insert(Tags::new(vec!["t"; count]));
        let (parts, ()) = response.into_parts();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let fields = request.headers();
        let policy = store_policy(&with_ttl(), &cacheable, fields, &parts, now, Duration::ZERO);
        policy.map(|policy| policy.tags.len())
    };
    assert_eq!(tagged(64), Ok(64));
    assert_eq!(tagged(65), Err(Detail::TooManyTags));
}

#[test]
fn a_lifetime_of_less_than_a_millisecond_is_over() {
    let with_ttl = |micros| CacheSettings {
        ttl: Some(Duration::from_micros(micros)),
        ..safe()
    };
    assert_eq!(decide(&with_ttl(999), &[], 200, &[]), Err(Detail::Expired));
    assert!(decide(&with_ttl(1_000), &[], 200, &[]).is_ok());
}
