use std::{error::Error, fmt, time::Duration};

use http::StatusCode;
use layer_store::StoreError;

use crate::{lease::config::MAX_UNITS, metrics::count_acquisition};

/// The reason why a lock was not taken. A handler may return it: the response is the one that
/// [`LockLayer`](crate::LockLayer) makes.
///
/// | Variant | Status | |
/// | --- | --- | --- |
/// | `Busy` | 409, or [`busy_status`](crate::Locks::busy_status) | `Retry-After` |
/// | `Unavailable` | 503 | `Retry-After: 1` |
/// | `NoUnits`, `TooManyUnits` | 400 | |
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AcquireError {
    /// Another holder has one of the units.
    Busy(LockBusy),
    /// The store did not reply whether the units are free. Nothing is held.
    Unavailable(StoreError),
    /// The list of units is empty.
    NoUnits,
    /// The list has more than 64 units, the most that one atomic step can take.
    TooManyUnits {
        /// The number of units in the list.
        given: usize,
    },
}

/// Another holder has what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockBusy {
    lease_left: Duration,
    retry_after: Duration,
    title: &'static str,
    status: StatusCode,
}

/// The reason why [`LockLayer`](crate::LockLayer) refused a request. It is in the extensions of the response.
///
/// ```
/// use http::Response;
/// use http_body_util::Empty;
/// use lock_layer::{AcquireError, Body, LockRefusal};
///
/// let refused: Response<Body<Empty<bytes::Bytes>>> = AcquireError::NoUnits.into_response();
/// assert_eq!(refused.status(), 400);
/// assert!(matches!(
///     refused.extensions().get(),
///     Some(LockRefusal::NotAcquired(AcquireError::NoUnits))
/// ));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LockRefusal {
    /// 409, 503 or 400: the lock was not taken. The table of [`AcquireError`] has the statuses.
    NotAcquired(AcquireError),
    /// 400: the extractor found no key in the request, and refuses such requests
    /// ([`OnMissing::Refuse`](crate::OnMissing::Refuse)).
    KeyNotFound,
    /// 400: the request names two keys, such as a header on two different lines
    /// ([`Resolved::Ambiguous`](crate::Resolved::Ambiguous)).
    KeyAmbiguous,
    /// 500: the extractor cannot find a key on this route ([`OnMissing::Misconfigured`](crate::OnMissing::Misconfigured)).
    Misconfigured,
}

impl LockBusy {
    pub(crate) const fn new(lease_left: Duration, title: &'static str, status: StatusCode) -> Self {
        Self {
            lease_left,
            retry_after: lease_left,
            title,
            status,
        }
    }

    /// Lets a client come again after the time for which a lock is usually held, if the lease ends later.
    pub(crate) fn after_typical_hold(mut self, typical_hold: Duration) -> Self {
        self.retry_after = self.lease_left.min(typical_hold);
        self
    }

    /// Returns the time after which another attempt is worth making: for as long as this process has lately held its locks, but not
    /// longer than the holder's lease. Rounded up to whole seconds, it is the `Retry-After` of the response.
    ///
    /// While this process has held none, it is [`lease_left`](Self::lease_left). So it is for units that are kept longer than a
    /// lease ([`LockGuard::keep`](crate::LockGuard::keep)).
    pub const fn retry_after(&self) -> Duration {
        self.retry_after
    }

    /// Returns the time until the holder's lease ends, unless it is renewed. If the holder's process has died, the lock is
    /// free by then.
    pub const fn lease_left(&self) -> Duration {
        self.lease_left
    }

    pub(crate) const fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) const fn title(&self) -> &'static str {
        self.title
    }
}

impl AcquireError {
    /// Tells that a lock was not taken, and why.
    pub(crate) fn tell(&self) {
        let (reason, store) = match self {
            Self::Busy(_) => ("busy", None),
            Self::Unavailable(error) => ("unavailable", Some(error)),
            Self::NoUnits => ("no_units", None),
            Self::TooManyUnits { .. } => ("too_many_units", None),
        };
        let wait = match self {
            Self::Busy(busy) => Some(busy.retry_after.as_secs_f64()),
            _ => None,
        };
        count_acquisition(reason);
        tracing::debug!(
            reason,
            retry_after_s = wait,
            kind = store.map(|error| error.kind().as_str()),
            error = store.map(|error| tracing::field::display(error.report())),
            "lock not acquired"
        );
    }
}

impl LockRefusal {
    /// Tells that a request names no lock. [`AcquireError::tell`] tells of every other refusal.
    pub(crate) fn tell_unnamed(reason: &'static str) {
        count_acquisition(reason);
        tracing::debug!(reason, "lock not acquired");
    }
}

impl fmt::Display for LockBusy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another holder has one of the units")
    }
}

impl Error for LockBusy {}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(busy) => busy.fmt(f),
            Self::Unavailable(_) => {
                f.write_str("the store did not reply whether the units are free")
            }
            Self::NoUnits => f.write_str("the list of units is empty: name at least one unit"),
            Self::TooManyUnits { given } => write!(
                f,
                "{given} units are too many for one atomic step: name at most {MAX_UNITS}"
            ),
        }
    }
}

impl Error for AcquireError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unavailable(error) => Some(error),
            Self::Busy(_) | Self::NoUnits | Self::TooManyUnits { .. } => None,
        }
    }
}

impl From<LockBusy> for AcquireError {
    fn from(busy: LockBusy) -> Self {
        Self::Busy(busy)
    }
}

impl From<AcquireError> for LockRefusal {
    fn from(error: AcquireError) -> Self {
        Self::NotAcquired(error)
    }
}

#[cfg(test)]
mod tests {
    use layer_store::ErrorKind;

    use super::*;

    #[test]
    fn an_error_says_what_to_do_and_leads_to_its_source() {
        let store = AcquireError::Unavailable(StoreError::unknown(ErrorKind::Timeout));
        assert!(store.source().is_some());
        assert!(AcquireError::NoUnits.source().is_none());
        let busy = LockBusy::new(Duration::from_millis(7), "Booked", StatusCode::CONFLICT);
        assert_eq!(busy.retry_after(), Duration::from_millis(7));
        assert_eq!(AcquireError::from(busy).to_string(), busy.to_string());
        let text = AcquireError::TooManyUnits { given: 65 }.to_string();
        assert_eq!(
            text,
            "65 units are too many for one atomic step: name at most 64"
        );
    }
}
