use std::{error::Error, fmt, time::Duration};

use layer_http::grpc::{Reason, Status};

use crate::{InvalidCost, RateLimitRefusal, Unavailable};

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

impl ThrottleError {
    /// Returns the status of a call of gRPC that this ends: RESOURCE_EXHAUSTED with the time to wait, UNAVAILABLE, or
    /// INVALID_ARGUMENT.
    ///
    /// A [`Throttle`](crate::Throttle) around a channel needs it: see [`ThrottleLayer`](crate::ThrottleLayer#in-front-of-a-client).
    ///
    /// ```
    /// use std::time::Duration;
    /// use rate_limit_layer::{ThrottleError, grpc::Code};
    ///
    /// let error = ThrottleError::WaitTooLong { wait: Duration::from_secs(3) };
    /// let status = error.grpc_status();
    /// assert_eq!(status.code(), Code::ResourceExhausted);
    /// assert_eq!(status.fields()["grpc-retry-pushback-ms"], "3000");
    /// ```
    pub fn grpc_status(&self) -> Status {
        match self {
            Self::WaitTooLong { wait } => {
                let status = Status::new(Reason::WaitTooLong, self.to_string());
                match wait.is_zero() {
                    true => status,
                    false => status.retry_after(*wait),
                }
            }
            Self::Unavailable(unavailable) => unavailable.grpc_status(),
            Self::InvalidCost(cost) => RateLimitRefusal::TooCostly(cost.clone()).grpc_status(),
        }
    }
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
