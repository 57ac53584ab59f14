//! The header fields of draft-ietf-httpapi-ratelimit-headers-11, as text.

use http::{HeaderName, HeaderValue};
use sfv::{KeyRef, ListSerializer, StringRef, integer, key_ref};

use crate::{
    Quota,
    algorithm::{gcra::Rate, usage::Usage},
    check::counted::Counted,
    policy::{
        limit::Limit,
        limit_set::{LimitSet, MAX_POLICIES},
    },
    response::text::Text,
};

pub(crate) static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
pub(crate) static RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Makes the value of `RateLimit-Policy`, with all policies in their order: `"100/min";q=100;w=60`.
pub(crate) fn policy_field(limits: &[Limit]) -> HeaderValue {
    policy_field_of(limits.iter())
}

/// Makes the values of `RateLimit-Policy` and `RateLimit` for a request that several limits may count. Those that skip it are left out.
/// `policies` is the former for all limits.
#[inline(never)]
pub(crate) fn counted_fields(
    limits: &[Limit],
    policies: &HeaderValue,
    counted: &Counted,
    violated: LimitSet,
) -> (HeaderValue, HeaderValue) {
    let by = counted.by();
    let policies = match by.len() == limits.len() {
        true => policies.clone(),
        false => policy_field_of(by.iter().map(|limit| &limits[limit])),
    };
    let mut text = Text::<{ MAX_POLICIES * (2 + MAX_ITEM) }>::new();
    for balance in counted.balances(limits, violated) {
        if !text.is_empty() {
            text.push(b", ");
        }
        let quoted = &limits[balance.limit].quoted;
        push_item(&mut text, quoted, balance.remaining, balance.seconds);
    }
    (policies, text.to_value())
}

fn policy_field_of<'a>(limits: impl Iterator<Item = &'a Limit>) -> HeaderValue {
    let items: Vec<_> = limits
        .map(|limit| policy_item(&limit.name, limit.quota))
        .collect();
    HeaderValue::try_from(items.join(", ")).expect("structured fields are ASCII")
}

/// Makes the value of `RateLimit`: the policy's [`quoted`] name, the requests that may pass at once, and for how many seconds
/// they have to do: `"100/min";r=99;t=60`.
pub(crate) fn limit_field(quoted: &str, remaining: u64, seconds: u64) -> HeaderValue {
    let mut text = Text::<MAX_ITEM>::new();
    push_item(&mut text, quoted, remaining, seconds);
    text.to_value()
}

#[inline(always)]
fn push_item<const N: usize>(text: &mut Text<N>, quoted: &str, remaining: u64, seconds: u64) {
    text.push(quoted.as_bytes());
    text.push(b";r=");
    text.push_number(remaining.min(MAX_INTEGER));
    text.push(b";t=");
    text.push_number(seconds.min(MAX_INTEGER));
}

/// Returns the seconds to tell an admitted request: until nothing is owed, or until the requests that remain would be earned again,
/// whichever is longer. So `r / t` never promises more than the policy's own `q / w`.
#[inline]
pub(crate) fn seconds_left(rate: Rate, usage: Usage) -> u64 {
    let earned = rate.price(usage.remaining(rate));
    usage
        .reset_after()
        .max(earned.ceil_micros())
        .div_ceil(SECOND)
}

/// Returns the seconds to tell a refused request: rounded up, since a second too early is refused again, and at least 1.
pub(crate) const fn seconds_to_wait(micros: u64) -> u64 {
    match micros.div_ceil(SECOND) {
        0 => 1,
        seconds => seconds,
    }
}

/// Writes a policy's name as a structured field's string (RFC 9651), quotes included.
pub(crate) fn quoted(name: &str) -> String {
    list_of(name, &[])
}

/// Writes a policy: `q`, what may be used in `w` seconds.
///
/// That is the burst, and the time in which it is earned. The limit and its window would promise too much for a smaller burst, as not all
/// of it may come at once; and less than remains for a larger one. Both have the ratio that is earned. `w` is rounded up, so that a client
/// that uses `q` in each `w` is never refused; and left out if it is less than a second, as it would hide most of the limit.
fn policy_item(name: &str, quota: Quota) -> String {
    let burst = (key_ref("q"), quota.capacity().min(MAX_INTEGER) as i64);
    let micros = quota.earned_in();
    let seconds = (key_ref("w"), micros.div_ceil(SECOND) as i64);
    match micros {
        ..SECOND => list_of(name, &[burst]),
        _ => list_of(name, &[burst, seconds]),
    }
}

