use proptest::prelude::*;

use super::*;
use crate::Quota;

/// 10 a second, and 20 at once: a request costs 0.1 s.
const RATE: Rate = Quota::per_second(10).burst(20).rate();
const PRICE: u64 = RATE.price(1).micros;
const NOW: u64 = 1_767_225_600_000_000;

fn stock(extra: u64, requests_owed: u64) -> Stock {
    let mut stock = Stock::of(None, NOW);
    stock.fill(extra, Some(RATE.price(requests_owed)), NOW);
    stock
}

#[test]
fn what_was_charged_in_advance_is_spent_for_a_second() {
    let mut full = stock(5, 6);
    // What is left is not owed, as the client sees it.
    assert_eq!(full.spend(RATE, 2, NOW), Some(Some(RATE.price(3))));
    assert_eq!(full.spend(RATE, 4, NOW), None, "not in part");
    let mut late = full;
    assert_eq!(
        late.spend(RATE, 3, NOW + LIFE - 1).unwrap(),
        Some(Span::ZERO)
    );
    assert_eq!(full.spend(RATE, 3, NOW + LIFE), None);
    let mut unknown = Stock::of(None, NOW);
    unknown.fill(1, None, NOW);
    assert_eq!(unknown.spend(RATE, 1, NOW), Some(None));
    assert_eq!(unknown.spend(RATE, 1, NOW), None);
}

#[test]
fn the_number_doubles_while_it_does_not_last_and_follows_the_use_when_it_does() {
    let next = |mut stock: Stock, after| {
        stock.take_old(NOW + after);
        stock.next_extra(RATE, 1, 8, NOW + after)
    };
    let spent = |extra, count| {
        let mut stock = stock(extra, 1);
        stock.spend(RATE, count, NOW);
        stock
    };
    for (extra, expected) in [(0, 1), (1, 2), (2, 4), (4, 8), (8, 8)] {
        assert_eq!(next(spent(extra, extra), 500_000), expected, "{extra}");
    }
    assert_eq!(next(spent(8, 3), LIFE), 3);
    assert_eq!(next(spent(8, 0), LIFE), 0);
    assert_eq!(next(spent(8, 8), LIFE), 8);
    // What is left takes its room, if a request needs more than that.
    assert_eq!(next(spent(6, 4), 500_000), 6);
    assert_eq!(next(spent(2, 1), 500_000), 4);
}

#[test]
fn at_most_half_of_what_is_left_beside_the_request_is_charged_in_advance() {
    for (owed, expected) in [(0, 8), (3, 8), (5, 7), (16, 1), (17, 1), (18, 0), (20, 0)] {
        let stock = stock(4, owed);
        let mut stock = stock;
        stock.spend(RATE, 4, NOW);
        assert_eq!(stock.next_extra(RATE, 1, 8, NOW), expected, "{owed}");
    }
    let mut refused = stock(4, 0);
    refused.learn(RATE.full(), NOW);
    assert_eq!(refused.next_extra(RATE, 1, 8, NOW), 0);
    assert_eq!(Stock::of(None, NOW).next_extra(RATE, 1, 8, NOW), 0);
}

#[test]
fn what_remains_is_known_after_a_charge_and_grows_with_time() {
    assert_eq!(stock(4, 15).remaining(RATE, NOW), 5);
    assert_eq!(stock(4, 15).remaining(RATE, NOW + PRICE), 6);
    assert_eq!(Stock::of(None, NOW).remaining(RATE, NOW), 0);
    assert!(!stock(1, 1).is_empty());
    assert!(stock(0, 1).is_empty());
}

#[test]
fn all_that_is_old_is_given_back_once() {
    let mut stock = stock(5, 20);
    stock.spend(RATE, 2, NOW);
    assert_eq!(stock.take_old(NOW + LIFE - 1), 0);
    assert_eq!(stock.take_old(NOW + LIFE), 3);
    assert_eq!(stock.take_old(NOW + LIFE), 0);
}

#[test]
fn what_the_store_has_not_counted_is_not_given_back() {
    let mut unseen = Stock::of(None, NOW);
    unseen.fill(5, None, NOW);
    assert_eq!(unseen.next_extra(RATE, 9, 8, NOW), 0);
    let mut then_seen = unseen;
    assert_eq!(unseen.take_old(NOW + LIFE), 0);
    then_seen.fill(2, Some(RATE.price(2)), NOW);
    assert_eq!(then_seen.take_old(NOW + LIFE), 2);
}

