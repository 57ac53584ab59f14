use layer_store::{Ttl, Value};

use crate::algorithm::span::Span;

/// The arithmetic of GCRA in exact integers: numbers in, numbers out; no async, no clock, no store.
///
/// It is the virtual scheduling form of the generic cell rate algorithm (ITU-T I.371, annex A). What a key owes is its **debt**,
/// a length of time. A request adds its price, `window / limit`, and time pays it back. At most a burst may be owed.
///
/// For 100 requests a minute and 20 at once: a request costs 600,000 microseconds, and at most 12,000,000 may be owed.
///
/// # Parts
///
/// A price need not be whole microseconds. It is counted in **parts**: for 7 requests a minute a microsecond has 7 parts and a
/// request costs 60,000,000 of them. With limit and window in lowest terms, `limit` parts are a microsecond and `window` parts the
/// price. So nothing is rounded.
///
/// If the limit in lowest terms is above [`MAX_PARTS`], a microsecond has [`COARSE_PARTS`], a quarter of a nanosecond each, and two
/// numbers are rounded up to a part: the burst's price `F`, once, and the price of a charge of `n`, which is `n * F / burst`.
///
/// **Bound.** In any interval of length `t` the charges `n` cost at most `F + t` together, as no more than `F` is ever owed. Each
/// costs at least `n * F / burst`. So at most `burst + t * burst / F` requests pass, and `F` is at least `burst * window / limit`:
/// at most `burst + t * limit / window`, as where nothing is rounded. A whole burst costs exactly `F`, and passes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// The parts of a microsecond.
    parts: u32,
    /// The largest debt: a burst. Below 2^52 microseconds, so that Lua's numbers hold it, and a time as far ahead of now.
    full: Span,
    /// The price of `batch` requests, in parts.
    price: u128,
    /// 1 if a price is exact, else the burst.
    batch: u64,
}

/// The value of a key: the time when nothing is owed any more, in Unix microseconds, and a fraction of one more in parts.
pub(crate) type State = (u64, u32);

/// A change of a debt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing: it is only looked at.
    Look,
    /// More is owed, if that is allowed.
    Charge(Span),
    /// Less is owed.
    Refund(Span),
}

impl Rate {
    /// Makes a rate of `limit` requests in `window` microseconds, of which `burst` may come at once. `None` if a burst takes 2^52
    /// microseconds or longer, 142 years. None of the three is zero.
    pub(crate) const fn new(limit: u64, window: u64, burst: u64) -> Option<Self> {
        let owed = burst as u128 * window as u128;
        if owed >= (limit as u128) << 52 {
            return None;
        }
        let common = gcd(window, limit);
        let (parts, price, batch) = match limit / common {
            parts @ 1..=MAX_PARTS => (parts as u32, (window / common) as u128, 1),
            // In two steps, as all of it in parts does not fit.
            _ => {
                let (micros, rest) = (owed / limit as u128, owed % limit as u128);
                let parts = COARSE_PARTS as u128;
                let price = micros * parts + (rest * parts).div_ceil(limit as u128);
                (COARSE_PARTS, price, burst)
            }
        };
        let full = match batch {
            1 => Span::of_parts(price * burst as u128, parts),
            _ => Span::of_parts(price, parts),
        };
        match full.micros {
            ..MAX_FULL => Some(Self {
                parts,
                full,
                price,
                batch,
            }),
            _ => None,
        }
    }

    pub(crate) const fn parts(self) -> u32 {
        self.parts
    }

    pub(crate) const fn full(self) -> Span {
        self.full
    }

    /// Returns true if all prices are whole microseconds.
    #[inline]
    pub(crate) const fn is_whole(self) -> bool {
        self.parts == 1
    }

    /// Returns the price of `cost` requests. [`Span::MAX`] if they are far more than a burst.
    #[inline]
    pub(crate) const fn price(self, cost: u64) -> Span {
        if self.is_whole() {
            return Span::of_micros((self.price as u64).saturating_mul(cost));
        }
        self.price_in_parts(cost)
    }

    const fn price_in_parts(self, cost: u64) -> Span {
        if self.batch == 1 {
            return Span::of_parts(self.price * cost as u128, self.parts);
        }
        if cost > self.batch {
            return Span::MAX;
        }
        let (whole, rest) = mul_div(self.price, cost, self.batch as u128);
        Span::of_parts(whole + (rest > 0) as u128, self.parts)
    }

