//! The algorithms that count in windows, by the twin of the program: tables, and the bounds as properties of what passed.

use std::{collections::BTreeMap, time::Duration};

use layer_store::{Arg, Slot, Transaction, Value};
use proptest::prelude::*;

use super::*;
use crate::{
    Algorithm::{self, ExactLog, FixedWindow, SlidingWindow},
    Quota,
    algorithm::{
        demand::Demand,
        gcra::Rate,
        program::{CHARGE, args::MAX_ARGS},
        span::Span,
    },
    policy::limit::Limit,
};

/// 2026-01-01: the edge of a second, a minute, an hour and a day.
const EDGE: u64 = 1_767_225_600_000_000;
const SECOND: u64 = 1_000_000;
const ALL: [Algorithm; 3] = [SlidingWindow, FixedWindow, ExactLog];

/// One partition of a limit, in a slot that a test fills.
#[derive(Clone)]
struct Partition {
    limit: Limit,
    slot: Slot,
}

/// What a run replied: true if it was admitted, and the count.
type Reply = (bool, Count);

impl Partition {
    fn new(algorithm: Algorithm, limit: u64, window: u64) -> Self {
        let quota = Quota::try_new(limit, Duration::from_micros(window)).unwrap();
        let quota = quota.try_algorithm(algorithm).unwrap();
        Self {
            limit: Limit::new(quota.fail_closed()),
            slot: Slot::absent(),
        }
    }

    fn holding(mut self, text: &str) -> Self {
        self.slot = Slot::until(Value::from(text), None);
        self
    }

    fn try_run(&mut self, now: u64, demand: Demand) -> Option<Reply> {
        let mut args = [Arg::Int(0); MAX_ARGS];
        let len = self.limit.args(demand, &mut args);
        let slots = std::slice::from_mut(&mut self.slot);
        let output = CHARGE.run(&mut Transaction::new(now, slots), &args[..len]);
        let [admitted, remaining, reset_after, wait] = *output.inline_ints().unwrap() else {
            assert_eq!(output.int(0), Some(-1));
            return None;
        };
        let count = Count {
            remaining: remaining as u64,
            reset_after: reset_after as u64,
            wait: wait as u64,
        };
        Some((admitted == 1, count))
    }

    fn run(&mut self, now: u64, demand: Demand) -> Reply {
        self.try_run(now, demand).expect("the value is of its form")
    }

    fn charge(&mut self, now: u64, cost: u64) -> Reply {
        self.run(now, Demand::Charge { cost })
    }

    fn refund(&mut self, now: u64, cost: u64, age: u64) -> Reply {
        self.run(now, Demand::Refund { cost, age })
    }

    fn look(&mut self, now: u64, cost: u64) -> Count {
        self.run(now, Demand::Look { cost }).1
    }

    fn kept(&self, now: u64) -> Option<String> {
        let text = self.slot.get(now)?.to_bytes();
        Some(String::from_utf8(text.to_vec()).unwrap())
    }
}

fn count(remaining: u64, reset_after: u64, wait: u64) -> Count {
    Count {
        remaining,
        reset_after,
        wait,
    }
}

#[test]
fn numbers_are_digits_between_colons() {
    let read = |text: &str| numbers::<2>(&Value::from(text));
    assert_eq!(read("12:3"), Some([12, 3]));
    assert_eq!(read("0:9007199254740991"), Some([0, MAX_WHOLE]));
    for odd in [
        "",
        ":",
        "1",
        "1:",
        ":1",
        "1:2:3",
        "+1:2",
        "1: 2",
        "1:2 ",
        "-1:2",
        "1:2.0",
        "1:9007199254740992",
        "1:99999999999999999999999",
    ] {
        assert_eq!(read(odd), None, "{odd:?}");
    }
    assert_eq!(numbers::<1>(&Value::from(&b"\xff"[..])), None);
}

