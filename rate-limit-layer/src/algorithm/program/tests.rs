//! The twin alone, on slots that a test fills: tables, and a model that shares no line with it.

use layer_store::{Arg, Output, Slot, Transaction, Value};
use proptest::prelude::*;

use super::CHARGE;
use crate::{Quota, algorithm::gcra::Rate};

/// 7 a minute and 2 at once: 60,000,000 for a request, of which a microsecond pays back 7.
const RATE: Rate = Quota::per_minute(7).burst(2).rate();
const PRICE: i64 = 60_000_000;
const FULL: i64 = 2 * PRICE;
const SLACK: i64 = 7 * 1_000_000;
const NOW: u64 = 1_767_225_600_000_042;

/// A slot in which `owed` is owed at `NOW`.
fn owing(owed: i64) -> Slot {
    let owed = owed as u64;
    let value = Value::pair(NOW + owed / 7, (owed % 7) as u32);
    Slot::until(value, Some(u64::MAX / 8))
}

fn args(rate: Rate, charge: i64) -> [Arg<'static>; 3] {
    [
        Arg::Int(rate.units() as i64),
        Arg::Int(rate.full() as i64),
        Arg::Int(charge),
    ]
}

fn run(slots: &mut [Slot], now: u64, charges: &[(Rate, i64)]) -> Output {
    let args: Vec<_> = charges
        .iter()
        .flat_map(|(rate, charge)| args(*rate, *charge))
        .collect();
    CHARGE.run(&mut Transaction::new(now, slots), &args)
}

/// The two numbers in a slot.
fn kept(slot: &Slot) -> Option<(u64, u32)> {
    slot.get(NOW).map(|value| value.as_pair().unwrap())
}

/// A slot before a charge, the charge, the reply, and what is owed by the slot afterwards. One limit, and the same one of two.
#[test]
fn a_charge_a_look_and_a_refund_reply_what_is_owed_and_keep_it() {
    for (before, charge, admitted, owed, after) in [
        // Charges: up to the burst and not a unit further.
        (None, PRICE, 1, PRICE, Some(PRICE)),
        (None, FULL, 1, FULL, Some(FULL)),
        (None, FULL + 1, 0, 0, None),
        (Some(5), PRICE, 1, PRICE + 5, Some(PRICE + 5)),
        (Some(PRICE), PRICE, 1, FULL, Some(FULL)),
        (Some(PRICE + 1), PRICE, 0, PRICE + 1, Some(PRICE + 1)),
        (Some(FULL), 1, 0, FULL, Some(FULL)),
        // Looks: always allowed, and nothing is written, not even a cut.
        (None, 0, 1, 0, None),
        (Some(5), 0, 1, 5, Some(5)),
        (Some(FULL + SLACK), 0, 1, FULL + SLACK, Some(FULL + SLACK)),
        (Some(FULL + SLACK + 1), 0, 1, FULL, Some(FULL + SLACK + 1)),
        // Refunds: always allowed, and a debt that is paid is deleted.
        (None, -PRICE, 1, 0, None),
        (Some(PRICE + 5), -PRICE, 1, 5, Some(5)),
        (Some(PRICE), -PRICE, 1, 0, None),
        (Some(PRICE - 1), -PRICE, 1, 0, None),
        (Some(FULL + 1), -PRICE, 1, PRICE + 1, Some(PRICE + 1)),
        // A refusal keeps a debt within the slack, and a cut.
        (
            Some(FULL + SLACK),
            PRICE,
            0,
            FULL + SLACK,
            Some(FULL + SLACK),
        ),
        (Some(FULL + SLACK + 1), PRICE, 0, FULL, Some(FULL)),
        // A refund of a cut debt.
        (Some(FULL + SLACK + 1), -PRICE, 1, PRICE, Some(PRICE)),
    ] {
        let case = format!("{before:?} {charge}");
        let slot = || before.map_or_else(Slot::absent, owing);
        let expected = after.and_then(|owed| kept(&owing(owed)));

        let mut one = [slot()];
        let output = run(&mut one, NOW, &[(RATE, charge)]);
        assert_eq!(output, Output::ints(&[admitted, owed]), "{case}");
        assert_eq!(kept(&one[0]), expected, "{case}");

        let mut two = [slot(), Slot::absent()];
        let output = run(&mut two, NOW, &[(RATE, charge), (RATE, 0)]);
        assert_eq!(output, Output::ints(&[admitted, owed, 0]), "{case}");
        assert_eq!(kept(&two[0]), expected, "{case}");
        assert_eq!(kept(&two[1]), None, "{case}");
    }
}

