use layer_store::{Ttl, Value};

/// The arithmetic of GCRA in exact integers: numbers in, numbers out; no async, no clock, no store.
///
/// It is the virtual scheduling form of the generic cell rate algorithm (ITU-T I.371, annex A). The theoretical arrival time is
/// kept as whole microseconds and a fraction. What a key owes is its **debt**, counted in microseconds times `units`: a request
/// costs a `window`, a microsecond pays back `units`. So nothing is ever rounded, whatever limit and window are.
///
/// For 100 requests a minute and 20 at once: 60,000,000 / 100 in lowest terms is 600,000 / 1. A request costs 600,000, a
/// microsecond pays back 1, and at most 12,000,000 may be owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// The part of a debt that a microsecond pays back: the limit, in lowest terms with the window.
    units: u64,
    /// The price of a request: the window in microseconds, in the same terms.
    window: u64,
    /// The largest debt: a burst of windows. Below 2^52, so that Lua's numbers hold it, and a time as far ahead of now.
    full: u64,
}

/// The value of a key: the time when nothing is owed any more, in Unix microseconds, and a fraction `f / units` of one more.
pub(crate) type State = (u64, u32);

impl Rate {
    /// Makes a rate. The caller has checked that `window * burst` is below 2^52.
    pub(crate) const fn new(units: u64, window: u64, burst: u32) -> Self {
        Self {
            units,
            window,
            full: window * burst as u64,
        }
    }

    pub(crate) const fn units(self) -> u64 {
        self.units
    }

    pub(crate) const fn full(self) -> u64 {
        self.full
    }

    /// Returns the debt of `cost` requests.
    pub(crate) const fn price(self, cost: u32) -> u64 {
        self.window * cost as u64
    }

    /// Returns the number of requests that may pass at once for a key that owes `debt`.
    #[inline]
    pub(crate) const fn remaining(self, debt: u64) -> u64 {
        self.full.saturating_sub(debt) / self.window
    }

    /// Returns the microseconds until a key that owes `debt` owes nothing.
    #[inline]
    pub(crate) const fn reset_after(self, debt: u64) -> u64 {
        debt.div_ceil(self.units)
    }

    /// Returns the microseconds until a key that owes `debt` may owe `price` more. Zero if it may now.
    #[inline]
    pub(crate) const fn retry_after(self, debt: u64, price: u64) -> u64 {
        (debt + price)
            .saturating_sub(self.full)
            .div_ceil(self.units)
    }

    /// Returns the microseconds in which `requests` of them are earned.
    pub(crate) const fn time_of(self, requests: u64) -> u64 {
        requests.saturating_mul(self.window).div_ceil(self.units)
    }
}

/// Returns what a key owes at `now`, and true if that was cut to `full`: after a clock ran backwards, or a quota was lowered.
///
/// A debt of up to [`SLACK`] above `full` is kept, and is waited for like any other. It comes from two checks that read the
/// clock in one order and reach the key in the other, not from a changed clock or quota. A cut that is kept would pay the
/// difference back.
#[inline]
pub(crate) const fn debt(units: u64, full: u64, state: Option<State>, now: u64) -> (u64, bool) {
    let Some((time, fraction)) = state else {
        return (0, false);
    };
    if time < now {
        return (0, false);
    }
    let debt = (time - now)
        .saturating_mul(units)
        .saturating_add(fraction as u64);
    if debt > full + units * SLACK {
        (full, true)
    } else {
        (debt, false)
    }
}

/// Returns the value to keep for a debt, and its time to live: until it is paid.
#[inline]
pub(crate) fn keep(units: u64, debt: u64, now: u64) -> (Value, Ttl) {
    // Most quotas pay back whole microseconds, and then nothing has to be divided but by a constant.
    let (micros, fraction) = match units {
        1 => (debt, 0),
        _ => (debt / units, debt % units),
    };
    let millis = (micros + u64::from(fraction > 0)).div_ceil(1_000);
    let ttl = Ttl::from_millis(millis).unwrap_or(MIN_TTL);
    (Value::pair(now + micros, fraction as u32), ttl)
}

const MIN_TTL: Ttl = Ttl::from_millis(1).expect("1 is not zero");