#[test]
fn a_fixed_window_begins_anew_at_its_edge() {
    let mut partition = Partition::new(FixedWindow, 10, 60 * SECOND);
    let late = EDGE + 59 * SECOND;
    assert_eq!(partition.charge(late, 7), (true, count(3, SECOND, SECOND)));
    assert_eq!(partition.charge(late, 4), (false, count(3, SECOND, SECOND)));
    assert_eq!(partition.charge(late, 3), (true, count(0, SECOND, SECOND)));
    assert_eq!(partition.kept(late).unwrap(), "1767225660000000:10");
    assert_eq!(partition.slot.expires(), Some(late + SECOND));
    let next = EDGE + 60 * SECOND;
    assert_eq!(partition.look(next - 1, 1), count(0, 1, 1));
    assert_eq!(
        partition.charge(next, 10),
        (true, count(0, 60 * SECOND, 60 * SECOND))
    );
}

#[test]
fn a_sliding_window_lets_the_one_before_fade_out() {
    let mut partition = Partition::new(SlidingWindow, 10, 60 * SECOND);
    let late = EDGE + 59 * SECOND;
    partition.charge(late, 9);
    // 9 of the limit, so a cost of 5 does not pass, and changes nothing.
    assert!(!partition.charge(late, 5).0);
    assert_eq!(partition.look(late, 0).remaining, 1);
    let next = EDGE + 60 * SECOND;
    // All of the window before counts at its edge, and a part of one as a whole: 8.85 are 9.
    assert_eq!(partition.look(next, 0).remaining, 1);
    assert_eq!(partition.look(next + SECOND, 0).remaining, 1);
    // 8 of 9 from a ninth of the window on: 6,666,667 microseconds.
    let wait = partition.look(next, 2).wait;
    assert_eq!(wait, 6_666_667);
    assert_eq!(partition.look(next + wait - 1, 2).wait, 1);
    assert_eq!(
        partition.charge(next + wait, 2),
        (true, count(0, 113_333_333, 13_333_333))
    );
    assert_eq!(partition.kept(next + wait).unwrap(), "1767225720000000:2:9");
    // A whole limit passes once all of it has faded.
    assert_eq!(partition.look(next + wait, 10).wait, 113_333_333);
}

#[test]
fn an_exact_log_forgets_a_charge_after_a_whole_window() {
    let mut partition = Partition::new(ExactLog, 3, 60 * SECOND);
    assert_eq!(partition.charge(EDGE, 1), (true, count(2, 60 * SECOND, 0)));
    assert_eq!(
        partition.charge(EDGE + 5, 2),
        (true, count(0, 60 * SECOND, 60 * SECOND))
    );
    assert_eq!(
        partition.kept(EDGE + 5).unwrap(),
        "176722560000000017672256000000051767225600000005"
    );
    let gone = EDGE + 60 * SECOND;
    assert_eq!(partition.charge(gone - 1, 1), (false, count(0, 6, 1)));
    assert_eq!(partition.charge(gone, 2), (false, count(1, 5, 5)));
    assert_eq!(partition.charge(gone, 1), (true, count(0, 60 * SECOND, 5)));
    assert!(partition.charge(gone + 5, 2).0);
}

/// A refusal charges nothing: who comes back when it was told passes.
#[test]
fn a_hammering_caller_passes_after_its_wait() {
    for algorithm in ALL {
        let mut partition = Partition::new(algorithm, 5, 60 * SECOND);
        let now = EDGE + 7;
        assert!(partition.charge(now, 5).0);
        let (_, refused) = partition.charge(now, 1);
        for later in 0..100 {
            let (admitted, told) = partition.charge(now + later, 1);
            assert!(
                !admitted && told.wait == refused.wait - later,
                "{algorithm:?}"
            );
        }
        assert!(!partition.charge(now + refused.wait - 1, 1).0);
        assert!(partition.charge(now + refused.wait, 1).0, "{algorithm:?}");
    }
}

