use std::{error::Error, fmt, time::Duration};

use crate::{InvalidCost, Unavailable};

/// The reason why [`Limiter::until_ready`](crate::Limiter::until_ready) or a [`Throttle`](crate::Throttle) did not let a request
/// pass. Nothing was charged, but for a check that the deadline cut off.
///
/// ```
/// use std::time::{Duration, Instant};
/// use rate_limit_layer::{Limiter, Quota, ThrottleError, store::MemoryStore};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let calls = Limiter::new(MemoryStore::new(), Quota::per_hour(1).fail_closed());
/// let soon = Instant::now() + Duration::from_secs(1);
/// assert!(calls.until_ready("api", soon).await.is_ok());
/// // The next is an hour away, so it is refused at once.
/// match calls.until_ready("api", soon).await {
///     Err(ThrottleError::WaitTooLong { wait }) => assert!(wait > Duration::from_secs(3_500)),
///     other => panic!("{other:?}"),
/// }
/// # });
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ThrottleError {
    /// The request could not pass before its deadline.
    WaitTooLong {
        /// The time that it would have to wait from now on, at least. Zero if that is not known: the deadline is over, and an earlier
        /// request or the store is still awaited.
        wait: Duration,
    },
    /// The store is down, and a policy fails closed.
    Unavailable(Unavailable),
    /// The cost is zero, or above the burst of a policy.
    InvalidCost(InvalidCost),
}

impl fmt::Display for ThrottleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WaitTooLong { wait } if wait.is_zero() => {
                f.write_str("the request was not admitted before its deadline")
            }
            Self::WaitTooLong { wait } => write!(
                f,
                "the request would have to wait {wait:?}, which is past its deadline"
            ),
            Self::Unavailable(_) => {
                f.write_str("the rate limit could not be checked, and it fails closed")
            }
            Self::InvalidCost(_) => f.write_str("no request can have this cost"),
        }
    }
}

impl Error for ThrottleError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::InvalidCost(error) => Some(error),
            Self::WaitTooLong { .. } | Self::Unavailable(_) => None,
        }
    }
}

impl From<InvalidCost> for ThrottleError {
    fn from(error: InvalidCost) -> Self {
        Self::InvalidCost(error)
    }
}
