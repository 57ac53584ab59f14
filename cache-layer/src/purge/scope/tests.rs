use super::*;

fn text(key: Key<'_>) -> String {
    let mut out = Vec::new();
    key.render(&mut out);
    String::from_utf8(out).unwrap()
}

fn of_path(path: &str) -> Vec<String> {
    EntryScopes::of_path(path).keys().map(text).collect()
}

fn of_key(key: &str) -> Vec<String> {
    EntryScopes::of_key(key).keys().map(text).collect()
}

fn purged(scope: Result<PurgeScope, PurgeError>) -> Vec<String> {
    scope.unwrap().keys().map(text).collect()
}

/// Old and new processes purge each other's entries by these.
#[test]
fn the_names_of_stamps_are_golden() {
    assert_eq!(
        of_path("/cars/7/photos"),
        [
            "{%}:stamp:pages",
            "{/cars}:stamp:pages",
            "{/cars/7}:stamp:pages",
            "{/cars/7/photos}:stamp:page"
        ]
    );
    assert_eq!(of_path("/cars"), ["{%}:stamp:pages", "{/cars}:stamp:page"]);
    assert_eq!(of_path("/"), ["{%}:stamp:pages", "{/}:stamp:page"]);
    assert_eq!(
        of_path("/cars/"),
        [
            "{%}:stamp:pages",
            "{/cars}:stamp:pages",
            "{/cars/}:stamp:page"
        ]
    );
    assert_eq!(
        of_key("user:7:profile"),
        [
            "{%}:stamp:objects",
            "{user}:stamp:objects",
            "{user%3A7}:stamp:objects",
            "{user%3A7%3Aprofile}:stamp:object"
        ]
    );
    assert_eq!(
        purged(Ok(PurgeScope::tag("car:7"))),
        ["{%}:stamp:epoch", "{car%3A7}:stamp:tag"]
    );
}

#[test]
fn segments_past_the_eighth_share_the_eighth() {
    let deep = of_path("/1/2/3/4/5/6/7/8/9/10");
    assert_eq!(deep.len(), 10);
    assert_eq!(deep[8], "{/1/2/3/4/5/6/7/8}:stamp:pages");
    assert_eq!(deep[9], "{/1/2/3/4/5/6/7/8/9/10}:stamp:page");
    let under = purged(PurgeScope::path("/1/2/3/4/5/6/7/8/9/*"));
    assert_eq!(under, [deep[8].clone()]);
    let deep = of_key("1:2:3:4:5:6:7:8:9:10");
    assert_eq!(deep[8], "{1%3A2%3A3%3A4%3A5%3A6%3A7%3A8}:stamp:objects");
    assert_eq!(
        purged(PurgeScope::key("1:2:3:4:5:6:7:8:9:*")),
        [deep[8].clone()]
    );
}

#[test]
fn a_path_is_decoded_segment_by_segment() {
    assert_eq!(of_path("/cars/%37"), of_path("/cars/7"));
    assert_eq!(
        purged(PurgeScope::path("/cars/%37")),
        purged(PurgeScope::path("/cars/7"))
    );
    assert_eq!(of_path("/caf%c3%a9"), of_path("/caf%C3%A9"));
    assert_eq!(
        purged(PurgeScope::path("/café")),
        of_path("/caf%C3%A9")[1..]
    );
    assert_ne!(of_path("/a%2Fb"), of_path("/a/b"));
    assert_ne!(of_path("/a%252Fb"), of_path("/a%2Fb"));
    assert_eq!(of_path("/a%252Fb")[1], "{/a%25252Fb}:stamp:page");
    // A percent sign without two digits is itself.
    assert_eq!(of_path("/%zz"), of_path("/%25zz"));
}

#[test]
fn a_pattern_destroys_a_stamp_of_everything_it_covers() {
    for (pattern, stamp) in [
        ("/cars/7", "{/cars/7}:stamp:page"),
        ("/cars/*", "{/cars}:stamp:pages"),
        ("/cars/7*", "{/cars}:stamp:pages"),
        ("/cars/*/photos", "{/cars}:stamp:pages"),
        ("/c*", "{%}:stamp:pages"),
        ("/*", "{%}:stamp:pages"),
        ("*", "{%}:stamp:pages"),
        ("/a/%2A", "{/a/%2A}:stamp:page"),
    ] {
        assert_eq!(purged(PurgeScope::path(pattern)), [stamp], "{pattern}");
    }
    for (pattern, stamp) in [
        ("user:7", "{user%3A7}:stamp:object"),
        (
            "contacts:workspace:abc:*",
            "{contacts%3Aworkspace%3Aabc}:stamp:objects",
        ),
        ("user:*:profile", "{user}:stamp:objects"),
        ("ab*", "{%}:stamp:objects"),
        ("*:42", "{%}:stamp:objects"),
        ("*", "{%}:stamp:objects"),
    ] {
        assert_eq!(purged(PurgeScope::key(pattern)), [stamp], "{pattern}");
    }
}

#[test]
fn a_pattern_that_cannot_match_is_an_error_that_says_what_to_write() {
    for odd in ["/cars?page=1", "/cars#a", "cars/*", ""] {
        let error = PurgeScope::path(odd).unwrap_err().to_string();
        assert!(error.contains("write"), "{error}");
    }
    assert!(PurgeScope::key("").is_err());
}