#[test]
fn a_look_writes_nothing_and_a_fresh_key_is_full() {
    for algorithm in ALL {
        let mut partition = Partition::new(algorithm, 5, 60 * SECOND);
        assert_eq!(partition.look(EDGE, 1), count(5, 0, 0), "{algorithm:?}");
        assert_eq!(partition.kept(EDGE), None);
        partition.charge(EDGE, 5);
        let before = (partition.kept(EDGE + 1), partition.slot.expires());
        partition.look(EDGE + 1, 3);
        assert_eq!((partition.kept(EDGE + 1), partition.slot.expires()), before);
        // An hour back: what lies ahead is cut for the reply, and not written.
        partition.look(EDGE - 3_600 * SECOND, 3);
        assert_eq!((partition.kept(EDGE + 1), partition.slot.expires()), before);
    }
}

#[test]
fn what_is_charged_and_given_back_is_free_again() {
    for algorithm in ALL {
        let mut partition = Partition::new(algorithm, 10, 60 * SECOND);
        assert_eq!(
            partition.refund(EDGE, 5, 0),
            (true, count(10, 0, 0)),
            "nothing is there to be given back"
        );
        assert_eq!(partition.kept(EDGE), None);
        partition.charge(EDGE + 10, 4);
        partition.charge(EDGE + 20, 3);
        let (_, left) = partition.refund(EDGE + 30, 4, 25);
        assert_eq!(left.remaining, 7, "{algorithm:?}");
        let (_, left) = partition.refund(EDGE + 30, 9, 25);
        assert_eq!(left, count(10, 0, 0), "{algorithm:?}");
        assert_eq!(partition.kept(EDGE + 30), None, "{algorithm:?}");
    }
}

/// A charge of the window before, which is given back after the edge, gives the new window nothing.
#[test]
fn a_refund_after_the_window_gives_the_next_one_nothing() {
    let edge = EDGE + 60 * SECOND;
    for (algorithm, remaining) in [(FixedWindow, 6), (SlidingWindow, 6), (ExactLog, 6)] {
        let mut partition = Partition::new(algorithm, 10, 60 * SECOND);
        partition.charge(EDGE + 1, 4);
        let now = EDGE + 120 * SECOND + 1;
        partition.charge(now, 4);
        let age = now - EDGE;
        let (_, left) = partition.refund(now, 4, age);
        assert_eq!(left.remaining, remaining, "{algorithm:?}");
    }
    // Where it is not sure, the sliding window takes the older one, of which less counts.
    let mut sliding = Partition::new(SlidingWindow, 10, 60 * SECOND);
    sliding.charge(edge - 1, 4);
    sliding.charge(edge + 1, 4);
    assert_eq!(sliding.refund(edge + 2, 2, 3).1.remaining, 4);
    assert_eq!(sliding.kept(edge + 2).unwrap(), "1767225720000000:4:2");
    // And the fixed window gives nothing back.
    let mut fixed = Partition::new(FixedWindow, 10, 60 * SECOND);
    fixed.charge(edge + 1, 4);
    assert_eq!(fixed.refund(edge + 2, 2, 3).1.remaining, 6);
    assert_eq!(fixed.refund(edge + 2, 2, 2).1.remaining, 8);
}

/// What stays in the log is the later charge, so that no window holds more than the limit.
#[test]
fn an_exact_log_gives_back_the_oldest_that_may_be_the_charge() {
    let mut log = Partition::new(ExactLog, 2, 60 * SECOND);
    log.charge(EDGE, 1);
    log.charge(EDGE + 30 * SECOND, 1);
    log.refund(EDGE + 40 * SECOND, 1, 40 * SECOND);
    assert_eq!(log.kept(EDGE + 40 * SECOND).unwrap(), "1767225630000000");
    // It is younger than the first one.
    let mut log = Partition::new(ExactLog, 2, 60 * SECOND);
    log.charge(EDGE, 1);
    log.charge(EDGE + 30 * SECOND, 1);
    log.refund(EDGE + 40 * SECOND, 1, 39 * SECOND);
    assert_eq!(log.kept(EDGE + 40 * SECOND).unwrap(), "1767225600000000");
}

