use std::{fmt, sync::Arc, time::Duration};

use crate::Finding;

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
    /// The bytes received so far, so that a [`Timeout`](crate::wrap::Timeout) can tell a store that hangs from one that is still
    /// sending. 0 for a store that [keeps deadlines](Self::keeps_deadlines) and tells that itself.
    pub received: u64,
    /// True if [`call_now`](crate::Store::call_now) answers nearly always, so that it is worth making keys for it. False for a
    /// store that is reached over a network.
    pub answers_now: bool,
    /// True if each call ends by its [deadline](crate::Context::deadline) without a timer round it.
    pub keeps_deadlines: bool,
    /// True if a [`watch`](crate::Store::watch) gets hints. False: it never does.
    pub watches: bool,
    /// True while a [`wrap::Fallback`](crate::wrap::Fallback) answers from the memory of this process, because the store
    /// fails.
    pub degraded: bool,
    /// The limit of a call. `None`: there is none.
    pub call_limit: Option<Duration>,
    /// The findings about the server. Empty before the first connection, and for a store without a server.
    pub findings: Arc<[Finding]>,
    /// The traffic between this process and the server.
    pub traffic: Traffic,
    /// The store's health.
    pub health: Health,
    /// The gauges of a [`Metrics`](crate::wrap::Metrics) wrapper, to be published with these properties.
    #[cfg(feature = "metrics")]
    pub(crate) gauges: Option<std::sync::Arc<crate::wrap::metrics::Gauges>>,
}

/// The traffic between a process and the server of its store, known without a call. All zero if the store does not count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// The open connections.
    pub connections: u32,
    /// The calls that were begun and have no reply yet.
    pub in_flight: u32,
    /// The commands sent so far, those of connecting and of pings included.
    pub commands: u64,
}

/// The health of a store, known without a call.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Health {
    /// The store's circuit breaker, if it has one.
    pub breaker: Option<BreakerHandle>,
    /// The store's [`wrap::Fallback`](crate::wrap::Fallback), if it has one.
    pub fallback: Option<FallbackHandle>,
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
            watches: false,
            degraded: false,
            call_limit: None,
            findings: Arc::default(),
            traffic: Traffic::default(),
            health: Health::default(),
            #[cfg(feature = "metrics")]
            gauges: None,
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
    fn entered(&self, state: BreakerState) -> u64;
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

    /// Returns how often the breaker has changed into `state`. The closed state that it starts with is not counted.
    pub fn entered(&self, state: BreakerState) -> u64 {
        self.0.entered(state)
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

/// A handle to a [`wrap::Fallback`](crate::wrap::Fallback): shows if it answers from memory, and which kinds of keys it refuses
/// to read from its store. It does not keep the store alive.
#[derive(Clone)]
pub struct FallbackHandle(Arc<dyn FallbackControl>);

pub(crate) trait FallbackControl: Send + Sync {
    fn is_degraded(&self) -> bool;
    fn refused(&self) -> Vec<&'static str>;
    fn trust(&self, kind: &str);
}

impl FallbackHandle {
    pub(crate) fn new(control: Arc<dyn FallbackControl>) -> Self {
        Self(control)
    }

    /// Returns true while the memory of this process answers.
    pub fn is_degraded(&self) -> bool {
        self.0.is_degraded()
    }

    /// Returns the kinds of keys whose values are answered as absent, because more of them were deleted during an outage than
    /// could be remembered.
    pub fn refused(&self) -> Vec<&'static str> {
        self.0.refused()
    }

    /// Reads values of `kind` from the store again, at once.
    ///
    /// For an operator who knows that nothing in the store is out of date, such as after a purge of everything.
    pub fn trust(&self, kind: &str) {
        self.0.trust(kind);
    }
}

impl fmt::Debug for FallbackHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackHandle")
            .field("is_degraded", &self.is_degraded())
            .field("refused", &self.refused())
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
        assert!(!info.watches);
        assert_eq!((info.incarnation, info.call_limit), (None, None));
        assert_eq!(info.traffic, Traffic::default());
        assert!(info.health.breaker.is_none() && info.health.last_latency.is_none());
    }
}
