use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::Quota;

/// 100 a minute and 20 at once: 600,000 microseconds for a request.
const EVEN: Rate = Quota::per_minute(100).burst(20).rate();
/// 7 a minute and 2 at once: 60,000,000 parts for a request, and 7 are a microsecond.
const UNEVEN: Rate = Quota::per_minute(7).burst(2).rate();
/// A limit that no fraction of 32 bits counts exactly.
const COARSE: Rate = Quota::per_second(u64::MAX).burst(3 << 60).rate();
const NOW: u64 = 1_767_225_600_000_042;

const fn sevenths(parts: u128) -> Span {
    Span::of_parts(parts, 7)
}

#[test]
fn limit_and_window_are_in_lowest_terms() {
    assert_eq!(Some(EVEN), Rate::new(1, 600_000, 20));
    assert_eq!(Some(UNEVEN), Rate::new(7, 60_000_000, 2));
    assert_eq!(Some(Quota::per_second(4).rate()), Rate::new(1, 250_000, 4));
    assert!(EVEN.is_whole() && !UNEVEN.is_whole() && !COARSE.is_whole());
    assert_eq!(
        (EVEN.parts(), EVEN.full()),
        (1, Span::of_micros(12_000_000))
    );
    assert_eq!((UNEVEN.parts(), UNEVEN.full()), (7, sevenths(120_000_000)));
    assert_eq!(EVEN.price(3), Span::of_micros(1_800_000));
    assert_eq!(UNEVEN.price(2), sevenths(120_000_000));
}

#[test]
fn a_request_remains_only_if_all_of_its_price_is_free() {
    for (debt, remaining) in [
        (0, 20),
        (1, 19),
        (600_000, 19),
        (600_001, 18),
        (11_400_000, 1),
        (11_400_001, 0),
        (12_000_000, 0),
        (12_900_000, 0),
    ] {
        let debt = Span::of_micros(debt);
        assert_eq!(EVEN.remaining(debt), remaining, "{debt:?}");
    }
    for (debt, remaining) in [(0, 2), (1, 1), (60_000_000, 1), (60_000_001, 0)] {
        assert_eq!(UNEVEN.remaining(sevenths(debt)), remaining, "{debt}");
    }
}

#[test]
fn a_wait_ends_in_the_microsecond_in_which_the_price_is_free() {
    let price = UNEVEN.price(1);
    for (debt, micros) in [
        (0, 0),
        (60_000_000, 0),
        (60_000_001, 1),
        (60_000_007, 1),
        (60_000_008, 2),
        (120_000_000, 8_571_429),
    ] {
        let debt = sevenths(debt);
        assert_eq!(UNEVEN.retry_after(debt, price), micros, "{debt:?}");
    }
}

#[test]
fn a_debt_is_paid_back_by_time_and_never_below_zero() {
    for (state, owed) in [
        (None, 0),
        (Some((NOW + 10, 0)), 70),
        (Some((NOW + 10, 3)), 73),
        (Some((NOW, 3)), 3),
        (Some((NOW, 0)), 0),
        (Some((NOW - 1, 3)), 0),
    ] {
        let owed = (sevenths(owed), false);
        assert_eq!(debt(7, UNEVEN.full, state, NOW), owed, "{state:?}");
    }
}

#[test]
fn a_fraction_in_more_parts_than_this_quota_has_is_a_microsecond() {
    for (parts, fraction, owed) in [(7, 6, 76), (7, 7, 77), (7, u32::MAX, 77), (1, 6, 11)] {
        let state = Some((NOW + 10, fraction));
        let owed = (Span::of_parts(owed, parts), false);
        assert_eq!(debt(parts, UNEVEN.full, state, NOW), owed, "{fraction}");
    }
}

#[test]
fn a_debt_over_the_slack_is_cut_to_full_and_one_at_the_slack_is_not() {
    let full = UNEVEN.full.to_parts(7);
    let slack = 7 * 1_000_000;
    for (over, is_cut) in [(0, false), (1, false), (slack, false), (slack + 1, true)] {
        let owed = sevenths(full + over);
        let expected = match is_cut {
            true => (UNEVEN.full, true),
            false => (owed, false),
        };
        let state = (NOW + owed.micros, owed.fraction);
        assert_eq!(debt(7, UNEVEN.full, Some(state), NOW), expected, "{over}");
    }
    // A time that no clock gives, as after a hand wrote it.
    let state = Some((u64::MAX, u32::MAX));
    assert_eq!(debt(7, UNEVEN.full, state, 0), (UNEVEN.full, true));
}

