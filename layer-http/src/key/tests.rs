use http::{HeaderValue, Request};

use super::*;

/// A request with these lines of one header.
pub(super) fn request(lines: &[&[u8]]) -> Request<()> {
    let mut request = Request::new(());
    for line in lines {
        let value = HeaderValue::from_bytes(line).unwrap();
        request.headers_mut().append("x-api-key", value);
    }
    request
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
