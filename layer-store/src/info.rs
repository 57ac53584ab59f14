use std::{fmt, sync::Arc, time::Duration};

/// The properties of a store, known without a call. A wrapper changes those of its inner store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreInfo {
    /// The backend, such as `memory` or `redis`.
    pub name: &'static str,
    /// True if other processes see the same entries.
    pub shared: bool,
    /// The longest value that it takes, in bytes.
    pub max_value: usize,
    /// True if a read may miss a write that was confirmed before.
    pub reads_may_lag: bool,
    /// A number that changes when the server may have forgotten writes, as after a restart or a failover. `None`: the store
    /// cannot tell.
    pub incarnation: Option<u64>,
    /// The bytes received so far.
    pub received: u64,
    /// True if [`call_now`](crate::Store::call_now) answers nearly always, so that it is worth making keys for it. False for a
    /// store that is reached over a network.
    pub answers_now: bool,
    /// True if each call ends by its [deadline](crate::Context::deadline) without a timer round it.
    pub keeps_deadlines: bool,
    /// The limit of a call. `None`: there is none.
    pub call_limit: Option<Duration>,
    /// The store's health.
    pub health: Health,
}

/// The health of a store, known without a call.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Health {
    /// The store's circuit breaker, if it has one.
    pub breaker: Option<BreakerHandle>,
    /// The time that the last successful call took. `None`: it is not measured, or there was no call.
    pub last_latency: Option<Duration>,
}

impl StoreInfo {
    /// Makes the properties of a store for this process alone, with all others unknown.
    ///
    /// ```
    /// use layer_store::StoreInfo;
    ///
    /// let mut info = StoreInfo::new("postgres");
    /// info.shared = true;
    /// ```
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            shared: false,
            max_value: usize::MAX,
            reads_may_lag: false,
            incarnation: None,
            received: 0,
            answers_now: false,
            keeps_deadlines: false,
            call_limit: None,
            health: Health::default(),
        }
    }
}

/// A handle to a circuit breaker: reads its state and resets it. It does not keep the store alive.
#[derive(Clone)]
pub struct BreakerHandle(Arc<dyn BreakerControl>);

/// The state of a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// Every call is refused. A probe tries the store from time to time.
    Open,
    /// Every call is refused. The last probe was answered, and the next decides.
    HalfOpen,
}

pub(crate) trait BreakerControl: Send + Sync {
    fn state(&self) -> BreakerState;
    fn failures(&self) -> u32;
    fn successes(&self) -> u32;
    fn reset(&self);
}

impl BreakerHandle {
    pub(crate) fn new(control: Arc<dyn BreakerControl>) -> Self {
        Self(control)
    }

    /// Returns the state.
    pub fn state(&self) -> BreakerState {
        self.0.state()
    }

    /// Returns the number of failures in a row that were counted. Counting stops when the breaker opens.
    pub fn failures(&self) -> u32 {
        self.0.failures()
    }

    /// Returns the number of probes in a row that were answered since the breaker opened.
    pub fn successes(&self) -> u32 {
        self.0.successes()
    }

    /// Closes the breaker at once.
    pub fn reset(&self) {
        self.0.reset();
    }
}

impl fmt::Debug for BreakerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerHandle")
            .field("state", &self.state())
            .field("failures", &self.failures())
            .field("successes", &self.successes())
            .finish()
    }
}

impl BreakerState {
    /// Returns `closed`, `open` or `half-open`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_a_name() {
        let states = [
            BreakerState::Closed,
            BreakerState::Open,
            BreakerState::HalfOpen,
        ];
        assert_eq!(
            states.map(BreakerState::as_str),
            ["closed", "open", "half-open"]
        );
    }

    #[test]
    fn nothing_is_claimed_of_an_unknown_store() {
        let info = StoreInfo::new("map");
        assert_eq!(
            (info.name, info.shared, info.reads_may_lag),
            ("map", false, false)
        );
        assert_eq!((info.max_value, info.received), (usize::MAX, 0));
        assert_eq!((info.incarnation, info.call_limit), (None, None));
        assert!(info.health.breaker.is_none() && info.health.last_latency.is_none());
    }
}
