use http::{HeaderValue, Request};
use proptest::prelude::*;

use super::*;

fn request(lines: &[&[u8]]) -> Request<()> {
    let mut request = Request::new(());
    for line in lines {
        let value = HeaderValue::from_bytes(line).unwrap();
        request.headers_mut().append("x-api-key", value);
    }
    request
}

#[test]
fn the_identity_is_the_header_s_value() {
    let key = header("X-Api-Key");
    for (line, value) in [
        ("ada", "ada"),
        (" \tada\t ", "ada"),
        ("a, b", "a, b"),
        ("{*}", "{*}"),
    ] {
        let request = request(&[line.as_bytes()]);
        assert_eq!(key.extract(&RequestHead::of(&request)), Some(value.into()));
    }
}

#[test]
fn a_missing_empty_or_repeated_header_is_no_identity() {
    let key = header("x-api-key");
    for lines in [
        &[][..],
        &[&b""[..]],
        &[&b" \t"[..]],
        &[&b"ada"[..], b"ada"],
        &[&b"ada"[..], b""],
    ] {
        assert_eq!(
            key.extract(&RequestHead::of(&request(lines))),
            None,
            "{lines:?}"
        );
    }
    assert_eq!(key.missing(), OnMissing::UsePeer);
}

#[test]
#[should_panic(expected = "\"x api key\" is not the name of a header: write one such as")]
fn a_wrong_header_name_is_refused_when_it_is_written() {
    let _ = header("x api key");
}

#[test]
fn closures_return_borrowed_owned_and_numeric_identities() {
    fn named<'a>(head: &RequestHead<'a>) -> Option<Identity<'a>> {
        Some(Identity::from(head.path()))
    }
    let prefix = String::from("key ");
    let keys: [Box<dyn KeyExtractor>; 6] = [
        Box::new(key_fn(|head| {
            Some(head.headers.get("x-api-key")?.as_bytes().into())
        })),
        Box::new(key_fn(|head: &RequestHead<'_>| {
            Some(Identity::from(head.headers.get("x-api-key")?.as_bytes()))
        })),
        Box::new(key_fn(move |head| {
            Some(Identity::from(format!("{prefix}{}", head.path())))
        })),
        Box::new(key_fn(|head| {
            head.extensions.get::<u64>().copied().map(Identity::from)
        })),
        Box::new(key_fn(|_| Some(Identity::from("everybody")))),
        Box::new(key_fn(named)),
    ];
    let mut request = request(&[b"ada"]);
    request.extensions_mut().insert(7_u64);
    let found = keys
        .iter()
        .map(|key| key.extract(&RequestHead::of(&request)).unwrap());
    let expected = [
        "ada".into(),
        "ada".into(),
        "key /".into(),
        Identity::Int(7),
        "everybody".into(),
        "/".into(),
    ];
    assert!(found.eq(expected));
}

#[test]
fn debug_shows_no_closure() {
    assert_eq!(format!("{:?}", key_fn(|_| None)), "KeyFn");
}

#[test]
fn or_refuse_and_or_skip_change_nothing_but_the_missing_case() {
    let with = request(&[b"ada"]);
    let without = request(&[]);
    let refusing: Arc<dyn KeyExtractor> = Arc::new(header("x-api-key").or_refuse());
    let skipping: Box<dyn KeyExtractor> = Box::new(header("x-api-key").or_skip());
    for (key, missing) in [
        (&refusing as &dyn KeyExtractor, OnMissing::Refuse),
        (&skipping, OnMissing::Skip),
        (&Box::new(header("x-api-key")), OnMissing::UsePeer),
    ] {
        assert_eq!(key.missing(), missing);
        assert_eq!(key.extract(&RequestHead::of(&with)), Some("ada".into()));
        assert_eq!(key.extract(&RequestHead::of(&without)), None);
    }
}

#[test]
fn every_extractor_is_send_sync_and_shared() {
    fn check<T: Send + Sync + 'static>(_: T) {}
    check(header("a").or_refuse().or_skip());
    check(key_fn(|_| None));
    check::<Option<Box<dyn KeyExtractor>>>(None);
}

proptest! {
    #[test]
    fn a_header_names_the_same_bytes_or_nobody(line in prop::collection::vec(any::<u8>(), 0..64)) {
        let Ok(value) = HeaderValue::from_bytes(&line) else { return Ok(()) };
        let mut request = Request::new(());
        request.headers_mut().insert("x-api-key", value);
        match header("x-api-key").extract(&RequestHead::of(&request)) {
            Some(Identity::Text(text)) => prop_assert_eq!(&*text, line.trim_ascii()),
            other => prop_assert!(other.is_none() && line.trim_ascii().is_empty()),
        }
    }
}
