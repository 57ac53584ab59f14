//! Quotas of a calendar's days and months (feature `calendar`).

use crate::{
    InvalidQuota, Quota,
    algorithm::calendar::zone::{Period, calendar},
};

impl Quota {
    /// Makes a quota of `limit` requests in each day of a time zone, from midnight to midnight.
    ///
    /// For what is sold or told by the day: "1,000 a day, and anew at midnight". A [fixed window](crate::Algorithm::FixedWindow) whose
    /// edges are the zone's midnights: a day on which clocks are set has 23 or 25 hours, and one without a midnight begins at its
    /// first instant. `zone` is a name of the IANA database, such as `Europe/Berlin` or `UTC`.
    ///
    /// ```
    /// use rate_limit_layer::Quota;
    ///
    /// let quota = Quota::per_calendar_day(1_000, "Europe/Berlin");
    /// assert_eq!(quota.to_string(), "1000/day Europe/Berlin");
    /// assert_eq!("1000/day Europe/Berlin".parse(), Ok(quota));
    /// ```
    ///
    /// # Clocks
    ///
    /// This process computes the edges of three windows around its own time. The store's clock decides which of them it is, so clocks may
    /// differ by a day. If they differ by more, the limit cannot be checked: the failure mode decides, with a warning.
    ///
    /// # Panics
    ///
    /// As [`try_per_calendar_day`](Self::try_per_calendar_day) returns an error.
    #[track_caller]
    pub fn per_calendar_day(limit: u64, zone: &str) -> Self {
        expect(Self::try_per_calendar_day(limit, zone))
    }

    /// Makes a quota of `limit` requests in each month of a time zone, from the midnight of its first day on.
    ///
    /// As [`per_calendar_day`](Self::per_calendar_day).
    ///
    /// ```
    /// use rate_limit_layer::Quota;
    ///
    /// // 10 GiB a month, of requests that cost their bytes.
    /// let quota = Quota::per_calendar_month(10 << 30, "America/New_York");
    /// assert_eq!(quota.to_string(), "10737418240/month America/New_York");
    /// ```
    ///
    /// # Panics
    ///
    /// As [`try_per_calendar_day`](Self::try_per_calendar_day) returns an error.
    #[track_caller]
    pub fn per_calendar_month(limit: u64, zone: &str) -> Self {
        expect(Self::try_per_calendar_month(limit, zone))
    }

    /// As [`per_calendar_day`](Self::per_calendar_day), for a zone that is read and not written.
    ///
    /// # Errors
    ///
    /// - A limit of zero, or above 2^40.
    /// - A zone that neither the system's database nor that of this program has.
    pub fn try_per_calendar_day(limit: u64, zone: &str) -> Result<Self, InvalidQuota> {
        of(limit, Period::Day, zone)
    }

    /// As [`per_calendar_month`](Self::per_calendar_month), for a zone that is read and not written.
    ///
    /// # Errors
    ///
    /// As [`try_per_calendar_day`](Self::try_per_calendar_day).
    pub fn try_per_calendar_month(limit: u64, zone: &str) -> Result<Self, InvalidQuota> {
        of(limit, Period::Month, zone)
    }
}

/// Makes the quota of a text such as `day Europe/Berlin`. `None`: it is not of this form.
pub(super) fn read(limit: u64, text: &str) -> Option<Result<Quota, InvalidQuota>> {
    let (period, zone) = text.split_once(' ')?;
    Some(of(limit, Period::of(period)?, zone))
}

fn of(limit: u64, period: Period, zone: &str) -> Result<Quota, InvalidQuota> {
    let calendar = calendar(period, zone).ok_or(InvalidQuota::Zone)?;
    Quota::of_calendar(limit, calendar, period.shortest())
}

#[track_caller]
fn expect(quota: Result<Quota, InvalidQuota>) -> Quota {
    match quota {
        Ok(quota) => quota,
        Err(error) => panic!("{error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Algorithm;

    #[test]
    fn texts_are_read_and_written() {
        for (text, quota) in [
            ("5/day UTC", Quota::per_calendar_day(5, "UTC")),
            (
                "5/month America/Argentina/Buenos_Aires",
                Quota::per_calendar_month(5, "America/Argentina/Buenos_Aires"),
            ),
        ] {
            assert_eq!(quota.to_string(), text);
            assert_eq!(text.parse(), Ok(quota));
            assert_eq!(quota.algorithm(), Algorithm::CalendarWindow);
            assert_eq!(quota.capacity(), 5);
        }
        assert_ne!(
            Quota::per_calendar_day(5, "UTC"),
            Quota::per_day(5).fixed_window()
        );
    }

    #[test]
    fn impossible_quotas_say_what_to_write() {
        for (text, error) in [
            ("5/day Europe/Atlantis", InvalidQuota::Zone),
            ("0/day UTC", InvalidQuota::Zero),
            ("1099511627777/day UTC", InvalidQuota::Count),
            ("5/week UTC", InvalidQuota::Text),
            ("5/day UTC;b=2", InvalidQuota::Burst),
            ("5/day UTC sliding", InvalidQuota::Calendar),
        ] {
            assert_eq!(text.parse::<Quota>(), Err(error), "{text:?}");
            assert!(error.to_string().contains("write"));
        }
        let day = Quota::per_calendar_day(5, "UTC");
        assert_eq!(day.try_burst(2), Err(InvalidQuota::Burst));
        assert_eq!(
            day.try_algorithm(Algorithm::Gcra),
            Err(InvalidQuota::Calendar)
        );
        assert_eq!(day.try_algorithm(Algorithm::CalendarWindow), Ok(day));
        let other = Quota::per_day(5).try_algorithm(Algorithm::CalendarWindow);
        assert_eq!(other, Err(InvalidQuota::Calendar));
    }

    #[test]
    #[should_panic(expected = "write a name of the IANA database")]
    fn a_zone_that_there_is_not_panics() {
        let _ = Quota::per_calendar_month(5, "Europe/Atlantis");
    }
}
