//! The lookup as a state machine: replies are given by hand, and what it asks next is compared.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, StatusCode};
use layer_store::{ErrorKind, Key};

use super::*;
use crate::{
    http::{freshness::Freshness, reuse::StaleTerms},
    purge::stamp::Stamp,
    stored::{
        codec::EntryWriter,
        entry::{EntryHead, EntryKind},
    },
    testing::address,
};

const A: Stamp = Stamp::planted(*b"aaaaaaaaaaa");
const B: Stamp = Stamp::planted(*b"bbbbbbbbbbb");
const EPOCH: Stamp = Stamp::planted(*b"eeeeeeeeeee");

/// A German client.
fn fields() -> HeaderMap {
    HeaderMap::from_iter([(language(), "de".parse().unwrap())])
}

fn language() -> HeaderName {
    HeaderName::from_static("accept-language")
}

fn by_language() -> VaryFields {
    VaryFields::from_vec(vec![language()])
}

fn hint(vary: VaryFields, tags: &[&str]) -> Hint {
    Hint {
        vary,
        tags: tags.iter().map(|tag| (*tag).into()).collect(),
    }
}

/// An entry for clients of one language, or for all.
fn entry(said: Option<&'static str>, tags: &[(&str, Stamp)]) -> Value {
    let value = said.map(|said| (language(), Some(Bytes::from(said))));
    let head = EntryHead {
        kind: EntryKind::Http {
            status: StatusCode::OK,
            public: false,
            vary_values: value.into_iter().collect(),
        },
        received_at: 0,
        freshness: Freshness::given(Duration::from_secs(1)),
        terms: StaleTerms::default(),
    };
    let tags: Vec<_> = tags
        .iter()
        .map(|(tag, stamp)| ((*tag).into(), *stamp))
        .collect();
    let none = HeaderMap::new();
    let writer = EntryWriter::new(0);
    Value::from(writer.finish(b"/cars", &head, &none, &none, &[A, B], &tags))
}

fn rule() -> Value {
    StoredValue::vary_rule(b"/cars", &by_language())
}

fn stamps() -> [Option<Value>; 3] {
    [Some(A.value()), Some(B.value()), Some(EPOCH.value())]
}

/// The texts of the keys that the lookup asks for now.
fn asked(lookup: &Lookup<'_>) -> Vec<String> {
    let mut scratch = Scratch::default();
    let Op::GetMany(keys) = lookup.ask(&mut scratch) else {
        panic!("it reads several keys");
    };
    assert_eq!(keys.len(), lookup.asked());
    keys.iter().map(text).collect()
}

fn text(key: &Key<'_>) -> String {
    let mut text = Vec::new();
    key.render(&mut text);
    String::from_utf8(text).unwrap()
}

fn give(
    lookup: &mut Lookup<'_>,
    values: impl IntoIterator<Item = Option<Value>>,
) -> Option<Result<Found, StoreError>> {
    lookup.take(Ok(Reply::Values(values.into_iter().collect())))
}

fn end(lookup: &mut Lookup<'_>, values: impl IntoIterator<Item = Option<Value>>) -> Found {
    give(lookup, values).expect("it ends").unwrap()
}

const BASE: &str = "{/cars}:entry:2/cache";
const STAMPS: [&str; 3] = ["{%}:stamp:pages", "{/cars}:stamp:page", "{%}:stamp:epoch"];

#[test]
fn one_command_finds_an_entry_that_does_not_vary() {
    let (address, fields) = (address("/cars"), fields());
    let mut lookup = Lookup::new(&address, &fields, None, 7);
    assert_eq!(asked(&lookup), [&[BASE][..], &STAMPS].concat());
    let found = end(
        &mut lookup,
        [[Some(entry(None, &[]))].as_slice(), &stamps()].concat(),
    );
    assert!(found.entry.is_ok());
    assert_eq!(found.fills_completed, 7);
    assert_eq!(found.observed.snapshot().unwrap().scopes, [A, B]);
    assert_eq!(found.observed.epoch, StampState::Present(EPOCH));
    assert!(!found.has_rule && found.vary.is_empty());
    assert_eq!(found.hint, None, "there is nothing to remember");
}

