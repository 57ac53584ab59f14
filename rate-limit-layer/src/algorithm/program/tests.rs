//! The twins alone, on slots that a test fills: tables, and a model that shares no line with them.

use std::time::Duration;

use layer_store::{Arg, Output, Slot, Transaction, Value};
use proptest::prelude::*;

use super::{
    CHARGE, CHARGE_ONE, CHARGE_OR_BLOCK,
    testing::{Run, change, run, run_one},
};
use crate::{
    Quota,
    algorithm::{gcra::Rate, span::Span},
};

/// 7 a minute and 2 at once: 60,000,000 parts for a request, of which 7 are a microsecond.
const SEVEN: Rate = Quota::per_minute(7).burst(2).rate();
/// 1 a minute and 2 at once.
const ONE: Rate = Quota::per_minute(1).burst(2).rate();
/// The price of a request, in the parts of either.
const PRICE: i128 = 60_000_000;
const FULL: i128 = 2 * PRICE;
const NOW: u64 = 1_767_225_600_000_042;

/// A slot in which so many parts are owed at `NOW`.
fn owing(rate: Rate, owed: i128) -> Slot {
    let owed = Span::of_parts(owed.unsigned_abs(), rate.parts());
    let value = Value::pair(NOW + owed.micros, owed.fraction);
    Slot::until(value, Some(u64::MAX / 8))
}

/// The slack in parts.
fn slack(rate: Rate) -> i128 {
    i128::from(rate.parts()) * 1_000_000
}

/// The two numbers in a slot.
fn kept(slot: &Slot) -> Option<(u64, u32)> {
    slot.get(NOW).map(|value| value.as_pair().unwrap())
}

/// True if it was admitted, and the debts.
fn told(run: Option<Run>) -> Option<(bool, Vec<i128>)> {
    let run = run?;
    let debts = run.limits.iter().map(|limit| limit.debt).collect();
    Some((run.is_admitted, debts))
}

/// A slot before a change, the change, the reply, and what is owed by the slot afterwards. One limit, and the same one of two.
/// A charge of whole microseconds is made by the shorter program too.
#[test]
fn a_charge_a_look_and_a_refund_reply_what_is_owed_and_keep_it() {
    for rate in [SEVEN, ONE] {
        let slack = slack(rate);
        for (before, charge, admitted, owed, after) in [
            // Charges: up to the burst and not a part further.
            (None, PRICE, true, PRICE, Some(PRICE)),
            (None, FULL, true, FULL, Some(FULL)),
            (None, FULL + 1, false, 0, None),
            (Some(5), PRICE, true, PRICE + 5, Some(PRICE + 5)),
            (Some(PRICE), PRICE, true, FULL, Some(FULL)),
            (Some(PRICE + 1), PRICE, false, PRICE + 1, Some(PRICE + 1)),
            (Some(FULL), 1, false, FULL, Some(FULL)),
            // Looks: always allowed, and nothing is written, not even a cut.
            (None, 0, true, 0, None),
            (Some(5), 0, true, 5, Some(5)),
            (
                Some(FULL + slack),
                0,
                true,
                FULL + slack,
                Some(FULL + slack),
            ),
            (
                Some(FULL + slack + 1),
                0,
                true,
                FULL,
                Some(FULL + slack + 1),
            ),
            // Refunds: always allowed, and a debt that is paid is deleted.
            (None, -PRICE, true, 0, None),
            (Some(PRICE + 5), -PRICE, true, 5, Some(5)),
            (Some(PRICE), -PRICE, true, 0, None),
            (Some(PRICE - 1), -PRICE, true, 0, None),
            (Some(FULL + 1), -PRICE, true, PRICE + 1, Some(PRICE + 1)),
            (Some(FULL), -3, true, FULL - 3, Some(FULL - 3)),
            // A refusal keeps a debt within the slack, and a cut.
            (
                Some(FULL + slack),
                PRICE,
                false,
                FULL + slack,
                Some(FULL + slack),
            ),
            (Some(FULL + slack + 1), PRICE, false, FULL, Some(FULL)),
            // A refund of a cut debt.
            (Some(FULL + slack + 1), -PRICE, true, PRICE, Some(PRICE)),
        ] {
            let case = format!("{before:?} {charge} of {}", rate.parts());
            let slot = || before.map_or_else(Slot::absent, |owed| owing(rate, owed));
            let expected = after.and_then(|owed| kept(&owing(rate, owed)));

            let mut one = [slot()];
            let output = run(&mut one, NOW, &[(rate, change(rate, charge))]);
            assert_eq!(told(output), Some((admitted, vec![owed])), "{case}");
            assert_eq!(kept(&one[0]), expected, "{case}");

            let mut two = [slot(), Slot::absent()];
            let charges = [(rate, change(rate, charge)), (rate, change(rate, 0))];
            let output = run(&mut two, NOW, &charges);
            assert_eq!(told(output), Some((admitted, vec![owed, 0])), "{case}");
            assert_eq!(kept(&two[0]), expected, "{case}");
            assert_eq!(kept(&two[1]), None, "{case}");

            // A refusal with nothing owed is no reply of the shorter program, as no charge is above the burst.
            if rate.is_whole() && (1..=FULL).contains(&charge) {
                let mut slot = slot();
                let output = run_one(&mut slot, NOW, rate, Span::of_micros(charge as u64));
                assert_eq!(told(output), Some((admitted, vec![owed])), "{case}");
                assert_eq!(kept(&slot), expected, "{case}");
            }
        }
    }
}

