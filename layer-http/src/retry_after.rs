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
    seconds_value(seconds.max(1))
}

/// Makes the value of a number of seconds. A short one allocates nothing: most waits are, and a flood of refusals must be cheap.
fn seconds_value(seconds: u64) -> HeaderValue {
    let text = usize::try_from(seconds).ok();
    match text.and_then(|seconds| TEXTS.get(seconds)) {
        Some(text) => HeaderValue::from_static(text),
        None => HeaderValue::from(seconds),
    }
}

/// The numbers below 100 as text.
static TEXTS: [&str; 100] = {
    let mut texts = [""; 100];
    let mut number = 0;
    while number < 100 {
        let (_, rest) = DIGITS.split_at(if number < 10 {
            2 * number + 1
        } else {
            2 * number
        });
        let (text, _) = rest.split_at(if number < 10 { 1 } else { 2 });
        texts[number] = match str::from_utf8(text) {
            Ok(text) => text,
            Err(_) => panic!("digits are ASCII"),
        };
        number += 1;
    }
    texts
};

/// The numbers 00 to 99, one after the other.
const DIGITS: &[u8] = &{
    let mut digits = [b'0'; 200];
    let mut number = 0;
    while number < 100 {
        digits[2 * number] = b'0' + (number / 10) as u8;
        digits[2 * number + 1] = b'0' + (number % 10) as u8;
        number += 1;
    }
    digits
};

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
        for seconds in 1..1_100 {
            let text = seconds.to_string();
            assert_eq!(retry_after(Duration::from_secs(seconds)), text.as_str());
        }
    }
}