#[test]
fn an_empty_address_is_a_miss_with_the_stamps_that_were_read() {
    let (address, fields) = (address("/cars"), fields());
    let mut lookup = Lookup::new(&address, &fields, None, 0);
    let found = end(&mut lookup, [None, Some(A.value()), None, None]);
    assert_eq!(found.entry.unwrap_err(), MissReason::Address);
    assert!(found.observed.is_incomplete());
    let missing = found.observed.missing(&address);
    let missing: Vec<_> = missing.iter().map(text).collect();
    assert_eq!(missing, STAMPS[1..]);
}

#[test]
fn a_hint_that_is_right_finds_the_variant_in_one_command() {
    let (address, fields) = (address("/cars"), fields());
    let hint = hint(by_language(), &["t"]);
    let mut lookup = Lookup::new(&address, &fields, Some(&hint), 0);
    let keys = asked(&lookup);
    assert_eq!(keys.len(), 6);
    assert_eq!(keys[0], BASE);
    assert!(keys[1].starts_with("{/cars}:entry:2/cache:"), "{keys:?}");
    assert_eq!(keys[4], "{t}:stamp:tag");
    let values = [
        Some(rule()),
        Some(entry(Some("de"), &[("t", A)])),
        Some(A.value()),
        Some(B.value()),
        Some(A.value()),
        Some(EPOCH.value()),
    ];
    let found = end(&mut lookup, values);
    assert!(found.entry.is_ok() && found.has_rule);
    assert_eq!(found.vary, by_language());
    assert_eq!(found.hint, None);
}

#[test]
fn a_vary_rule_without_a_hint_takes_a_second_command() {
    let (address, fields) = (address("/cars"), fields());
    let mut lookup = Lookup::new(&address, &fields, None, 0);
    assert!(give(&mut lookup, [[Some(rule())].as_slice(), &stamps()].concat()).is_none());
    assert_eq!(asked(&lookup).len(), 1);
    let found = end(&mut lookup, [Some(entry(Some("de"), &[]))]);
    assert!(found.entry.is_ok() && found.has_rule);
    assert_eq!(found.hint.unwrap(), hint(by_language(), &[]));
}

#[test]
fn a_hint_that_is_old_is_replaced_by_the_rule() {
    let (address, fields) = (address("/cars"), fields());
    let old = hint(
        VaryFields::from_vec(vec![HeaderName::from_static("x")]),
        &[],
    );
    let mut lookup = Lookup::new(&address, &fields, Some(&old), 0);
    let values = [[Some(rule()), None].as_slice(), &stamps()].concat();
    assert!(give(&mut lookup, values).is_none());
    let found = end(&mut lookup, [None]);
    assert_eq!(found.entry.unwrap_err(), MissReason::Variant);
    assert!(found.has_rule);
    assert_eq!(found.vary, by_language());
    assert_eq!(found.hint.unwrap(), hint(by_language(), &[]));
}

#[test]
fn a_variant_is_found_by_the_hint_when_its_rule_was_evicted() {
    let (address, fields) = (address("/cars"), fields());
    let hint = hint(by_language(), &[]);
    for (said, is_found) in [("de", true), ("en", false)] {
        let mut lookup = Lookup::new(&address, &fields, Some(&hint), 0);
        let values = [None, Some(entry(Some(said), &[]))];
        let found = end(&mut lookup, [values.as_slice(), &stamps()].concat());
        assert_eq!(found.entry.is_ok(), is_found);
        assert!(!found.has_rule);
        if !is_found {
            assert_eq!(found.entry.unwrap_err(), MissReason::Variant);
        }
    }
}

#[test]
fn tags_that_no_hint_named_take_a_second_command() {
    let (address, fields) = (address("/cars"), fields());
    for (stamp, is_valid) in [(A, true), (B, false)] {
        let mut lookup = Lookup::new(&address, &fields, None, 0);
        let tagged = entry(None, &[("t", A), ("u", A)]);
        assert!(give(&mut lookup, [[Some(tagged)].as_slice(), &stamps()].concat()).is_none());
        assert_eq!(asked(&lookup), ["{t}:stamp:tag", "{u}:stamp:tag"]);
        let found = end(&mut lookup, [Some(A.value()), Some(stamp.value())]);
        assert_eq!(found.entry.is_ok(), is_valid);
        assert_eq!(
            found.hint.unwrap(),
            hint(VaryFields::default(), &["t", "u"])
        );
    }
}