#[test]
fn a_refusal_by_one_limit_charges_none_but_keeps_the_others_cut() {
    // Of whole microseconds and of others, so that the arguments and replies are of two lengths.
    let rates = [SEVEN, ONE, SEVEN];
    for refusing in 0..3 {
        let mut slots = [
            owing(SEVEN, 5),
            owing(ONE, FULL + slack(ONE) + 1),
            Slot::absent(),
        ];
        slots[refusing] = owing(rates[refusing], FULL);
        let before = slots.clone();
        let charges = rates.map(|rate| (rate, change(rate, PRICE)));
        let (admitted, debts) = told(run(&mut slots, NOW, &charges)).unwrap();
        assert!(!admitted, "{refusing}");
        let owed = [5, FULL, 0];
        for index in 0..3 {
            let expected = if index == refusing { FULL } else { owed[index] };
            assert_eq!(debts[index], expected, "{refusing} {index}");
            let after = match index {
                1 => kept(&owing(ONE, FULL)),
                _ => kept(&before[index]),
            };
            assert_eq!(kept(&slots[index]), after, "{refusing} {index}");
        }
    }
}

#[test]
fn a_value_lives_until_it_is_paid() {
    let mut slots = [Slot::absent()];
    run(&mut slots, NOW, &[(SEVEN, change(SEVEN, PRICE))]);
    // 60,000,000 / 7 microseconds, in milliseconds rounded up.
    assert_eq!(slots[0].expires(), Some(NOW + 8_572_000));
    let mut slot = Slot::absent();
    run_one(&mut slot, NOW, ONE, Span::of_micros(1_001));
    assert_eq!(slot.expires(), Some(NOW + 2_000));
}

#[test]
fn a_value_of_another_form_charges_nothing() {
    for text in ["", "12:0", "x", "1:2:3"] {
        let other = || Slot::until(Value::from(text), Some(u64::MAX / 8));
        let charge = |rate| (rate, change(rate, PRICE));
        let mut one = [other()];
        assert!(run(&mut one, NOW, &[charge(SEVEN)]).is_none(), "{text:?}");
        let mut two = [Slot::absent(), other()];
        assert!(run(&mut two, NOW, &[charge(SEVEN), charge(ONE)]).is_none());
        assert_eq!(kept(&two[0]), None);
        assert!(run_one(&mut one[0], NOW, ONE, ONE.price(1)).is_none());
        assert_eq!(one[0].get(NOW), Some(&Value::from(text)));
    }
}