/// A clock that is an hour back after a failover: nobody is locked out for longer than a window, or two, and a refusal keeps that.
#[test]
fn a_clock_that_runs_backwards_locks_nobody_out() {
    let window = 60 * SECOND;
    for (algorithm, windows) in [(FixedWindow, 1), (SlidingWindow, 2), (ExactLog, 1)] {
        let mut partition = Partition::new(algorithm, 5, window);
        partition.charge(EDGE + 3_600 * SECOND, 5);
        let (admitted, refused) = partition.charge(EDGE + 1, 1);
        assert!(!admitted, "no refill: {algorithm:?}");
        assert!(refused.wait <= windows * window, "{algorithm:?}");
        assert!(partition.slot.expires().unwrap() <= EDGE + 1 + windows * window + 1_000);
        // It was written: the second refusal counts from the first.
        let (_, again) = partition.charge(EDGE + 2, 1);
        assert_eq!(again.wait, refused.wait - 1, "{algorithm:?}");
        assert!(
            partition.charge(EDGE + 1 + refused.wait, 1).0,
            "{algorithm:?}"
        );
    }
}

/// Two checks that read the clock in one order and reach the key in the other, at the edge of a window.
#[test]
fn checks_out_of_order_at_an_edge_do_not_forget_a_window() {
    for algorithm in ALL {
        let mut partition = Partition::new(algorithm, 5, 60 * SECOND);
        partition.charge(EDGE, 5);
        let (admitted, refused) = partition.charge(EDGE - 10, 1);
        assert!(!admitted, "{algorithm:?}");
        assert!(!partition.charge(EDGE + 10, 1).0, "{algorithm:?}");
        assert!(
            !partition.charge(EDGE - 10 + refused.wait - 1, 1).0,
            "{algorithm:?}"
        );
        assert!(
            partition.charge(EDGE - 10 + refused.wait, 1).0,
            "{algorithm:?}"
        );
    }
}

#[test]
fn a_quota_that_changes_neither_refills_nor_locks_out() {
    let minute = 60 * SECOND;
    for algorithm in ALL {
        // A smaller limit: nothing is left, and after two windows all of it is.
        let mut before = Partition::new(algorithm, 100, minute);
        before.charge(EDGE + 5, 50);
        let mut after = Partition::new(algorithm, 10, minute);
        after.slot = before.slot.clone();
        let left = after.look(EDGE + 6, 1);
        assert_eq!(left.remaining, 0, "{algorithm:?}");
        assert!(left.wait <= 2 * minute, "{algorithm:?}");
        assert!(!after.charge(EDGE + 6, 1).0);
        assert!(after.charge(EDGE + 6 + left.wait, 1).0, "{algorithm:?}");
        // A larger one: what was charged still counts.
        let mut after = Partition::new(algorithm, 200, minute);
        after.slot = before.slot.clone();
        assert_eq!(after.look(EDGE + 6, 1).remaining, 150, "{algorithm:?}");
        // A longer window.
        let mut after = Partition::new(algorithm, 100, 60 * minute);
        after.slot = before.slot.clone();
        assert_eq!(after.look(EDGE + 6, 1).remaining, 50, "{algorithm:?}");
        // A shorter one.
        let mut after = Partition::new(algorithm, 60, SECOND);
        after.slot = before.slot.clone();
        let left = after.look(EDGE + 6, 60);
        assert_eq!(left.remaining, 10, "{algorithm:?}");
        assert!(left.wait <= 2 * SECOND, "{algorithm:?}");
    }
}

#[test]
fn a_value_of_another_form_charges_nothing() {
    for algorithm in ALL {
        for text in [
            "",
            "x",
            "1:2:3:4",
            "1767225600000000:x:1",
            "-1:2",
            "sixteen letters.",
        ] {
            if (algorithm, text) == (ExactLog, "") {
                continue;
            }
            let mut partition = Partition::new(algorithm, 5, SECOND).holding(text);
            assert_eq!(
                partition.try_run(EDGE, Demand::Charge { cost: 1 }),
                None,
                "{algorithm:?} {text:?}"
            );
            assert_eq!(partition.kept(EDGE).unwrap(), text);
        }
    }
    let too_many = "1767225660000000:1099511627777";
    let mut partition = Partition::new(FixedWindow, 5, SECOND).holding(too_many);
    assert_eq!(partition.try_run(EDGE, Demand::Look { cost: 1 }), None);
}

