//! The values and keys of this crate in a store, as files in `tests/golden/`. Services of all versions read and write them, so
//! a file may be added and none may change.

use std::{fmt::Write, time::Duration};

#[cfg(feature = "calendar")]
use layer_store::Clock;
use layer_store::{Arg, Identity, Slot, Transaction, Value, conformance::Golden};
use proptest::prelude::*;

use crate::{
    Block, IntoPolicy, Quota,
    algorithm::{
        demand::Demand,
        gcra::Change,
        program::{
            CHARGE, CHARGE_OR_BLOCK,
            args::MAX_ARGS,
            testing::{self, change},
        },
        span::Span,
    },
    policy::limit::Limit,
};

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
            limit.by.key(identity.as_ref(), fallback).render(&mut text);
            writeln!(texts, "{}", String::from_utf8(text).unwrap()).unwrap();
        }
    }
    GOLDEN.check("keys.txt", texts.as_bytes());
}

/// A trial has keys of its own, whatever its name is.
#[test]
fn the_texts_of_the_keys_of_a_shadow_are_golden() {
    let limit = Limit::new(Quota::per_day(5_000).fail_closed().name("daily").shadow());
    let mut texts = String::new();
    for fallback in [false, true] {
        let mut text = Vec::new();
        let identity = Identity::V4(0x0a00_0001);
        limit.by.key(identity.as_ref(), fallback).render(&mut text);
        writeln!(texts, "{}", String::from_utf8(text).unwrap()).unwrap();
    }
    GOLDEN.check("keys-of-shadows.txt", texts.as_bytes());
}

/// The replies and the state of the program, step by step: a line for each, of time, charge, reply, state, and the time left.
#[test]
fn the_states_and_replies_of_a_limit_are_golden() {
    let mut lines = String::new();
    for (name, quota) in [
        ("100/min;b=20", Quota::per_minute(100).burst(20)),
        ("7/min;b=2", Quota::per_minute(7).burst(2)),
    ] {
        let rate = quota.rate();
        let parts = rate.parts();
        let full = rate.full().to_parts(parts);
        writeln!(lines, "{name}: units {parts}, full {full}").unwrap();
        let price = rate.price(1).to_parts(parts) as i128;
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
            let charge = charge * price;
            let before = slots[0].clone();
            let run = testing::run(&mut slots, START + after, &[(rate, change(rate, charge))]);
            let run = run.unwrap();
            if rate.is_whole() && charge > 0 {
                // The shorter program leaves what the other does.
                let price = Span::of_micros(charge as u64);
                let mut slot = before;
                testing::run_one(&mut slot, START + after, rate, price).unwrap();
                let kept = |slot: &Slot| (slot.get(START + after).cloned(), slot.expires());
                assert_eq!(kept(&slot), kept(&slots[0]));
            }
            let transaction = Transaction::new(START + after, &mut slots);
            let state = transaction.get(0).map(|value| value.to_bytes());
            let state = String::from_utf8(state.unwrap_or_default().to_vec()).unwrap();
            let left = transaction.ttl(0).map_or(0, layer_store::Ttl::as_millis);
            let reply = [i128::from(run.is_admitted), run.limits[0].debt];
            writeln!(lines, "+{after} {charge}: {reply:?} [{state}] {left} ms").unwrap();
        }
    }
    GOLDEN.check("charge.txt", lines.as_bytes());
}

/// The keys, replies and states of the other algorithms: a line for each step, of time, demand, reply, state, and the time left.
#[test]
fn the_keys_states_and_replies_of_windows_are_golden() {
    let mut lines = String::new();
    for quota in [
        Quota::per_minute(10).sliding_window(),
        Quota::per_minute(10).fixed_window(),
        Quota::exact(3, Duration::from_secs(60)),
    ] {
        let limit = Limit::new(quota.fail_closed());
        for fallback in [false, true] {
            let mut text = Vec::new();
            limit
                .by
                .key(Identity::V4(0x0a00_0001).as_ref(), fallback)
                .render(&mut text);
            writeln!(lines, "{quota}: {}", String::from_utf8(text).unwrap()).unwrap();
        }
        let mut slots = [Slot::absent()];
        for (after, demand) in [
            (0, Demand::Charge { cost: 2 }),
            (1, Demand::Charge { cost: 1 }),
            (2, Demand::Look { cost: 2 }),
            (
                59_999_999,
                Demand::Refund {
                    cost: 1,
                    age: 59_999_999,
                },
            ),
            (60_000_000, Demand::Charge { cost: 3 }),
            (60_000_001, Demand::Charge { cost: 1 }),
            (90_000_000, Demand::Look { cost: 3 }),
            (200_000_000, Demand::Charge { cost: 1 }),
        ] {
            let mut args = [Arg::Int(0); MAX_ARGS];
            let len = limit.args(demand, &mut args);
            let mut transaction = Transaction::new(START + after, &mut slots);
            let output = CHARGE.run(&mut transaction, &args[..len]);
            let numbers: Vec<_> = args[..len].iter().map(|arg| arg.int().unwrap()).collect();
            let state = transaction.get(0).map(|value| value.to_bytes());
            let state = String::from_utf8(state.unwrap_or_default().to_vec()).unwrap();
            let left = transaction.ttl(0).map_or(0, layer_store::Ttl::as_millis);
            let reply = output.inline_ints().unwrap();
            writeln!(lines, "+{after} {numbers:?}: {reply:?} [{state}] {left} ms").unwrap();
        }
    }
    GOLDEN.check("windows.txt", lines.as_bytes());
}