#[test]
fn only_the_tags_that_are_missing_are_asked_for() {
    let (address, fields) = (address("/cars"), fields());
    let known = hint(VaryFields::default(), &["t"]);
    let mut lookup = Lookup::new(&address, &fields, Some(&known), 0);
    let tagged = entry(None, &[("t", A), ("u", A)]);
    let values = [tagged, A.value(), B.value(), A.value(), EPOCH.value()];
    assert!(give(&mut lookup, values.map(Some)).is_none());
    assert_eq!(asked(&lookup), ["{u}:stamp:tag"]);
    assert!(end(&mut lookup, [Some(A.value())]).entry.is_ok());
}

#[test]
fn the_tags_of_an_object_are_asked_for_once_and_first() {
    let mut address = address("/cars");
    address.tags = vec!["t".into()];
    let fields = HeaderMap::new();
    let hint = hint(VaryFields::default(), &["t", "u"]);
    let lookup = Lookup::new(&address, &fields, Some(&hint), 0);
    let keys = asked(&lookup);
    assert_eq!(keys[3..5], ["{t}:stamp:tag", "{u}:stamp:tag"]);
    assert_eq!(keys.len(), 6);
}

#[test]
fn an_entry_whose_stamp_is_gone_was_purged() {
    let (address, fields) = (address("/cars"), fields());
    for gone in [0, 1] {
        let mut lookup = Lookup::new(&address, &fields, None, 0);
        let mut stamps = stamps();
        stamps[gone] = None;
        let found = end(
            &mut lookup,
            [[Some(entry(None, &[]))].as_slice(), &stamps].concat(),
        );
        assert_eq!(found.entry.unwrap_err(), MissReason::Purged);
    }
    // The epoch says nothing of an entry.
    let mut lookup = Lookup::new(&address, &fields, None, 0);
    let values = [
        Some(entry(None, &[])),
        Some(A.value()),
        Some(B.value()),
        None,
    ];
    assert!(end(&mut lookup, values).entry.is_ok());
}

#[test]
fn a_value_that_cannot_be_read_is_a_miss() {
    let (address, fields) = (address("/cars"), fields());
    let mut lookup = Lookup::new(&address, &fields, None, 0);
    let found = end(
        &mut lookup,
        [[Some(Value::from("odd"))].as_slice(), &stamps()].concat(),
    );
    assert_eq!(found.entry.unwrap_err(), MissReason::Address);
    let mut lookup = Lookup::new(&address, &fields, None, 0);
    assert!(give(&mut lookup, [[Some(rule())].as_slice(), &stamps()].concat()).is_none());
    let found = end(&mut lookup, [Some(Value::from("odd"))]);
    assert_eq!(found.entry.unwrap_err(), MissReason::Variant);
}

#[test]
fn an_error_of_the_store_ends_the_lookup_at_every_step() {
    let (address, fields) = (address("/cars"), fields());
    let error = || Err(StoreError::unknown(ErrorKind::Timeout));
    let kind = |end: Option<Result<Found, StoreError>>| end.unwrap().unwrap_err().kind();
    for first in [
        None,
        Some([[Some(rule())].as_slice(), &stamps()].concat()),
        Some([[Some(entry(None, &[("t", A)]))].as_slice(), &stamps()].concat()),
    ] {
        for (reply, expected) in [
            (error(), ErrorKind::Timeout),
            (Ok(Reply::Pong), ErrorKind::Corrupt),
            (Ok(Reply::Values(Vec::new())), ErrorKind::Corrupt),
            (Ok(Reply::Values(vec![None; 9])), ErrorKind::Corrupt),
        ] {
            let mut lookup = Lookup::new(&address, &fields, None, 0);
            if let Some(first) = first.clone() {
                assert!(give(&mut lookup, first).is_none());
            }
            assert_eq!(kind(lookup.take(reply)), expected);
        }
    }
}
