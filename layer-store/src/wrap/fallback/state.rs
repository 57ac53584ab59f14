use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::{
    deleted_key::DeletedKey, pace::Pace, replay::Replay, settings::Settings, status::Status,
};
use crate::{Context, Key, MemoryStore, Op, Reply, Store, StoreError, wrap::keys};

/// If the store is away, and what it has yet to delete.
///
/// A call that the memory answers holds `outage` for reading from the look at it to the last delete that it adds. So an outage
/// ends before such a call or after it: no delete is added too late, and nothing is written to a memory that is gone.
///
/// `outage` is locked before the others.
#[derive(Debug)]
pub(super) struct State {
    /// `None`: the store is here.
    outage: RwLock<Option<Outage>>,
    replay: Mutex<Replay>,
    pace: Mutex<Pace>,
    status: Arc<Status>,
    /// The store's, for the warnings.
    name: &'static str,
}

/// An outage, and the memory that answers as long as it lasts. Each has a memory of its own, since what was left there by an
/// earlier one is out of date.
#[derive(Debug)]
struct Outage {
    memory: MemoryStore,
    began: Instant,
    /// The store answers again, and gets the deletes that it missed.
    returning: AtomicBool,
    answered: AtomicU64,
    replayed: AtomicU64,
}

impl Outage {
    fn apply(&self, op: &Op<'_>) -> Result<Reply, StoreError> {
        let result = self.memory.call_now(op, &Context::new("fallback"));
        result.expect("a memory store answers at once")
    }
}

/// The state of the store, as a call finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The store answers.
    Here,
    /// The memory answers.
    Away,
    /// The memory answers, and the store gets the deletes that it missed.
    Returning,
}

impl State {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            outage: RwLock::default(),
            replay: Mutex::new(Replay::new()),
            pace: Mutex::new(Pace::new()),
            status: Arc::default(),
            name,
        }
    }

    #[inline]
    pub(super) fn status(&self) -> &Arc<Status> {
        &self.status
    }

    #[inline]
    pub(super) fn phase(&self) -> Phase {
        if !self.status.degraded() {
            return Phase::Here;
        }
        match &*self.outage.read() {
            None => Phase::Here,
            Some(outage) if outage.returning.load(Acquire) => Phase::Returning,
            Some(_) => Phase::Away,
        }
    }

    /// Begins an outage with one warning, if there is none.
    #[cold]
    pub(super) fn begin(&self, why: &StoreError, settings: &Settings) {
        let mut current = self.outage.write();
        // ## Here => Away
        //
        // A call failed, as calls to a store that is away do. From here on the task alone tries the store.
        if current.is_some() {
            return;
        }
        let began = Instant::now();
        *current = Some(Outage {
            memory: settings.memory(),
            began,
            returning: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            replayed: AtomicU64::new(0),
        });
        self.pace.lock().begin(began);
        self.status.set_degraded(true);
        tracing::warn!(
            store = self.name,
            error = %why.report(),
            "the store fails: the memory of this process answers until it is back"
        );
    }

    /// Answers from the memory, and adds `deletes` to what the store missed. `None`: the store is here, nothing was done.
    pub(super) fn answer(
        &self,
        op: &Op<'_>,
        deletes: &[Key<'_>],
        settings: &Settings,
    ) -> Option<Result<Reply, StoreError>> {
        let current = self.outage.read();
        let outage = current.as_ref()?;
        let result = outage.apply(op);
        self.add(deletes, settings);
        self.add(&settings.compared_and_deleted(op, &result), settings);
        outage.answered.fetch_add(1, Relaxed);
        Some(result)
    }

    /// Removes from the memory what the store is asked to write.
    pub(super) fn forget(&self, op: &Op<'_>) {
        if let Some(outage) = &*self.outage.read() {
            for part in keys::parts(op) {
                // A memory store can always delete.
                let _ = outage.apply(&Op::DeleteMany(keys::written_by(part)));
            }
        }
    }

    /// Adds deletes that the store missed.
    pub(super) fn add(&self, keys: &[Key<'_>], settings: &Settings) {
        if keys.is_empty() {
            return;
        }
        let mut replay = self.replay.lock();
        for key in keys {
            replay.add(key, settings.max_deletes);
        }
    }

    /// Returns true if the store is here and has missed nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.outage.read().is_none() && self.replay.lock().is_empty()
    }

    /// Returns the time until the store is tried again.
    pub(super) fn wait(&self) -> Duration {
        self.pace.lock().next()
    }

    /// Returns the deletes that are sent next.
    pub(super) fn send(&self) -> Vec<Arc<DeletedKey>> {
        self.replay.lock().send()
    }

    /// The store answered, and applied the deletes that were sent.
    pub(super) fn answered(&self) {
        let sent = self.replay.lock().sent();
        if let Some(outage) = &*self.outage.read() {
            // ## Away => Returning
            //
            // Deletes are sent at once from here on, or the list of a busy process would never end.
            outage.returning.store(true, Release);
            outage.replayed.fetch_add(sent as u64, Relaxed);
        }
    }

    /// The store does not accept the deletes that were sent, and never will.
    pub(super) fn refused(&self) {
        self.replay.lock().refused();
    }

    /// The store failed again.
    pub(super) fn failed(&self) {
        self.replay.lock().not_sent();
        self.still_away();
    }

    /// ## Returning => Away
    ///
    /// A delete could not be sent. The task sends it with the others.
    pub(super) fn still_away(&self) {
        if let Some(outage) = &*self.outage.read() {
            outage.returning.store(false, Release);
        }
    }

    /// Ends the outage, with one warning, if no delete is left. Returns false if one is.
    pub(super) fn end(&self, settings: &Settings) -> bool {
        let mut current = self.outage.write();
        let mut replay = self.replay.lock();
        if !replay.is_empty() {
            return false;
        }
        // ## Returning => Here
        //
        // The memory goes with the outage. Calls that it is answering now hold the lock, and we wait for them.
        let overflowed = replay.take_overflowed();
        self.status.refuse(&overflowed, settings.refuse_for);
        if let Some(outage) = current.take() {
            self.pace.lock().end(Instant::now());
            self.status.set_degraded(false);
            self.warn_back(&outage);
        }
        if !overflowed.is_empty() {
            self.warn_refused(&overflowed);
        }
        true
    }

    fn warn_back(&self, outage: &Outage) {
        tracing::warn!(
            store = self.name,
            seconds = outage.began.elapsed().as_secs_f64(),
            answered = outage.answered.load(Relaxed),
            deletes = outage.replayed.load(Relaxed),
            "the store is back: it has applied the deletes that it missed, and answers again"
        );
    }

    fn warn_refused(&self, kinds: &[&'static str]) {
        tracing::warn!(
            store = self.name,
            ?kinds,
            "the store missed deletes that it cannot be told: values of these kinds are answered as absent for a while; \
             delete what is out of date, then call FallbackHandle::trust"
        );
    }
}
