use std::mem::size_of;

use proptest::prelude::*;

use super::*;
use crate::Identity;

fn text(key: Key<'_>) -> String {
    let mut out = Vec::new();
    key.render(&mut out);
    String::from_utf8(out).unwrap()
}

fn limit(name: &str) -> KeySpace {
    KeySpace::new("limit", name)
}

/// A stored format: a change here loses what every running service has stored.
#[test]
fn texts_are_golden() {
    let minute = limit("100/min;b=20");
    let texts = |identity| text(Key::new(&minute, identity));
    assert_eq!(
        texts(IdentityRef::V4(0x0a00_0001)),
        "{ip:10.0.0.1}:limit:100/min%3Bb%3D20"
    );
    assert_eq!(
        texts(IdentityRef::V6(0x2001_0db8_0000_00ff)),
        "{ip:20010db8000000ff}:limit:100/min%3Bb%3D20"
    );
    assert_eq!(texts(IdentityRef::Int(7)), "{int:7}:limit:100/min%3Bb%3D20");
    assert_eq!(
        texts(IdentityRef::Text(b"ip:10.0.0.1")),
        "{ip%3A10.0.0.1}:limit:100/min%3Bb%3D20"
    );
    assert_eq!(texts(IdentityRef::Text(b"")), "{%}:limit:100/min%3Bb%3D20");
    assert_eq!(
        texts(IdentityRef::Text(b"a}{b\r\n\0*?[]\\\xff")),
        "{a%7D%7Bb%0D%0A%00%2A%3F%5B%5D%5C%FF}:limit:100/min%3Bb%3D20"
    );

    let units = KeySpace::new("data", "");
    let car = Key::new(&units, IdentityRef::Text(b"car:7"));
    assert_eq!(text(car), "{car%3A7}:data:");
    assert_eq!(
        text(car.with_rest(b"2026-12-01")),
        "{car%3A7}:data::2026-12-01"
    );

    let long = vec![b'x'; 129];
    assert_eq!(
        text(Key::new(&limit("l"), IdentityRef::Text(&long))),
        "{#9ljXb9JfHj3P5SxIY_vcBg}:limit:l"
    );
    assert_eq!(
        text(car.with_rest(&long)),
        "{car%3A7}:data:#kPAtf_u7VReUv_9yXTCz-w"
    );

    let (outer, inner) = (KeyPrefix::new("shop"), KeyPrefix::new("eu:1"));
    let outer = PrefixChain::new(&outer, None);
    let key = car.within(&outer);
    let inner = PrefixChain::new(&inner, key.prefix());
    assert_eq!(text(key.within(&inner)), "eu%3A1:shop:{car%3A7}:data:");
}

#[test]
fn a_key_fits_in_a_cache_line_and_a_half() {
    assert_eq!(size_of::<Key<'_>>(), 88);
}

#[test]
fn keys_share_a_tag_if_they_share_a_subject() {
    let (a, b) = (limit("a"), limit("b"));
    let ada = IdentityRef::Text(b"ada");
    assert!(Key::new(&a, ada).same_tag(&Key::new(&b, ada).with_rest(b"x")));
    assert!(!Key::new(&a, ada).same_tag(&Key::new(&a, IdentityRef::Text(b"bob"))));
    assert_ne!(Key::new(&a, ada).id(), Key::new(&b, ada).id());
}

#[test]
fn kinds_of_identities_are_apart() {
    let space = limit("l");
    let ids = [
        IdentityRef::V4(7),
        IdentityRef::V6(7),
        IdentityRef::Int(7),
        IdentityRef::Text(b"7"),
    ]
    .map(|identity| Key::new(&space, identity).id());
    for (i, id) in ids.iter().enumerate() {
        assert!(!ids[..i].contains(id));
    }
}

#[test]
fn the_order_of_prefixes_counts() {
    let space = limit("l");
    let key = Key::new(&space, IdentityRef::Int(1));
    let (a, b) = (KeyPrefix::new("a"), KeyPrefix::new("b"));
    let (a1, b1) = (PrefixChain::new(&a, None), PrefixChain::new(&b, None));
    let ab = key.within(&a1);
    let ab_within = PrefixChain::new(&b, ab.prefix());
    let ba = key.within(&b1);
    let ba_within = PrefixChain::new(&a, ba.prefix());
    assert_ne!(ab.within(&ab_within).id(), ba.within(&ba_within).id());
    // The rest may be added before or after the prefix.
    assert_eq!(
        ab.with_rest(b"x").id(),
        key.with_rest(b"x").within(&a1).id()
    );
}

#[test]
fn an_empty_rest_is_none() {
    let space = limit("l");
    let key = Key::new(&space, IdentityRef::Int(1));
    let prefix = KeyPrefix::new("a");
    let within = PrefixChain::new(&prefix, None);
    for key in [key, key.within(&within)] {
        for empty in [key.with_rest(b""), key.with_rest(b"x").with_rest(b"")] {
            assert_eq!(empty.id(), key.id());
            assert_eq!(text(empty), text(key));
        }
        assert_ne!(key.with_rest(b"x").id(), key.id());
        assert_ne!(key.with_rest(b"x").id(), key.with_rest(b"y").id());
    }
}

#[test]
fn a_text_of_128_bytes_is_written_out_and_a_longer_one_is_not() {
    let space = limit("l");
    for (len, written) in [(127, true), (128, true), (129, false)] {
        let identity = vec![b'x'; len];
        let text = text(Key::new(&space, IdentityRef::Text(&identity)));
        assert_eq!(!text.contains('#'), written, "{len}");
    }
}

/// The second word alone tells numbers of a kind apart, once what the first one adds to it is taken away.
#[test]
fn no_two_numbers_of_a_kind_collide() {
    let numbers = (0..64).map(|bit| 1 << bit).chain([0, u64::MAX]);
    let mut wholes: Vec<_> = numbers
        .map(|number| spread(V6, number))
        .map(|[first, second]| second ^ first.rotate_left(32))
        .collect();
    wholes.sort_unstable();
    wholes.dedup();
    assert_eq!(wholes.len(), 66);
}

#[test]
fn numbers_are_spread_over_both_words() {
    let ids: Vec<_> = (0..64).map(|number| spread(INT, number)).collect();
    for word in 0..2 {
        let set = ids.iter().fold(0, |set, id| set | id[word]);
        let clear = ids.iter().fold(0, |clear, id| clear | !id[word]);
        assert!(set.count_ones() > 56 && clear.count_ones() > 56);
        let mut words: Vec<_> = ids.iter().map(|id| id[word]).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 64);
    }
}

