use std::{error::Error, fmt, time::Duration};

use tokio::time::Instant;

use crate::{ErrorKind, Op, StoreError};

/// The end of a call.
pub(super) struct CallEnd {
    pub(super) at: Instant,
    by: By,
}

/// The one to blame when a call ends without a reply.
enum By {
    /// The store, which was too slow.
    Limit,
    /// The caller, whose deadline was shorter than the store's limit.
    Caller,
}

impl CallEnd {
    /// Finds the end of a call of `op` that begins `now`.
    ///
    /// # Errors
    ///
    /// The caller's deadline has passed: the call is not made.
    pub(super) fn of(
        now: Instant,
        limit: Duration,
        op: &Op<'_>,
        deadline: Option<std::time::Instant>,
    ) -> Result<Self, StoreError> {
        let allowed = limit.saturating_add(allowance(op.size()));
        // No clock counts a limit of `Duration::MAX` from now.
        let own = now.checked_add(allowed).unwrap_or(now + MAX_LIMIT);
        // ## No deadline, or a later one: the limit ends the call
        let deadline = deadline.map(Instant::from_std);
        let Some(deadline) = deadline.filter(|deadline| *deadline < own) else {
            return Ok(Self {
                at: own,
                by: By::Limit,
            });
        };
        // ## A deadline that has passed: the call is not made
        let left = deadline.saturating_duration_since(now);
        if left.is_zero() {
            return Err(StoreError::not_applied(ErrorKind::Deadline));
        }
        // ## An earlier deadline: it ends the call
        //
        // One that leaves nearly the whole limit is blamed on the store all the same. It is the first call of a talk, and a
        // store that takes that long is as slow as one that reaches the limit.
        let by = match left >= allowed.saturating_sub(limit / 10) {
            true => By::Limit,
            false => By::Caller,
        };
        Ok(Self { at: deadline, by })
    }

    /// Makes the error of a call that this end has cut off.
    pub(super) fn error(&self, receiving: bool) -> StoreError {
        match self.by {
            By::Limit if receiving => {
                StoreError::unknown(ErrorKind::Timeout).with_source(StillReceiving)
            }
            By::Limit | By::Caller => StoreError::unknown(self.kind()),
        }
    }

    /// Returns the error of a store that has ended the call by itself, with the one to blame for a late reply.
    pub(super) fn blame(&self, error: StoreError) -> StoreError {
        match error.kind() {
            ErrorKind::Timeout | ErrorKind::Deadline => error.with_kind(self.kind()),
            _ => error,
        }
    }

    const fn kind(&self) -> ErrorKind {
        match self.by {
            By::Limit => ErrorKind::Timeout,
            By::Caller => ErrorKind::Deadline,
        }
    }
}

/// The source of a [`Timeout`](ErrorKind::Timeout) error if bytes came in during the call.
#[derive(Debug)]
pub(crate) struct StillReceiving;

impl fmt::Display for StillReceiving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the store was still sending when the limit on the call ran out")
    }
}

impl Error for StillReceiving {}

/// Returns the time that `bytes` take on a slow line: 1 ms for each KB, and nothing below 4 KiB.
///
/// A value of 4 MB has 4 s, which is what it needs at 8 Mbit/s.
pub(crate) const fn allowance(bytes: usize) -> Duration {
    match bytes {
        0..MIN_LARGE => Duration::ZERO,
        _ => Duration::from_nanos((bytes as u64).saturating_mul(NANOS_PER_BYTE)),
    }
}

/// The time of a byte at 1 MB/s.
const NANOS_PER_BYTE: u64 = 1_000;
/// Less fits into a few packets and takes no time of its own.
const MIN_LARGE: usize = 4 * 1024;
/// A year.
const MAX_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_operation_has_a_millisecond_for_each_kilobyte() {
        let micros = |bytes| allowance(bytes).as_micros();
        assert_eq!((micros(0), micros(4_095)), (0, 0));
        assert_eq!((micros(4_096), micros(20_000)), (4_096, 20_000));
        assert_eq!(allowance(4_000_000), Duration::from_secs(4));
        assert!(allowance(usize::MAX) > Duration::from_secs(1 << 30));
    }
}
