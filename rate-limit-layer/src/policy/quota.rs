use std::{error::Error, fmt, num::NonZeroU64, str::FromStr, time::Duration};

use crate::algorithm::{
    Algorithm,
    calendar::Calendar,
    exact_log::MAX_LOG,
    gcra::Rate,
    window_count::{MAX_COUNT, MAX_WINDOW},
};

/// A number of requests per window of time, and how many of them may come at once.
///
/// `per_minute(100).burst(20)`: 20 at once, then one every 0.6 s. Without [`burst`](Self::burst), all 100 may come at once.
///
/// GCRA enforces it exactly: in any interval of length `t` at most `burst + limit * t / window` requests pass. So an idle
/// caller can send more than the limit in its first window: of `per_hour(20)` 20 at once and 19 more before the hour is over,
/// 39 in all. For at most 20 in every hour write [`exact(20, ..)`](Self::exact), which keeps 20 times, or `per_hour(10).burst(10)`, which
/// keeps one: burst and limit add up to 20.
///
/// GCRA is the default. [`sliding_window`](Self::sliding_window), [`fixed_window`](Self::fixed_window) and [`exact`](Self::exact)
/// choose another [`Algorithm`]; the [crate docs](crate#algorithms) compare them.
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
    algorithm: Algorithm,
    /// The windows, if they are a calendar's.
    calendar: Option<Calendar>,
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

    /// Makes a quota of at most `limit` requests in any span of time that is shorter than `window`: an [exact log](Algorithm::ExactLog).
    ///
    /// For what must never be more, such as messages that cost money. The store keeps 16 bytes for each request of the last window, and
    /// each check reads and writes them.
    ///
    /// ```
    /// use std::time::Duration;
    /// use rate_limit_layer::{Limiter, Quota, store::{Clock, MemoryStore}};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let (clock, time) = Clock::manual(1_767_225_600_000_000);
    /// let store = MemoryStore::with_clock(1_000, clock);
    /// let sms = Limiter::new(store, Quota::exact(2, Duration::from_secs(3_600)).fail_closed());
    /// assert!(sms.check("+442079460000").await.is_admitted());
    /// time.advance(Duration::from_secs(3_000));
    /// assert!(sms.check("+442079460000").await.is_admitted());
    /// // The first leaves the last hour after 600 s, and not before.
    /// assert!(!sms.check("+442079460000").await.is_admitted());
    /// time.advance(Duration::from_secs(600));
    /// assert!(sms.check("+442079460000").await.is_admitted());
    /// assert!(!sms.check("+442079460000").await.is_admitted());
    /// # });
    /// ```
    ///
    /// # Panics
    ///
    /// If `limit` is zero or above 1,000, or if `window` is zero, not of whole microseconds, or longer than 17 years (2^49 microseconds).
    /// In a `const` that is a compile error.
    #[track_caller]
    pub const fn exact(limit: u64, window: Duration) -> Self {
        match Self::try_new(limit, window) {
            Ok(quota) => quota.enforced_by(Algorithm::ExactLog),
            Err(error) => panic!("{}", error.message()),
        }
    }

    /// Counts in windows, of which the one before fades out: the [sliding-window counter](Algorithm::SlidingWindow).
    ///
    /// For a limit that other services enforce in this way, such as `@upstash/ratelimit`, or whose users expect no more than the limit in
    /// a window of the clock. [`Algorithm`] tells what passes. The windows begin at multiples of their length from 1970 on.
    ///
    /// ```
    /// use rate_limit_layer::Quota;
    ///
    /// let quota = Quota::per_minute(100).sliding_window();
    /// assert_eq!(quota.to_string(), "100/min sliding");
    /// ```
    ///
    /// # Panics
    ///
    /// If a burst was set, if the limit is above 2^40, or the window longer than 17 years (2^49 microseconds).
    #[must_use]
    #[track_caller]
    pub const fn sliding_window(self) -> Self {
        self.enforced_by(Algorithm::SlidingWindow)
    }

    /// Counts in windows that begin at multiples of their length from 1970 on: the [fixed window](Algorithm::FixedWindow).
    ///
    /// For a limit that is told as "100 in each minute of the clock". Of 100 a minute 200 may pass within a second, around the edge
    /// between two minutes.
    ///
    /// ```
    /// use rate_limit_layer::Quota;
    ///
    /// assert_eq!("100/min fixed".parse(), Ok(Quota::per_minute(100).fixed_window()));
    /// ```
    ///
    /// On Redis it is one script: a `GET`, the decision, and a `SET` with its time to live. A plain `INCRBY` would be a command less, but
    /// counts what it refuses, so a caller that goes on would stay locked out; and `INCREX`, which does not, is not in Redis 7.
    ///
    /// # Panics
    ///
    /// As [`sliding_window`](Self::sliding_window) does.
    #[must_use]
    #[track_caller]
    pub const fn fixed_window(self) -> Self {
        self.enforced_by(Algorithm::FixedWindow)
    }

    /// Sets the algorithm, for one that is read and not written. Default: [`Algorithm::Gcra`].
    ///
    /// # Errors
    ///
    /// - A burst, which only GCRA has.
    /// - A limit above 1,000 for [`Algorithm::ExactLog`], or above 2^40 for the others.
    /// - A window longer than 17 years (2^49 microseconds).
    /// - [`Algorithm::CalendarWindow`] without a calendar, or another algorithm with one.
    pub const fn try_algorithm(self, algorithm: Algorithm) -> Result<Self, InvalidQuota> {
        if self.calendar.is_some() != matches!(algorithm, Algorithm::CalendarWindow) {
            return Err(InvalidQuota::Calendar);
        }
        let is_log = matches!(algorithm, Algorithm::ExactLog);
        if !matches!(algorithm, Algorithm::Gcra) {
            if self.burst.get() != self.limit.get() {
                return Err(InvalidQuota::Burst);
            }
            if is_log && self.limit.get() > MAX_LOG {
                return Err(InvalidQuota::Log);
            }
            if self.limit.get() > MAX_COUNT || self.window > MAX_WINDOW {
                return Err(InvalidQuota::Count);
            }
        }
        Ok(Self { algorithm, ..self })
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
    /// - A burst of zero, or one that takes 142 years or more to be earned, as one of 143 would at `per_year(1)`.
    /// - A burst other than the limit for another algorithm than GCRA.
    pub const fn try_burst(self, burst: u64) -> Result<Self, InvalidQuota> {
        match Self::checked(self.limit.get(), self.window, burst) {
            Ok(quota) => Self {
                calendar: self.calendar,
                ..quota
            }
            .try_algorithm(self.algorithm),
            Err(error) => Err(error),
        }
    }

    /// Returns how it is enforced.
    pub const fn algorithm(self) -> Algorithm {
        self.algorithm
    }

    /// Returns how many requests pass in a [`window`](Self::window) in the long run.
    pub const fn limit(self) -> u64 {
        self.limit.get()
    }

    /// Returns the time in which the whole limit is earned: the window. For a calendar's windows the shortest that there may be: 12 hours
    /// for days, 27 days for months.
    pub const fn window(self) -> Duration {
        Duration::from_micros(self.window)
    }

    /// Returns how many requests may come at once: the burst, which for all algorithms but GCRA is the limit.
    pub const fn capacity(self) -> u64 {
        self.burst.get()
    }

    /// Returns GCRA's rate. For another algorithm one that never refuses what the algorithm admits: see its bound.
    pub(crate) const fn rate(self) -> Rate {
        let (limit, burst) = (self.limit.get(), self.burst.get());
        let burst = match self.algorithm {
            Algorithm::Gcra | Algorithm::ExactLog => burst,
            Algorithm::SlidingWindow | Algorithm::FixedWindow | Algorithm::CalendarWindow => {
                2 * limit
            }
        };
        let rate = Rate::new(limit, self.window, burst);
        rate.expect("a quota was checked to have a rate")
    }

    /// Makes a quota of `limit` requests in each window of a calendar, none of which is as short as `shortest`.
    #[cfg(feature = "calendar")]
    pub(crate) const fn of_calendar(
        limit: u64,
        calendar: Calendar,
        shortest: u64,
    ) -> Result<Self, InvalidQuota> {
        match Self::checked(limit, shortest, limit) {
            Ok(quota) => Self {
                calendar: Some(calendar),
                ..quota
            }
            .try_algorithm(Algorithm::CalendarWindow),
            Err(error) => Err(error),
        }
    }

    /// Returns the calendar whose windows it counts in.
    pub(crate) const fn calendar(self) -> Option<Calendar> {
        self.calendar
    }

    /// Returns the microseconds in which the [`capacity`](Self::capacity) is earned. Zero: that differs from window to window.
    pub(crate) const fn earned_in(self) -> u64 {
        match self.algorithm {
            Algorithm::Gcra => self.rate().full().ceil_micros(),
            Algorithm::CalendarWindow => 0,
            _ => self.window,
        }
    }

    #[track_caller]
    const fn enforced_by(self, algorithm: Algorithm) -> Self {
        match self.try_algorithm(algorithm) {
            Ok(quota) => quota,
            Err(error) => panic!("{}", error.message()),
        }
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
            algorithm: Algorithm::Gcra,
            calendar: None,
        })
    }
}