#[test]
fn a_refusal_by_one_limit_charges_none_but_keeps_the_others_cut() {
    for refusing in 0..3 {
        let mut slots = [owing(5), owing(FULL + SLACK + 1), Slot::absent()];
        slots[refusing] = owing(FULL);
        let before = slots.clone();
        let output = run(&mut slots, NOW, &[(RATE, PRICE); 3]);
        assert_eq!(output.int(0), Some(0), "{refusing}");
        let owed = [5, FULL, 0].map(Some);
        for index in 0..3 {
            let expected = if index == refusing {
                Some(FULL)
            } else {
                owed[index]
            };
            assert_eq!(output.int(index + 1), expected, "{refusing} {index}");
            let after = match index {
                1 => kept(&owing(FULL)),
                _ => kept(&before[index]),
            };
            assert_eq!(kept(&slots[index]), after, "{refusing} {index}");
        }
    }
}

#[test]
fn a_value_lives_until_it_is_paid() {
    let mut slots = [Slot::absent()];
    run(&mut slots, NOW, &[(RATE, PRICE)]);
    // 60,000,000 / 7 microseconds, in milliseconds rounded up.
    assert_eq!(slots[0].expires(), Some(NOW + 8_572_000));
}

#[test]
fn a_value_of_another_form_charges_nothing() {
    for text in ["", "12:0", "x", "1:2:3"] {
        let other = || Slot::until(Value::from(text), Some(u64::MAX / 8));
        let mut one = [other()];
        let output = run(&mut one, NOW, &[(RATE, PRICE)]);
        assert_eq!(output, Output::ints(&[-1]), "{text:?}");
        let mut two = [Slot::absent(), other()];
        let output = run(&mut two, NOW, &[(RATE, PRICE); 2]);
        assert_eq!(output, Output::ints(&[-1]), "{text:?}");
        assert_eq!(kept(&two[0]), None);
    }
}

/// Arguments that no limit has must not panic: a store runs what it is given.
#[test]
fn impossible_arguments_do_not_panic() {
    for args in [
        [Arg::Int(0), Arg::Int(0), Arg::Int(1)],
        [Arg::Int(0), Arg::Int(10), Arg::Int(1)],
        [Arg::Bytes(b"x"), Arg::Int(10), Arg::Int(1)],
    ] {
        let mut slots = [Slot::absent()];
        let output = CHARGE.run(&mut Transaction::new(NOW, &mut slots), &args);
        assert!(output.int(0).is_some());
    }
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

proptest! {
    /// The wait that a refused caller is told is exact to the microsecond.
    #[test]
    fn a_refused_charge_passes_after_its_wait_and_not_a_microsecond_before(
        limit in 1..1_000_u32,
        window in 1..100_000_000_u64,
        burst in 1..20_u32,
        cost in 1..20_u32,
        pause in 0..1_000_000_u64,
    ) {
        let window = std::time::Duration::from_micros(window);
        let rate = Quota::try_new(limit, window).unwrap().burst(burst).rate();
        let charge = rate.price(cost.min(burst)) as i64;
        let mut slots = [Slot::absent()];
        let mut now = NOW;
        for _ in 0..50 {
            let before = slots.clone();
            let output = run(&mut slots, now, &[(rate, charge)]);
            if output.int(0) == Some(0) {
                let owed = output.int(1).unwrap() as u64;
                let wait = rate.retry_after(owed, charge as u64);
                let early = run(&mut before.clone(), now + wait - 1, &[(rate, charge)]);
                prop_assert_eq!(early.int(0), Some(0));
                let then = run(&mut before.clone(), now + wait, &[(rate, charge)]);
                prop_assert_eq!(then.int(0), Some(1));
            }
            now += pause;
        }
    }

    /// One to three limits of one identity, on a clock that also goes back.
    #[test]
    fn the_twin_is_gcra_by_its_definition(
        quotas in prop::collection::vec((1..50_u32, 1..60_000_000_u64, 1..5_u32), 1..4),
        steps in prop::collection::vec(step(), 1..100),
    ) {
        let quotas: Vec<_> = quotas
            .iter()
            .map(|(limit, window, burst)| {
                let window = std::time::Duration::from_micros(*window);
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
                .map(|quota| (quota.rate(), cost * quota.rate().price(1) as i64))
                .collect();
            let output = run(&mut slots, now, &charges);
            let cost = i128::from(cost);
            let admitted = models.iter().all(|model| model.allows(now, cost));
            prop_assert_eq!(output.int(0), Some(i64::from(admitted)));
            prop_assert_eq!(output.len(), quotas.len() + 1);
            for (index, (model, quota)) in models.iter_mut().zip(&quotas).enumerate() {
                match admitted {
                    // A look writes nothing, not even a cut.
                    true if cost == 0 => {}
                    true => model.charge(now, cost),
                    false => model.refuse(now),
                }
                let scale = i128::from(quota.limit()) / i128::from(quota.rate().units());
                let owed = i128::from(output.int(index + 1).unwrap());
                prop_assert_eq!(owed * scale, model.owed(now));
            }
        }
    }
}
