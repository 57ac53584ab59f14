//! The use that one request may make of a stored response: send it fresh or stale, validate it, or fetch another one.

use std::time::Duration;

use crate::http::{cache_control::Directives, cache_status::Fwd, freshness::Freshness};

/// The terms on which a stored response may be used beside its freshness, as the response states them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StaleTerms {
    /// True if the origin is asked before each use: `no-cache` without fields (RFC 9111, section 5.2.2.4).
    pub(crate) always_validate: bool,
    /// True if it is never sent stale, whatever the client accepts: `must-revalidate`, `proxy-revalidate` or `s-maxage`
    /// (sections 5.2.2.2, 5.2.2.8 and 5.2.2.10).
    pub(crate) must_revalidate: bool,
    /// The time for which it may be sent stale while a new one is fetched (RFC 5861, section 3).
    pub(crate) while_revalidate: Duration,
    /// The time for which it may be sent stale if the origin fails (RFC 5861, section 4).
    pub(crate) if_error: Duration,
}

/// The stale windows of a response that states none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grace {
    pub(crate) while_revalidate: Duration,
    pub(crate) if_error: Duration,
}

/// The use that one request may make of a stored response (RFC 9111, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// It is sent. It stays fresh for this long.
    Serve(Duration),
    /// It is sent, though it has been stale for `over`.
    ServeStale {
        over: Duration,
        /// True if a new one is fetched behind it. False if only this client accepts a stale one.
        refresh: bool,
    },
    /// The origin is asked if it still holds.
    Validate(Need),
    /// It has no validator: a new response is fetched.
    Fetch(Need),
}

/// The need for an answer of the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// `Stale`, or `Request` if it is fresh and the request asks for more.
    pub(crate) fwd: Fwd,
    /// The time from now on in which the stored response may be sent if the origin fails. Zero: it may not.
    pub(crate) if_error: Duration,
}

impl StaleTerms {
    /// Reads the terms of a response. `grace` is for those that state no window.
    ///
    /// A response that must be validated gets no window. `s-maxage` forbids stale use unless the response itself names a
    /// window beside it.
    pub(crate) fn of(directives: &Directives, grace: Grace) -> Self {
        let forbidden =
            directives.no_cache || directives.must_revalidate || directives.proxy_revalidate;
        let must_revalidate = forbidden || directives.s_maxage.is_some();
        let window = |stated: Option<u64>, grace| match stated {
            _ if forbidden => Duration::ZERO,
            Some(seconds) => Duration::from_secs(seconds),
            None if must_revalidate => Duration::ZERO,
            None => grace,
        };
        Self {
            always_validate: directives.no_cache,
            must_revalidate,
            while_revalidate: window(directives.stale_while_revalidate, grace.while_revalidate),
            if_error: window(directives.stale_if_error, grace.if_error),
        }
    }

    /// Returns how long the response is kept after its freshness has ended.
    pub(crate) fn kept_stale(&self, has_validator: bool) -> Duration {
        let validated = match has_validator {
            true => KEPT_TO_VALIDATE,
            false => Duration::ZERO,
        };
        validated.max(self.while_revalidate).max(self.if_error)
    }
}

/// Decides what one request may do with a response, `resident` after its arrival.
///
/// `has_validator` is asked only if the origin has to be. `asks` are the directives of the request. They may ask for more than freshness, or accept less (RFC 9111, section 5.2.1).
pub(crate) fn decide_reuse(
    freshness: &Freshness,
    terms: &StaleTerms,
    has_validator: impl FnOnce() -> bool,
    resident: Duration,
    asks: &Directives,
) -> Reuse {
    let age = freshness.age + resident;
    let left = freshness.lifetime.saturating_sub(age);
    let over = age.saturating_sub(freshness.lifetime);
    let need = |fwd, if_error| {
        let need = Need { fwd, if_error };
        match has_validator() {
            true => Reuse::Validate(need),
            false => Reuse::Fetch(need),
        }
    };
    if asks.no_cache || is_too_old(age, asks) {
        let fwd = if left.is_zero() {
            Fwd::Stale
        } else {
            Fwd::Request
        };
        // This client does not want it, even if the origin fails.
        return need(fwd, Duration::ZERO);
    }
    if !left.is_zero() && !terms.always_validate {
        let min_left = Duration::from_secs(asks.min_fresh.unwrap_or(0));
        return match left < min_left {
            true => need(Fwd::Request, Duration::ZERO),
            false => Reuse::Serve(left),
        };
    }
    // A request for a response that stays fresh accepts no stale one.
    if asks.min_fresh.unwrap_or(0) > 0 {
        return need(Fwd::Stale, Duration::ZERO);
    }
    if !terms.always_validate && over < terms.while_revalidate {
        return Reuse::ServeStale {
            over,
            refresh: true,
        };
    }
    if !terms.must_revalidate
        && asks
            .max_stale
            .is_some_and(|max| over <= Duration::from_secs(max))
    {
        return Reuse::ServeStale {
            over,
            refresh: false,
        };
    }
    need(Fwd::Stale, if_error(terms, asks).saturating_sub(over))
}

