use std::time::{Duration, SystemTime};

use http::{
    HeaderMap,
    header::{AGE, DATE, EXPIRES},
};

use crate::http::{
    cache_control::{Directives, members, seconds},
    date,
};

/// The age of a response when it arrived, and its freshness lifetime (RFC 9111, section 4.2).
///
/// A response is fresh while its age is below its lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Freshness {
    /// On arrival.
    pub(crate) age: Duration,
    pub(crate) lifetime: Duration,
}

impl Freshness {
    /// Reads the freshness that a response states. `None` if it states no lifetime.
    ///
    /// The response arrived at `now`, and its request was sent `delay` earlier.
    pub(crate) fn stated(
        headers: &HeaderMap,
        directives: &Directives,
        now: SystemTime,
        delay: Duration,
    ) -> Option<Self> {
        let lifetime = match directives.s_maxage.or(directives.max_age) {
            Some(seconds) => Duration::from_secs(seconds),
            None => expires(headers, now)?,
        };
        Some(Self {
            age: initial_age(headers, now, delay),
            lifetime,
        })
    }

    /// The freshness of a response that states no lifetime. It gets `lifetime`, which begins at its arrival.
    pub(crate) fn granted(
        headers: &HeaderMap,
        lifetime: Duration,
        now: SystemTime,
        delay: Duration,
    ) -> Self {
        let age = initial_age(headers, now, delay);
        Self {
            age,
            lifetime: age + lifetime,
        }
    }

    /// The freshness of an object. It begins now.
    pub(crate) const fn given(lifetime: Duration) -> Self {
        Self {
            age: Duration::ZERO,
            lifetime,
        }
    }

    /// Returns for how long it is fresh after its arrival.
    pub(crate) fn left(&self) -> Duration {
        self.lifetime.saturating_sub(self.age)
    }
}

/// Computes the age on arrival (section 4.2.3).
///
/// It is the `Age` that the caches before this one state, or zero, plus the time on the way; or the time since `Date` if that
/// is longer.
fn initial_age(headers: &HeaderMap, now: SystemTime, delay: Duration) -> Duration {
    let stated = headers
        .get(AGE)
        .and_then(|line| members(line.as_bytes()).next().and_then(seconds))
        .map_or(Duration::ZERO, Duration::from_secs);
    let apparent = date::read(headers, &DATE, now)
        .and_then(|date| now.duration_since(date).ok())
        .unwrap_or_default();
    (stated + delay).max(apparent)
}

/// Returns the lifetime that `Expires` gives. A value that is not a date is in the past (section 5.3).
fn expires(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    headers.get(EXPIRES)?;
    let date = date::read(headers, &DATE, now).unwrap_or(now);
    let until = date::read(headers, &EXPIRES, now).and_then(|at| at.duration_since(date).ok());
    Some(until.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::header::CACHE_CONTROL;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn stated(lines: &[(&'static str, &str)]) -> Option<(u64, u64)> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let directives = Directives::of(&headers, &CACHE_CONTROL);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        let stated = Freshness::stated(&headers, &directives, now, Duration::ZERO)?;
        Some((stated.age.as_secs(), stated.lifetime.as_secs()))
    }

    fn at(offset: i64) -> String {
        let seconds = NOW.checked_add_signed(offset).unwrap();
        httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn s_maxage_goes_before_max_age_and_max_age_before_expires() {
        let cc = "cache-control";
        assert_eq!(stated(&[]), None);
        assert_eq!(stated(&[(cc, "public")]), None);
        assert_eq!(stated(&[(cc, "max-age=60")]), Some((0, 60)));
        assert_eq!(stated(&[(cc, "max-age=60, s-maxage=5")]), Some((0, 5)));
        assert_eq!(
            stated(&[(cc, "max-age=60"), ("expires", &at(5))]),
            Some((0, 60))
        );
        assert_eq!(stated(&[("expires", &at(5))]), Some((0, 5)));
        assert_eq!(
            stated(&[("date", &at(-3)), ("expires", &at(5))]),
            Some((3, 8))
        );
    }

    #[test]
    fn an_expiry_that_is_no_date_has_passed() {
        for odd in ["0", "-1", "soon", ""] {
            assert_eq!(stated(&[("expires", odd)]), Some((0, 0)), "{odd:?}");
        }
        assert_eq!(stated(&[("expires", &at(-9))]), Some((0, 0)));
    }

    #[test]
    fn the_age_on_arrival_counts_against_the_lifetime() {
        let cc = ("cache-control", "max-age=60");
        assert_eq!(stated(&[cc, ("age", "20")]), Some((20, 60)));
        assert_eq!(stated(&[cc, ("age", "20, 50")]), Some((20, 60)));
        assert_eq!(stated(&[cc, ("age", "never")]), Some((0, 60)));
        assert_eq!(
            stated(&[cc, ("date", &at(-30)), ("age", "20")]),
            Some((30, 60))
        );
        // A clock that is ahead of ours says nothing about age.
        assert_eq!(stated(&[cc, ("date", &at(3_600))]), Some((0, 60)));
    }

    #[test]
    fn dates_are_read_in_every_form_and_case() {
        for expires in [
            "Fri, 15 Jan 2027 08:00:05 GMT",
            "FRI, 15 JAN 2027 08:00:05 gmt",
            "Friday, 15-Jan-27 08:00:05 GMT",
            "Fri Jan 15 08:00:05 2027",
        ] {
            assert_eq!(stated(&[("expires", expires)]), Some((0, 5)), "{expires}");
        }
    }

    #[test]
    fn the_time_on_the_way_adds_to_the_age() {
        let mut headers = HeaderMap::new();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        let age = |headers: &HeaderMap| {
            let max_age = Directives {
                max_age: Some(60),
                ..Directives::default()
            };
            let delay = Duration::from_secs(5);
            let stated = Freshness::stated(headers, &max_age, now, delay).unwrap();
            stated.age.as_secs()
        };
        assert_eq!(age(&headers), 5, "it was made when its request was sent");
        headers.insert(AGE, "20".parse().unwrap());
        assert_eq!(age(&headers), 25);
        headers.insert(DATE, at(-30).parse().unwrap());
        assert_eq!(age(&headers), 30);
    }

    #[test]
    fn a_granted_lifetime_begins_at_the_arrival() {
        let mut headers = HeaderMap::new();
        headers.insert(AGE, "20".parse().unwrap());
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        let (lifetime, delay) = (Duration::from_secs(60), Duration::from_secs(5));
        let granted = Freshness::granted(&headers, lifetime, now, delay);
        assert_eq!(granted.age, Duration::from_secs(25));
        assert_eq!(granted.left(), lifetime);
    }

    #[test]
    fn the_lifetime_left_is_that_without_the_age() {
        let left = |age, lifetime| {
            let (age, lifetime) = (Duration::from_secs(age), Duration::from_secs(lifetime));
            Freshness { age, lifetime }.left().as_secs()
        };
        assert_eq!((left(10, 60), left(60, 60), left(61, 60)), (50, 0, 0));
        assert_eq!(Freshness::given(Duration::from_secs(7)).left().as_secs(), 7);
    }
}