/// The keys, replies and states of a block: a line for each step, of time, arguments, reply, the state of the block, and the time left.
#[test]
fn the_keys_states_and_replies_of_a_block_are_golden() {
    let mut lines = String::new();
    let block = Block::after(2, Duration::from_secs(30)).up_to(Duration::from_secs(45));
    let limit = Limit::new(
        Quota::per_minute(1)
            .fail_closed()
            .name("login")
            .block(block),
    );
    for fallback in [false, true] {
        let (mut text, identity) = (Vec::new(), Identity::V4(0x0a00_0001));
        let block = limit.block.as_ref().unwrap();
        block.key(identity.as_ref(), fallback).render(&mut text);
        writeln!(lines, "{}", String::from_utf8(text).unwrap()).unwrap();
    }
    let mut slots = [Slot::absent(), Slot::absent()];
    let (charge, look) = (Demand::Charge { cost: 1 }, Demand::Look { cost: 1 });
    for (after, demand) in [
        (0, charge),
        (1, charge),
        (1_000_000, charge),
        (1_000_001, charge),
        (30_999_999, look),
        (31_000_000, charge),
        (31_000_001, charge),
        (76_000_000, charge),
        (76_000_001, charge),
    ] {
        let mut args = [Arg::Int(0); 2 * MAX_ARGS];
        let mut len = limit.args(demand, &mut args);
        len += limit.block_args(demand, &mut args[len..]);
        let mut transaction = Transaction::new(START + after, &mut slots);
        let output = CHARGE_OR_BLOCK.run(&mut transaction, &args[..len]);
        let numbers: Vec<_> = args[..len].iter().map(|arg| arg.int().unwrap()).collect();
        let state = transaction.get(1).map(|value| value.to_bytes());
        let state = String::from_utf8(state.unwrap_or_default().to_vec()).unwrap();
        let left = transaction.ttl(1).map_or(0, layer_store::Ttl::as_millis);
        let reply: Vec<_> = (0..output.len()).filter_map(|at| output.int(at)).collect();
        writeln!(lines, "+{after} {numbers:?}: {reply:?} [{state}] {left} ms").unwrap();
    }
    GOLDEN.check("blocks.txt", lines.as_bytes());
}

/// A calendar's windows are kept as fixed ones.
#[cfg(feature = "calendar")]
#[test]
fn the_keys_and_states_of_calendar_windows_are_golden() {
    let mut lines = String::new();
    let quota = Quota::per_calendar_day(3, "Europe/Berlin");
    let limit = Limit::new(quota.fail_closed()).on_clock(Clock::manual(START).0);
    let mut text = Vec::new();
    limit
        .by
        .key(Identity::from("key-of-ada").as_ref(), false)
        .render(&mut text);
    writeln!(lines, "{}", String::from_utf8(text).unwrap()).unwrap();
    let mut slots = [Slot::absent()];
    let mut args = [Arg::Int(0); MAX_ARGS];
    let len = limit.args(Demand::Charge { cost: 2 }, &mut args);
    let mut transaction = Transaction::new(START, &mut slots);
    let output = CHARGE.run(&mut transaction, &args[..len]);
    let numbers: Vec<_> = args[..len].iter().map(|arg| arg.int().unwrap()).collect();
    let state = transaction.get(0).unwrap().to_bytes();
    let (reply, state) = (
        output.inline_ints().unwrap(),
        String::from_utf8_lossy(&state),
    );
    writeln!(lines, "{numbers:?}: {reply:?} [{state}]").unwrap();
    GOLDEN.check("calendar.txt", lines.as_bytes());
}

/// A state that another version wrote is read, and goes on from there.
#[test]
fn a_state_of_the_first_version_is_read() {
    let rate = Quota::per_minute(7).burst(2).rate();
    let state = |text: &str| {
        let mut slots = [Slot::until(Value::from(text), None)];
        let run = testing::run(&mut slots, START, &[(rate, Change::Look)]);
        run.map(|run| (run.is_admitted, run.limits[0].debt))
    };
    assert_eq!(state("1767225600000010"), Some((true, 70)));
    assert_eq!(state("1767225600000010:3"), Some((true, 73)));
    // Bytes that are no state are an error, and never a debt.
    for odd in [
        "",
        "x",
        "1767225600000010:",
        "1767225600000010:0",
        "1767225600000010:3:1",
        "1767225600000010:4294967296",
        "01767225600000010",
        "-1",
    ] {
        assert_eq!(state(odd), None, "{odd:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_are_misread_or_make_a_program_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40), cost in -9_i128..9) {
        let rate = Quota::per_minute(100).burst(20).rate();
        let value = Value::from(bytes);
        let is_state = value.as_pair().is_some();
        let mut slots = [Slot::until(value.clone(), None)];
        let mut one = slots[0].clone();
        let run = testing::run(&mut slots, START, &[(rate, change(rate, cost * 600_000))]);
        prop_assert_eq!(run.is_some(), is_state);
        prop_assert!(is_state || slots[0].get(START) == Some(&value));
        let run = testing::run_one(&mut one, START, rate, rate.price(1));
        prop_assert_eq!(run.is_some(), is_state);
    }
}

const START: u64 = 1_767_225_600_000_000;
