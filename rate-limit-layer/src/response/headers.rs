//! The header fields of draft-ietf-httpapi-ratelimit-headers-11, as text.

use http::{HeaderName, HeaderValue};
use sfv::{KeyRef, ListSerializer, StringRef, integer, key_ref};

use crate::{
    Quota,
    algorithm::{gcra::Rate, span::Span},
};

pub(crate) static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
pub(crate) static RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Makes the value of `RateLimit-Policy`, with all policies in their order: `"100/min";q=100;w=60`.
pub(crate) fn policy_field<'a>(policies: impl Iterator<Item = (&'a str, Quota)>) -> HeaderValue {
    let items: Vec<_> = policies
        .map(|(name, quota)| policy_item(name, quota))
        .collect();
    HeaderValue::try_from(items.join(", ")).expect("structured fields are ASCII")
}

/// Makes the value of `RateLimit`: the policy's [`quoted`] name, the requests that may pass at once, and for how many seconds
/// they have to do: `"100/min";r=99;t=60`.
pub(crate) fn limit_field(quoted: &str, remaining: u64, seconds: u64) -> HeaderValue {
    let mut text = Text::default();
    text.push(quoted.as_bytes());
    text.push(b";r=");
    text.push(
        itoa::Buffer::new()
            .format(remaining.min(MAX_INTEGER))
            .as_bytes(),
    );
    text.push(b";t=");
    text.push(
        itoa::Buffer::new()
            .format(seconds.min(MAX_INTEGER))
            .as_bytes(),
    );
    HeaderValue::from_bytes(text.as_bytes()).expect("a structured field is ASCII")
}

/// Returns the seconds to tell an admitted request that owes `debt`: until nothing is owed, or until the requests that remain
/// would be earned again, whichever is longer. So `r / t` never promises more than the policy's own `q / w`.
pub(crate) fn seconds_left(rate: Rate, debt: Span) -> u64 {
    let earned = rate.price(rate.remaining(debt));
    debt.max(earned).ceil_micros().div_ceil(SECOND)
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

fn policy_item(name: &str, quota: Quota) -> String {
    let limit = (key_ref("q"), quota.limit().min(MAX_INTEGER) as i64);
    let window = quota.window();
    let seconds = (key_ref("w"), window.as_secs().min(MAX_INTEGER) as i64);
    // The draft's window is whole seconds. Any other is left out.
    match window.subsec_nanos() {
        0 => list_of(name, &[limit, seconds]),
        _ => list_of(name, &[limit]),
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

/// A header's value in the making, on the stack.
struct Text {
    bytes: [u8; MAX_TEXT],
    len: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            bytes: [0; MAX_TEXT],
            len: 0,
        }
    }
}

impl Text {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A name of 64 characters, each escaped, in quotes; two parameters of 15 digits.
const MAX_TEXT: usize = 2 + 2 * 64 + 2 * (3 + 15);
/// The largest integer of a structured field (RFC 9651, section 3.3.1): 15 digits.
const MAX_INTEGER: u64 = 999_999_999_999_999;
const SECOND: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_policy_field_lists_all_policies_and_leaves_out_a_window_of_part_of_a_second() {
        let field = policy_field(
            [
                ("a \"b\"", Quota::per_minute(100).burst(20)),
                (
                    "fast",
                    Quota::try_new(5, Duration::from_millis(1_500)).unwrap(),
                ),
            ]
            .into_iter(),
        );
        assert_eq!(field, r#""a \"b\"";q=100;w=60, "fast";q=5"#);
    }

    #[test]
    fn the_longest_field_has_room() {
        let name = quoted(&"\\".repeat(64));
        assert_eq!(name.len(), 2 + 2 * 64);
        let field = limit_field(&name, u64::MAX, u64::MAX);
        assert_eq!(field.len(), MAX_TEXT);
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
            assert_eq!(seconds_left(rate, Span::of_micros(debt)), seconds, "{debt}");
        }
    }

    #[test]
    fn a_wait_is_rounded_up_and_at_least_a_second() {
        for (micros, seconds) in [(0, 1), (1, 1), (1_000_000, 1), (1_000_001, 2)] {
            assert_eq!(seconds_to_wait(micros), seconds, "{micros}");
        }
    }
}
