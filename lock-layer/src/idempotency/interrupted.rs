//! Runs that were dropped with their runtime. Nothing can be awaited then, so they are settled later.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use super::{
    config::IdempotencyConfig, fingerprint::RecordName, handler_run::HandlerRun, record::RunId,
};

/// The runs of a layer that were dropped before they were settled.
#[derive(Default)]
pub(super) struct InterruptedRuns {
    /// True if there are some, for a look without the lock.
    some: AtomicBool,
    runs: Mutex<Vec<(RecordName, RunId)>>,
}

/// Notes a run as interrupted if it is dropped before [`settled`](Self::settled).
pub(super) struct Interruption(Option<HandlerRun>);

impl InterruptedRuns {
    pub(super) fn push(&self, name: RecordName, id: RunId) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.push((name, id));
        self.some.store(true, Relaxed);
    }

    /// Takes the runs, to settle them.
    pub(super) fn take(&self) -> Vec<(RecordName, RunId)> {
        if !self.some.load(Relaxed) {
            return Vec::new();
        }
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        self.some.store(false, Relaxed);
        std::mem::take(&mut runs)
    }
}

impl Interruption {
    /// Watches over `run`, whose handler is about to begin.
    pub(super) fn of(run: &HandlerRun) -> Self {
        Self(Some(run.clone()))
    }

    /// Tells that the run has an end, which is settled now.
    pub(super) fn settled(mut self) {
        self.0 = None;
    }
}

impl Drop for Interruption {
    fn drop(&mut self) {
        if let Some(run) = &self.0 {
            run.interrupted();
        }
    }
}

/// Settles the runs that were interrupted, in the background.
pub(super) fn settle_interrupted(config: &std::sync::Arc<IdempotencyConfig>) {
    for (name, id) in config.interrupted.take() {
        let run = HandlerRun::resumed(config.clone(), name, id);
        let tracked = config.tracker.begin();
        tokio::spawn(async move {
            let _tracked = tracked;
            run.settle_in_background(&run.broken_off()).await;
        });
    }
}

impl fmt::Debug for InterruptedRuns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InterruptedRuns")
    }
}
