//! A lock: who holds which units, for how long, and who renews it.
//!
//! - [`locks`]: `Locks` and `LockGroup`, what users type. [`units`]: one unit or a list.
//! - [`waiting`]: to wait for units, and [`waiting_room`], which says whose turn it is.
//! - [`acquiring`]: from a holder to a guard. [`guard`]: what a holder keeps. [`held_lock`]: what may be done with a lock.
//! - [`keeping`]: who has a lock, its guard or its [`keeper`]: the task that renews all locks of a runtime. [`nursery`]: the locks
//!   that it need not watch yet. [`renewal`]: when it renews, and when a lock is lost. [`still_held`]: looks if one is still there.
//!   [`together`]: many locks in one round trip.
//! - [`holder`]: units and a token. [`acquire`], [`extend`], [`release`], [`operator`]: its operations.
//! - [`programs`]: the atomic steps in the store. [`shared_programs`]: those of holders who share units, and [`shared_lock`]: the
//!   stored form of such a lock. [`mode`]: which of the two a holder wants.

pub(crate) mod acquire;
pub(crate) mod acquiring;
pub(crate) mod config;
#[cfg(feature = "axum")]
pub(crate) mod extract;
pub(crate) mod guard;
pub(crate) mod holder;
pub(crate) mod locks;
pub(crate) mod mode;
pub(crate) mod programs;
pub(crate) mod release;
pub(crate) mod shared_programs;
pub(crate) mod units;

mod extend;
mod held_lock;
mod holder_token;
mod keeper;
mod keeping;
mod nursery;
mod operator;
mod renewal;
mod shared_lock;
mod still_held;
mod together;
pub(crate) mod waiting;
mod waiting_room;

use std::{error::Error, fmt, time::Duration};

use layer_store::Ttl;
use tokio::time::Instant;

/// The time for which a lock is granted, and the times that follow from it. Time comes in as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease(Duration);

/// The error of a lease that is shorter than 10 ms or longer than 12 h.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidLease(Duration);

impl Lease {
    /// 30 s.
    pub(crate) const DEFAULT: Self = Self(Duration::from_secs(30));

    pub(crate) fn new(lease: Duration) -> Result<Self, InvalidLease> {
        match (MIN_LEASE..=MAX_LEASE).contains(&lease) {
            true => Ok(Self(lease)),
            false => Err(InvalidLease(lease)),
        }
    }

    /// Returns the time after which the store ends the lock.
    pub(crate) fn ttl(self) -> Ttl {
        Ttl::try_from(self.0).expect("a lease is at least 10 ms")
    }

    /// Returns the time until which a holder that asked at `sent` may rely on its lock.
    ///
    /// It is a little earlier than the store's: the store's clock may run 1 % faster than ours, and it rounds.
    pub(crate) fn deadline(self, sent: Instant) -> Instant {
        sent + (self.0 - self.0 / 100 - ROUNDING)
    }

    /// Returns the time at which a lock that was asked for at `sent` is renewed.
    pub(crate) fn renewal(self, sent: Instant) -> Instant {
        sent + self.0 / 3
    }

    /// Returns the time for which a lock is young: it is not watched and not renewed.
    pub(crate) fn youth(self) -> Duration {
        (self.0 / 3).min(YOUNG)
    }

    /// Returns the time by which a lock may be renewed early, together with one that is due.
    pub(super) fn slack(self) -> Duration {
        self.0 / 30
    }

    /// Returns the pause between a renewal that failed and the next attempt.
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

/// With a store's own time it makes less than 100 ms until a loss is told.
const YOUNG: Duration = Duration::from_millis(50);
const MIN_LEASE: Duration = Duration::from_millis(10);
/// A fencing token, which is kept for a day, outlives any lease.
const MAX_LEASE: Duration = Duration::from_secs(12 * 3600);
/// The store counts in whole milliseconds, and may cut one off at each end.
const ROUNDING: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    mod golden;
    mod locks;
    mod moments;
    mod programs;
    mod protocols;
    mod schedules;
    mod shared;

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

    #[tokio::test(start_paused = true)]
    async fn the_times_of_a_lease_follow_from_it() {
        let sent = Instant::now();
        let lease = Lease::DEFAULT;
        assert_eq!(lease.ttl().as_millis(), 30_000);
        assert_eq!(lease.renewal(sent) - sent, Duration::from_secs(10));
        assert_eq!(lease.deadline(sent) - sent, Duration::from_millis(29_698));
        assert_eq!(lease.pause(), Duration::from_secs(1));
        let short = Lease::new(Duration::from_secs(10)).unwrap();
        assert_eq!(short.pause(), Duration::from_millis(500));
    }

    #[test]
    fn the_bounds_of_a_lease_are_possible() {
        for bound in [Duration::from_millis(10), Duration::from_secs(12 * 3600)] {
            assert_eq!(Lease::new(bound), Ok(Lease(bound)));
        }
        let longer = Duration::from_secs(12 * 3600) + Duration::from_nanos(1);
        assert!(Lease::new(longer).is_err());
    }

    #[test]
    fn a_lease_that_cannot_work_says_what_to_write() {
        for wrong in [Duration::ZERO, Duration::from_millis(9), Duration::MAX] {
            let error = Lease::new(wrong).unwrap_err().to_string();
            assert!(error.contains("write 10 ms to 12 h"), "{error}");
        }
    }
}
