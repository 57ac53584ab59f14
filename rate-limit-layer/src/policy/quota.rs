use std::{error::Error, fmt, num::NonZeroU64, str::FromStr, time::Duration};

use crate::algorithm::gcra::Rate;

/// A number of requests per window of time, and how many of them may come at once.
///
/// `per_minute(100).burst(20)`: 20 at once, then one every 0.6 s. Without [`burst`](Self::burst), all 100 may come at once.
///
/// GCRA enforces it exactly: in any interval of length `t` at most `burst + limit * t / window` requests pass. So an idle
/// caller can send more than the limit in its first window: of `per_hour(20)` 20 at once and 19 more before the hour is over,
/// 39 in all. For at most 20 in every hour write `per_hour(10).burst(10)`: burst and limit add up to 20.
///
/// ```
/// use rate_limit_layer::Quota;
///
/// const LOGINS: Quota = Quota::per_minute(100).burst(20);
/// assert_eq!("100/min burst 20".parse(), Ok(LOGINS));
/// assert_eq!(LOGINS.to_string(), "100/min;b=20");
/// let policy = LOGINS.fail_closed();
/// # let _ = policy;
/// ```
///
/// Limits and bursts have 64 bits, so that bytes can be counted: `per_day(10 << 30)`. No price is rounded, whatever the limit is,
/// unless limit and window in microseconds, in lowest terms, leave a limit above 4,294,967,295. Such a quota counts in quarters of
/// a nanosecond: the price of each charge is rounded up to one, so never more than the bound passes.
///
/// [`fail_open`](Self::fail_open) or [`fail_closed`](Self::fail_closed) makes it a [`Policy`](crate::Policy). There is no
/// default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    limit: NonZeroU64,
    /// In microseconds.
    window: u64,
    burst: NonZeroU64,
}

impl Quota {
    /// Makes a quota of `limit` requests a second, with a burst of `limit`.
    ///
    /// # Panics
    ///
    /// If `limit` is zero. In a `const` that is a compile error.
    #[track_caller]
    pub const fn per_second(limit: u64) -> Self {
        Self::literal(limit, SECOND)
    }

    /// Makes a quota of `limit` requests a minute, with a burst of `limit`.
    ///
    /// # Panics
    ///
    /// If `limit` is zero. In a `const` that is a compile error.
    #[track_caller]
    pub const fn per_minute(limit: u64) -> Self {
        Self::literal(limit, MINUTE)
    }

    /// Makes a quota of `limit` requests an hour, with a burst of `limit`.
    ///
    /// # Panics
    ///
    /// If `limit` is zero. In a `const` that is a compile error.
    #[track_caller]
    pub const fn per_hour(limit: u64) -> Self {
        Self::literal(limit, HOUR)
    }

    /// Makes a quota of `limit` requests a day of 24 hours, with a burst of `limit`.
    ///
    /// # Panics
    ///
    /// If `limit` is zero. In a `const` that is a compile error.
    #[track_caller]
    pub const fn per_day(limit: u64) -> Self {
        Self::literal(limit, DAY)
    }

    /// Makes a quota of `limit` requests a year of 365 days, with a burst of `limit`.
    ///
    /// # Panics
    ///
    /// If `limit` is zero. In a `const` that is a compile error.
    #[track_caller]
    pub const fn per_year(limit: u64) -> Self {
        Self::literal(limit, YEAR)
    }

    /// Makes a quota of `limit` requests in `window`, with a burst of `limit`.
    ///
    /// # Errors
    ///
    /// - A limit of zero.
    /// - A window of zero, or not of whole microseconds.
    /// - A window of 142 years or more (2^52 microseconds): a burst would take longer than that to be earned, and Lua's numbers hold
    ///   no time so far ahead.
    pub const fn try_new(limit: u64, window: Duration) -> Result<Self, InvalidQuota> {
        if !window.subsec_nanos().is_multiple_of(1_000) || window.as_micros() > u64::MAX as u128 {
            return Err(InvalidQuota::Window);
        }
        Self::checked(limit, window.as_micros() as u64, limit)
    }

    /// Sets how many requests may come at once. Default: the limit.
    ///
    /// A smaller burst spreads the requests over the window; a larger one lets an idle caller catch up.
    ///
    /// # Panics
    ///
    /// As [`try_burst`](Self::try_burst) returns an error.
    #[must_use]
    #[track_caller]
    pub const fn burst(self, burst: u64) -> Self {
        match self.try_burst(burst) {
            Ok(quota) => quota,
            Err(error) => panic!("{}", error.message()),
        }
    }

    /// Sets how many requests may come at once, for a number that is read and not written.
    ///
    /// # Errors
    ///
    /// A burst of zero, or one that takes 142 years or more to be earned, as one of 143 would at `per_year(1)`.
    pub const fn try_burst(self, burst: u64) -> Result<Self, InvalidQuota> {
        Self::checked(self.limit.get(), self.window, burst)
    }

