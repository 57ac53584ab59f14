use std::time::Duration;

use http::HeaderValue;

/// Makes the value of `Retry-After` (RFC 9110, section 10.2.3): whole seconds, rounded up, at least 1.
///
/// A second too early would be refused again.
///
/// ```
/// use std::time::Duration;
///
/// assert_eq!(layer_http::retry_after(Duration::from_millis(1_001)), "2");
/// assert_eq!(layer_http::retry_after(Duration::ZERO), "1");
/// ```
pub fn retry_after(wait: Duration) -> HeaderValue {
    let seconds = wait
        .as_secs()
        .saturating_add(u64::from(wait.subsec_nanos() > 0));
    HeaderValue::from(seconds.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up_and_at_least_one() {
        for (wait, seconds) in [
            (Duration::ZERO, "1"),
            (Duration::from_nanos(1), "1"),
            (Duration::from_secs(1), "1"),
            (Duration::from_nanos(1_000_000_001), "2"),
            (Duration::from_secs(2), "2"),
            (Duration::from_millis(59_999), "60"),
            (Duration::MAX, "18446744073709551615"),
        ] {
            assert_eq!(retry_after(wait), seconds, "{wait:?}");
        }
    }
}
