use std::time::{Duration, SystemTime};

use http::{
    HeaderMap,
    header::{AGE, DATE, EXPIRES},
};

use crate::http::cache_control::{Directives, members, seconds};

/// The age of a response when it arrived, and its freshness lifetime (RFC 9111, section 4.2).
///
/// A response is fresh while its age is below its lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Freshness {
    /// On arrival.
    pub(crate) age: Duration,
    pub(crate) lifetime: Duration,
}

/// The use that one request may make of a stored response (RFC 9111, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// It is fresh, and stays fresh for this long.
    Serve(Duration),
    /// It is stale.
    Stale,
    /// It is fresh, but the request asks for a fresher one.
    Refetch,
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
        let date = date(headers, &DATE);
        let lifetime = match directives.s_maxage.or(directives.max_age) {
            Some(seconds) => Duration::from_secs(seconds),
            None => expires(headers, date.unwrap_or(now))?,
        };
        Some(Self {
            age: initial_age(headers, date, now, delay),
            lifetime,
        })
    }

    /// The freshness of a response, or an object, that gets its lifetime from the settings. It begins now.
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

    /// Decides what one request may do with the response, `resident` after its arrival.
    ///
    /// The `Cache-Control` of the request may ask for more than freshness (section 5.2.1).
    pub(crate) fn decide(&self, resident: Duration, request: &Directives) -> Reuse {
        let age = self.age + resident;
        let left = self.lifetime.saturating_sub(age);
        // Sections 5.2.1.1 to 5.2.1.4.
        let max_age = request.max_age.map(Duration::from_secs);
        let min_left = Duration::from_secs(request.min_fresh.unwrap_or(0));
        if left.is_zero() {
            Reuse::Stale
        } else if request.no_cache || max_age.is_some_and(|max| age >= max) || left < min_left {
            Reuse::Refetch
        } else {
            Reuse::Serve(left)
        }
    }
}

/// Computes the age on arrival (section 4.2.3).
///
/// It is the `Age` that the caches before this one state plus the delay, or the time since `Date` if that is longer.
fn initial_age(
    headers: &HeaderMap,
    date: Option<SystemTime>,
    now: SystemTime,
    delay: Duration,
) -> Duration {
    let stated = headers
        .get(AGE)
        .and_then(|line| members(line.as_bytes()).next().and_then(seconds))
        .map_or(Duration::ZERO, |age| Duration::from_secs(age) + delay);
    let apparent = date
        .and_then(|date| now.duration_since(date).ok())
        .unwrap_or_default();
    stated.max(apparent)
}

/// Returns the lifetime that `Expires` gives. A value that is not a date is in the past (section 5.3).
fn expires(headers: &HeaderMap, date: SystemTime) -> Option<Duration> {
    headers.get(EXPIRES)?;
    let until = self::date(headers, &EXPIRES).and_then(|at| at.duration_since(date).ok());
    Some(until.unwrap_or_default())
}

fn date(headers: &HeaderMap, name: &http::HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
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
    fn decides_by_age_and_by_what_the_client_asks() {
        let stored = Freshness {
            age: Duration::from_secs(10),
            lifetime: Duration::from_secs(60),
        };
        let asks = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, text.parse().unwrap());
            Directives::of(&headers, &CACHE_CONTROL)
        };
        let after = |seconds, text| stored.decide(Duration::from_secs(seconds), &asks(text));
        assert_eq!(after(0, ""), Reuse::Serve(Duration::from_secs(50)));
        assert_eq!(after(49, ""), Reuse::Serve(Duration::from_secs(1)));
        assert_eq!(after(50, ""), Reuse::Stale);
        assert_eq!(after(0, "no-cache"), Reuse::Refetch);
        assert_eq!(after(0, "max-age=0"), Reuse::Refetch);
        assert_eq!(after(0, "max-age=10"), Reuse::Refetch);
        assert_eq!(
            after(0, "max-age=11"),
            Reuse::Serve(Duration::from_secs(50))
        );
        assert_eq!(
            after(0, "min-fresh=50"),
            Reuse::Serve(Duration::from_secs(50))
        );
        assert_eq!(after(0, "min-fresh=51"), Reuse::Refetch);
    }

    #[test]
    fn the_time_on_the_way_adds_to_the_stated_age() {
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
        assert_eq!(age(&headers), 0, "a response without an age is new");
        headers.insert(AGE, "20".parse().unwrap());
        assert_eq!(age(&headers), 25);
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
