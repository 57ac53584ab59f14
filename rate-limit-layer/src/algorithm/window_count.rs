use layer_store::{Ttl, Value};

use crate::algorithm::usage::Count;

/// What an algorithm other than GCRA keeps of one partition, as it is at one time: numbers in, numbers out.
///
/// The cost is at most the limit. Times are in microseconds.
pub(crate) trait WindowCount {
    /// Returns true if what was kept lies ahead of the clock and was cut: after a clock ran backwards, or a window was shortened.
    /// That is kept also at a refusal. It would be made again at each, and lock the caller out until the old end.
    fn is_cut(&self) -> bool;

    /// Returns the numbers to reply to a command about `cost`.
    fn count(&self, cost: u64) -> Count;

    /// Adds a charge that is allowed.
    fn charge(&mut self, cost: u64);

    /// Takes back a charge that was made at most `age` ago. It never takes back more than that charge adds to a window now: what has
    /// left its window is not given back.
    fn refund(&mut self, cost: u64, age: u64);

    /// Returns the value to keep, and its time to live: until it means nothing any more. `None`: nothing is to be kept.
    fn keep(&self) -> Option<(Value, Ttl)>;
}

/// Reads whole numbers with colons between them. `None` for any other text, and for a number that Lua has no room for.
pub(super) fn numbers<const N: usize>(value: &Value) -> Option<[u64; N]> {
    value.with_bytes(|text| {
        let mut numbers = [0; N];
        let mut parts = text.split(|byte| *byte == b':');
        for number in &mut numbers {
            *number = digits(parts.next()?)?;
        }
        parts.next().is_none().then_some(numbers)
    })
}

/// Reads a number of digits alone. `None` if it is above [`MAX_WHOLE`].
pub(super) fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number <= MAX_WHOLE).then_some(number)
}

/// Makes the time to live of what means nothing any more after so many microseconds.
pub(super) fn ttl(micros: u64) -> Ttl {
    Ttl::from_millis(micros.div_ceil(1_000)).unwrap_or(MIN_TTL)
}

/// The largest whole number that Lua holds: 2^53 - 1.
pub(super) const MAX_WHOLE: u64 = (1 << 53) - 1;
/// The largest limit of a window, and so of a count: a tebibyte.
pub(crate) const MAX_COUNT: u64 = 1 << 40;
/// The longest window, in microseconds: 17 years. Lua's long division has room for it.
pub(crate) const MAX_WINDOW: u64 = 1 << 49;
/// A second, in microseconds: as in GCRA, longer than two checks are out of order.
pub(super) const SLACK: u64 = 1_000_000;

const MIN_TTL: Ttl = Ttl::from_millis(1).expect("1 is not zero");

#[cfg(test)]
mod tests;
