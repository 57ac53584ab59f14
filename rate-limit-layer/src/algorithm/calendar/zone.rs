//! The edges of days and months in a time zone, by the crate `jiff`.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};

use super::{Calendar, Windows};

/// The length of a calendar window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Period {
    Day,
    Month,
}

impl Period {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// Reads a period as a quota's text has it.
    pub(crate) fn of(text: &str) -> Option<Self> {
        [Self::Day, Self::Month]
            .into_iter()
            .find(|period| period.as_str() == text)
    }

    /// Returns a time that is shorter than any day or month, also where clocks are set: in microseconds.
    pub(crate) const fn shortest(self) -> u64 {
        match self {
            Self::Day => 12 * HOUR,
            Self::Month => 27 * 24 * HOUR,
        }
    }

    /// Returns the first day of the window that a date lies in.
    fn first(self, date: Date) -> Date {
        match self {
            Self::Day => date,
            Self::Month => date.first_of_month(),
        }
    }

    /// Returns the first day of a window that is so many later.
    fn later(self, first: Date, windows: i64) -> Option<Date> {
        let span = match self {
            Self::Day => windows.days(),
            Self::Month => windows.months(),
        };
        first.checked_add(span).ok()
    }
}

/// Returns the windows of a period in a time zone. `None`: there is no such zone.
pub(crate) fn calendar(period: Period, zone: &str) -> Option<Calendar> {
    let zone = TimeZone::get(zone).ok()?;
    // As the database spells it, so that one zone has one text.
    let text = format!("{} {}", period.as_str(), zone.iana_name()?);
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    let windows = |text| Windows {
        text,
        // A time that no calendar has lies in no window: the store then says so.
        edges: Box::new(move |now| edges(period, &zone, now).unwrap_or_default()),
        last: Mutex::default(),
    };
    let known = all.entry(text.clone());
    Some(*known.or_insert_with(|| Calendar(Box::leak(Box::new(windows(text))))))
}

/// Returns the edges of the window before the one of `now`, of that one, and of the one after.
fn edges(period: Period, zone: &TimeZone, now: u64) -> Option<[u64; 4]> {
    let now = Timestamp::from_microsecond(i64::try_from(now).ok()?).ok()?;
    let first = period.first(zone.to_datetime(now).date());
    let mut edges = [0; 4];
    for (edge, windows) in edges.iter_mut().zip(-1..) {
        // The first instant of that day. Where midnight is skipped, as clocks are set forward then, it is the instant after the gap;
        // where it comes twice, it is the first.
        let start = period
            .later(first, windows)?
            .to_zoned_datetime(zone.clone())
            .ok()?;
        let micros = start.start_of_day().ok()?.timestamp().as_microsecond();
        *edge = u64::try_from(micros).unwrap_or(0);
    }
    Some(edges)
}