#[test]
fn a_value_lives_until_its_debt_is_paid_in_milliseconds_rounded_up() {
    for (micros, fraction, millis) in [
        (1, 0, 1),
        (1_000, 0, 1),
        (1_001, 0, 2),
        (0, 3, 1),
        (1_000, 1, 2),
    ] {
        let (kept, ttl) = keep(Span { micros, fraction }, NOW);
        let case = format!("{micros} and {fraction} / 7");
        assert_eq!(kept.as_pair(), Some((NOW + micros, fraction)), "{case}");
        assert_eq!(ttl, Ttl::from_millis(millis).unwrap(), "{case}");
    }
    assert_eq!(keep(Span::ZERO, NOW).1, Ttl::from_millis(1).unwrap());
}

/// A whole burst passes at once, and after it nothing does.
#[test]
fn a_coarse_quota_lets_its_burst_pass_whole() {
    assert_eq!(COARSE.parts(), COARSE_PARTS);
    assert_eq!(COARSE.price(3 << 60), COARSE.full());
    assert_eq!(COARSE.remaining(Span::ZERO), 3 << 60);
    assert_eq!(COARSE.remaining(COARSE.full()), 0);
    // 4,611 requests and a bit are a part. Less costs as much.
    let part = Span::of_parts(1, COARSE_PARTS);
    assert_eq!((COARSE.price(1), COARSE.price(4_611)), (part, part));
    assert_eq!(COARSE.price(4_612), part.plus(part, COARSE_PARTS));
    assert_eq!(COARSE.price(u64::MAX), Span::MAX);
    assert!(EVEN.price(u64::MAX) > EVEN.full());
}

#[test]
fn a_burst_is_below_two_to_the_52_microseconds() {
    assert!(Rate::new(1, (1 << 52) - 1, 1).is_some());
    assert!(Rate::new(1, 1 << 52, 1).is_none());
    assert!(Rate::new(1, u64::MAX, u64::MAX).is_none());
    assert!(Rate::new(1, 1 << 51, 2).is_none());
    // 2^52 microseconds are 4.5 billion quarters of one in lowest terms, which is no reason to refuse them.
    assert!(Rate::new(u64::MAX, (1 << 52) - 1, u64::MAX).is_some());
    assert!(Rate::new(u64::MAX, 1 << 52, u64::MAX).is_none());
    // Rounded up to a part, it would be 2^52.
    let limit = u64::MAX - 58;
    let burst = limit / (1 << 20) * (1 << 20);
    let rate = Rate::new(limit, 1 << 32, burst);
    assert!(rate.is_none_or(|rate| rate.full().micros < 1 << 52));
}

/// Any limit and burst, more often small ones, and those around the most parts that a fraction has.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        1..100_u64,
        1..2_000_000_u64,
        MAX_PARTS - 10..MAX_PARTS + 10,
        1_u64..,
    ]
}

const TEN_YEARS: u64 = 10 * 365 * 86_400 * 1_000_000;

