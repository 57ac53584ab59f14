//! Decides when a lease is renewed and when it is lost. Time comes in as a value; the [keeper](super::keeper) does the waiting.

use layer_store::StoreError;
use tokio::time::Instant;

use super::{Lease, extend::Extended};

/// The renewals of one lease, as a state machine without I/O.
///
/// A lease is renewed after each third. Its holder's deadline counts from before the operation was sent, so it comes before
/// the store's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renewal {
    lease: Lease,
    grows_up: Instant,
    deadline: Instant,
    next: Instant,
}

/// The state of a lease after a reply to its renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewed {
    /// The lock is held until the new deadline.
    Held,
    /// As `Held`; a lock that was gone from the store was put back.
    PutBack,
    /// The deadline is as it was. There is time for another attempt.
    Failed,
    /// The lock may no longer be relied on.
    Lost,
}

impl Renewal {
    /// Begins with a grant that was asked for at `sent`.
    pub(crate) fn new(lease: Lease, sent: Instant) -> Self {
        Self {
            lease,
            grows_up: sent + lease.youth(),
            deadline: lease.deadline(sent),
            next: lease.renewal(sent),
        }
    }

    /// Returns the time at which the lock is no longer young.
    pub(crate) fn grows_up(&self) -> Instant {
        self.grows_up
    }

    /// Returns the time until which the lock may be relied on.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Returns the time of the next renewal.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// Returns true if the lock has ended at `now`: its holder no longer relies on it, so it must not be renewed.
    pub(crate) fn has_ended(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    /// Takes the reply to a renewal that was sent at `sent` and replied to at `now`.
    pub(crate) fn take(
        &mut self,
        reply: Result<Extended, &StoreError>,
        sent: Instant,
        now: Instant,
    ) -> Renewed {
        match reply {
            // ## Held => Lost: another holder was let in.
            Ok(Extended::Lost) => Renewed::Lost,
            // ## Held => Lost: the reply came too late. Holders have been told already, or will be in this very moment.
            Ok(Extended::Renewed | Extended::PutBack) if self.has_ended(now) => Renewed::Lost,
            // ## Held => Held, with a new deadline.
            Ok(extended) => {
                *self = Self::new(self.lease, sent);
                match extended {
                    Extended::PutBack => Renewed::PutBack,
                    _ => Renewed::Held,
                }
            }
            // ## Held => Held, with the old deadline. The next attempt comes after a pause, and the deadline is looked at by
            // then at the latest.
            Err(_) => {
                self.next = (now + self.lease.pause()).min(self.deadline);
                Renewed::Failed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use layer_store::ErrorKind;

    use super::*;

    /// A lease of 300 ms: renewed after 100, relied on for 295, tried again 15 after a failure.
    fn renewal(sent: Instant) -> Renewal {
        Renewal::new(Lease::new(millis(300)).unwrap(), sent)
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[tokio::test(start_paused = true)]
    async fn each_reply_has_one_state_deadline_and_next_renewal() {
        let begin = Instant::now();
        let error = StoreError::unknown(ErrorKind::Timeout);
        // The reply to a renewal that was sent at 100 ms and when it came, then the state, its deadline and the next renewal.
        let table = [
            (Ok(Extended::Renewed), 110, Renewed::Held, 395, 200),
            (Ok(Extended::PutBack), 110, Renewed::PutBack, 395, 200),
            (Ok(Extended::Lost), 110, Renewed::Lost, 295, 100),
            // A reply that comes just in time, and one that comes too late.
            (Ok(Extended::Renewed), 294, Renewed::Held, 395, 200),
            (Ok(Extended::Renewed), 295, Renewed::Lost, 295, 100),
            (Ok(Extended::PutBack), 295, Renewed::Lost, 295, 100),
            (Err(&error), 110, Renewed::Failed, 295, 125),
            (Err(&error), 280, Renewed::Failed, 295, 295),
            (Err(&error), 290, Renewed::Failed, 295, 295),
        ];
        for (reply, now, state, deadline, next) in table {
            let mut renewal = renewal(begin);
            let took = renewal.take(reply, begin + millis(100), begin + millis(now));
            assert_eq!(took, state, "{reply:?} at {now}");
            assert_eq!(renewal.deadline(), begin + millis(deadline), "{reply:?}");
            assert_eq!(renewal.next(), begin + millis(next), "{reply:?} at {now}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_grant_is_renewed_after_a_third_and_ends_before_the_store_ends_it() {
        let begin = Instant::now();
        let renewal = renewal(begin);
        assert_eq!(renewal.next(), begin + millis(100));
        assert_eq!(renewal.deadline(), begin + millis(295));
        assert!(!renewal.has_ended(begin + millis(294)));
        assert!(renewal.has_ended(begin + millis(295)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_failed_to_be_renewed_is_saved_by_the_next_attempt() {
        let begin = Instant::now();
        let error = StoreError::not_applied(ErrorKind::Unavailable);
        let mut renewal = renewal(begin);
        let mut now = renewal.next();
        while now < begin + millis(200) {
            assert_eq!(renewal.take(Err(&error), now, now), Renewed::Failed);
            assert!(renewal.next() > now && !renewal.has_ended(now));
            now = renewal.next();
        }
        assert_eq!(renewal.take(Ok(Extended::Renewed), now, now), Renewed::Held);
        assert_eq!(renewal.deadline(), now + millis(295));
    }
}