/// Two limits, each of one request a minute with a block after 2 strikes, for 30 s: the keys of a limit and of its block, twice.
#[test]
fn a_strike_is_a_refusal_by_the_limit_itself() {
    const SECOND: u64 = 1_000_000;
    let minute = 60 * SECOND as i64;
    let block = [6, 2, minute, minute / 2, minute / 2, 1];
    let mut slots = [const { Slot::absent() }; 4];
    let mut charge = |now, prices: [i64; 2]| {
        let limit = |price| [1, 1, minute, price];
        let args = [&limit(prices[0])[..], &block, &limit(prices[1]), &block].concat();
        let args: Vec<_> = args.into_iter().map(Arg::Int).collect();
        let output = CHARGE_OR_BLOCK.run(&mut Transaction::new(now, &mut slots), &args);
        let reply: Vec<_> = (0..output.len())
            .map(|at| output.int(at).unwrap())
            .collect();
        let state = |slot: &Slot| {
            let value = slot.get(now).map(|value| value.to_bytes().to_vec());
            String::from_utf8(value.unwrap_or_default()).unwrap()
        };
        (reply, [state(&slots[1]), state(&slots[3])])
    };
    let none = String::new;
    assert_eq!(
        charge(NOW, [minute, 1]),
        (vec![1, minute, 0, 0, 1, 0, 0], [none(), none()])
    );
    // The first refuses, and the second charges nothing and counts nothing.
    let strike = format!("0:0:{}:1", NOW + 60 * SECOND);
    let (reply, states) = charge(NOW, [1, 1]);
    assert_eq!(
        (reply, states),
        (vec![0, minute, 0, 0, 1, 0, 0], [strike, none()])
    );
    let blocked = format!("{}:1:0:0", NOW + 31 * SECOND);
    let (reply, states) = charge(NOW + SECOND, [minute, 1]);
    assert_eq!(reply, [0, minute - 1_000_000, minute / 2, 1, 0, 0, 0]);
    assert_eq!(states, [blocked.clone(), none()]);
    // The block refuses all, and is no strike of the second, whose own refusal is one.
    let (reply, states) = charge(NOW + 2 * SECOND, [0, minute + 1]);
    assert_eq!(
        reply,
        [0, minute - 2_000_000, minute / 2 - 1_000_000, 0, 0, 0, 0]
    );
    let strike = format!("0:0:{}:1", NOW + 62 * SECOND);
    assert_eq!(states, [blocked, strike]);
}

/// Arguments that no limit has must not panic: a store runs what it is given.
#[test]
fn impossible_arguments_do_not_panic() {
    let ints = |numbers: &[i64]| numbers.iter().map(|&n| Arg::Int(n)).collect::<Vec<_>>();
    for args in [
        ints(&[]),
        ints(&[0, 0, 1]),
        ints(&[1, 0, 10, 1]),
        ints(&[1, 7, 10, 1]),
        ints(&[1, 7, 10, 1, -9, i64::MAX]),
        ints(&[1, -7, i64::MIN, i64::MIN, i64::MIN, i64::MIN]),
        ints(&[i64::MAX; 5]),
        ints(&[2]),
        ints(&[2, 0, 0, 1, 0, 0]),
        ints(&[2, 1, i64::MAX, 1, i64::MAX, 0]),
        ints(&[2, i64::MIN, i64::MIN, i64::MIN, i64::MIN, i64::MIN]),
        ints(&[3]),
        ints(&[6]),
        ints(&[6, 0, i64::MAX, i64::MAX, i64::MAX, 1]),
        ints(&[3, 0, 0, 1, i64::MAX, 0]),
        ints(&[3, 9, i64::MAX, 2, i64::MAX, i64::MAX]),
        ints(&[4]),
        ints(&[4, i64::MAX, 1, 1, i64::MAX, 0]),
        ints(&[4, i64::MAX, i64::MAX, 2, i64::MAX, i64::MAX]),
        ints(&[5]),
        ints(&[5, 9, 0, i64::MAX, i64::MAX, i64::MAX, 1, 1, 0]),
        ints(&[6, 1, 1, 1, 1, 1]),
        vec![Arg::Bytes(b"x"), Arg::Int(10), Arg::Int(1)],
    ] {
        for program in [&CHARGE, &CHARGE_ONE, &CHARGE_OR_BLOCK] {
            for slot in [Slot::absent(), owing(SEVEN, 5)] {
                let mut slots = [slot];
                let output = program.run(&mut Transaction::new(NOW, &mut slots), &args);
                assert!(output.int(0).is_some());
            }
        }
    }
    let mut slots = [Slot::absent()];
    let mut transaction = Transaction::new(NOW, &mut slots);
    assert_eq!(CHARGE_ONE.run(&mut transaction, &[]), Output::ints(&[-1]));
}