/// A fixed window of a large count has no room in a pair of numbers, and is read again all the same.
#[test]
fn the_largest_limit_is_counted() {
    for algorithm in [FixedWindow, SlidingWindow] {
        let mut partition = Partition::new(algorithm, MAX_COUNT, MAX_WINDOW);
        let now = MAX_WINDOW * 4;
        assert!(partition.charge(now, MAX_COUNT - 1).0);
        let (admitted, left) = partition.charge(now + 1, 1);
        assert_eq!((admitted, left.remaining), (true, 0));
        assert!(!partition.charge(now + 2, 1).0);
        let wait = partition.look(now + 2, 1).wait;
        assert!(!partition.charge(now + 1 + wait, 1).0);
        assert!(partition.charge(now + 2 + wait, 1).0, "{algorithm:?}");
    }
}

/// What passed, and when.
#[derive(Default)]
struct Passed(Vec<(u64, u64)>);

impl Passed {
    /// Returns the most that passed in any half-open span of a length.
    fn most_in(&self, span: u64) -> u64 {
        let sum_from = |first: usize| {
            let (begin, _) = self.0[first];
            let inside = self.0[first..]
                .iter()
                .take_while(|(time, _)| time - begin < span);
            inside.map(|(_, cost)| cost).sum()
        };
        (0..self.0.len()).map(sum_from).max().unwrap_or(0)
    }

    /// Returns the most that passed in a window of the clock.
    fn most_in_a_window(&self, window: u64) -> u64 {
        let mut windows = BTreeMap::new();
        for (time, cost) in &self.0 {
            *windows.entry(time / window).or_insert(0) += cost;
        }
        windows.into_values().max().unwrap_or(0)
    }

    /// Checks that GCRA at this rate admits all of it: the ledger refuses nothing that passed.
    fn fits(&self, rate: Rate) -> bool {
        let (mut owed, mut at) = (Span::ZERO, 0);
        self.0.iter().all(|(time, cost)| {
            owed = rate.sum(rate.after(owed, time - at), rate.price(*cost));
            at = *time;
            owed <= rate.full()
        })
    }
}

/// A pause, as a share of the window in thousandths or in microseconds, and a cost.
fn step() -> impl Strategy<Value = (Pause, u64)> {
    let pause = prop_oneof![
        3 => Just(Pause::Micros(0)),
        2 => (0..3_u64).prop_map(Pause::Micros),
        4 => (0..300_u64).prop_map(Pause::Share),
        1 => (0..2_500_u64).prop_map(Pause::Share),
        1 => Just(Pause::ToEdge),
        2 => Just(Pause::AsTold),
    ];
    (pause, any::<u64>())
}

#[derive(Clone, Copy, Debug)]
enum Pause {
    Micros(u64),
    Share(u64),
    /// To a microsecond before the next edge of a window.
    ToEdge,
    /// As long as the last refusal told.
    AsTold,
}