    /// Returns how many requests pass in a [`window`](Self::window) in the long run.
    pub const fn limit(self) -> u64 {
        self.limit.get()
    }

    /// Returns the time in which the whole limit is earned.
    pub const fn window(self) -> Duration {
        Duration::from_micros(self.window)
    }

    /// Returns how many requests may come at once: the burst.
    pub const fn capacity(self) -> u64 {
        self.burst.get()
    }

    pub(crate) const fn rate(self) -> Rate {
        let rate = Rate::new(self.limit.get(), self.window, self.burst.get());
        rate.expect("a quota was checked to have a rate")
    }

    #[track_caller]
    const fn literal(limit: u64, window: u64) -> Self {
        match Self::checked(limit, window, limit) {
            Ok(quota) => quota,
            Err(error) => panic!("{}", error.message()),
        }
    }

    const fn checked(limit: u64, window: u64, burst: u64) -> Result<Self, InvalidQuota> {
        let (Some(limit), Some(burst)) = (NonZeroU64::new(limit), NonZeroU64::new(burst)) else {
            return Err(InvalidQuota::Zero);
        };
        if window == 0 {
            return Err(InvalidQuota::Window);
        }
        if Rate::new(limit.get(), window, burst.get()).is_none() {
            return Err(InvalidQuota::Overflow);
        }
        Ok(Self {
            limit,
            window,
            burst,
        })
    }
}

impl fmt::Display for Quota {
    /// Writes the text that [`from_str`](Self::from_str) reads, such as `100/min` or `100/min;b=20`. It is the default name of a
    /// policy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.limit)?;
        match UNITS.iter().find(|(_, micros)| *micros == self.window) {
            Some((unit, _)) => f.write_str(unit)?,
            None => write_window(f, self.window)?,
        }
        match self.burst == self.limit {
            true => Ok(()),
            false => write!(f, ";b={}", self.burst),
        }
    }
}

impl FromStr for Quota {
    type Err = InvalidQuota;

    /// Reads a text such as `100/min`, `100/min burst 20` or `100/min;b=20`.
    ///
    /// The units are `us`, `ms`, `s`, `min`, `h`, `day` and `year`. A number in front makes another window: `5/10s`.
    fn from_str(text: &str) -> Result<Self, InvalidQuota> {
        let (rate, burst) = match text.split_once(";b=").or(text.split_once(" burst ")) {
            Some((rate, burst)) => (rate, Some(burst)),
            None => (text, None),
        };
        let (limit, window) = rate.split_once('/').ok_or(InvalidQuota::Text)?;
        let limit = parse(limit)?;
        let quota = Self::checked(limit, parse_window(window.trim())?, limit)?;
        match burst {
            Some(burst) => quota.try_burst(parse(burst)?),
            None => Ok(quota),
        }
    }
}

/// The error of an impossible [`Quota`]. Its text says what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvalidQuota {
    /// The limit or the burst is zero.
    Zero,
    /// The window is zero, or not of whole microseconds.
    Window,
    /// The burst takes 142 years or more to be earned, or the window is that long.
    Overflow,
    /// The text is not a quota.
    Text,
}

impl InvalidQuota {
    const fn message(self) -> &'static str {
        match self {
            Self::Zero => {
                "a quota of zero lets nothing through: write at least 1 for the limit and the burst, or answer 403 without a limiter"
            }
            Self::Window => {
                "a window is at least one microsecond and whole microseconds: write one such as Duration::from_secs(60)"
            }
            Self::Overflow => {
                "this burst takes 142 years or more to be earned: write a smaller burst, a larger limit or a shorter window"
            }
            Self::Text => {
                "not a quota: write one such as 100/min, 5/10s or 100/min burst 20; the units are us, ms, s, min, h, day and year"
            }
        }
    }
}

impl fmt::Display for InvalidQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl Error for InvalidQuota {}

fn write_window(f: &mut fmt::Formatter<'_>, window: u64) -> fmt::Result {
    // The largest unit that divides the window: 5,400 s are 90min.
    let (unit, micros) = UNITS
        .iter()
        .rev()
        .find(|(_, micros)| window.is_multiple_of(*micros))
        .expect("every window is whole microseconds");
    write!(f, "{}", window / micros)?;
    f.write_str(unit)
}

fn parse(number: &str) -> Result<u64, InvalidQuota> {
    number.trim().parse().ok().ok_or(InvalidQuota::Text)
}

fn parse_window(text: &str) -> Result<u64, InvalidQuota> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    let count: u64 = match count {
        "" => 1,
        // Only digits: it can only be too large.
        _ => count.parse().ok().ok_or(InvalidQuota::Overflow)?,
    };
    let (_, micros) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or(InvalidQuota::Text)?;
    count.checked_mul(*micros).ok_or(InvalidQuota::Overflow)
}