    /// Returns what is left of `debt` after `micros`.
    #[inline]
    pub(crate) const fn after(self, debt: Span, micros: u64) -> Span {
        debt.minus(Span::of_micros(micros), self.parts)
    }

    /// Returns the sum of two debts.
    #[inline]
    pub(crate) const fn sum(self, debt: Span, other: Span) -> Span {
        debt.plus(other, self.parts)
    }

    /// Returns `n` times a price.
    pub(crate) const fn times(self, price: Span, n: u32) -> Span {
        Span::of_parts(
            price.to_parts(self.parts).saturating_mul(n as u128),
            self.parts,
        )
    }

    /// Returns what is left of `debt` without `other`.
    #[inline]
    pub(crate) const fn difference(self, debt: Span, other: Span) -> Span {
        debt.minus(other, self.parts)
    }

    /// Returns the number of requests that may pass at once for a key that owes `debt`.
    #[inline]
    pub(crate) const fn remaining(self, debt: Span) -> u64 {
        if self.is_whole() {
            return self.full.micros.saturating_sub(debt.micros) / self.price as u64;
        }
        let free = self.full.minus(debt, self.parts).to_parts(self.parts);
        // At most the burst.
        mul_div(free, self.batch, self.price).0 as u64
    }

    /// Returns the microseconds until a key that owes `debt` may owe `price` more. Zero if it may now.
    #[inline]
    pub(crate) const fn retry_after(self, debt: Span, price: Span) -> u64 {
        let owed = debt.plus(price, self.parts);
        owed.minus(self.full, self.parts).ceil_micros()
    }
}

/// Returns what a key owes at `now`, and true if that was cut to `full`: after a clock ran backwards, or a quota was lowered.
///
/// A debt of up to [`SLACK`] above `full` is kept, and is waited for like any other. It comes from two checks that read the
/// clock in one order and reach the key in the other, not from a changed clock or quota. A cut that is kept would pay the
/// difference back.
#[inline]
pub(crate) const fn debt(parts: u32, full: Span, state: Option<State>, now: u64) -> (Span, bool) {
    let Some((time, fraction)) = state else {
        return (Span::ZERO, false);
    };
    let Some(micros) = time.checked_sub(now) else {
        return (Span::ZERO, false);
    };
    let debt = match fraction < parts {
        true => Span { micros, fraction },
        // A quota of more parts wrote it. It is less than a microsecond.
        false => Span::of_micros(micros.saturating_add(1)),
    };
    let over = debt.micros.saturating_sub(full.micros);
    if over > SLACK || over == SLACK && debt.fraction > full.fraction {
        (full, true)
    } else {
        (debt, false)
    }
}

/// Returns the value to keep for a debt, and its time to live: until it is paid.
#[inline]
pub(crate) fn keep(debt: Span, now: u64) -> (Value, Ttl) {
    let millis = debt.ceil_micros().div_ceil(1_000);
    let ttl = Ttl::from_millis(millis).unwrap_or(MIN_TTL);
    (
        Value::pair(now.saturating_add(debt.micros), debt.fraction),
        ttl,
    )
}

/// Returns `a * n / d` rounded down, and the rest. `a` and `d` are below 2^85, the result below 2^96.
///
/// In two halves of `n`, since the product has more than 128 bits.
const fn mul_div(a: u128, n: u64, d: u128) -> (u128, u128) {
    let (high, low) = ((n >> 32) as u128, n as u32 as u128);
    let product = a * high;
    let rest = ((product % d) << 32) + a * low;
    (((product / d) << 32) + rest / d, rest % d)
}

const fn gcd(a: u64, b: u64) -> u64 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The most parts that a fraction counts exactly: it is kept in 32 bits.
const MAX_PARTS: u64 = u32::MAX as u64;
/// The parts of a microsecond where an exact fraction has no room: a quarter of a nanosecond each.
const COARSE_PARTS: u32 = 4_000_000_000;
/// In microseconds: 142 years.
const MAX_FULL: u64 = 1 << 52;

const MIN_TTL: Ttl = Ttl::from_millis(1).expect("1 is not zero");

/// A second, in microseconds: longer than a thread is held up between two instructions, shorter than a lockout.
pub(crate) const SLACK: u64 = 1_000_000;

#[cfg(test)]
mod tests;
