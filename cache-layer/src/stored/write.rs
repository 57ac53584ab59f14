//! Writing an entry: one batch, which is sent once.

use layer_store::{
    Condition, Key, Op, Protocol, Reply, Retention, Scratch, StoreError, Ttl, Value,
};

use crate::{
    http::vary::VaryFields,
    purge::stamp::StampToken,
    stored::{
        address::Address,
        entry::{MAX_LIFE, StoredValue},
    },
};

/// Writes an entry: first its stamps get a longer life, then the vary rule is written, and last the entry.
///
/// In this order, since a Cluster does not apply a batch as one. An entry without its stamps is a miss, and stamps without
/// an entry do no harm.
#[derive(Debug)]
pub(crate) struct WriteEntry<'a> {
    /// The stamps whose life is due to be prolonged.
    stamps: Vec<(Key<'a>, StampToken)>,
    base: Key<'a>,
    rule: Option<Rule>,
    key: Key<'a>,
    value: &'a Value,
    ttl: Ttl,
}

/// The place of an entry among several variants.
#[derive(Debug)]
pub(crate) struct Variant {
    /// The fields of the vary rule.
    pub(crate) vary: VaryFields,
    /// The end of the key.
    pub(crate) rest: Vec<u8>,
    /// True if the store holds a rule with these fields.
    pub(crate) has_rule: bool,
}

/// The result of writing an entry.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Written {
    /// The stamps that live long now.
    pub(crate) prolonged: Vec<StampToken>,
    /// True if the store has the entry.
    pub(crate) is_stored: bool,
}

/// The treatment of the vary rule at the address.
#[derive(Debug)]
enum Rule {
    /// It is there, and must live at least as long as the entry.
    Prolong,
    Write(Value),
}

impl<'a> WriteEntry<'a> {
    /// Prepares the batch for `value`, which lives for `ttl`.
    pub(crate) fn new(
        address: &'a Address,
        variant: Option<&'a Variant>,
        value: &'a Value,
        ttl: Ttl,
        stamps: Vec<(Key<'a>, StampToken)>,
    ) -> Self {
        let rule = variant.map(|variant| match variant.has_rule {
            true => Rule::Prolong,
            false => Rule::Write(StoredValue::vary_rule(&address.text, &variant.vary)),
        });
        Self {
            stamps,
            base: address.base(),
            rule,
            key: match variant {
                Some(variant) => address.variant(&variant.rest),
                None => address.base(),
            },
            value,
            ttl,
        }
    }

    fn ops(&self) -> impl Iterator<Item = Op<'_>> {
        let stamps = self.stamps.iter().map(|(key, _)| prolong(key, STAMP_LIFE));
        let rule = self.rule.iter().map(|rule| match rule {
            Rule::Prolong => prolong(&self.base, self.ttl),
            Rule::Write(rule) => set(&self.base, rule, self.ttl),
        });
        stamps
            .chain(rule)
            .chain([set(&self.key, self.value, self.ttl)])
    }
}

impl Protocol for WriteEntry<'_> {
    type Output = Written;

    fn ask<'r, 's: 'r>(&'s self, scratch: &'r mut Scratch<'s>) -> Op<'r> {
        Op::Batch(scratch.ops(self.ops()))
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Written> {
        let sent = self.stamps.len() + usize::from(self.rule.is_some()) + 1;
        let Ok(replies) = reply.and_then(|reply| reply.into_batch(sent)) else {
            // The entry may or may not be there. Its stamps decide if it is served.
            return Some(Written::default());
        };
        let stamps = self.stamps.iter().zip(&replies);
        Some(Written {
            prolonged: stamps
                .filter(|(_, reply)| matches!(reply, Ok(Reply::Count(1))))
                .map(|((_, token), _)| *token)
                .collect(),
            is_stored: matches!(replies.last(), Some(Ok(Reply::Set { applied: true, .. }))),
        })
    }
}

fn prolong<'a>(key: &'a Key<'a>, ttl: Ttl) -> Op<'a> {
    Op::Touch {
        key,
        ttl,
        only_longer: true,
    }
}

fn set<'a>(key: &'a Key<'a>, value: &'a Value, ttl: Ttl) -> Op<'a> {
    Op::Set {
        key,
        value,
        expiry: ttl.into(),
        condition: Condition::Always,
        retention: Retention::Evictable,
    }
}

