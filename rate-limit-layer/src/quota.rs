use std::{error::Error, fmt, num::NonZeroU32, str::FromStr, time::Duration};

use crate::gcra::Rate;

/// So many requests in so much time, and how many of them at once: a value that cannot be wrong once built.
///
/// The limit is enforced by GCRA, exactly: in any interval of length `t` at most `burst + limit * t / window` pass, so up
/// to `burst + limit` in one window. For at most `limit` in every window, write `limit - burst` where `limit` would stand.
///
/// ```
/// use rate_limit_layer::Quota;
///
/// const LOGINS: Quota = Quota::per_minute(100).burst(20);
/// assert_eq!("100/min burst 20".parse(), Ok(LOGINS));
/// assert_eq!(LOGINS.to_string(), "100/min;b=20");
/// let _policy = LOGINS.fail_closed();
/// ```
///
/// It becomes a [`Policy`] by naming what happens while the store is down; there is no silent default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    limit: NonZeroU32,
    /// Microseconds.
    window: u64,
    burst: NonZeroU32,
}

impl Quota {
    /// `limit` requests a second, all of them at once if they come so.
    ///
    /// # Panics
    ///
    /// On a limit of zero. In a `const` that is a compile error.
    #[track_caller]
    pub const fn per_second(limit: u32) -> Self {
        Self::literal(limit, SECOND)
    }

    /// `limit` requests a minute. See [`per_second`](Self::per_second).
    ///
    /// # Panics
    ///
    /// On a limit of zero.
    #[track_caller]
    pub const fn per_minute(limit: u32) -> Self {
        Self::literal(limit, MINUTE)
    }

    /// `limit` requests an hour. See [`per_second`](Self::per_second).
    ///
    /// # Panics
    ///
    /// On a limit of zero.
    #[track_caller]
    pub const fn per_hour(limit: u32) -> Self {
        Self::literal(limit, HOUR)
    }

    /// `limit` requests a day of 24 hours. See [`per_second`](Self::per_second).
    ///
    /// # Panics
    ///
    /// On a limit of zero, or one for which [`try_new`](Self::try_new) is an error.
    #[track_caller]
    pub const fn per_day(limit: u32) -> Self {
        Self::literal(limit, DAY)
    }

    /// `limit` requests a year of 365 days. See [`per_second`](Self::per_second).
    ///
    /// # Panics
    ///
    /// On a limit of zero, or one for which [`try_new`](Self::try_new) is an error.
    #[track_caller]
    pub const fn per_year(limit: u32) -> Self {
        Self::literal(limit, YEAR)
    }

    /// `limit` requests in `window`, all of them at once if they come so.
    ///
    /// # Errors
    ///
    /// A limit of zero; a window that is not whole microseconds, or none; more than what is counted exactly: with limit and
    /// window in lowest terms, `burst * window` microseconds stay below 2^52, so that Lua's numbers still hold a time so far
    /// ahead of now.
    pub const fn try_new(limit: u32, window: Duration) -> Result<Self, InvalidQuota> {
        if !window.subsec_nanos().is_multiple_of(1_000) || window.as_micros() > u64::MAX as u128 {
            return Err(InvalidQuota::Window);
        }
        Self::checked(limit, window.as_micros() as u64, limit)
    }

    /// Lets only so many through at once, instead of the whole limit.
    ///
    /// # Panics
    ///
    /// On a burst of zero, or one for which [`try_burst`](Self::try_burst) is an error.
    #[must_use]
    #[track_caller]
    pub const fn burst(self, burst: u32) -> Self {
        match self.try_burst(burst) {
            Ok(quota) => quota,
            Err(error) => panic!("{}", error.message()),
        }
    }

    /// Lets only so many through at once, instead of the whole limit.
    ///
    /// # Errors
    ///
    /// A burst of zero, or a larger one than what is counted exactly: see [`try_new`](Self::try_new).
    pub const fn try_burst(self, burst: u32) -> Result<Self, InvalidQuota> {
        Self::checked(self.limit.get(), self.window, burst)
    }

