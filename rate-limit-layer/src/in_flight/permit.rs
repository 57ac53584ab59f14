use std::{fmt, mem, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{permits::Permits, token::Token};
use crate::check::partition::Partition;

/// The right to be in flight, until it is dropped.
///
/// A task renews it over a store behind a network. Dropped, it is given back: at once on a memory store, else by a task that
/// nothing waits for. If that fails, it is tried again until the lease has ended. If the runtime is gone, the permit is free when
/// its lease ends.
///
/// ```
/// use rate_limit_layer::{InFlightLimiter, MaxInFlight, store::MemoryStore};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let exports = InFlightLimiter::new(MemoryStore::new(), MaxInFlight::new(2).name("exports").fail_closed());
/// let first = exports.try_acquire("ada").await?;
/// let second = exports.try_acquire("ada").await?;
/// assert_eq!(second.in_flight(), Some(2));
/// assert!(exports.try_acquire("ada").await.is_err());
/// drop(first);
/// assert!(exports.try_acquire("ada").await.is_ok());
/// # Ok::<_, rate_limit_layer::InFlightRefusal>(())
/// # }).unwrap();
/// ```
#[must_use = "a permit that is dropped is given back"]
pub struct Permit {
    permits: Arc<Permits>,
    partition: Partition<'static>,
    token: Token,
    state: State,
    /// When it was taken, in Unix microseconds.
    taken_at: u64,
    in_flight: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The store is not asked so far, or did not take a permit.
    Pending,
    /// The store may have taken a permit.
    Sent,
    /// It is held, and renewed.
    Listed,
    /// It is held in the memory of this process, where nothing need be renewed.
    Unlisted,
}

impl Permit {
    /// Makes a permit that is still to be taken.
    pub(super) fn pending(
        permits: Arc<Permits>,
        partition: Partition<'static>,
        token: Token,
    ) -> Self {
        let this = Self::new(permits, partition, token, State::Pending);
        let renew_at = this.permits.renew_at(Instant::now());
        let mut held = this.permits.held.lock();
        held.begin(this.bits(), &this.partition, renew_at);
        drop(held);
        this
    }

    /// Makes a permit that was taken from a store that answers at once.
    pub(super) fn unlisted(
        permits: Arc<Permits>,
        partition: Partition<'static>,
        token: Token,
        in_flight: u32,
    ) -> Self {
        let mut this = Self::new(permits, partition, token, State::Unlisted);
        this.in_flight = Some(in_flight);
        this
    }

    fn new(
        permits: Arc<Permits>,
        partition: Partition<'static>,
        token: Token,
        state: State,
    ) -> Self {
        Self {
            taken_at: permits.clock.now(),
            permits,
            partition,
            token,
            state,
            in_flight: None,
        }
    }

    /// ## Pending => Sent: from here on the store may have taken it.
    pub(super) const fn sent(&mut self) {
        self.state = State::Sent;
    }

    /// ## Sent => Pending: the store has not taken it.
    pub(super) const fn not_sent(&mut self) {
        self.state = State::Pending;
    }

    /// ## Sent => Listed: the store has taken it.
    pub(super) fn hold(&mut self, in_flight: u32, renew_at: Instant) {
        let (bits, token) = (self.bits(), self.token);
        self.permits.held.lock().hold(bits, token, renew_at);
        self.in_flight = Some(in_flight);
        self.state = State::Listed;
    }

    /// ## (Pending | Sent) => Listed, if this process may hold one more of `share`.
    pub(super) fn hold_unseen(&mut self, share: u32, renew_at: Instant) -> bool {
        let (bits, token) = (self.bits(), self.token);
        let mut held = self.permits.held.lock();
        let is_held = held.hold_unseen(bits, token, share, renew_at);
        drop(held);
        if is_held {
            self.state = State::Listed;
        }
        is_held
    }

    pub(super) const fn partition(&self) -> &Partition<'static> {
        &self.partition
    }

    /// Returns how many of its identity were in flight when it was taken, with this one. `None`: the store did not answer.
    pub const fn in_flight(&self) -> Option<u32> {
        self.in_flight
    }

    /// Returns how many more of its identity could be in flight when it was taken. `None`: the store did not answer.
    pub fn remaining(&self) -> Option<u32> {
        let limit = self.permits.limit.limit;
        Some(limit.saturating_sub(self.in_flight?))
    }

    fn bits(&self) -> u128 {
        self.permits.limit.key(&self.partition).bits()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let (bits, permits) = (self.bits(), &self.permits);
        let is_to_be_given_back = match self.state {
            State::Pending => {
                permits.held.lock().cancel(bits);
                false
            }
            State::Sent => {
                permits.held.lock().cancel(bits);
                true
            }
            State::Listed => {
                let until = permits.lease_end();
                permits.held.lock().take_out(bits, self.token, until)
            }
            State::Unlisted => true,
        };
        if matches!(self.state, State::Listed | State::Unlisted) {
            let micros = permits.clock.now().saturating_sub(self.taken_at);
            permits.typical_hold.learn(Duration::from_micros(micros));
        }
        if is_to_be_given_back {
            let nobody = Partition {
                identity: 0_u64.into(),
                fallback: false,
            };
            let partition = mem::replace(&mut self.partition, nobody);
            permits.give_back_soon(partition, self.token);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("policy", &self.permits.limit.name)
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}
