use std::time::Duration;

use layer_store::{Context, Effect, ErrorKind, Op, Reply, SharedStore, Store, StoreError};
use tokio::time::{Instant, sleep_until, timeout_at};

/// How long a command is repeated, and when.
///
/// A claim that may have happened has to be asked for again, with the same token: otherwise its owner would wait for itself.
#[derive(Debug)]
pub(crate) struct Patience {
    until: Instant,
    pause: Duration,
    /// Whether something may have been applied.
    unsure: bool,
    /// Whether to repeat what certainly was not.
    insists: bool,
}

impl Patience {
    /// For a caller that waits: repeats nothing but what may have happened.
    pub(crate) fn of_caller() -> Self {
        Self {
            until: Instant::now() + CALLER,
            pause: FIRST_PAUSE,
            unsure: false,
            insists: false,
        }
    }

    /// For work in the background, which repeats whatever failed.
    pub(crate) fn until(until: Instant) -> Self {
        Self {
            until,
            pause: FIRST_PAUSE,
            unsure: false,
            insists: true,
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.until
    }

    /// Whether something that failed may have been applied all the same.
    pub(crate) fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// Whether to ask again after `error`, once it is time to.
    pub(crate) async fn outlasts(&mut self, error: &StoreError) -> bool {
        self.unsure |= error.effect() == Effect::Unknown;
        let passes = matches!(
            error.kind(),
            ErrorKind::Unavailable
                | ErrorKind::Timeout
                | ErrorKind::Deadline
                | ErrorKind::Throttled
        );
        let next = Instant::now() + self.pause;
        if !passes || !(self.unsure || self.insists) || next >= self.until {
            return false;
        }
        sleep_until(next).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}

/// One command, ended at `until` whether or not the store keeps time itself.
pub(crate) async fn ask(
    store: &SharedStore,
    op: &Op<'_>,
    cx: Context,
    until: Instant,
) -> Result<Reply, StoreError> {
    if let Some(result) = store.call_now(op, &cx) {
        return result;
    }
    let cx = cx.until(until.into_std());
    match timeout_at(until, store.call(op, &cx)).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::unknown(ErrorKind::Deadline)),
    }
}

/// How long a caller waits for a store that does not answer.
const CALLER: Duration = Duration::from_millis(500);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