proptest! {
    /// Against the definition in numbers that nobody has reduced: a request costs the window, a microsecond pays the limit.
    #[test]
    fn reduced_and_unreduced_numbers_agree(
        limit in 1..1_000_u64,
        window in 1..100_000_000_u64,
        burst in 1..100_u64,
        owed in any::<u64>(),
        cost in 1..100_u64,
    ) {
        let quota = Quota::try_new(limit, Duration::from_micros(window)).unwrap();
        let rate = quota.burst(burst).rate();
        let scale = u128::from(limit) / u128::from(rate.parts);
        let owed = u128::from(owed) % (rate.full.to_parts(rate.parts) + 1);
        let (limit, window) = (u128::from(limit), u128::from(window));
        let full = window * u128::from(burst);
        let debt = owed * scale;
        let owed = Span::of_parts(owed, rate.parts);
        prop_assert_eq!(rate.full.to_parts(rate.parts) * scale, full);
        prop_assert_eq!(u128::from(rate.remaining(owed)), (full - debt) / window);
        prop_assert_eq!(u128::from(owed.ceil_micros()), debt.div_ceil(limit));
        let over = (debt + window * u128::from(cost)).saturating_sub(full);
        let price = rate.price(cost);
        prop_assert_eq!(u128::from(rate.retry_after(owed, price)), over.div_ceil(limit));
    }

    /// What remains passes at once, and one more does not, whatever is owed. No price is below its share of the window.
    #[test]
    fn what_remains_passes_and_no_more(limit in number(), window in 1_000..=TEN_YEARS, burst in number(), owed in any::<u128>(), cost in any::<u64>()) {
        let Some(rate) = Rate::new(limit, window, burst) else {
            prop_assert!(u128::from(burst) * u128::from(window) + u128::from(limit) > u128::from(limit) << 52);
            return Ok(());
        };
        let (parts, full) = (rate.parts, rate.full.to_parts(rate.parts));
        let owed = Span::of_parts(owed % (full + 1), parts);
        let left = rate.remaining(owed);
        prop_assert!(left <= burst);
        prop_assert!(owed.plus(rate.price(left), parts) <= rate.full);
        prop_assert!(left == burst || owed.plus(rate.price(left + 1), parts) > rate.full);
        prop_assert_eq!(rate.price(burst), rate.full);
        prop_assert_eq!(rate.remaining(Span::ZERO), burst);

        let cost = cost % burst + 1;
        let price = rate.price(cost).to_parts(parts);
        // price / parts >= cost * window / limit
        prop_assert!(is_at_least(price, limit, cost, window, parts));
        let wait = rate.retry_after(rate.full, rate.price(cost));
        prop_assert_eq!(wait, rate.price(cost).ceil_micros());
    }

    /// Each quota that the issue names, with a burst of its limit, is one.
    #[test]
    fn every_limit_over_every_window_to_ten_years_is_a_quota(limit in 1_u64.., window in 1_000..=TEN_YEARS) {
        let rate = Rate::new(limit, window, limit).unwrap();
        prop_assert_eq!(rate.full(), Span::of_micros(window));
    }

    /// A debt that was kept is there again, at once and later.
    #[test]
    fn what_was_kept_is_owed(parts in 1..u32::MAX, owed in 1..1_000_000_000_u64, fraction in any::<u32>(), later in 0..2_000_000_000_u64) {
        let owed = Span { micros: owed, fraction: fraction % parts };
        let state = keep(owed, NOW).0.as_pair();
        prop_assert_eq!(debt(parts, Span::MAX, state, NOW), (owed, false));
        let left = owed.minus(Span::of_micros(later), parts);
        prop_assert_eq!(debt(parts, Span::MAX, state, NOW + later), (left, false));
    }
}

/// Every limit from 1 to 1,000,000 a day, a month and a year: no request costs less than its share, and a burst passes whole.
#[test]
fn every_limit_to_a_million_a_day_a_month_and_a_year_is_exact() {
    const DAY: u64 = 86_400_000_000;
    for window in [DAY, 30 * DAY, 365 * DAY] {
        for limit in 1..=1_000_000 {
            let rate = Rate::new(limit, window, limit).unwrap();
            assert_eq!(rate.full(), Span::of_micros(window));
            // Exact: a price times the limit is the window.
            assert_eq!(rate.batch, 1);
            let price = rate.price.checked_mul(limit.into()).unwrap();
            assert_eq!(price, u128::from(window) * u128::from(rate.parts));
        }
    }
}

/// Returns true if `a * b >= c * d * e`, in 256 bits.
fn is_at_least(a: u128, b: u64, c: u64, d: u64, e: u32) -> bool {
    wide(a, b) >= wide(u128::from(c) * u128::from(d), e.into())
}

/// Returns a product as its upper and its lower part.
fn wide(a: u128, b: u64) -> (u128, u128) {
    let (high, low) = (
        (a >> 64) * u128::from(b),
        (a & u128::from(u64::MAX)) * u128::from(b),
    );
    (high + (low >> 64), low & u128::from(u64::MAX))
}
