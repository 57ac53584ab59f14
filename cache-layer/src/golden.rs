//! The values and keys of this crate in a store, as files in `tests/golden/`. Services of all versions read and write them, so
//! a file may be added and none may change.

use std::{fmt::Write, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use layer_store::{Key, Value, conformance::Golden};
use proptest::prelude::*;

use crate::{
    http::{freshness::Freshness, reuse::StaleTerms, vary::VaryFields},
    purge::{
        scope::{EntryScopes, PurgeScope},
        stamp::{Stamp, StampState},
    },
    stored::{
        codec::EntryWriter,
        entry::{Entry, EntryHead, EntryKind, StoredValue},
    },
};

const GOLDEN: Golden = Golden::of(env!("CARGO_MANIFEST_DIR"));

/// The address of the entries.
const KEY: &[u8] = b"https://example.com/cars/7?full";
const TOKEN: [u8; 11] = *b"abcdefghijk";

fn http() -> EntryHead {
    let fields = [("accept", Some("a, b")), ("x-a", None), ("x-b", Some(""))];
    EntryHead {
        kind: EntryKind::Http {
            status: StatusCode::OK,
            public: true,
            vary_values: fields
                .map(|(name, value)| (HeaderName::from_static(name), value.map(Bytes::from)))
                .into(),
        },
        received_at: 1_800_000_000_123,
        freshness: Freshness {
            age: Duration::from_secs(1),
            lifetime: Duration::from_millis(30_500),
        },
        terms: StaleTerms::default(),
    }
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.append("content-type", HeaderValue::from_static("text/plain"));
    headers.append("a", HeaderValue::from_static("1"));
    headers.append("a", HeaderValue::from_bytes(b"\xff").unwrap());
    headers
}

fn written(head: &EntryHead, body: &[u8], headers: &HeaderMap, trailers: &HeaderMap) -> Bytes {
    let stamp = Stamp::planted(TOKEN);
    let longer = Stamp { len: 30, ..stamp };
    let mut writer = EntryWriter::new(0);
    writer.push(body);
    let tags = [("car:7".into(), stamp), ("".into(), longer)];
    writer.finish(KEY, head, headers, trailers, &[stamp, longer], &tags)
}

fn whole() -> Bytes {
    let trailers = HeaderMap::from_iter([(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    written(&http(), b"\x00body\xff", &headers(), &trailers)
}

fn object() -> EntryHead {
    EntryHead {
        kind: EntryKind::Object,
        received_at: 1_800_000_000_123,
        freshness: Freshness::given(Duration::from_secs(60)),
        terms: StaleTerms::default(),
    }
}

fn rule() -> Value {
    let fields = ["x-a", "accept"].map(HeaderName::from_static);
    StoredValue::vary_rule(KEY, &VaryFields::from_vec(fields.into()))
}

#[test]
fn the_bytes_of_an_http_entry_are_golden() {
    let golden = GOLDEN.check("entry-http-1.bin", &whole());
    let entry = Entry::read(&golden.into(), KEY).unwrap();
    assert_eq!(entry.head, http());
    assert_eq!(&entry.body[..], b"\x00body\xff");
    assert_eq!(entry.headers, headers());
    assert_eq!(entry.trailers["grpc-status"], "0");
    assert_eq!(entry.scopes[0], Stamp::planted(TOKEN));
    assert_eq!(entry.scopes[1].len, 30);
    let tags: Vec<_> = entry
        .tags
        .iter()
        .map(|(tag, stamp)| (&**tag, stamp.len))
        .collect();
    assert_eq!(tags, [("car:7", 12), ("", 30)]);

    let private = EntryHead {
        kind: EntryKind::Http {
            status: StatusCode::NOT_FOUND,
            public: false,
            vary_values: Vec::new(),
        },
        ..http()
    };
    let none = HeaderMap::new();
    let golden = GOLDEN.check(
        "entry-http-private-1.bin",
        &written(&private, b"", &none, &none),
    );
    assert_eq!(Entry::read(&golden.into(), KEY).unwrap().head, private);
}

#[test]
fn the_bytes_of_an_entry_with_stale_windows_are_golden() {
    let stale = EntryHead {
        terms: StaleTerms {
            always_validate: false,
            must_revalidate: true,
            while_revalidate: Duration::from_secs(60),
            if_error: Duration::from_millis(86_400_000),
        },
        ..http()
    };
    let none = HeaderMap::new();
    let bytes = written(&stale, b"body", &headers(), &none);
    let golden = GOLDEN.check("entry-http-stale-1.bin", &bytes);
    assert_eq!(Entry::read(&golden.into(), KEY).unwrap().head, stale);
}

#[test]
fn the_bytes_of_an_object_are_golden() {
    let none = HeaderMap::new();
    let golden = GOLDEN.check(
        "entry-object-1.bin",
        &written(&object(), b"Ada", &none, &none),
    );
    let entry = Entry::read(&golden.into(), KEY).unwrap();
    assert_eq!((&entry.head, &entry.body[..]), (&object(), &b"Ada"[..]));
    assert!(entry.headers.is_empty());
}

#[test]
fn the_bytes_of_a_vary_rule_are_golden() {
    let golden = GOLDEN.check("vary-rule-1.bin", &rule().to_bytes());
    let Some(StoredValue::VaryRule(fields)) = StoredValue::read(&golden.into(), KEY) else {
        panic!("a rule reads as one");
    };
    let names: Vec<_> = fields.iter().map(HeaderName::as_str).collect();
    assert_eq!(names, ["accept", "x-a"]);
}

#[test]
fn a_stamp_is_golden() {
    let stamp = Stamp::planted(TOKEN);
    let golden = GOLDEN.check("stamp-1.txt", &stamp.value().to_bytes());
    assert_eq!(
        StampState::of(Some(&golden.into())),
        StampState::Present(stamp)
    );
    // With a record that a later version may append.
    let longer = GOLDEN.read("stamp-with-record-1.txt");
    let longer_stamp = Stamp {
        len: longer.len() as u16,
        ..stamp
    };
    assert_eq!(
        StampState::of(Some(&longer.into())),
        StampState::Present(longer_stamp)
    );
}

#[test]
fn the_texts_of_keys_are_golden() {
    let mut texts = String::new();
    let mut write = |key: Key<'_>| {
        let mut text = Vec::new();
        key.render(&mut text);
        writeln!(texts, "{}", String::from_utf8(text).unwrap()).unwrap();
    };
    for path in ["/", "/cars", "/cars/", "/cars/7/photos", "/a%2fb/ü"] {
        EntryScopes::of_path(path).keys().for_each(&mut write);
    }
    for key in ["user:7:profile", "user", ""] {
        EntryScopes::of_key(key).keys().for_each(&mut write);
    }
    let [pages, objects] = PurgeScope::everything();
    for scope in [
        PurgeScope::path("/cars/*").unwrap(),
        PurgeScope::page("/cars/7"),
        PurgeScope::key("user:*").unwrap(),
        PurgeScope::key("user:7").unwrap(),
        PurgeScope::tag("car:7"),
        pages,
        objects,
    ] {
        scope.keys().for_each(&mut write);
    }
    let address = crate::testing::address("https://example.com/cars/7?full");
    let mut request = HeaderMap::new();
    request.append("b", HeaderValue::from_static(" x "));
    request.append("b", HeaderValue::from_static("y"));
    let vary = VaryFields::from_vec(["b", "a"].map(HeaderName::from_static).into());
    write(address.base());
    write(address.variant(&vary.variant(&request)));
    let personal = EntryScopes::of_path("/cars").of_user(Some("ada".into()));
    personal.keys().for_each(&mut write);
    PurgeScope::user("ada").keys().for_each(&mut write);
    GOLDEN.check("keys.txt", texts.as_bytes());
}

/// Magic, version, encoding and kind: any other byte is a miss.
#[test]
fn an_unknown_version_is_a_miss_and_never_misread() {
    for good in [whole(), rule().to_bytes()] {
        for at in 0..5 {
            for byte in 0..=255 {
                let mut bytes = good.to_vec();
                if bytes[at] == byte {
                    continue;
                }
                bytes[at] = byte;
                // An entry that is called a rule, or a rule that is called an entry, is none.
                let read = StoredValue::read(&bytes.into(), KEY);
                assert!(read.is_none(), "byte {at} is {byte}");
            }
        }
    }
    for format in (0..=255).filter(|format| *format != b'1') {
        let value = Value::from([&[format], &TOKEN[..]].concat());
        assert_eq!(
            StampState::of(Some(&value)),
            StampState::Unreadable,
            "{format}"
        );
    }
}

/// Reads all there is, and returns how many bytes were allocated at most.
fn allocated(bytes: &[u8]) -> u64 {
    let value = Value::from(bytes.to_vec());
    let info = allocation_counter::measure(|| {
        let _ = StoredValue::read(&value, KEY);
        let _ = StampState::of(Some(&value));
    });
    info.bytes_max
}

/// A field of 8 bytes becomes a name, a value and a place in a map, and a tag of 17 bytes a box and a stamp.
const GROWTH: u64 = 40;
const FIXED: u64 = 4_096;

fn check_allocated(bytes: &[u8]) -> Result<(), TestCaseError> {
    let (allocated, len) = (allocated(bytes), bytes.len() as u64);
    prop_assert!(
        allocated <= FIXED + GROWTH * len,
        "{allocated} bytes for {len}"
    );
    Ok(())
}

proptest! {
    #[test]
    fn random_bytes_neither_panic_nor_allocate_more_than_they_are(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        check_allocated(&bytes)?;
        check_allocated(&[b"ce\x01\x00E", &bytes[..]].concat())?;
        check_allocated(&[b"ce\x01\x00V", &bytes[..]].concat())?;
        check_allocated(&[b"1", &bytes[..]].concat())?;
    }

    #[test]
    fn changed_bytes_neither_panic_nor_allocate_more_than_they_are(
        changes in proptest::collection::vec((any::<usize>(), prop_oneof![Just(0), Just(0xff), any::<u8>()]), 1..4),
        is_rule: bool,
    ) {
        let mut bytes = if is_rule { rule().to_bytes() } else { whole() }.to_vec();
        let len = bytes.len();
        for (at, byte) in changes {
            bytes[at % len] = byte;
        }
        check_allocated(&bytes)?;
    }
}
