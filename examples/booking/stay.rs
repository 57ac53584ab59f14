use std::{fmt, iter};

use crate::problem::Problem;

/// The days of a booking, with its first and its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stay {
    from: Day,
    to: Day,
}

/// A day of the Gregorian calendar, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Day(i64);

impl Stay {
    /// Reads two dates.
    ///
    /// # Errors
    ///
    /// Returns a problem if they are no dates, in the wrong order, or more than 60 days apart.
    pub(crate) fn parse(from: &str, to: &str) -> Result<Self, Problem> {
        let (Some(from), Some(to)) = (Day::parse(from), Day::parse(to)) else {
            return Err(Problem::bad_request(
                "write dates as year-month-day, such as \"from\": \"2026-12-01\", \"to\": \"2026-12-05\"",
            ));
        };
        match to.0 - from.0 + 1 {
            1..=MAX_DAYS => Ok(Self { from, to }),
            ..1 => Err(Problem::bad_request(
                "\"to\" is before \"from\": write the first day and then the last",
            )),
            _ => Err(Problem::bad_request(
                "a booking has at most 60 days: write an earlier \"to\", or book twice",
            )),
        }
    }

    pub(crate) fn from(self) -> String {
        self.from.to_string()
    }

    pub(crate) fn to(self) -> String {
        self.to.to_string()
    }

    /// Returns each day as a date.
    pub(crate) fn days(self) -> impl Iterator<Item = String> {
        let days = iter::successors(Some(self.from), |day| Some(Day(day.0 + 1)));
        days.take_while(move |day| *day <= self.to)
            .map(|day| day.to_string())
    }
}

impl Day {
    /// Reads a date in the form `2026-12-01`.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '-').map(|part| part.parse().ok());
        let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
        let day = Self::of_date(year, month, day)?;
        // A day that does not exist, such as 2026-02-30, is written as another one.
        (day.to_string() == text).then_some(day)
    }

    /// Counts years from March, so that the leap day comes last.
    fn of_date(year: i64, month: i64, day: i64) -> Option<Self> {
        if !((1..=9_999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day)) {
            return None;
        }
        let (year, month) = match month {
            ..3 => (year - 1, month + 9),
            _ => (year, month - 3),
        };
        let days_before = (153 * month + 2) / 5;
        let leap_days = year / 4 - year / 100 + year / 400;
        Some(Self(365 * year + leap_days + days_before + day - 1 - EPOCH))
    }

    fn date(self) -> (i64, i64, i64) {
        let days = self.0 + EPOCH;
        let (era, of_era) = (days.div_euclid(ERA), days.rem_euclid(ERA));
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let year = era * 400 + year;
        match month {
            10.. => (year + 1, month - 9, day),
            _ => (year, month + 3, day),
        }
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.date();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// Below the 64 units that one lock can have.
const MAX_DAYS: i64 = 60;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH: i64 = 719_468;
/// Days of 400 years.
const ERA: i64 = 146_097;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_the_calendar_is_read_as_it_is_written() {
        assert_eq!(Day::parse("1970-01-01"), Some(Day(0)));
        assert_eq!(Day::parse("2026-12-01"), Some(Day(20_788)));
        for (first, last) in [
            ("0001-01-01", "0004-03-01"),
            ("1899-12-31", "2400-03-01"),
            ("9999-01-01", "9999-12-31"),
        ] {
            let (first, last) = (Day::parse(first).unwrap(), Day::parse(last).unwrap());
            let mut before = String::new();
            for day in first.0..=last.0 {
                let text = Day(day).to_string();
                assert_eq!(Day::parse(&text), Some(Day(day)), "{text}");
                assert!(text > before, "{before} {text}");
                before = text;
            }
        }
    }

    #[test]
    fn a_stay_has_each_of_its_days() {
        let stay = Stay::parse("2028-02-28", "2028-03-01").unwrap();
        let days: Vec<_> = stay.days().collect();
        assert_eq!(days, ["2028-02-28", "2028-02-29", "2028-03-01"]);
        let day = Stay::parse("2026-12-01", "2026-12-01").unwrap();
        assert_eq!(day.days().count(), 1);
        let longest = Stay::parse("2026-12-01", "2027-01-29").unwrap();
        assert_eq!(longest.days().count(), 60);
    }

    #[test]
    fn what_is_no_stay_is_refused() {
        for (from, to) in [
            ("2026-12-05", "2026-12-01"),
            ("2026-12-01", "2027-01-30"),
            ("2026-02-30", "2026-03-01"),
            ("2026-13-01", "2026-13-02"),
            ("2026-12-1", "2026-12-02"),
            ("+2026-12-01", "2026-12-02"),
            ("2026-12-01T00", "2026-12-02"),
            ("0000-12-01", "0000-12-02"),
            ("10000-12-01", "10000-12-02"),
            ("tomorrow", ""),
        ] {
            assert!(Stay::parse(from, to).is_err(), "{from} {to}");
        }
    }
}
