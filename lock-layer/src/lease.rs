use std::{error::Error, fmt, time::Duration};

use layer_store::Ttl;
use tokio::time::Instant;

/// How long a lock is granted at a time, and what follows from it. Time comes in as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease(Duration);

/// A lease that cannot work, with what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidLease(Duration);

impl Lease {
    pub(crate) const DEFAULT: Self = Self(Duration::from_secs(30));

    pub(crate) fn new(lease: Duration) -> Result<Self, InvalidLease> {
        match (SHORTEST..=LONGEST).contains(&lease) {
            true => Ok(Self(lease)),
            false => Err(InvalidLease(lease)),
        }
    }

    /// What the store is told.
    pub(crate) fn ttl(self) -> Ttl {
        Ttl::try_from(self.0).expect("a lease is at least 10 ms")
    }

    /// Until when a holder that asked at `sent` may rely on its lock: a little less long than the store grants it, since its
    /// clock may run 1 % faster than ours, and rounds.
    pub(crate) fn deadline(self, sent: Instant) -> Instant {
        sent + (self.0 - self.0 / 100 - ROUNDING)
    }

    /// When a lock asked for at `sent` is renewed.
    pub(crate) fn renewal(self, sent: Instant) -> Instant {
        sent + self.0 / 3
    }

    /// How long after a renewal that failed the next is tried.
    pub(crate) fn pause(self) -> Duration {
        (self.0 / 20).min(Duration::from_secs(1))
    }
}

impl fmt::Display for InvalidLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a lease of {:?} cannot work: write 10 ms to 12 h, such as Duration::from_secs(30)",
            self.0
        )
    }
}

impl Error for InvalidLease {}

const SHORTEST: Duration = Duration::from_millis(10);
/// A fence outlives any lease.
const LONGEST: Duration = Duration::from_secs(12 * 3600);
const ROUNDING: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_holder_gives_up_before_the_store_does() {
        let sent = Instant::now();
        for millis in [10, 11, 200, 1_000, 30_000, 12 * 3_600_000] {
            let lease = Lease::new(Duration::from_millis(millis)).unwrap();
            let granted = Duration::from_millis(millis);
            let own = lease.deadline(sent) - sent;
            assert!(
                own <= granted.mul_f64(0.99) - ROUNDING + Duration::from_nanos(1),
                "{millis}"
            );
            assert!(own > lease.renewal(sent) - sent + lease.pause(), "{millis}");
        }
    }

    #[test]
    fn a_lease_that_cannot_work_says_what_to_write() {
        for wrong in [Duration::ZERO, Duration::from_millis(9), Duration::MAX] {
            let error = Lease::new(wrong).unwrap_err().to_string();
            assert!(error.contains("write 10 ms to 12 h"), "{error}");
        }
    }
}
