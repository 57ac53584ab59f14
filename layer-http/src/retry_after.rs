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
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    HeaderValue::from(seconds.max(1))
}