impl fmt::Display for Quota {
    /// Writes the text that [`from_str`](Self::from_str) reads, such as `100/min`, `100/min;b=20` or `100/min sliding`. It is the default
    /// name of a policy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.limit)?;
        if let Some(calendar) = self.calendar {
            return calendar.fmt(f);
        }
        match UNITS.iter().find(|(_, micros)| *micros == self.window) {
            Some((unit, _)) => f.write_str(unit)?,
            None => write_window(f, self.window)?,
        }
        if self.burst != self.limit {
            write!(f, ";b={}", self.burst)?;
        }
        match ALGORITHMS
            .iter()
            .find(|(_, algorithm)| *algorithm == self.algorithm)
        {
            Some((name, _)) => write!(f, " {name}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Quota {
    type Err = InvalidQuota;

    /// Reads a text such as `100/min`, `100/min burst 20`, `100/min;b=20`, `100/min sliding`, `100/min fixed` or `20/h exact`.
    ///
    /// The units are `us`, `ms`, `s`, `min`, `h`, `day` and `year`. A number in front makes another window: `5/10s`.
    fn from_str(text: &str) -> Result<Self, InvalidQuota> {
        let algorithm = ALGORITHMS.iter().find_map(|(name, algorithm)| {
            let rate = text.strip_suffix(name)?.strip_suffix(' ')?;
            Some((rate, *algorithm))
        });
        let (text, algorithm) = algorithm.unwrap_or((text, Algorithm::Gcra));
        let (rate, burst) = match text.split_once(";b=").or(text.split_once(" burst ")) {
            Some((rate, burst)) => (rate, Some(burst)),
            None => (text, None),
        };
        let (limit, window) = rate.split_once('/').ok_or(InvalidQuota::Text)?;
        let limit = parse(limit)?;
        let quota = match of_calendar(limit, window) {
            Some(quota) => quota?,
            None => Self::checked(limit, parse_window(window.trim())?, limit)?,
        };
        let quota = match burst {
            Some(burst) => quota.try_burst(parse(burst)?)?,
            None => quota,
        };
        match (quota.calendar, algorithm) {
            (Some(_), Algorithm::Gcra) => Ok(quota),
            _ => quota.try_algorithm(algorithm),
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
    /// A burst other than the limit, for another algorithm than GCRA.
    Burst,
    /// The limit of an exact log is above 1,000.
    Log,
    /// The limit or the window is too large for an algorithm that counts in windows.
    Count,
    /// There is no such time zone.
    Zone,
    /// A calendar's windows have an algorithm of their own, which no other quota has.
    Calendar,
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
            Self::Burst => {
                "only GCRA has a burst: write the quota without a burst, or without another algorithm"
            }
            Self::Log => {
                "an exact log keeps a time for each request: write a limit of at most 1000, or another algorithm"
            }
            Self::Count => {
                "windows are at most 17 years and count to 1099511627776: write a smaller limit or a shorter window, or no algorithm, which is GCRA"
            }
            Self::Zone => {
                "no such time zone: write a name of the IANA database, such as Europe/Berlin or UTC"
            }
            Self::Calendar => {
                "days and months of a calendar have an algorithm of their own: write Quota::per_calendar_day(1000, \"Europe/Berlin\") and no other"
            }
            Self::Text => {
                "not a quota: write one such as 100/min, 5/10s, 100/min burst 20, 100/min sliding, 100/min fixed or 20/h exact; the units are us, ms, s, min, h, day and year"
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

#[cfg(feature = "calendar")]
use super::calendar::read as of_calendar;

/// Without the feature there are no calendars.
#[cfg(not(feature = "calendar"))]
const fn of_calendar(_: u64, _: &str) -> Option<Result<Quota, InvalidQuota>> {
    None
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
/// The algorithms that a text names.
const ALGORITHMS: [(&str, Algorithm); 3] = [
    ("sliding", Algorithm::SlidingWindow),
    ("fixed", Algorithm::FixedWindow),
    ("exact", Algorithm::ExactLog),
];
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
            ("100/min sliding", Quota::per_minute(100).sliding_window()),
            ("5000/day fixed", Quota::per_day(5_000).fixed_window()),
            ("20/h exact", Quota::exact(20, Duration::from_secs(3_600))),
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
            ("5/s leaking", InvalidQuota::Text),
            ("5/ssliding", InvalidQuota::Text),
            ("sliding", InvalidQuota::Text),
            ("5/s;b=2 sliding", InvalidQuota::Burst),
            ("1001/h exact", InvalidQuota::Log),
            ("1099511627777/h fixed", InvalidQuota::Count),
            ("5/18year sliding", InvalidQuota::Count),
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
    fn only_gcra_has_a_burst() {
        let quota = Quota::per_minute(5);
        assert_eq!(
            quota.burst(9).try_algorithm(Algorithm::FixedWindow),
            Err(InvalidQuota::Burst)
        );
        assert_eq!(
            quota.sliding_window().try_burst(9),
            Err(InvalidQuota::Burst)
        );
        assert_eq!(
            quota.sliding_window().try_burst(5),
            Ok(quota.sliding_window())
        );
        assert_eq!(
            quota.fixed_window().try_algorithm(Algorithm::Gcra),
            Ok(quota)
        );
        assert_eq!(quota.fixed_window().capacity(), 5);
    }

    #[test]
    #[should_panic(expected = "a limit of at most 1000")]
    fn a_log_of_more_than_1000_times_panics() {
        let _ = Quota::exact(1_001, Duration::from_secs(60));
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
            for (_, algorithm) in ALGORITHMS {
                let quota = Quota::checked(limit % 1_000 + 1, micros % MAX_WINDOW + 1, limit % 1_000 + 1).unwrap();
                let quota = quota.try_algorithm(algorithm).unwrap();
                prop_assert_eq!(quota.to_string().parse(), Ok(quota));
            }
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Quota>();
        }
    }
}