/// One limit by its definition, in numbers that nobody has reduced: a request costs the window, a microsecond pays the limit.
struct Model {
    limit: i128,
    window: i128,
    burst: i128,
    /// The time when nothing is owed any more, times the limit.
    arrival: i128,
}

impl Model {
    fn new(quota: Quota) -> Self {
        Self {
            limit: quota.limit().into(),
            window: quota.window().as_micros() as i128,
            burst: quota.capacity().into(),
            arrival: 0,
        }
    }

    /// Returns what is owed, in the model's unit: after a clock that went back by more than a second, at most a burst.
    fn owed(&self, now: u64) -> i128 {
        match self.is_cut(now) {
            true => self.full(),
            false => self.uncut(now),
        }
    }

    fn is_cut(&self, now: u64) -> bool {
        self.uncut(now) > self.full() + self.limit * 1_000_000
    }

    fn uncut(&self, now: u64) -> i128 {
        (self.arrival - i128::from(now) * self.limit).max(0)
    }

    fn full(&self) -> i128 {
        self.burst * self.window
    }

    fn allows(&self, now: u64, cost: i128) -> bool {
        cost <= 0 || self.owed(now) + cost * self.window <= self.full()
    }

    fn charge(&mut self, now: u64, cost: i128) {
        let owed = (self.owed(now) + cost * self.window).max(0);
        self.arrival = match owed {
            0 => 0,
            _ => i128::from(now) * self.limit + owed,
        };
    }

    /// A refusal keeps a cut, and nothing else.
    fn refuse(&mut self, now: u64) {
        if self.is_cut(now) {
            self.charge(now, 0);
        }
    }
}

/// A movement of the clock in microseconds, and a cost in requests: negative is a refund.
fn step() -> impl Strategy<Value = (i64, i64)> {
    let pause = prop_oneof![
        Just(0_i64),
        1..3_i64,
        0..20_000_000_i64,
        -1_000_001..0_i64,
        -4_000_000_000..0_i64
    ];
    (pause, -2..4_i64)
}

/// Limits of all kinds: small ones, those that share a divisor with the window, and those that no fraction counts exactly.
fn quota() -> impl Strategy<Value = Quota> {
    let limit = prop_oneof![1..50_u64, 1..2_000_000_u64, 1_u64..];
    let window = prop_oneof![1..60_000_000_u64, 1..315_360_000_000_000_u64];
    let burst = prop_oneof![1..5_u64, 1..2_000_000_u64, 1_u64..];
    (limit, window, burst).prop_filter_map("a burst of 142 years", |(limit, window, burst)| {
        let quota = Quota::try_new(limit, Duration::from_micros(window)).unwrap();
        quota.try_burst(burst).ok()
    })
}

