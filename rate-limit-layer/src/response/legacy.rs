//! `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`, which no standard defines, of one limit.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    QuotaExceeded,
    check::{
        counted::{Balance, Counted},
        decision::Debt,
    },
    policy::{limit::Limit, limit_set::LimitSet},
    response::headers,
};

static LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
static REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
static RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Writes the fields of an admitted request: those of the limit with the fewest requests left.
pub(crate) fn admitted(
    fields: &mut HeaderMap,
    limits: &[Limit],
    debt: Debt,
    counted: Option<&Counted>,
) {
    let balance = match counted {
        Some(counted) => counted.balances(limits, LimitSet::default()).next(),
        None => None,
    };
    let balance = balance.unwrap_or_else(|| {
        let rate = limits[debt.limit].rate;
        Balance {
            limit: debt.limit,
            remaining: debt.usage.remaining(rate),
            seconds: headers::seconds_left(rate, debt.usage),
        }
    });
    write(fields, limits, balance);
}

/// Writes the fields of a refused request: those of the limit with the longest wait.
pub(crate) fn refused(fields: &mut HeaderMap, exceeded: &QuotaExceeded) {
    let (excess, (limits, _)) = (exceeded.excess(), exceeded.counted());
    let limit = excess.debt.limit;
    let balance = Balance {
        limit,
        remaining: excess.debt.remaining(limits),
        seconds: headers::seconds_to_wait(excess.retry_after),
    };
    write(fields, limits, balance);
}

fn write(fields: &mut HeaderMap, limits: &[Limit], balance: Balance) {
    // A limiter further in may have written its own. One set has room in a response: the tighter one.
    let theirs = fields.get(&REMAINING).and_then(number);
    if theirs.is_some_and(|theirs| theirs <= balance.remaining) {
        return;
    }
    let burst = limits[balance.limit].quota.capacity();
    for (name, value) in [
        (&LIMIT, burst),
        (&REMAINING, balance.remaining),
        (&RESET, balance.seconds),
    ] {
        fields.insert(name.clone(), HeaderValue::from(value));
    }
}

fn number(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Quota,
        algorithm::{span::Span, usage::Usage},
    };

    fn fields_of(fields: &HeaderMap) -> [u64; 3] {
        [&LIMIT, &REMAINING, &RESET].map(|name| number(&fields[name]).expect("it is a number"))
    }

    #[test]
    fn the_limit_is_what_may_remain_and_the_reset_a_number_of_seconds() {
        let limits = [Limit::new(Quota::per_minute(60).burst(20).fail_open())];
        let mut fields = HeaderMap::new();
        let debt = |seconds: u64| Debt {
            limit: 0,
            usage: Usage::Debt(Span::of_micros(seconds * 1_000_000)),
        };
        admitted(&mut fields, &limits, debt(15), None);
        assert_eq!(fields_of(&fields), [20, 5, 15]);
    }

    #[test]
    fn the_tighter_of_two_limiters_is_told() {
        let limit = |burst| [Limit::new(Quota::per_minute(60).burst(burst).fail_open())];
        let debt = Debt {
            limit: 0,
            usage: Usage::Debt(Span::of_micros(1_000_000)),
        };
        for bursts in [[20, 10], [10, 20]] {
            let mut fields = HeaderMap::new();
            for burst in bursts {
                admitted(&mut fields, &limit(burst), debt, None);
            }
            assert_eq!(fields_of(&fields), [10, 9, 9], "{bursts:?}");
        }
        // What no number is, is replaced.
        let mut fields = HeaderMap::new();
        fields.insert(&REMAINING, HeaderValue::from_static("many"));
        admitted(&mut fields, &limit(20), debt, None);
        assert_eq!(fields_of(&fields), [20, 19, 19]);
    }
}