/// A request of one of 8 processes.
#[derive(Clone, Copy, Debug)]
struct Step {
    after: u64,
    process: usize,
    cost: u64,
    /// The cost of those who wait for the same charge.
    along: u64,
    /// The time between the reading of the process's clock and that of the store.
    delay: u64,
}

fn step() -> impl Strategy<Value = Step> {
    let after = prop_oneof![
        40 => 0..20_000_u64,
        16 => 0..200_000_u64,
        1 => 900_000..2_500_000_u64,
    ];
    let along = prop_oneof![2 => Just(0_u64), 1 => 1..8_u64];
    (after, 0..PROCESSES, 1..3_u64, along, 0..5_000_u64).prop_map(
        |(after, process, cost, along, delay)| Step {
            after,
            process,
            cost,
            along,
            delay,
        },
    )
}

const PROCESSES: usize = 8;
const MOST: u64 = 4;

/// GCRA by its definition: the time at which nothing is owed any more.
#[derive(Default)]
struct Exact(u64);

impl Exact {
    fn debt(&self, now: u64) -> u64 {
        self.0.saturating_sub(now)
    }

    fn charge(&mut self, count: u64, now: u64) {
        self.0 = self.0.max(now) + count * PRICE;
    }

    fn refund(&mut self, count: u64) {
        self.0 = self.0.saturating_sub(count * PRICE);
    }
}

/// Plays requests over one key, and returns how many passed without a command.
fn play(steps: &[Step]) -> Result<u64, TestCaseError> {
    let (mut store, mut passed) = (Exact::default(), Exact::default());
    let mut stocks = [Stock::of(None, 0); PROCESSES];
    let (mut now, mut free) = (NOW, 0);
    for step in steps {
        now += step.after;
        let stock = &mut stocks[step.process];
        let spent = stock.spend(RATE, step.cost, now).is_some();
        free += u64::from(spent) * step.cost;
        let mut passes = u64::from(spent) * step.cost;
        // Those who wait are charged together, and the last of a stock is followed by a charge in advance.
        let waiting = match spent {
            true => 0,
            false => step.cost + step.along,
        };
        if waiting > 0 || stock.is_empty() {
            let charged_at = now;
            store.refund(stock.take_old(now));
            let extra = stock.next_extra(RATE, waiting, MOST, now);
            now += step.delay;
            let mut charge = |count| {
                let fits = store.debt(now) + count * PRICE <= RATE.full().micros;
                if fits {
                    store.charge(count, now);
                }
                (fits, Span::of_micros(store.debt(now)))
            };
            let (all, debt) = charge(waiting + extra);
            match all {
                true => {
                    stock.fill(extra, Some(debt), charged_at);
                    passes += waiting;
                }
                false => {
                    stock.learn(debt, now);
                    let (alone, debt) = charge(waiting.min(step.cost));
                    if alone && waiting > 0 {
                        passes += step.cost;
                        stock.fill(0, Some(debt), charged_at);
                    }
                }
            }
        }
        prop_assert!(stocks[step.process].left <= MOST);
        passed.charge(passes, now);
        let most = RATE.full().micros + PROCESSES as u64 * MOST * PRICE;
        prop_assert!(passed.debt(now) <= most, "more than b + t L / W + n k");
    }
    Ok(free)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// 8 instances, 1,000 runs: whatever is charged in advance, spent and given back, the bound holds in every interval.
    #[test]
    fn at_most_the_bound_passes_in_any_interval(steps in prop::collection::vec(step(), 0..600)) {
        play(&steps)?;
    }
}

/// One process charges in advance and does not use it. Time pays that back, and another process uses all that there is. Then the
/// first gives it back.
#[test]
fn what_is_given_back_again_and_again_adds_nothing() {
    let step = |after, process| Step {
        after,
        process,
        cost: 1,
        along: 0,
        delay: 0,
    };
    let mut steps = Vec::new();
    for _ in 0..100 {
        steps.push(step(400_000, 0));
        steps.extend([step(10_000, 0); 3]);
        steps.push(step(870_000, 1));
        steps.extend([step(0, 1); 40]);
    }
    let free = play(&steps).unwrap();
    assert!(free > 100, "{free}");
}

/// It would not be worth it otherwise, and the property would hold for nothing.
#[test]
fn most_requests_of_a_busy_key_need_no_command() {
    let steps = (0..1_000).map(|_| Step {
        after: 100_000,
        process: 0,
        cost: 1,
        along: 0,
        delay: 0,
    });
    let free = play(&steps.collect::<Vec<_>>()).unwrap();
    assert!(free >= 790, "{free}");
}