const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;
const UNITS: [(&str, u64); 7] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", SECOND),
    ("min", MINUTE),
    ("h", HOUR),
    ("day", DAY),
    ("year", YEAR),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_read_and_written() {
        for (text, quota) in [
            ("100/s", Quota::per_second(100)),
            ("100/min;b=20", Quota::per_minute(100).burst(20)),
            ("5000/day", Quota::per_day(5_000)),
            ("1/year", Quota::per_year(1)),
            ("5/10s", Quota::try_new(5, Duration::from_secs(10)).unwrap()),
            (
                "5/90min",
                Quota::try_new(5, Duration::from_secs(5_400)).unwrap(),
            ),
            (
                "5/250ms",
                Quota::try_new(5, Duration::from_millis(250)).unwrap(),
            ),
        ] {
            assert_eq!(quota.to_string(), text);
            assert_eq!(text.parse(), Ok(quota));
        }
        assert_eq!(
            "100/min burst 20".parse(),
            Ok(Quota::per_minute(100).burst(20))
        );
        assert_eq!("60/60s".parse::<Quota>().unwrap().to_string(), "60/min");
    }

    #[test]
    fn impossible_quotas_say_what_to_write() {
        for (text, error) in [
            ("0/s", InvalidQuota::Zero),
            ("5/s burst 0", InvalidQuota::Zero),
            ("5/0s", InvalidQuota::Window),
            ("5/143year", InvalidQuota::Overflow),
            ("18446744073709551616/s", InvalidQuota::Text),
            ("1/99999999999999999999s", InvalidQuota::Overflow),
            ("1/year;b=4000000000", InvalidQuota::Overflow),
            ("", InvalidQuota::Text),
            ("5", InvalidQuota::Text),
            ("5/fortnight", InvalidQuota::Text),
            ("-5/s", InvalidQuota::Text),
            ("5/s;b=", InvalidQuota::Text),
        ] {
            assert_eq!(text.parse::<Quota>(), Err(error), "{text:?}");
            assert!(error.to_string().contains("write"));
        }
        assert_eq!(
            Quota::try_new(1, Duration::from_nanos(1_500)),
            Err(InvalidQuota::Window)
        );
        assert_eq!(Quota::try_new(1, Duration::MAX), Err(InvalidQuota::Window));
        assert_eq!(
            Quota::per_year(1).try_burst(143),
            Err(InvalidQuota::Overflow)
        );
    }

    #[test]
    fn each_unit_is_as_long_as_its_name() {
        for (quota, seconds) in [
            (Quota::per_second(2), 1),
            (Quota::per_minute(2), 60),
            (Quota::per_hour(2), 3_600),
            (Quota::per_day(2), 86_400),
            (Quota::per_year(2), 31_536_000),
        ] {
            assert_eq!(quota.window(), Duration::from_secs(seconds));
            assert_eq!((quota.limit(), quota.capacity()), (2, 2));
            assert_eq!(quota.burst(5).capacity(), 5);
            assert_eq!(quota.burst(5).limit(), 2);
        }
    }

    #[test]
    fn only_a_burst_of_142_years_is_refused() {
        let quota = |limit, micros| Quota::try_new(limit, Duration::from_micros(micros));
        assert!(quota(1, (1 << 52) - 1).is_ok());
        assert_eq!(quota(1, 1 << 52), Err(InvalidQuota::Overflow));
        assert_eq!(quota(u64::MAX, u64::MAX), Err(InvalidQuota::Overflow));
        let half = quota(1, 1 << 51).unwrap();
        assert_eq!(half.try_burst(2), Err(InvalidQuota::Overflow));
        assert!(quota(3, 1 << 51).unwrap().try_burst(5).is_ok());
        for quota in [
            Quota::per_day(100_001),
            Quota::per_year(999_983),
            Quota::per_day(10 << 30).burst(1 << 30),
            Quota::per_second(u64::MAX),
            Quota::per_year(u64::MAX),
            Quota::per_year(1).burst(142),
        ] {
            assert_eq!(quota.to_string().parse(), Ok(quota));
        }
    }

    #[test]
    #[should_panic(expected = "write at least 1")]
    fn a_literal_of_zero_panics() {
        let _ = Quota::per_second(0);
    }

    proptest! {
        #[test]
        fn any_quota_survives_its_text(limit in 1_u64.., micros in 1..1_u64 << 52, burst in 1_u64..) {
            if let Ok(quota) = Quota::checked(limit, micros, burst) {
                prop_assert_eq!(quota.to_string().parse(), Ok(quota));
            }
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Quota>();
        }
    }
}