/// Returns true if the request wants a younger response. `max-age=0` wants a new one.
fn is_too_old(age: Duration, asks: &Directives) -> bool {
    let max_age = asks.max_age.map(Duration::from_secs);
    max_age.is_some_and(|max| age > max || max.is_zero())
}

/// Returns the window for errors: that of the response, or a longer one that the request accepts.
fn if_error(terms: &StaleTerms, asks: &Directives) -> Duration {
    match asks.stale_if_error {
        Some(seconds) if !terms.must_revalidate => terms.if_error.max(Duration::from_secs(seconds)),
        _ => terms.if_error,
    }
}

/// The time for which a stale response is kept so that it can be validated.
const KEPT_TO_VALIDATE: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use http::{HeaderMap, header::CACHE_CONTROL};
    use proptest::prelude::*;

    use super::*;

    fn directives(text: &str) -> Directives {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, text.parse().unwrap());
        Directives::of(&headers, &CACHE_CONTROL)
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Decides on a response that is 10 s old and has a lifetime of 60 s.
    fn decide(response: &str, resident: u64, request: &str) -> Reuse {
        let freshness = Freshness {
            age: secs(10),
            lifetime: secs(60),
        };
        let terms = StaleTerms::of(&directives(response), Grace::default());
        let asks = directives(request);
        decide_reuse(&freshness, &terms, || true, secs(resident), &asks)
    }

    fn validate(fwd: Fwd, if_error: u64) -> Reuse {
        Reuse::Validate(Need {
            fwd,
            if_error: secs(if_error),
        })
    }

    fn stale(over: u64, refresh: bool) -> Reuse {
        Reuse::ServeStale {
            over: secs(over),
            refresh,
        }
    }

    #[test]
    fn a_response_is_served_until_it_is_as_old_as_its_lifetime() {
        assert_eq!(decide("", 0, ""), Reuse::Serve(secs(50)));
        assert_eq!(decide("", 49, ""), Reuse::Serve(secs(1)));
        assert_eq!(decide("", 50, ""), validate(Fwd::Stale, 0));
    }

    #[test]
    fn a_request_may_ask_for_more_than_freshness() {
        let fresher = validate(Fwd::Request, 0);
        assert_eq!(decide("", 0, "no-cache"), fresher);
        assert_eq!(decide("", 0, "max-age=0"), fresher);
        assert_eq!(decide("", 0, "max-age=9"), fresher);
        assert_eq!(decide("", 0, "max-age=10"), Reuse::Serve(secs(50)));
        assert_eq!(decide("", 0, "min-fresh=50"), Reuse::Serve(secs(50)));
        assert_eq!(decide("", 0, "min-fresh=51"), fresher);
    }

    #[test]
    fn a_stale_response_is_sent_within_its_window() {
        let swr = "stale-while-revalidate=30";
        assert_eq!(decide(swr, 49, ""), Reuse::Serve(secs(1)));
        assert_eq!(decide(swr, 50, ""), stale(0, true));
        assert_eq!(decide(swr, 79, ""), stale(29, true));
        assert_eq!(decide(swr, 80, ""), validate(Fwd::Stale, 0));
        // The request still has its say.
        assert_eq!(decide(swr, 50, "no-cache"), validate(Fwd::Stale, 0));
        assert_eq!(decide(swr, 50, "max-age=59"), validate(Fwd::Stale, 0));
        assert_eq!(decide(swr, 50, "max-age=60"), stale(0, true));
        assert_eq!(decide(swr, 50, "min-fresh=1"), validate(Fwd::Stale, 0));
    }

    #[test]
    fn a_client_may_accept_a_stale_response() {
        assert_eq!(decide("", 59, "max-stale=9"), stale(9, false));
        assert_eq!(decide("", 60, "max-stale=9"), validate(Fwd::Stale, 0));
        assert_eq!(decide("", 100_000, "max-stale"), stale(99_950, false));
        for strict in [
            "must-revalidate",
            "proxy-revalidate",
            "s-maxage=60",
            "no-cache",
        ] {
            let decided = decide(strict, 51, "max-stale");
            assert_eq!(decided, validate(Fwd::Stale, 0), "{strict}");
        }
    }

    #[test]
    fn an_error_leaves_what_is_left_of_its_window() {
        let sie = "stale-if-error=30";
        assert_eq!(decide(sie, 50, ""), validate(Fwd::Stale, 30));
        assert_eq!(decide(sie, 75, ""), validate(Fwd::Stale, 5));
        assert_eq!(decide(sie, 90, ""), validate(Fwd::Stale, 0));
        // The request may accept more, and not less, of what does not have to be validated.
        assert_eq!(
            decide(sie, 50, "stale-if-error=40"),
            validate(Fwd::Stale, 40)
        );
        assert_eq!(
            decide(sie, 50, "stale-if-error=4"),
            validate(Fwd::Stale, 30)
        );
        let strict = decide("must-revalidate", 50, "stale-if-error=40");
        assert_eq!(strict, validate(Fwd::Stale, 0));
        // Who asks for a new response does not get an old one.
        assert_eq!(decide(sie, 50, "no-cache"), validate(Fwd::Stale, 0));
    }

    #[test]
    fn no_cache_asks_the_origin_even_for_a_fresh_response() {
        assert_eq!(decide("no-cache", 0, ""), validate(Fwd::Stale, 0));
        assert_eq!(decide("no-cache=\"x\"", 0, ""), Reuse::Serve(secs(50)));
    }

    #[test]
    fn without_a_validator_a_new_response_is_fetched() {
        let freshness = Freshness::given(secs(60));
        let terms = StaleTerms {
            if_error: secs(30),
            ..StaleTerms::default()
        };
        let asks = Directives::default();
        let decided = decide_reuse(&freshness, &terms, || false, secs(70), &asks);
        let need = Need {
            fwd: Fwd::Stale,
            if_error: secs(20),
        };
        assert_eq!(decided, Reuse::Fetch(need));
    }

    #[test]
    fn grace_is_for_responses_that_say_nothing() {
        let grace = Grace {
            while_revalidate: secs(5),
            if_error: secs(6),
        };
        let windows = |text: &str| {
            let terms = StaleTerms::of(&directives(text), grace);
            (terms.while_revalidate.as_secs(), terms.if_error.as_secs())
        };
        assert_eq!(windows("max-age=60"), (5, 6));
        assert_eq!(windows("stale-while-revalidate=0"), (0, 6));
        assert_eq!(windows("stale-if-error=9"), (5, 9));
        for strict in ["must-revalidate", "proxy-revalidate", "no-cache"] {
            assert_eq!(windows(strict), (0, 0), "{strict}");
            let both = format!("{strict}, stale-while-revalidate=1, stale-if-error=1");
            assert_eq!(windows(&both), (0, 0), "{both}");
        }
        // The origin that names both knows what it wants.
        assert_eq!(windows("s-maxage=60"), (0, 0));
        assert_eq!(windows("s-maxage=60, stale-while-revalidate=9"), (9, 0));
    }

    #[test]
    fn a_stale_response_is_kept_for_its_windows_and_its_validator() {
        let kept = |text: &str, has_validator| {
            let terms = StaleTerms::of(&directives(text), Grace::default());
            terms.kept_stale(has_validator).as_secs()
        };
        assert_eq!((kept("", false), kept("", true)), (0, 3_600));
        assert_eq!(kept("stale-while-revalidate=5, stale-if-error=7", false), 7);
        assert_eq!(
            kept("stale-while-revalidate=7200, stale-if-error=7", true),
            7_200
        );
    }

    proptest! {
        /// A response that has to be validated is never sent stale.
        #[test]
        fn nothing_stale_is_sent_that_must_be_validated(
            resident in 50u64..1_000,
            strict in prop_oneof![Just("must-revalidate"), Just("proxy-revalidate"), Just("no-cache")],
            windows in (0u64..1_000, 0u64..1_000),
            request in "(max-stale|stale-if-error=900|max-age=900)?",
        ) {
            let (swr, sie) = windows;
            let response = format!("{strict}, stale-while-revalidate={swr}, stale-if-error={sie}");
            prop_assert_eq!(decide(&response, resident, &request), validate(Fwd::Stale, 0));
        }
    }
}
