use layer_store::{Ttl, Value};

/// GCRA in exact integers: numbers in, numbers out; no async, no clock, no store.
///
/// The virtual scheduling form of the generic cell rate algorithm (ITU-T I.371, annex A), its theoretical arrival time kept
/// as whole microseconds and a fraction. What a key owes is its **debt**, counted in microseconds times `units`: a request
/// costs a `window` of it, a microsecond pays back `units`. So nothing is ever rounded, whatever limit and window are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// What a microsecond pays back: the limit, in lowest terms with the window.
    units: u64,
    /// What a request costs: the window in microseconds, in the same terms.
    window: u64,
    /// The most that may be owed: a burst of windows. Below 2^52, so that Lua's numbers hold it, and a time as far ahead of now.
    full: u64,
}

/// What is kept for a key: when it will owe nothing any more, in Unix microseconds, and a fraction `f / units` of one more.
pub(crate) type State = (u64, u32);

impl Rate {
    /// The caller has checked that `window * burst` is below 2^52.
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

    /// What `cost` requests owe.
    pub(crate) const fn price(self, cost: u32) -> u64 {
        self.window * cost as u64
    }

    /// How many requests may pass at once for a key that owes `debt`.
    #[inline]
    pub(crate) const fn remaining(self, debt: u64) -> u64 {
        self.full.saturating_sub(debt) / self.window
    }

    /// In how many microseconds a key that owes `debt` owes nothing.
    #[inline]
    pub(crate) const fn reset_after(self, debt: u64) -> u64 {
        debt.div_ceil(self.units)
    }

    /// In how many microseconds a key that owes `debt` may owe `price` more.
    #[inline]
    pub(crate) const fn retry_after(self, debt: u64, price: u64) -> u64 {
        (debt + price)
            .saturating_sub(self.full)
            .div_ceil(self.units)
    }

    /// In how many microseconds `requests` of them are earned.
    pub(crate) const fn time_of(self, requests: u64) -> u64 {
        requests.saturating_mul(self.window).div_ceil(self.units)
    }
}

/// What a key owes at `now`, and whether that had to be cut to `full`: after a clock ran backwards, or a quota was lowered.
///
/// Up to [`SLACK`] more than `full` stands as it is, and is waited for like any debt. That much is no change of clock or quota
/// but a check that read the time before another one and came after it; were its cut kept, that would pay the difference back.
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

/// What to keep of a debt, and for how long: until it is paid.
#[inline]
pub(crate) fn keep(units: u64, debt: u64, now: u64) -> (Value, Ttl) {
    // Most quotas pay back whole microseconds, and then nothing has to be divided but by a constant.
    let (micros, fraction) = match units {
        1 => (debt, 0),
        _ => (debt / units, debt % units),
    };
    let millis = (micros + u64::from(fraction > 0)).div_ceil(1_000);
    let ttl = Ttl::from_millis(millis).unwrap_or(SHORTEST);
    (Value::pair(now + micros, fraction as u32), ttl)
}

const SHORTEST: Ttl = match Ttl::from_millis(1) {
    Some(ttl) => ttl,
    None => panic!("1 is not zero"),
};

/// A second, in microseconds: longer than a thread stands between two instructions, shorter than a lockout.
const SLACK: u64 = 1_000_000;