proptest! {
    /// The wait that a refused caller is told is exact to the microsecond.
    #[test]
    fn a_refused_charge_passes_after_its_wait_and_not_a_microsecond_before(
        quota in quota(),
        cost in any::<u64>(),
        pause in any::<u64>(),
    ) {
        let rate = quota.rate();
        let price = rate.price(cost % quota.capacity() + 1);
        let charge = [(rate, change(rate, price.to_parts(rate.parts()) as i128))];
        let pause = pause % (price.micros + 2);
        let mut slots = [Slot::absent()];
        let mut now = NOW;
        for _ in 0..50 {
            let before = slots.clone();
            let (admitted, debts) = told(run(&mut slots, now, &charge)).unwrap();
            if !admitted {
                let owed = Span::of_parts(debts[0] as u128, rate.parts());
                let wait = rate.retry_after(owed, price);
                let early = run(&mut before.clone(), now + wait - 1, &charge);
                prop_assert!(!early.unwrap().is_admitted);
                let then = run(&mut before.clone(), now + wait, &charge);
                prop_assert!(then.unwrap().is_admitted);
            }
            now += pause;
        }
    }

    /// The shorter program does what the other does.
    #[test]
    fn both_programs_agree_on_a_charge_of_whole_microseconds(
        burst in 1..20_u64,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let rate = Quota::per_second(4).burst(burst).rate();
        let (mut all, mut one) = ([Slot::absent()], Slot::absent());
        let mut now = NOW;
        for (pause, cost) in steps {
            now = now.saturating_add_signed(pause);
            let price = rate.price(cost.unsigned_abs().clamp(1, burst));
            let charge = change(rate, price.micros.into());
            let output = told(run(&mut all, now, &[(rate, charge)]));
            prop_assert_eq!(told(run_one(&mut one, now, rate, price)), output);
            prop_assert_eq!(one.get(now), all[0].get(now));
            prop_assert_eq!(one.expires(), all[0].expires());
        }
    }

    /// However small the charges are, and however they are spread: no interval lets more than `burst + t * limit / window` pass.
    #[test]
    fn no_interval_lets_more_than_the_bound_pass(
        quota in quota(),
        steps in prop::collection::vec((any::<u64>(), any::<u64>(), 0..4_u8), 1..100),
    ) {
        let rate = quota.rate();
        let (limit, burst) = (u128::from(quota.limit()), quota.capacity());
        let window = quota.window().as_micros();
        let mut slots = [Slot::absent()];
        let mut now = NOW;
        let mut passed: Vec<(u64, u64)> = Vec::new();
        for (pause, cost, size) in steps {
            now += pause % (rate.full().micros / 4 + 2);
            // Mostly what just passes, and one more.
            let look = run(&mut slots, now, &[(rate, change(rate, 0))]).unwrap();
            let debt = Span::of_parts(look.limits[0].debt as u128, rate.parts());
            let cost = match size {
                0 => rate.remaining(debt),
                1 => rate.remaining(debt) + 1,
                2 => cost % (burst / 50 + 1),
                _ => 1,
            };
            let cost = cost.clamp(1, burst);
            let price = rate.price(cost).to_parts(rate.parts()) as i128;
            if run(&mut slots, now, &[(rate, change(rate, price))]).unwrap().is_admitted {
                passed.push((now, cost));
            }
        }
        for first in 0..passed.len() {
            let mut sum = 0_u128;
            for (time, cost) in &passed[first..] {
                sum += u128::from(*cost);
                let earned = u128::from(time - passed[first].0) * limit / window;
                prop_assert!(sum <= u128::from(burst) + earned, "{sum} in {} of {quota}", time - passed[first].0);
            }
        }
    }

    /// One to three limits of one identity, on a clock that also goes back.
    #[test]
    fn the_twin_is_gcra_by_its_definition(
        quotas in prop::collection::vec((1..5_000_000_u64, 1..315_360_000_000_000_u64, 1..5_u64), 1..4),
        steps in prop::collection::vec(step(), 1..100),
    ) {
        let quotas: Vec<_> = quotas
            .iter()
            .map(|(limit, window, burst)| {
                let window = Duration::from_micros(*window);
                Quota::try_new(*limit, window).unwrap().burst(*burst)
            })
            .collect();
        let mut models: Vec<_> = quotas.iter().map(|quota| Model::new(*quota)).collect();
        let mut slots: Vec<_> = quotas.iter().map(|_| Slot::absent()).collect();
        let mut now = NOW;
        for (pause, cost) in steps {
            now = now.saturating_add_signed(pause);
            let charges: Vec<_> = quotas
                .iter()
                .map(|quota| {
                    let rate = quota.rate();
                    let price = rate.price(cost.unsigned_abs()).to_parts(rate.parts()) as i128;
                    (rate, change(rate, price * i128::from(cost.signum())))
                })
                .collect();
            let output = run(&mut slots, now, &charges).unwrap();
            let cost = i128::from(cost);
            let admitted = models.iter().all(|model| model.allows(now, cost));
            prop_assert_eq!(output.is_admitted, admitted);
            prop_assert_eq!(output.limits.len(), quotas.len());
            for (limit, (model, quota)) in output.limits.iter().zip(models.iter_mut().zip(&quotas)) {
                match admitted {
                    // A look writes nothing, not even a cut.
                    true if cost == 0 => {}
                    true => model.charge(now, cost),
                    false => model.refuse(now),
                }
                let scale = i128::from(quota.limit()) / limit.parts;
                prop_assert_eq!(limit.debt * scale, model.owed(now));
            }
        }
    }
}