/// Under nearly all seeds they fall on 40 of 64 shards; ten would be a very rare accident.
#[test]
fn neighbouring_numbers_fall_on_many_shards() {
    let space = limit("l");
    let shard = |number| Key::new(&space, IdentityRef::Int(number)).tag_bits() & 63;
    let mut shards: Vec<_> = (0..64).map(shard).collect();
    shards.sort_unstable();
    shards.dedup();
    assert!(shards.len() > 10, "{}", shards.len());
}

#[test]
#[should_panic(expected = "write a name, such as")]
fn an_empty_prefix_is_a_mistake() {
    let _ = KeyPrefix::new("");
}

#[test]
fn the_order_of_parts_counts() {
    let (a, b, c) = ([1, 2], [3, 4], [5, 6]);
    assert_ne!(chain(chain(a, b), c), chain(chain(a, c), b));
    assert_ne!(chain(a, b), chain(b, a));
    assert_eq!(chain([0, 0], a), a);
    assert_eq!(
        chain([1, 2], [10, 20]),
        [ODD.wrapping_add(10), ODD.wrapping_mul(2).wrapping_add(20)]
    );
}

#[test]
fn debug_shows_the_space_and_no_subject() {
    let space = limit("l");
    assert_eq!(space.name(), "l");
    assert_eq!(format!("{space:?}"), "KeySpace(\"limit:l\")");
    let key = Key::new(&space, IdentityRef::Text(b"secret"));
    assert_eq!(format!("{key:?}"), "Key(\"limit:l\")");
}

#[test]
fn a_kind_is_1_to_16_lower_case_letters() {
    for kind in ["a", "abcdefghijklmnop"] {
        let _ = KeySpace::new(kind, "");
    }
    for kind in ["", "abcdefghijklmnopq", "Limit", "a-b", "a1"] {
        let panic = std::panic::catch_unwind(|| KeySpace::new(kind, "")).unwrap_err();
        let message = panic.downcast_ref::<String>().unwrap();
        assert!(
            message.contains("write 1 to 16 lower-case letters"),
            "{message}"
        );
    }
}

fn part() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..6),
        proptest::collection::vec(
            prop_oneof![Just(b':'), Just(b'%'), Just(b'a'), Just(b'{')],
            0..6
        ),
        proptest::collection::vec(Just(b'y'), 120..140),
    ]
}

proptest! {
    #[test]
    fn texts_and_identities_are_injective(
        a in (part(), "[a:%#]{0,3}", part()),
        b in (part(), "[a:%#]{0,3}", part()),
    ) {
        let spaces = (limit(&a.1), limit(&b.1));
        let x = Key::new(&spaces.0, IdentityRef::Text(&a.0)).with_rest(&a.2);
        let y = Key::new(&spaces.1, IdentityRef::Text(&b.0)).with_rest(&b.2);
        prop_assert_eq!(text(x) == text(y), a == b);
        prop_assert_eq!(x.id() == y.id(), a == b);
    }

    #[test]
    fn texts_are_bounded_and_choose_no_slot(identity in proptest::collection::vec(any::<u8>(), 0..2000), rest in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let space = limit("l");
        let text = text(Key::new(&space, IdentityRef::Text(&identity)).with_rest(&rest));
        prop_assert!(text.len() < 300);
        prop_assert!(text.is_ascii() && !text.contains(['*', '?', '[', ']', '\\', '\r', '\n', ' ', '\0']));
        prop_assert_eq!(text.matches('{').count(), 1);
        prop_assert_eq!(text.matches('}').count(), 1);
    }

    #[test]
    fn addresses_never_collide(a: u64, b: u64) {
        let space = limit("l");
        let (x, y) = (Identity::V6(a), Identity::V6(b));
        prop_assert_eq!(Key::new(&space, x.as_ref()).id() == Key::new(&space, y.as_ref()).id(), a == b);
    }
}
