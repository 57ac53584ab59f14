use proptest::prelude::*;

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
        ("/a/\\*", "{/a/%2A}:stamp:page"),
        ("/cars/[0-9]", "{/cars}:stamp:pages"),
        ("/cars/7[", "{/cars}:stamp:pages"),
        ("/a%3Fb", "{/a%3Fb}:stamp:page"),
        ("/a\\?b", "{/a%3Fb}:stamp:page"),
        ("/a\\%37", "{/a%252537}:stamp:page"),
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
        ("user:?", "{user}:stamp:objects"),
        ("user:[0-9]*", "{user}:stamp:objects"),
        ("user:\\*", "{user%3A%2A}:stamp:object"),
    ] {
        assert_eq!(purged(PurgeScope::key(pattern)), [stamp], "{pattern}");
    }
}

#[test]
fn a_pattern_that_cannot_match_is_an_error_that_says_what_to_write() {
    for odd in [
        "/cars?page=1",
        "/cars/?",
        "/cars/*?",
        "/cars#a",
        "cars/*",
        "[/]cars",
        "",
    ] {
        let error = PurgeScope::path(odd).unwrap_err().to_string();
        assert!(error.contains("write"), "{error}");
    }
    assert!(PurgeScope::key("").is_err());
}

/// Compares a text with a glob as Redis does, in the simplest way.
fn matches(glob: &[u8], text: &[u8]) -> bool {
    match (glob, text) {
        ([], text) => text.is_empty(),
        ([b'*', rest @ ..], text) => (0..=text.len()).any(|at| matches(rest, &text[at..])),
        ([b'?', rest @ ..], [_, text @ ..]) => matches(rest, text),
        ([b'[', class @ ..], [byte, text @ ..]) => {
            let (is_in, rest) = in_class(class, *byte);
            is_in && matches(rest, text)
        }
        ([b'\\', c, rest @ ..], [byte, text @ ..]) => c == byte && matches(rest, text),
        ([c, rest @ ..], [byte, text @ ..]) => c == byte && matches(rest, text),
        (_, []) => false,
    }
}

/// Reads a class after its bracket. It ends at a bracket, or with the glob.
fn in_class(class: &[u8], byte: u8) -> (bool, &[u8]) {
    let (is_negated, mut class) = match class {
        [b'^', rest @ ..] => (true, rest),
        class => (false, class),
    };
    let mut is_in = false;
    loop {
        class = match class {
            [] => return (is_in != is_negated, class),
            [b']', rest @ ..] => return (is_in != is_negated, rest),
            [b'\\', c, rest @ ..] => {
                is_in |= *c == byte;
                rest
            }
            [from, b'-', to, rest @ ..] => {
                is_in |= (*from.min(to)..=*from.max(to)).contains(&byte);
                rest
            }
            [c, rest @ ..] => {
                is_in |= *c == byte;
                rest
            }
        };
    }
}

#[test]
fn the_oracle_is_redis() {
    for (glob, text, expected) in [
        ("a*c", "abc", true),
        ("a*c", "ab", false),
        ("a?", "ab", true),
        ("a?", "a", false),
        ("[ab]c", "bc", true),
        ("[^ab]c", "bc", false),
        ("[a-c]", "b", true),
        ("[c-a]", "b", true),
        ("\\*", "*", true),
        ("\\*", "a", false),
        ("[\\]]", "]", true),
        ("[ab", "b", true),
        ("a\\", "a\\", true),
    ] {
        assert_eq!(
            matches(glob.as_bytes(), text.as_bytes()),
            expected,
            "{glob} {text}"
        );
    }
}

/// A part of a glob, and a text that it matches.
fn part() -> impl Strategy<Value = (String, String)> {
    let plain = "[ab/:]".prop_map(|c| (c.clone(), c));
    let special = "[*?\\[\\]^-]".prop_map(|c| (format!("\\{c}"), c));
    prop_oneof![
        6 => plain,
        1 => special,
        1 => "[ab/:]{0,3}".prop_map(|text| ("*".to_owned(), text)),
        1 => "[ab/:]".prop_map(|c| ("?".to_owned(), c)),
        1 => "[ab]".prop_map(|c| ("[a-b]".to_owned(), c)),
        1 => "[ab]".prop_map(|c| ("[^x/]".to_owned(), c)),
    ]
}

fn parts() -> impl Strategy<Value = (String, String)> {
    proptest::collection::vec(part(), 0..9).prop_map(|parts| parts.into_iter().unzip())
}

/// If the glob matches, then the purge deletes a stamp of the address, or is an error.
fn check(
    glob: &str,
    text: &str,
    scope: Result<PurgeScope, PurgeError>,
    stamps: &[String],
) -> Result<(), TestCaseError> {
    if let Ok(scope) = scope
        && matches(glob.as_bytes(), text.as_bytes())
    {
        let purged = self::purged(Ok(scope));
        prop_assert!(
            purged.iter().any(|stamp| stamps.contains(stamp)),
            "{glob} deletes {purged:?} and not one of {stamps:?}"
        );
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_key_that_a_glob_matches_is_purged((glob, key) in parts()) {
        prop_assert!(matches(glob.as_bytes(), key.as_bytes()), "{glob} {key}");
        check(&glob, &key, PurgeScope::key(&glob), &of_key(&key))?;
    }

    #[test]
    fn a_path_that_a_glob_matches_is_purged((glob, path) in parts()) {
        let (glob, path) = (format!("/{glob}"), format!("/{path}"));
        check(&glob, &path, PurgeScope::path(&glob), &of_path(&path))?;
    }

    #[test]
    fn any_glob_purges_what_it_matches(
        glob in "[ab:/*?^\\[\\]\\\\-]{0,7}",
        text in "[ab:/*?^\\[\\]\\\\-]{0,4}",
    ) {
        check(&glob, &text, PurgeScope::key(&glob), &of_key(&text))?;
        let (glob, text) = (format!("/{glob}"), format!("/{text}"));
        check(&glob, &text, PurgeScope::path(&glob), &of_path(&text))?;
    }
}