/// Twice the longest life of an entry. A stamp is prolonged again after half a day, so it outlives every entry under it.
const STAMP_LIFE: Ttl =
    Ttl::from_millis(2 * MAX_LIFE.as_millis() as u64).expect("two days are not zero");

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderName;
    use layer_store::ErrorKind;

    use super::*;
    use crate::testing::address;

    const TOKENS: [StampToken; 2] = [*b"aaaaaaaaaaa", *b"bbbbbbbbbbb"];
    const SECOND: Ttl = Ttl::from_millis(1_000).unwrap();

    fn variant(has_rule: bool) -> Variant {
        Variant {
            vary: VaryFields::from_vec(vec![HeaderName::from_static("x")]),
            rest: b"1.x-".to_vec(),
            has_rule,
        }
    }

    /// Writes the batch as texts, such as `touch {/cars}:entry:2/cache 1s`.
    fn ops(variant: Option<&Variant>) -> Vec<String> {
        let (address, value) = (address("/cars"), Value::from("body"));
        let stamps = address.scopes.keys().zip(TOKENS).collect();
        let write = WriteEntry::new(&address, variant, &value, SECOND, stamps);
        let mut scratch = Scratch::default();
        let Op::Batch(ops) = write.ask(&mut scratch) else {
            panic!("one batch");
        };
        let text = |name: &str, key: &Key<'_>, ttl: Ttl| {
            let mut text = Vec::new();
            key.render(&mut text);
            let text = String::from_utf8(text).unwrap();
            format!("{name} {text} {}s", ttl.as_duration().as_secs())
        };
        let op = |op: &Op<'_>| match op {
            Op::Touch {
                key,
                ttl,
                only_longer: true,
            } => text("touch", key, *ttl),
            Op::Set {
                key,
                expiry,
                condition: Condition::Always,
                ..
            } => text("set", key, expiry.ttl().unwrap()),
            _ => panic!("{op:?}"),
        };
        ops.iter().map(op).collect()
    }

    const STAMPS: [&str; 2] = [
        "touch {%}:stamp:pages 172800s",
        "touch {/cars}:stamp:page 172800s",
    ];

    #[test]
    fn the_stamps_come_first_and_the_entry_last() {
        let entry = ["set {/cars}:entry:2/cache 1s"];
        assert_eq!(ops(None), [&STAMPS[..], &entry].concat());
        let written = [
            "set {/cars}:entry:2/cache 1s",
            "set {/cars}:entry:2/cache:1.x- 1s",
        ];
        assert_eq!(ops(Some(&variant(false))), [&STAMPS[..], &written].concat());
        let prolonged = [
            "touch {/cars}:entry:2/cache 1s",
            "set {/cars}:entry:2/cache:1.x- 1s",
        ];
        assert_eq!(
            ops(Some(&variant(true))),
            [&STAMPS[..], &prolonged].concat()
        );
    }

    fn written(reply: Result<Reply, StoreError>) -> Written {
        let (address, value) = (address("/cars"), Value::from("body"));
        let stamps = address.scopes.keys().zip(TOKENS).collect();
        let mut write = WriteEntry::new(&address, None, &value, SECOND, stamps);
        write.take(reply).expect("one batch is all")
    }

    #[test]
    fn only_what_the_store_confirms_is_reported() {
        let error = || Err(StoreError::unknown(ErrorKind::Timeout));
        let set = |applied| {
            let existing = None;
            Ok(Reply::Set { applied, existing })
        };
        let batch =
            |replies: [Result<Reply, StoreError>; 3]| written(Ok(Reply::Batch(replies.into())));
        let all = batch([Ok(Reply::Count(1)), Ok(Reply::Count(1)), set(true)]);
        assert_eq!((all.prolonged, all.is_stored), (TOKENS.to_vec(), true));
        let some = batch([Ok(Reply::Count(0)), Ok(Reply::Count(1)), set(true)]);
        assert_eq!((some.prolonged, some.is_stored), (vec![TOKENS[1]], true));
        let none = batch([error(), Ok(Reply::Count(1)), error()]);
        assert_eq!((none.prolonged, none.is_stored), (vec![TOKENS[1]], false));
        let refused = batch([Ok(Reply::Count(1)), error(), set(false)]);
        assert!(!refused.is_stored);
        for reply in [error(), Ok(Reply::Pong), Ok(Reply::Batch(vec![set(true)]))] {
            assert_eq!(written(reply), Written::default());
        }
    }

    #[test]
    fn a_stamp_outlives_the_longest_entry() {
        assert_eq!(STAMP_LIFE.as_duration(), 2 * MAX_LIFE);
        assert_eq!(MAX_LIFE, Duration::from_secs(86_400));
    }
}