/// A second, in microseconds: longer than a thread is held up between two instructions, shorter than a lockout.
const SLACK: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Quota;

    /// 100 a minute and 20 at once: 600,000 for a request, of which a microsecond pays back 1.
    const EVEN: Rate = Quota::per_minute(100).burst(20).rate();
    /// 7 a minute and 2 at once: 60,000,000 for a request, of which a microsecond pays back 7.
    const UNEVEN: Rate = Quota::per_minute(7).burst(2).rate();
    const NOW: u64 = 1_767_225_600_000_042;

    #[test]
    fn limit_and_window_are_in_lowest_terms() {
        assert_eq!(EVEN, Rate::new(1, 600_000, 20));
        assert_eq!(UNEVEN, Rate::new(7, 60_000_000, 2));
        assert_eq!((EVEN.units(), EVEN.full()), (1, 12_000_000));
        assert_eq!((UNEVEN.units(), UNEVEN.full()), (7, 120_000_000));
        assert_eq!(Quota::per_second(4).rate(), Rate::new(1, 250_000, 4));
        assert_eq!((EVEN.price(3), UNEVEN.price(2)), (1_800_000, 120_000_000));
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
            assert_eq!(EVEN.remaining(debt), remaining, "{debt}");
        }
    }

    #[test]
    fn times_are_rounded_up_to_the_microsecond() {
        for (debt, micros) in [(0, 0), (1, 1), (7, 1), (8, 2), (120_000_000, 17_142_858)] {
            assert_eq!(UNEVEN.reset_after(debt), micros, "{debt}");
        }
        for (requests, micros) in [(0, 0), (1, 8_571_429), (7, 60_000_000)] {
            assert_eq!(UNEVEN.time_of(requests), micros, "{requests}");
        }
        assert_eq!(EVEN.time_of(u64::MAX), u64::MAX);
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
            assert_eq!(UNEVEN.retry_after(debt, price), micros, "{debt}");
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
            (Some((0, 0)), 0),
        ] {
            assert_eq!(debt(7, UNEVEN.full, state, NOW), (owed, false), "{state:?}");
        }
    }

    #[test]
    fn a_debt_over_the_slack_is_cut_to_full_and_one_at_the_slack_is_not() {
        let slack = 7 * 1_000_000;
        for (over, expected) in [
            (0, (UNEVEN.full, false)),
            (1, (UNEVEN.full + 1, false)),
            (slack, (UNEVEN.full + slack, false)),
            (slack + 1, (UNEVEN.full, true)),
        ] {
            let owed = UNEVEN.full + over;
            let state = (NOW + owed / 7, (owed % 7) as u32);
            assert_eq!(debt(7, UNEVEN.full, Some(state), NOW), expected, "{over}");
        }
        // A time that no clock gives, as after a hand wrote it.
        let state = Some((u64::MAX, u32::MAX));
        assert_eq!(debt(7, UNEVEN.full, state, 0), (UNEVEN.full, true));
    }

    #[test]
    fn a_value_lives_until_its_debt_is_paid_in_milliseconds_rounded_up() {
        for (units, owed, value, millis) in [
            (1, 1, (NOW + 1, 0), 1),
            (1, 1_000, (NOW + 1_000, 0), 1),
            (1, 1_001, (NOW + 1_001, 0), 2),
            (7, 3, (NOW, 3), 1),
            (7, 7_000, (NOW + 1_000, 0), 1),
            (7, 7_001, (NOW + 1_000, 1), 2),
        ] {
            let (kept, ttl) = keep(units, owed, NOW);
            assert_eq!(kept.as_pair(), Some(value), "{owed} / {units}");
            assert_eq!(ttl, Ttl::from_millis(millis).unwrap(), "{owed} / {units}");
        }
        assert_eq!(keep(1, 0, NOW).1, Ttl::from_millis(1).unwrap());
    }

    proptest! {
        /// Against the definition in numbers that nobody has reduced: a request costs the window, a microsecond pays the limit.
        #[test]
        fn reduced_and_unreduced_numbers_agree(
            limit in 1..1_000_u32,
            window in 1..100_000_000_u64,
            burst in 1..100_u32,
            owed in 0..u64::MAX,
            cost in 1..100_u32,
        ) {
            let quota = Quota::try_new(limit, std::time::Duration::from_micros(window)).unwrap();
            let rate = quota.burst(burst).rate();
            let scale = u128::from(limit) / u128::from(rate.units);
            let owed = owed % (rate.full + 1);
            let (limit, window) = (u128::from(limit), u128::from(window));
            let full = window * u128::from(burst);
            let debt = u128::from(owed) * scale;
            prop_assert_eq!(u128::from(rate.full) * scale, full);
            prop_assert_eq!(u128::from(rate.remaining(owed)), (full - debt) / window);
            prop_assert_eq!(u128::from(rate.reset_after(owed)), debt.div_ceil(limit));
            let over = (debt + window * u128::from(cost)).saturating_sub(full);
            let price = rate.price(cost);
            prop_assert_eq!(u128::from(rate.retry_after(owed, price)), over.div_ceil(limit));
        }

        /// A debt that was kept is there again, at once and later.
        #[test]
        fn what_was_kept_is_owed(units in 1..1_000_u64, owed in 1..1_000_000_000_u64, later in 0..2_000_000_000_u64) {
            let (value, _) = keep(units, owed, NOW);
            let state = value.as_pair();
            let full = u64::MAX / 4;
            prop_assert_eq!(debt(units, full, state, NOW), (owed, false));
            let left = owed.saturating_sub(later.saturating_mul(units));
            prop_assert_eq!(debt(units, full, state, NOW + later), (left, false));
        }
    }
}
