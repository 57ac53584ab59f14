use proptest::prelude::*;

use super::*;

fn head() -> EntryHead {
    EntryHead {
        kind: EntryKind::Http {
            status: StatusCode::OK,
            public: true,
            vary_values: vec![
                (HeaderName::from_static("accept"), Some(Bytes::from("a, b"))),
                (HeaderName::from_static("x-a"), None),
            ],
        },
        received_at: 1_800_000_000_123,
        freshness: Freshness {
            age: Duration::from_secs(1),
            lifetime: Duration::from_millis(30_500),
        },
        terms: StaleTerms::default(),
    }
}

fn written(body: &[u8]) -> Bytes {
    let mut headers = HeaderMap::new();
    headers.append("a", "1".parse().unwrap());
    headers.append("a", HeaderValue::from_bytes(b"\xff").unwrap());
    let mut trailers = HeaderMap::new();
    trailers.append("grpc-status", "0".parse().unwrap());
    let stamp = Stamp::planted(*b"abcdefghijk");
    let mut writer = EntryWriter::new(0);
    writer.push(body);
    writer.finish(
        b"key",
        &head(),
        &headers,
        &trailers,
        &[stamp; 2],
        &[("t".into(), stamp)],
    )
}

#[test]
fn an_entry_survives_being_stored() {
    let entry = Entry::read(&written(b"body").into(), b"key").unwrap();
    assert_eq!(entry.head, head());
    assert_eq!(entry.body, "body");
    assert_eq!(entry.scopes.len(), 2);
    assert_eq!(&*entry.tags[0].0, "t");
    let lines: Vec<_> = entry
        .headers
        .get_all("a")
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    assert_eq!(lines, [&b"1"[..], b"\xff"]);
    assert_eq!(entry.trailers["grpc-status"], "0");
}

fn object() -> Bytes {
    let head = EntryHead {
        kind: EntryKind::Object,
        received_at: 1_800_000_000_123,
        freshness: Freshness::given(Duration::from_secs(60)),
        terms: StaleTerms::default(),
    };
    let none = HeaderMap::new();
    let mut writer = EntryWriter::new(0);
    writer.push(b"Ada");
    let stamp = Stamp::planted(*b"abcdefghijk");
    writer.finish(b"user:7", &head, &none, &none, &[stamp], &[])
}

#[test]
fn the_terms_of_a_stale_response_survive_and_cost_nothing_if_there_are_none() {
    let none = HeaderMap::new();
    let bytes = |terms| {
        let head = EntryHead { terms, ..head() };
        EntryWriter::new(0).finish(b"key", &head, &none, &none, &[], &[])
    };
    let plain = bytes(StaleTerms::default());
    for (always_validate, must_revalidate, while_revalidate, if_error) in [
        (true, false, 0, 0),
        (false, true, 0, 0),
        (false, false, 5, 0),
        (false, false, 0, 6),
        (true, true, 5, 6),
    ] {
        let terms = StaleTerms {
            always_validate,
            must_revalidate,
            while_revalidate: Duration::from_secs(while_revalidate),
            if_error: Duration::from_secs(if_error),
        };
        let bytes = bytes(terms);
        assert_eq!(bytes.len(), plain.len() + 17);
        let entry = Entry::read(&bytes.into(), b"key").unwrap();
        assert_eq!(entry.head.terms, terms);
    }
    let entry = Entry::read(&plain.into(), b"key").unwrap();
    assert_eq!(entry.head.terms, StaleTerms::default());
}

#[test]
fn an_object_survives_being_stored() {
    let entry = Entry::read(&object().into(), b"user:7").unwrap();
    assert_eq!(entry.head.kind, EntryKind::Object);
    assert_eq!(entry.body, "Ada");
    assert!(entry.headers.is_empty());
    assert!(entry.head.matches(&HeaderMap::new()));
}

#[test]
fn a_status_that_no_response_has_is_a_miss() {
    let good = written(b"");
    let at = PREFIX + 4 + 3;
    for (status, is_read) in [(200_u16, true), (99, false), (1000, false)] {
        let mut bytes = good.to_vec();
        bytes[at..at + 2].copy_from_slice(&status.to_be_bytes());
        let read = StoredValue::read(&bytes.into(), b"key");
        assert_eq!(read.is_some(), is_read, "{status}");
    }
}

#[test]
fn a_value_with_a_byte_more_or_less_is_a_miss() {
    let good = written(b"body");
    let mut longer = good.to_vec();
    longer.push(0);
    let shorter = good[..good.len() - 1].to_vec();
    for bytes in [longer, shorter, good[..PREFIX].to_vec(), Vec::new()] {
        assert!(StoredValue::read(&bytes.into(), b"key").is_none());
    }
}

#[test]
fn a_body_is_a_slice_of_the_stored_value() {
    let value = written(&[7; 65_536]);
    let entry = Entry::read(&value.clone().into(), b"key").unwrap();
    assert_eq!(entry.body.as_ptr(), value[PREFIX..].as_ptr());
    let field = entry.headers["a"].as_bytes();
    assert!(value.as_ptr_range().contains(&field.as_ptr()));
}

#[test]
fn a_rule_survives_being_stored() {
    let names = VaryFields::from_vec(vec![
        HeaderName::from_static("x-a"),
        HeaderName::from_static("accept"),
    ]);
    let Some(StoredValue::VaryRule(read)) =
        StoredValue::read(&StoredValue::vary_rule(b"key", &names), b"key")
    else {
        panic!("a rule reads as one");
    };
    assert_eq!(read, names);
}

#[test]
fn a_value_of_another_version_is_a_miss() {
    let good = written(b"body");
    for at in [0, 1, 2, 3, 4] {
        let mut bytes = good.to_vec();
        bytes[at] ^= 0x40;
        assert!(
            StoredValue::read(&bytes.into(), b"key").is_none(),
            "byte {at}"
        );
    }
    assert!(StoredValue::read(&good.clone().into(), b"other").is_none());
    assert!(StoredValue::read(&Value::from("garbage"), b"key").is_none());
}

#[test]
fn an_entry_matches_requests_with_the_same_values() {
    let entry = Entry::read(&written(b"").into(), b"key").unwrap();
    let mut request = HeaderMap::new();
    assert!(!entry.head.matches(&request));
    request.append("accept", " a".parse().unwrap());
    request.append("accept", "b ".parse().unwrap());
    assert!(entry.head.matches(&request));
    request.append("x-a", "".parse().unwrap());
    assert!(!entry.head.matches(&request));
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(cut in 0usize..300, at in 0usize..300, flip: u8) {
        let mut bytes = written(b"body").to_vec();
        let len = bytes.len();
        bytes[at % len] ^= flip;
        bytes.truncate(len - cut % len);
        let _ = StoredValue::read(&bytes.into(), b"key");
    }
}
