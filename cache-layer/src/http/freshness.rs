use std::time::{Duration, SystemTime};

use http::{
    HeaderMap,
    header::{AGE, DATE, EXPIRES},
};

use crate::http::cache_control::{Directives, members, seconds};

/// How old a response was when it came, and until which age it is fresh (RFC 9111, section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Freshness {
    pub(crate) age: Duration,
    pub(crate) lifetime: Duration,
}

/// What to do with a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Serve it; it stays fresh so long.
    Serve(Duration),
    /// It is stale.
    Stale,
    /// It is fresh, and the client wants it fresher.
    Request,
}

impl Freshness {
    /// What a response says of itself that came at `now` to a request sent `delay` ago. None: it names no lifetime.
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

    /// A response that names no lifetime, kept for one that the route names, counted from now.
    pub(crate) const fn given(lifetime: Duration) -> Self {
        Self {
            age: Duration::ZERO,
            lifetime,
        }
    }

    /// How long it is still fresh.
    pub(crate) fn left(&self) -> Duration {
        self.lifetime.saturating_sub(self.age)
    }

    /// What to do with it `resident` after it came, given the request's own `Cache-Control` (section 5.2.1).
    pub(crate) fn decide(&self, resident: Duration, request: &Directives) -> Decision {
        let age = self.age + resident;
        let left = self.lifetime.saturating_sub(age);
        let at_most = request.max_age.map(Duration::from_secs);
        let at_least = Duration::from_secs(request.min_fresh.unwrap_or(0));
        if left.is_zero() {
            Decision::Stale
        } else if request.no_cache || at_most.is_some_and(|most| age >= most) || left < at_least {
            Decision::Request
        } else {
            Decision::Serve(left)
        }
    }
}

/// Section 4.2.3: the age that the caches before this one name, plus the time on the way, or the time since `Date` if that is longer.
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

/// The lifetime that `Expires` names. One that is no date, or one of several, has passed (section 5.3).
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
    fn the_most_special_lifetime_counts() {
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
        assert_eq!(after(0, ""), Decision::Serve(Duration::from_secs(50)));
        assert_eq!(after(49, ""), Decision::Serve(Duration::from_secs(1)));
        assert_eq!(after(50, ""), Decision::Stale);
        assert_eq!(after(0, "no-cache"), Decision::Request);
        assert_eq!(after(0, "max-age=0"), Decision::Request);
        assert_eq!(after(0, "max-age=10"), Decision::Request);
        assert_eq!(
            after(0, "max-age=11"),
            Decision::Serve(Duration::from_secs(50))
        );
        assert_eq!(
            after(0, "min-fresh=50"),
            Decision::Serve(Duration::from_secs(50))
        );
        assert_eq!(after(0, "min-fresh=51"), Decision::Request);
    }
}
