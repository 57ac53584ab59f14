use std::{fmt, sync::Arc, time::Duration};

/// What is known of a store without asking it anything. A wrapper amends what its inner store tells.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreInfo {
    /// The backend, such as `memory` or `redis`.
    pub name: &'static str,
    /// Whether other processes see it too.
    pub shared: bool,
    /// The longest value it takes, in bytes.
    pub max_value: usize,
    /// Whether a read may miss a write that was answered before.
    pub reads_may_lag: bool,
    /// Changes whenever the server may have forgotten writes: a restart, a failover. `None`: it cannot tell.
    pub incarnation: Option<u64>,
    /// Bytes received so far.
    pub received: u64,
    /// The longest that a call takes. `None`: nobody limits it.
    pub call_limit: Option<Duration>,
    /// How it is doing.
    pub health: Health,
}

/// How a store is doing.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Health {
    /// Its circuit breaker, if it has one.
    pub breaker: Option<BreakerHandle>,
    /// How long the last answered call took, if that is measured.
    pub last_latency: Option<Duration>,
}

impl StoreInfo {
    /// A store of this process alone, with nothing else known.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            shared: false,
            max_value: usize::MAX,
            reads_may_lag: false,
            incarnation: None,
            received: 0,
            call_limit: None,
            health: Health::default(),
        }
    }
}

/// Reads and resets a circuit breaker.
#[derive(Clone)]
pub struct BreakerHandle(Arc<dyn BreakerControl>);

/// Whether a circuit breaker lets calls through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BreakerState {
    /// It does.
    Closed,
    /// It refuses every call; a ping goes out each second.
    Open,
    /// It still refuses every call; the last ping came back.
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

    /// Whether it lets calls through.
    pub fn state(&self) -> BreakerState {
        self.0.state()
    }

    /// Failures in a row, as far as they were counted.
    pub fn failures(&self) -> u32 {
        self.0.failures()
    }

    /// Pings that came back in a row since it opened.
    pub fn successes(&self) -> u32 {
        self.0.successes()
    }

    /// Closes it at once.
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
    /// `closed`, `open` or `half-open`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}
