//! The values and keys of this crate in a store, as files in `tests/golden/`. Services of all versions read and write them, so
//! a file may be added and none may change.

use std::fmt::Write;

use crate::{Identity, Key, KeyPrefix, KeySpace, Value, conformance::Golden, key::PrefixChain};

const GOLDEN: Golden = Golden::of(env!("CARGO_MANIFEST_DIR"));

fn text(key: &Key<'_>) -> String {
    let mut text = Vec::new();
    key.render(&mut text);
    String::from_utf8(text).unwrap()
}

/// One key of each kind, with an identity of each kind, without and with a rest, and behind prefixes.
#[test]
fn the_texts_of_keys_are_golden() {
    let spaces = [
        ("limit", "100/min;b=20"),
        ("limit", "100/min/peer"),
        ("entry", "1/cache"),
        ("stamp", "pages"),
        ("lock", "unit"),
        ("fence", "unit"),
        ("record", "http"),
        ("data", ""),
    ]
    .map(|(kind, name)| KeySpace::new(kind, name));
    let identities = [
        Identity::V4(0x0a00_0001),
        Identity::V6(0x2001_0db8_0000_00ff),
        Identity::Int(7),
        Identity::from(-7),
        Identity::from("ada"),
        Identity::from("car:7"),
        Identity::from(""),
        Identity::from(b"a}{b\r\n\0*?[]\\\xff"),
        Identity::from(vec![b'x'; 128]),
        Identity::from(vec![b'x'; 129]),
    ];
    let mut texts = String::new();
    for space in &spaces {
        for identity in &identities {
            let key = Key::new(space, identity.as_ref());
            writeln!(texts, "{}", text(&key)).unwrap();
        }
        let key = Key::new(space, identities[4].as_ref());
        for rest in [&b"2026-12-01"[..], b"1.a-1.b4.x, y", &[b'x'; 129]] {
            writeln!(texts, "{}", text(&key.with_rest(rest))).unwrap();
        }
    }
    let (outer, inner) = (KeyPrefix::new("shop"), KeyPrefix::new("eu:1"));
    let outer = PrefixChain::new(&outer, None);
    let key = Key::new(&spaces[0], identities[4].as_ref());
    let key = key.within(&outer);
    writeln!(texts, "{}", text(&key)).unwrap();
    let inner = PrefixChain::new(&inner, key.prefix());
    writeln!(texts, "{}", text(&key.within(&inner))).unwrap();
    GOLDEN.check("keys.txt", texts.as_bytes());
}

#[test]
fn the_texts_of_numbers_are_golden() {
    let pairs = [
        (0, 0),
        (7, 0),
        (1_767_225_600_000_000, 0),
        (u64::MAX, 0),
        (7, 1),
        (41, u32::MAX),
    ];
    let ints = [0, 7, -7, i64::MAX, i64::MIN];
    let mut texts = Vec::new();
    for (time, fraction) in pairs {
        let value = Value::pair(time, fraction);
        assert_eq!(
            Value::from(value.to_bytes()).as_pair(),
            Some((time, fraction))
        );
        texts.extend([value.to_bytes(), "\n".into()].concat());
    }
    for number in ints {
        let value = Value::int(number);
        assert_eq!(Value::from(value.to_bytes()).as_int(), Some(number));
        texts.extend([value.to_bytes(), "\n".into()].concat());
    }
    GOLDEN.check("numbers.txt", &texts);
}
