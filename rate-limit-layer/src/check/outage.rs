use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use layer_store::{Clock, ErrorKind, Op, Reply, StoreError, StoreInfo};

use crate::{check::overflow::Overflow, metrics::Unanswered, policy::limit_set::LimitSet};

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
    /// This process is too busy: a command could not be sent, or its reply could not be read, in time. The store is not to
    /// blame.
    Overloaded,
}

impl Unavailable {
    #[cfg(feature = "metrics")]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::StoreDown => "store_down",
            Self::StoreFull => "store_full",
            Self::Overloaded => "overloaded",
        }
    }

    const fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Full => Self::StoreFull,
            ErrorKind::Overloaded => Self::Overloaded,
            _ => Self::StoreDown,
        }
    }
}

/// The failures of a limiter's store: what they mean for a request, and which of them get an event.
#[derive(Debug)]
pub(crate) struct Outage {
    /// True if a breaker warns of an outage, so that we need not.
    has_breaker: bool,
    /// The number of failed checks that nobody else warns of, without those of `overloaded`.
    untold: AtomicU64,
    /// The number of checks for which this process was too busy.
    overloaded: AtomicU64,
    unanswered: Unanswered,
    /// For a store in memory, which may be full.
    overflow: Option<Overflow>,
}

impl Outage {
    /// Starts counting for a store.
    pub(crate) fn of(store: &StoreInfo) -> Self {
        Self::new(store.health.breaker.is_some())
    }

    fn new(has_breaker: bool) -> Self {
        Self {
            has_breaker,
            untold: AtomicU64::new(0),
            overloaded: AtomicU64::new(0),
            unanswered: Unanswered::default(),
            overflow: None,
        }
    }

    /// Gives newcomers a shared partition while the store is full.
    pub(crate) fn with_overflow(mut self, clock: Clock) -> Self {
        self.overflow = Some(Overflow::new(clock));
        self
    }

    /// Returns the reply to a command for `members` and the `blocks` of some: that of the shared partition, if the store has no room for theirs.
    #[inline]
    pub(crate) fn or_overflow(
        &self,
        reply: Result<Reply, StoreError>,
        op: &Op<'_>,
        members: LimitSet,
        blocks: LimitSet,
    ) -> Result<Reply, StoreError> {
        match reply {
            Err(error) if error.kind() == ErrorKind::Full => {
                self.overflow(error, op, members, blocks)
            }
            reply => reply,
        }
    }

    #[cold]
    fn overflow(
        &self,
        error: StoreError,
        op: &Op<'_>,
        members: LimitSet,
        blocks: LimitSet,
    ) -> Result<Reply, StoreError> {
        let Some(overflow) = &self.overflow else {
            return Err(error);
        };
        let Some(output) = overflow.run(op, members, blocks) else {
            return Err(error);
        };
        if let Some(times) = self.count(ErrorKind::Full) {
            tracing::warn!(
                times,
                "the store of a rate limit is full of entries that it must keep, so new clients share one quota: \
                 give it a larger capacity"
            );
        }
        Ok(Reply::Output(output))
    }

    /// Decides on a request whose check failed. `closed`: one of the limits fails closed. `None`: the request passes.
    #[cold]
    pub(crate) fn decide(&self, error: &StoreError, closed: bool) -> Option<Unavailable> {
        if !self.is_told_by_breaker(error.kind()) {
            self.tell(error, closed);
        }
        let reason = Unavailable::of(error.kind());
        self.unanswered.count(reason);
        // ## Not checked => passes | refused
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

    /// Counts a failure. Returns their number at the first one and at each doubling: no limit is off in silence, and no log
    /// overflows.
    fn count(&self, kind: ErrorKind) -> Option<u64> {
        let counter = match kind {
            ErrorKind::Overloaded => &self.overloaded,
            _ => &self.untold,
        };
        let times = counter.fetch_add(1, Relaxed) + 1;
        times.is_power_of_two().then_some(times)
    }

    /// Warns of a failure, if it is its turn.
    fn tell(&self, error: &StoreError, closed: bool) {
        let Some(times) = self.count(error.kind()) else {
            return;
        };
        match error.kind() {
            ErrorKind::Full => tracing::warn!(
                error = %error.report(),
                times,
                closed,
                "the store of a rate limit is full of entries that it must keep: give it a larger capacity"
            ),
            ErrorKind::Overloaded => tracing::warn!(
                error = %error.report(),
                times,
                closed,
                "a rate limit is not checked: this process is too busy to ask its store in time"
            ),
            kind => tracing::warn!(
                ?kind,
                error = %error.report(),
                times,
                closed,
                "a rate limit is not checked: its store fails for a reason that no breaker reports"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: ErrorKind) -> StoreError {
        StoreError::unknown(kind)
    }

    #[test]
    fn a_request_passes_unless_a_limit_fails_closed() {
        for (kind, reason) in [
            (ErrorKind::Unavailable, Unavailable::StoreDown),
            (ErrorKind::Corrupt, Unavailable::StoreDown),
            (ErrorKind::Full, Unavailable::StoreFull),
            (ErrorKind::Overloaded, Unavailable::Overloaded),
        ] {
            let outage = Outage::new(false);
            assert_eq!(outage.decide(&error(kind), true), Some(reason));
            assert_eq!(outage.decide(&error(kind), false), None);
        }
    }

    #[test]
    fn a_breaker_tells_of_what_it_counts_and_of_nothing_else() {
        let outages = [
            ErrorKind::Unavailable,
            ErrorKind::Timeout,
            ErrorKind::Throttled,
            ErrorKind::Deadline,
        ];
        let others = [ErrorKind::Full, ErrorKind::Corrupt, ErrorKind::Rejected];
        let with = Outage::new(true);
        let without = Outage::new(false);
        for kind in outages.into_iter().chain(others) {
            with.decide(&error(kind), false);
            without.decide(&error(kind), false);
        }
        assert_eq!(with.untold.load(Relaxed), 3);
        assert_eq!(without.untold.load(Relaxed), 7);
    }

    #[test]
    fn failures_are_told_of_at_each_doubling() {
        let outage = Outage::new(false);
        let told: Vec<_> = (0..9)
            .filter_map(|_| outage.count(ErrorKind::Corrupt))
            .collect();
        assert_eq!(told, [1, 2, 4, 8]);
    }

    #[test]
    fn an_overload_of_this_process_is_told_of_by_itself() {
        let outage = Outage::new(true);
        for _ in 0..3 {
            outage.decide(&error(ErrorKind::Overloaded), true);
        }
        assert_eq!(outage.overloaded.load(Relaxed), 3);
        assert_eq!(outage.untold.load(Relaxed), 0);
    }

    #[test]
    fn the_breaker_of_a_store_is_found() {
        assert!(!Outage::of(&StoreInfo::new("test")).has_breaker);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let memory = layer_store::MemoryStore::new();
        let breaker = layer_store::wrap::Breaker::new(memory, runtime.handle().clone());
        assert!(Outage::of(&layer_store::Store::info(&breaker)).has_breaker);
    }
}