/// All handles. Each names a time zone that there is, so they are few.
static ALL: Mutex<BTreeMap<String, Calendar>> = Mutex::new(BTreeMap::new());
/// In microseconds.
const HOUR: u64 = 3_600_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// The edges around a time, as civil times of the zone, and the hours of the window in the middle.
    fn around(period: Period, zone: &str, time: &str) -> ([String; 4], u64) {
        let time: Timestamp = time.parse().unwrap();
        let now = time.as_microsecond() as u64;
        let edges = calendar(period, zone).unwrap().edges(now);
        assert!(edges[1] <= now && now < edges[2]);
        let zone = TimeZone::get(zone).unwrap();
        let civil = |edge: u64| {
            let time = Timestamp::from_microsecond(edge as i64).unwrap();
            zone.to_datetime(time)
                .strftime("%Y-%m-%d %H:%M")
                .to_string()
        };
        (edges.map(civil), (edges[2] - edges[1]) / HOUR)
    }

    #[test]
    fn a_day_is_as_long_as_the_clocks_of_its_zone_make_it() {
        for (zone, time, edges, hours) in [
            // Set forward, then back, at 01:00 UTC.
            (
                "Europe/Berlin",
                "2026-03-29T12:00:00Z",
                [
                    "2026-03-28 00:00",
                    "2026-03-29 00:00",
                    "2026-03-30 00:00",
                    "2026-03-31 00:00",
                ],
                23,
            ),
            (
                "Europe/Berlin",
                "2026-10-24T22:00:00Z",
                [
                    "2026-10-24 00:00",
                    "2026-10-25 00:00",
                    "2026-10-26 00:00",
                    "2026-10-27 00:00",
                ],
                25,
            ),
            (
                "Europe/Berlin",
                "2026-10-25T22:59:59.999999Z",
                [
                    "2026-10-24 00:00",
                    "2026-10-25 00:00",
                    "2026-10-26 00:00",
                    "2026-10-27 00:00",
                ],
                25,
            ),
            (
                "Europe/Berlin",
                "2026-12-31T23:00:00Z",
                [
                    "2026-12-31 00:00",
                    "2027-01-01 00:00",
                    "2027-01-02 00:00",
                    "2027-01-03 00:00",
                ],
                24,
            ),
            // Midnight is skipped: the day begins at 1.
            (
                "Africa/Cairo",
                "2026-04-24T12:00:00Z",
                [
                    "2026-04-23 00:00",
                    "2026-04-24 01:00",
                    "2026-04-25 00:00",
                    "2026-04-26 00:00",
                ],
                23,
            ),
            // Half an hour, and no daylight saving.
            (
                "Asia/Kolkata",
                "2026-01-01T18:29:59Z",
                [
                    "2025-12-31 00:00",
                    "2026-01-01 00:00",
                    "2026-01-02 00:00",
                    "2026-01-03 00:00",
                ],
                24,
            ),
        ] {
            let expected = (edges.map(str::to_owned), hours);
            assert_eq!(around(Period::Day, zone, time), expected, "{zone} {time}");
        }
    }

    #[test]
    fn a_month_ends_with_its_last_day() {
        for (time, edges, hours) in [
            (
                "2026-02-28T22:59:59Z",
                [
                    "2026-01-01 00:00",
                    "2026-02-01 00:00",
                    "2026-03-01 00:00",
                    "2026-04-01 00:00",
                ],
                28 * 24,
            ),
            // The clocks are set forward, and back.
            (
                "2026-02-28T23:00:00Z",
                [
                    "2026-02-01 00:00",
                    "2026-03-01 00:00",
                    "2026-04-01 00:00",
                    "2026-05-01 00:00",
                ],
                31 * 24 - 1,
            ),
            (
                "2026-10-31T12:00:00Z",
                [
                    "2026-09-01 00:00",
                    "2026-10-01 00:00",
                    "2026-11-01 00:00",
                    "2026-12-01 00:00",
                ],
                31 * 24 + 1,
            ),
            (
                "2028-02-29T12:00:00Z",
                [
                    "2028-01-01 00:00",
                    "2028-02-01 00:00",
                    "2028-03-01 00:00",
                    "2028-04-01 00:00",
                ],
                29 * 24,
            ),
        ] {
            let expected = (edges.map(str::to_owned), hours);
            assert_eq!(
                around(Period::Month, "Europe/Berlin", time),
                expected,
                "{time}"
            );
        }
    }

    #[test]
    fn one_zone_has_one_text_however_it_is_spelled() {
        let of = |zone| calendar(Period::Day, zone);
        assert_eq!(of("europe/berlin"), of("Europe/Berlin"));
        assert_ne!(of("Europe/Berlin"), of("Europe/Paris"));
        assert_ne!(
            of("Europe/Berlin"),
            calendar(Period::Month, "Europe/Berlin")
        );
        assert_eq!(
            of("Europe/berlin").unwrap().to_string(),
            "day Europe/Berlin"
        );
        assert_eq!(of("UTC").unwrap().to_string(), "day UTC");
        for none in [
            "",
            "Europe/Atlantis",
            "+02:00",
            "../etc/passwd",
            "Europe/Berlin ",
        ] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }

    /// Each window follows the one before, and is longer than the shortest: every hour of 30 years in zones that set their clocks.
    #[test]
    fn windows_follow_each_other_without_a_gap() {
        for zone in [
            "Europe/Berlin",
            "America/Sao_Paulo",
            "Asia/Beirut",
            "Australia/Lord_Howe",
            "Pacific/Apia",
            "UTC",
        ] {
            for period in [Period::Day, Period::Month] {
                let calendar = calendar(period, zone).unwrap();
                // 2012: in 2011 Apia skipped a whole day.
                let mut now = 1_325_376_000_000_000_u64;
                while now < 2_272_147_200_000_000 {
                    let [before, start, end, next] = calendar.edges(now);
                    assert!(start <= now && now < end, "{zone} {now}");
                    for (start, end) in [(before, start), (start, end), (end, next)] {
                        assert!(end - start > period.shortest(), "{zone} {now}");
                    }
                    assert_eq!(calendar.edges(end)[..3], [start, end, next], "{zone} {now}");
                    now = end + (next - end) / 3;
                }
            }
        }
    }

    #[test]
    fn a_time_beyond_the_calendar_lies_in_no_window() {
        let calendar = calendar(Period::Day, "UTC").unwrap();
        assert_eq!(calendar.edges(u64::MAX), [0; 4]);
        assert_eq!(calendar.edges(5), [0, 0, 86_400_000_000, 172_800_000_000]);
    }
}
