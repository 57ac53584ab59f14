use std::{
    error::Error,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use layer_store::{ErrorKind, StoreError, StoreInfo};

/// The reason why a limit could not be checked.
///
/// The layer answers 503 and puts it into the response's extensions, inside a
/// [`RateLimitRefusal`](crate::RateLimitRefusal).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unavailable {
    /// The store is gone, slow, or its reply makes no sense.
    StoreDown,
    /// The store is full of entries that it must keep.
    StoreFull,
}

/// The failures of a limiter's store: what they mean for a request, and which of them get an event.
#[derive(Debug)]
pub(crate) struct Outage {
    /// True if a breaker warns of an outage, so that we need not.
    has_breaker: bool,
    /// The number of failed checks that nobody else warns of.
    untold: AtomicU64,
}

impl Outage {
    /// Starts counting for a store.
    pub(crate) fn of(store: &StoreInfo) -> Self {
        Self::new(store.health.breaker.is_some())
    }

    const fn new(has_breaker: bool) -> Self {
        Self {
            has_breaker,
            untold: AtomicU64::new(0),
        }
    }

    /// Decides on a request whose check failed. `closed`: one of the limits fails closed. `None`: the request passes.
    #[cold]
    pub(crate) fn decide(&self, error: &StoreError, closed: bool) -> Option<Unavailable> {
        tracing::debug!(kind = ?error.kind(), closed, "rate limit not checked");
        if !self.is_told_by_breaker(error.kind()) {
            self.tell(error, closed);
        }
        let reason = match error.kind() {
            ErrorKind::Full => Unavailable::StoreFull,
            _ => Unavailable::StoreDown,
        };
        closed.then_some(reason)
    }

    /// Returns true if a breaker warns of such failures once they are an outage.
    const fn is_told_by_breaker(&self, kind: ErrorKind) -> bool {
        self.has_breaker
            && matches!(
                kind,
                ErrorKind::Unavailable
                    | ErrorKind::Timeout
                    | ErrorKind::Throttled
                    | ErrorKind::Deadline
            )
    }

    /// Warns of the first failure, and then at each doubling of their number: no limit is off in silence, and no log overflows.
    fn tell(&self, error: &StoreError, closed: bool) {
        let times = self.untold.fetch_add(1, Relaxed) + 1;
        if !times.is_power_of_two() {
            return;
        }
        match error.kind() {
            ErrorKind::Full => tracing::warn!(
                times,
                closed,
                "the store of a rate limit is full of entries that it must keep: give it a larger capacity"
            ),
            kind => tracing::warn!(
                ?kind,
                error = error.source().map(tracing::field::display),
                times,
                closed,
                "a rate limit is not checked: its store fails for a reason that no breaker reports"
            ),
        }
    }
}
