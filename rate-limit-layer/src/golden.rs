//! The values and keys of this crate in a store, as files in `tests/golden/`. Services of all versions read and write them, so
//! a file may be added and none may change.

use std::fmt::Write;

use layer_store::{Arg, Identity, Output, Slot, Transaction, Value, conformance::Golden};
use proptest::prelude::*;

use crate::{IntoPolicy, Quota, algorithm::program::CHARGE, policy::limit::Limit};

const GOLDEN: Golden = Golden::of(env!("CARGO_MANIFEST_DIR"));

#[test]
fn the_texts_of_keys_are_golden() {
    let limit = |policy: crate::Policy| Limit::new(policy);
    let limits = [
        limit(Quota::per_minute(100).fail_open()),
        limit(Quota::per_minute(100).burst(20).fail_closed()),
        limit(
            Quota::per_day(5_000)
                .name("daily")
                .fail_closed()
                .into_policy(),
        ),
    ];
    let mut texts = String::new();
    for limit in &limits {
        for (identity, fallback) in [
            (Identity::V4(0x0a00_0001), false),
            (Identity::from("key-of-ada"), false),
            (Identity::V4(0x0a00_0001), true),
        ] {
            let mut text = Vec::new();
            limit.key(identity.as_ref(), fallback).render(&mut text);
            writeln!(texts, "{}", String::from_utf8(text).unwrap()).unwrap();
        }
    }
    GOLDEN.check("keys.txt", texts.as_bytes());
}

/// The replies and the state of the program, step by step: a line for each, of time, charge, reply, state, and the time left.
#[test]
fn the_states_and_replies_of_a_limit_are_golden() {
    const START: u64 = 1_767_225_600_000_000;
    let mut lines = String::new();
    for (name, quota) in [
        ("100/min;b=20", Quota::per_minute(100).burst(20)),
        ("7/min;b=2", Quota::per_minute(7).burst(2)),
    ] {
        let rate = quota.rate();
        writeln!(
            lines,
            "{name}: units {}, full {}",
            rate.units(),
            rate.full()
        )
        .unwrap();
        let mut slots = [Slot::absent()];
        for (after, charge) in [
            (0, 1),
            (1, 1),
            (2, 2),
            (3, 0),
            (1_000_000, 1),
            (1_000_001, -1),
            (600_000_000, 1),
        ] {
            let mut transaction = Transaction::new(START + after, &mut slots);
            let charge = charge * rate.price(1) as i64;
            let output = run(&mut transaction, rate.units(), rate.full(), charge);
            let state = transaction.get(0).map(|value| value.to_bytes());
            let state = String::from_utf8(state.unwrap_or_default().to_vec()).unwrap();
            let left = transaction.ttl(0).map_or(0, layer_store::Ttl::as_millis);
            let reply = [output.int(0), output.int(1)].map(Option::unwrap_or_default);
            writeln!(lines, "+{after} {charge}: {reply:?} [{state}] {left} ms").unwrap();
        }
    }
    GOLDEN.check("charge.txt", lines.as_bytes());
}

/// A state that another version wrote is read, and goes on from there.
#[test]
fn a_state_of_the_first_version_is_read() {
    let state = |text: &str| {
        let mut slots = [Slot::until(Value::from(text), None)];
        let mut transaction = Transaction::new(1_767_225_600_000_000, &mut slots);
        let output = run(&mut transaction, 7, 120_000_000, 0);
        (output.int(0), output.int(1))
    };
    assert_eq!(state("1767225600000010"), (Some(1), Some(70)));
    assert_eq!(state("1767225600000010:3"), (Some(1), Some(73)));
    // Bytes that are no state are an error, and never a debt.
    for odd in [
        "",
        "x",
        "1767225600000010:",
        "1767225600000010:0",
        "1767225600000010:3:1",
        "01767225600000010",
        "-1",
    ] {
        assert_eq!(state(odd), (Some(-1), None), "{odd:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_are_misread_or_make_the_program_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40), charge in -9_i64..9) {
        let value = Value::from(bytes);
        let is_state = value.as_pair().is_some();
        let mut slots = [Slot::until(value, None)];
        let mut transaction = Transaction::new(1_767_225_600_000_000, &mut slots);
        let output = run(&mut transaction, 1, 12_000_000, charge * 600_000);
        prop_assert_eq!(output.int(0) == Some(-1), !is_state);
        prop_assert!(is_state || transaction.written() == 0);
    }
}

fn run(transaction: &mut Transaction<'_>, units: u64, full: u64, charge: i64) -> Output {
    let args = [
        Arg::Int(units as i64),
        Arg::Int(full as i64),
        Arg::Int(charge),
    ];
    CHARGE.run(transaction, &args)
}