    /// How many requests in a [`window`](Self::window), in the long run.
    pub const fn limit(self) -> u32 {
        self.limit.get()
    }

    /// In how much time.
    pub const fn window(self) -> Duration {
        Duration::from_micros(self.window)
    }

    /// How many at once: what an idle caller has.
    pub const fn capacity(self) -> u32 {
        self.burst.get()
    }

    pub(crate) const fn rate(self) -> Rate {
        let common = gcd(self.window, self.limit.get() as u64);
        Rate::new(
            self.limit.get() as u64 / common,
            self.window / common,
            self.burst.get(),
        )
    }

    #[track_caller]
    const fn literal(limit: u32, window: u64) -> Self {
        match Self::checked(limit, window, limit) {
            Ok(quota) => quota,
            Err(error) => panic!("{}", error.message()),
        }
    }

    const fn checked(limit: u32, window: u64, burst: u32) -> Result<Self, InvalidQuota> {
        let (Some(limit), Some(burst)) = (NonZeroU32::new(limit), NonZeroU32::new(burst)) else {
            return Err(InvalidQuota::Zero);
        };
        if window == 0 {
            return Err(InvalidQuota::Window);
        }
        let reduced = window / gcd(window, limit.get() as u64);
        if reduced as u128 * burst.get() as u128 >= 1 << 52 {
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
    /// Writes what [`from_str`](Self::from_str) reads, such as `100/min` or `100/min;b=20`: the name of a policy without one.
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

    /// Reads `100/min`, `100/min burst 20` and `100/min;b=20`. Units are `us`, `ms`, `s`, `min`, `h`, `day` and `year`, with a
    /// number in front if it is not one: `5/10s`.
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

/// Why a [`Quota`] cannot be, and what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvalidQuota {
    /// A limit or a burst of zero.
    Zero,
    /// A window of no time, or not of whole microseconds.
    Window,
    /// More than what is counted exactly.
    Overflow,
    /// A text that is no quota.
    Text,
}

impl InvalidQuota {
    const fn message(self) -> &'static str {
        match self {
            Self::Zero => {
                "a quota of zero lets nothing through: write at least 1 for the limit and the burst, or answer 403 without a limiter"
            }
            Self::Window => {
                "a window is whole microseconds and at least one: write Duration::from_secs(60)"
            }
            Self::Overflow => {
                "this quota is too large to be counted exactly: write a smaller burst or a shorter window, burst times window stays below 142 years"
            }
            Self::Text => {
                "not a quota: write one such as 100/min, 5/10s or 100/min burst 20, with the units us, ms, s, min, h, day and year"
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
    let (unit, micros) = UNITS
        .iter()
        .rev()
        .find(|(_, micros)| window.is_multiple_of(*micros))
        .expect("every window is whole microseconds");
    write!(f, "{}", window / micros)?;
    f.write_str(unit)
}

fn parse(number: &str) -> Result<u32, InvalidQuota> {
    number.trim().parse().ok().ok_or(InvalidQuota::Text)
}

fn parse_window(text: &str) -> Result<u64, InvalidQuota> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    let count: u64 = match count {
        "" => 1,
        _ => count.parse().ok().ok_or(InvalidQuota::Overflow)?,
    };
    let (_, micros) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or(InvalidQuota::Text)?;
    count.checked_mul(*micros).ok_or(InvalidQuota::Overflow)
}

const fn gcd(a: u64, b: u64) -> u64 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
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
            ("4000000007/year", InvalidQuota::Overflow),
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
            Quota::per_year(1).try_burst(u32::MAX),
            Err(InvalidQuota::Overflow)
        );
    }

    #[test]
    #[should_panic(expected = "write at least 1")]
    fn a_literal_of_zero_panics() {
        let _ = Quota::per_second(0);
    }

    proptest! {
        #[test]
        fn any_quota_survives_its_text(limit in 1..10_000_u32, micros in 1..10_000_000_000_u64, burst in 1..100_u32) {
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