proptest! {
    /// Each algorithm keeps its bound, whatever comes. Each told wait is exact to the microsecond, what remains passes and one more does
    /// not, and all is free when it was told, and not before.
    #[test]
    fn the_bounds_hold_and_what_is_told_is_exact(
        algorithm in prop::sample::select(&ALL[..]),
        limit in 1..40_u64,
        window in prop_oneof![1..50_u64, 1_000..60_000_000_u64],
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut partition = Partition::new(algorithm, limit, window);
        let rate = partition.limit.rate;
        let (mut now, mut told) = (EDGE + 42, 0);
        let mut passed = Passed::default();
        for (pause, cost) in steps {
            now += match pause {
                Pause::Micros(micros) => micros,
                Pause::Share(share) => share * window / 1_000,
                Pause::ToEdge => window - 1 - now % window,
                Pause::AsTold => told,
            };
            let cost = 1 + cost % if cost % 3 == 0 { limit } else { 1 };
            let look = partition.look(now, cost);
            // What remains passes at once, and one more does not.
            if look.remaining > 0 {
                prop_assert!(partition.clone().charge(now, look.remaining).0);
            }
            if look.remaining < limit {
                prop_assert!(!partition.clone().charge(now, look.remaining + 1).0);
            }
            // All is free at the told time, and not before.
            if look.reset_after > 0 {
                let full = |at: u64| partition.clone().look(at, 0).remaining == limit;
                prop_assert!(full(now + look.reset_after));
                prop_assert!(!full(now + look.reset_after - 1) || algorithm == SlidingWindow);
            }
            let before = partition.clone();
            let (admitted, reply) = partition.charge(now, cost);
            prop_assert_eq!(admitted, look.wait == 0);
            prop_assert_eq!(admitted, look.remaining >= cost);
            if admitted {
                passed.0.push((now, cost));
                told = 0;
            } else {
                prop_assert_eq!(reply, look);
                prop_assert_eq!(partition.kept(now), before.kept(now));
                told = reply.wait;
                prop_assert!(!before.clone().charge(now + told - 1, cost).0);
                prop_assert!(before.clone().charge(now + told, cost).0);
            }
        }
        match algorithm {
            ExactLog => prop_assert!(passed.most_in(window) <= limit),
            SlidingWindow => {
                prop_assert!(passed.most_in_a_window(window) <= limit);
                prop_assert!(passed.most_in(window) < 2 * limit);
            }
            _ => {
                prop_assert!(passed.most_in_a_window(window) <= limit);
                prop_assert!(passed.most_in(window) <= 2 * limit);
            }
        }
        prop_assert!(passed.fits(rate));
    }

    /// A refund of a charge leaves at most what there was without it, so the bound holds for what was not given back.
    #[test]
    fn no_refund_gives_back_more_than_its_charge(
        algorithm in prop::sample::select(&ALL[..]),
        limit in 1..10_u64,
        window in 1..60_000_u64,
        steps in prop::collection::vec((step(), any::<prop::sample::Index>(), 0..12_u64), 1..80),
    ) {
        let mut partition = Partition::new(algorithm, limit, window);
        let mut now = EDGE + 42;
        let mut passed = Passed::default();
        for ((pause, _), which, kind) in steps {
            now += match pause {
                Pause::Micros(micros) => micros,
                Pause::Share(share) => share * window / 1_000,
                Pause::ToEdge | Pause::AsTold => window - 1 - now % window,
            };
            if kind < 3 && !passed.0.is_empty() {
                let (time, cost) = passed.0.remove(which.index(passed.0.len()));
                // As old as it may be, and a little older.
                partition.refund(now, cost, now - time + kind);
            } else if partition.charge(now, 1).0 {
                passed.0.push((now, 1));
            }
        }
        let (most, in_a_window) = (passed.most_in(window), passed.most_in_a_window(window));
        match algorithm {
            ExactLog => prop_assert!(most <= limit),
            SlidingWindow => prop_assert!(in_a_window <= limit && most < 2 * limit),
            _ => prop_assert!(in_a_window <= limit),
        }
    }

    #[test]
    fn no_bytes_are_misread_or_make_a_program_panic(
        algorithm in prop::sample::select(&ALL[..]),
        bytes in prop::collection::vec(any::<u8>(), 0..40),
        is_text in any::<bool>(),
        cost in 0..9_u64,
        age in any::<u64>(),
    ) {
        let digits = |byte: &u8| b"0123456789:"[usize::from(*byte) % 11];
        let bytes: Vec<_> = match is_text {
            true => bytes.iter().map(digits).collect(),
            false => bytes,
        };
        let mut partition = Partition::new(algorithm, 5, 60 * SECOND);
        let value = Value::from(bytes);
        for demand in [Demand::Look { cost }, Demand::Charge { cost }, Demand::Refund { cost, age }] {
            partition.slot = Slot::until(value.clone(), None);
            if partition.try_run(EDGE, demand).is_none() {
                prop_assert_eq!(partition.slot.get(EDGE), Some(&value));
            }
        }
    }
}
