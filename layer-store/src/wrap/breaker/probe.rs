//! The task that tries a store while its breaker is open.

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::circuit::Circuit;
use crate::{
    Condition, Context, ErrorKind, IdentityRef, Key, KeySpace, Op, Reply, Retention, Store,
    StoreError, StoreExt, Ttl, Value,
};

/// Tries a store until its circuit is closed. It does not keep the store alive.
pub(super) struct Probe<T> {
    store: Weak<T>,
    circuit: Arc<Circuit>,
    space: KeySpace,
}

/// The sign that the result of a probe gives of the store.
#[derive(Debug, PartialEq, Eq)]
enum Sign {
    /// It answers.
    Alive,
    /// It fails.
    Failing,
    /// Nothing: this process was too busy.
    None,
}

impl<T: Store> Probe<T> {
    pub(super) fn new(store: Weak<T>, circuit: Arc<Circuit>) -> Self {
        Self {
            store,
            circuit,
            space: KeySpace::new("probe", "breaker"),
        }
    }

    /// Sends probes, the first after `first` and then every `period`, until the circuit is closed or the store is dropped.
    pub(super) async fn run(self, first: Duration, period: Duration) {
        let mut ticks = interval_at(Instant::now() + first, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // After an answer the next probe follows at once, otherwise at the next tick.
            while let Some(store) = self.store.upgrade() {
                match Sign::of(&self.try_store(&*store).await) {
                    Sign::Alive if self.circuit.probe_answered() => return,
                    Sign::Alive => {}
                    Sign::Failing => {
                        self.circuit.probe_failed();
                        break;
                    }
                    Sign::None => break,
                }
            }
            if self.circuit.is_closed() || self.store.strong_count() == 0 {
                return;
            }
        }
    }

    /// Does what the calls did that failed.
    async fn try_store(&self, store: &T) -> Result<Reply, StoreError> {
        let cx = Context::new("breaker");
        // A ping in any case: it costs a server next to nothing, and a store may find by it that its connection is dead.
        let answer = store.apply(&Op::Ping, &cx).await;
        if Sign::of(&answer) != Sign::Alive || !self.circuit.writes_fail() {
            return answer;
        }
        let write = Op::Set {
            key: &Key::new(&self.space, IdentityRef::Int(process())),
            value: &Value::from("1"),
            expiry: LIFE.into(),
            condition: Condition::Always,
            retention: Retention::Evictable,
        };
        store.apply(&write, &cx).await
    }
}

impl Sign {
    fn of(result: &Result<Reply, StoreError>) -> Self {
        let Err(error) = result else {
            return Self::Alive;
        };
        match error.kind() {
            kind if kind.is_outage() => Self::Failing,
            ErrorKind::Overloaded | ErrorKind::Deadline => Self::None,
            // The server does not allow this write, or has no room for it: it is there, and calls find out more.
            _ => Self::Alive,
        }
    }
}

/// Returns a number that no other process has, so that the probes of many processes are spread over a Cluster.
fn process() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    static PROCESS: OnceLock<u64> = OnceLock::new();
    *PROCESS.get_or_init(|| RandomState::new().hash_one(std::process::id()))
}

/// The life of the value that a probe writes.
const LIFE: Ttl = Ttl::from_millis(10_000).expect("10 s is not zero");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_is_no_failure_is_an_answer_and_one_of_this_process_is_nothing() {
        let sign = |kind| Sign::of(&Err(StoreError::not_applied(kind)));
        for kind in [
            ErrorKind::Full,
            ErrorKind::TooLarge,
            ErrorKind::Rejected,
            ErrorKind::CrossTag,
            ErrorKind::Unsupported,
            ErrorKind::Corrupt,
        ] {
            assert_eq!(sign(kind), Sign::Alive);
        }
        for kind in [
            ErrorKind::Unavailable,
            ErrorKind::Timeout,
            ErrorKind::Throttled,
        ] {
            assert_eq!(sign(kind), Sign::Failing);
        }
        assert_eq!(sign(ErrorKind::Overloaded), Sign::None);
        assert_eq!(sign(ErrorKind::Deadline), Sign::None);
        assert_eq!(Sign::of(&Ok(Reply::Pong)), Sign::Alive);
    }
}
