use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use metrics::{Counter, Gauge};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::names::{BREAKER_STATE, BREAKER_TRANSITIONS, COMMANDS, CONNECTIONS, IN_FLIGHT};
use crate::{BreakerHandle, BreakerState, StoreInfo};

/// The state that only the store knows, in the form of metrics. It does not keep the store alive.
pub(crate) struct Gauges {
    name: &'static str,
    backend: &'static str,
    traffic: OnceLock<Traffic>,
    breaker: OnceLock<Breaker>,
    published: Mutex<Published>,
    since: Instant,
    /// The time at which the next call publishes them, in milliseconds from `since`.
    due: AtomicU64,
}

/// The counts at the last time. A counter grows by the difference, since several stores may share it.
#[derive(Default)]
struct Published {
    commands: u64,
    entered: [u64; STATES.len()],
}

/// Those of a store that other processes share.
struct Traffic {
    commands: Counter,
    connections: Gauge,
    in_flight: Gauge,
}

/// Those of a store with a circuit breaker.
struct Breaker {
    state: Gauge,
    transitions: [Counter; STATES.len()],
}

impl Gauges {
    pub(super) fn new(name: &'static str, backend: &'static str) -> Self {
        Self {
            name,
            backend,
            traffic: OnceLock::new(),
            breaker: OnceLock::new(),
            published: Mutex::default(),
            since: Instant::now(),
            due: AtomicU64::new(0),
        }
    }

    /// Returns true once in each [`PERIOD`].
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let now = millis(now.saturating_duration_since(self.since));
        let due = self.due.load(Relaxed);
        let next = now.saturating_add(millis(PERIOD));
        now >= due
            && self
                .due
                .compare_exchange(due, next, Relaxed, Relaxed)
                .is_ok()
    }

    /// Publishes the properties of the store.
    pub(crate) fn publish(&self, info: &StoreInfo) {
        // Held to the end: of two that publish at once, the later one must not be overtaken.
        let mut published = self.published.lock();
        if info.shared {
            let traffic = self.traffic.get_or_init(|| self.find_traffic());
            traffic.connections.set(info.traffic.connections);
            traffic.in_flight.set(info.traffic.in_flight);
            let commands = grown(&mut published.commands, info.traffic.commands);
            traffic.commands.increment(commands);
        }
        if let Some(handle) = &info.health.breaker {
            let breaker = self.breaker.get_or_init(|| self.find_breaker());
            breaker.publish(handle, &mut published.entered);
        }
    }

    fn find_traffic(&self) -> Traffic {
        let labels = [self.name, self.backend];
        Traffic {
            commands: COMMANDS.find_counter(&labels),
            connections: CONNECTIONS.find_gauge(&labels),
            in_flight: IN_FLIGHT.find_gauge(&labels),
        }
    }

    fn find_breaker(&self) -> Breaker {
        let (name, backend) = (self.name, self.backend);
        Breaker {
            state: BREAKER_STATE.find_gauge(&[name, backend]),
            transitions: STATES
                .map(|state| BREAKER_TRANSITIONS.find_counter(&[name, backend, state.as_str()])),
        }
    }
}

impl Breaker {
    fn publish(&self, handle: &BreakerHandle, published: &mut [u64; STATES.len()]) {
        self.state.set(match handle.state() {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        });
        let counters = STATES.into_iter().zip(&self.transitions).zip(published);
        for ((state, transitions), published) in counters {
            transitions.increment(grown(published, handle.entered(state)));
        }
    }
}

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gauges")
            .field("name", &self.name)
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}

/// Returns by how much a count has grown since it was last published.
fn grown(published: &mut u64, now: u64) -> u64 {
    let grown = now.saturating_sub(*published);
    *published = now.max(*published);
    grown
}

const STATES: [BreakerState; 3] = [
    BreakerState::Closed,
    BreakerState::HalfOpen,
    BreakerState::Open,
];
/// The period in which calls publish the gauges.
const PERIOD: Duration = Duration::from_secs(1);