/// Writes a list of one string with parameters (RFC 9651).
fn list_of(name: &str, parameters: &[(&KeyRef, i64)]) -> String {
    let name = StringRef::from_str(name).expect("a policy's name is printable ASCII");
    let mut list = ListSerializer::new();
    let numbers = parameters
        .iter()
        .map(|(key, number)| (key, integer(*number)));
    let _ = list.bare_item(name).parameters(numbers);
    list.finish().expect("the list has an item")
}

/// A name of 64 characters, each escaped, in quotes; two parameters of 15 digits.
const MAX_ITEM: usize = 2 + 2 * 64 + 2 * (3 + 15);
/// The largest integer of a structured field (RFC 9651, section 3.3.1): 15 digits.
const MAX_INTEGER: u64 = 999_999_999_999_999;
const SECOND: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::algorithm::span::Span;

    fn limit(name: &str, quota: Quota) -> Limit {
        Limit::new(quota.fail_open().name(name))
    }

    #[test]
    fn a_policy_field_lists_what_may_be_used_in_which_time() {
        let every = |limit, millis| Quota::try_new(limit, Duration::from_millis(millis)).unwrap();
        for (name, quota, item) in [
            ("a \"b\"", Quota::per_minute(100), r#""a \"b\"";q=100;w=60"#),
            (
                "small",
                Quota::per_minute(100).burst(20),
                r#""small";q=20;w=12"#,
            ),
            (
                "large",
                Quota::per_minute(100).burst(500),
                r#""large";q=500;w=300"#,
            ),
            // 2.5 seconds are 3.
            (
                "fast",
                Quota::per_second(10).burst(25),
                r#""fast";q=25;w=3"#,
            ),
            ("second", every(5, 1_000), r#""second";q=5;w=1"#),
            ("part", every(5, 999), r#""part";q=5"#),
            (
                "most",
                Quota::per_day(u64::MAX),
                r#""most";q=999999999999999;w=86400"#,
            ),
        ] {
            let limit = limit(name, quota);
            assert_eq!(policy_field(&[limit]), item);
        }
        let both = [
            limit("a", Quota::per_second(1)),
            limit("b", Quota::per_day(2)),
        ];
        assert_eq!(policy_field(&both), r#""a";q=1;w=1, "b";q=2;w=86400"#);
    }

    #[test]
    fn a_limit_that_skips_the_request_is_in_no_field() {
        let limits = [
            limit("a", Quota::per_minute(10)),
            limit("b", Quota::per_minute(20)),
            limit("c", Quota::per_minute(5)),
        ];
        let all = policy_field(&limits);
        let mut by = LimitSet::first(3);
        by -= LimitSet::one(0);
        let mut counted = Counted::new(by, 1);
        for limit in [1, 2] {
            let usage = Usage::Debt(limits[limit].rate.price(1));
            counted.note(crate::check::decision::Debt { limit, usage });
        }
        let (policies, standings) = counted_fields(&limits, &all, &counted, LimitSet::default());
        assert_eq!(policies, r#""b";q=20;w=60, "c";q=5;w=60"#);
        assert_eq!(standings, r#""c";r=4;t=48, "b";r=19;t=57"#);
    }

    #[test]
    fn the_longest_field_has_room() {
        let name = quoted(&"\\".repeat(64));
        assert_eq!(name.len(), 2 + 2 * 64);
        let field = limit_field(&name, u64::MAX, u64::MAX);
        assert_eq!(field.len(), MAX_ITEM);
        assert_eq!(field, format!("{name};r={MAX_INTEGER};t={MAX_INTEGER}"));
    }

    #[test]
    fn an_admitted_request_is_told_the_longer_of_two_times() {
        // 2 a minute: a request is 30 s of debt, here in microseconds, since the window is 30,000,000 of 1 unit.
        let rate = Quota::per_minute(2).rate();
        for (debt, seconds) in [
            // Nothing is owed, two remain: 60 s are needed to earn them.
            (0, 60),
            // One remains, worth 30 s.
            (30_000_000, 30),
            // One remains, and 20.000001 s are owed: still 30.
            (20_000_001, 30),
            // None remains: what is owed.
            (30_000_001, 31),
            (60_000_000, 60),
        ] {
            let usage = Usage::Debt(Span::of_micros(debt));
            assert_eq!(seconds_left(rate, usage), seconds, "{debt}");
        }
    }

    #[test]
    fn a_wait_is_rounded_up_and_at_least_a_second() {
        for (micros, seconds) in [(0, 1), (1, 1), (1_000_000, 1), (1_000_001, 2)] {
            assert_eq!(seconds_to_wait(micros), seconds, "{micros}");
        }
    }
}
