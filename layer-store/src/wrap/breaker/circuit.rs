//! The state of a breaker, without its store and without a task: what is counted, and when it opens and closes.

use std::{
    error::Error,
    fmt,
    num::NonZeroU32,
    sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
};

use tokio::task::AbortHandle;

use crate::{
    BreakerState, ErrorKind, StoreError, background::Background, info::BreakerControl,
    wrap::call_end::StillReceiving,
};

/// The state of a breaker. It does not hold the store, so a handle to it does not keep the store alive.
pub(super) struct Circuit {
    phase: Phase,
    /// In tenths, as is `open_after`.
    failures: AtomicU32,
    /// True if a write is among these failures.
    writes_fail: AtomicBool,
    /// Probes in a row that were answered since the circuit opened.
    successes: AtomicU32,
    name: &'static str,
    open_after: u32,
    /// The task that tries the store while the circuit is open.
    ///
    /// Opening and closing hold this lock, so that each opening has exactly one task. The steps between open and half open
    /// are that task's own and need no lock.
    probe: Background,
}

impl Circuit {
    /// Makes a closed circuit. `name` is the store's, for the warnings.
    pub(super) const fn new(name: &'static str, open_after: NonZeroU32) -> Self {
        Self {
            phase: Phase::closed(),
            failures: AtomicU32::new(0),
            writes_fail: AtomicBool::new(false),
            successes: AtomicU32::new(0),
            name,
            open_after: open_after.get().saturating_mul(Weight::Full.tenths()),
            probe: Background::new(),
        }
    }

    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.phase.is_closed()
    }

    /// Ends a row of failures. Writes nothing if there is none: all threads read this line on every call.
    #[inline]
    pub(super) fn succeeded(&self) {
        if self.failures.load(Relaxed) != 0 && self.is_closed() {
            self.forget_failures();
        }
    }

    /// Counts a failed call, which was to write something or not. Returns true if the circuit must open now.
    #[cold]
    pub(super) fn failed(&self, weight: Weight, is_write: bool) -> bool {
        if weight == Weight::None {
            return false;
        }
        if is_write {
            self.writes_fail.store(true, Relaxed);
        }
        // A call that was sent before the circuit opened may fail after it. The circuit knows already.
        if !self.is_closed() {
            return false;
        }
        let weight = weight.tenths();
        self.failures
            .fetch_add(weight, Relaxed)
            .saturating_add(weight)
            >= self.open_after
    }

    /// Opens the circuit, with one warning, and keeps the task that `start_probe` starts. Does nothing if it is not closed:
    /// of many calls that fail at once one opens it.
    #[cold]
    pub(super) fn open(
        &self,
        why: &(impl fmt::Display + ?Sized),
        start_probe: impl FnOnce() -> AbortHandle,
    ) {
        let mut probe = self.probe.lock();
        // ## Closed => Open
        //
        // Enough failures in a row. From here on every call is refused, and the probe decides.
        if !self.phase.open() {
            return;
        }
        self.successes.store(0, Relaxed);
        tracing::warn!(
            store = self.name,
            failures = self.failures(),
            error = %why,
            "the store fails: calls are refused until it answers again"
        );
        probe.replace(start_probe());
    }

    /// Starts a new probe if the circuit is not closed and its task has ended without closing it, because the runtime that
    /// drove it has ended.
    #[cold]
    pub(super) fn keep_probing(&self, start_probe: impl FnOnce() -> AbortHandle) {
        // If the lock is taken, another call looks after it, or a step is under way.
        let Some(mut probe) = self.probe.try_lock() else {
            return;
        };
        if self.is_closed() || probe.is_running() {
            return;
        }
        // ## (Open | Half open) => Open, on another runtime
        //
        // An answer from before does not count: much may have happened since.
        self.probe_failed();
        tracing::debug!(store = self.name, "a probe is started on another runtime");
        probe.replace(start_probe());
    }

    /// Returns true if a write has failed: then the probe is a write too.
    ///
    /// A read-only replica, and a primary that cannot save or has too few replicas, still answer pings.
    pub(super) fn writes_fail(&self) -> bool {
        self.writes_fail.load(Relaxed)
    }

    /// Counts a probe that was not answered.
    pub(super) fn probe_failed(&self) {
        self.successes.store(0, Relaxed);
        // ## Half open => Open
        //
        // The first probe was answered and the second was not. The next one waits for its time.
        self.phase.reopen();
    }

    /// Counts a probe that was answered. Returns true if the circuit is closed now.
    pub(super) fn probe_answered(&self) -> bool {
        // ## Open => Half open
        //
        // One answer is not enough, because a store that is starting may answer one call and fail the next.
        self.phase.half_open();
        if self.successes.fetch_add(1, Relaxed) + 1 < CLOSE_AFTER {
            return false;
        }
        let _probe = self.probe.lock();
        self.close();
        true
    }

    /// Ends the probe, as when the store is dropped.
    pub(super) fn stop_probe(&self) {
        self.probe.stop();
    }

    /// Closes the circuit. The caller holds the lock on `probe`.
    fn close(&self) {
        // The count before the phase: as soon as the circuit is closed, the next failure is the first.
        self.forget_failures();
        // ## Half open => Closed, and any => Closed on a reset
        //
        // Calls go through again.
        if self.phase.close() {
            tracing::warn!(
                store = self.name,
                "the store is back: calls are let through"
            );
        }
    }
}

impl Circuit {
    fn forget_failures(&self) {
        self.failures.store(0, Relaxed);
        self.writes_fail.store(false, Relaxed);
    }
}

impl BreakerControl for Circuit {
    fn state(&self) -> BreakerState {
        self.phase.get()
    }

    fn failures(&self) -> u32 {
        self.failures.load(Relaxed) / Weight::Full.tenths()
    }

    fn successes(&self) -> u32 {
        self.successes.load(Relaxed)
    }

    fn entered(&self, state: BreakerState) -> u64 {
        self.phase.entered(state)
    }

    fn reset(&self) {
        let mut probe = self.probe.lock();
        self.close();
        // Otherwise the task would go on into a later outage, which has a task of its own.
        probe.end();
    }
}

/// A [`BreakerState`] that all threads read on each call.
///
/// A method named for a step takes it and returns true, or returns false if the phase is not the one that it starts from.
struct Phase {
    now: AtomicU8,
    /// The number of times that each was entered.
    entered: [AtomicU64; 3],
}

impl Phase {
    const CLOSED: u8 = 0;
    const OPEN: u8 = 1;
    const HALF_OPEN: u8 = 2;

    const fn closed() -> Self {
        Self {
            now: AtomicU8::new(Self::CLOSED),
            entered: [const { AtomicU64::new(0) }; 3],
        }
    }

    #[inline]
    fn is_closed(&self) -> bool {
        self.now.load(Relaxed) == Self::CLOSED
    }

    fn get(&self) -> BreakerState {
        match self.now.load(Relaxed) {
            Self::CLOSED => BreakerState::Closed,
            Self::HALF_OPEN => BreakerState::HalfOpen,
            _ => BreakerState::Open,
        }
    }

    fn open(&self) -> bool {
        self.step(Self::CLOSED, Self::OPEN)
    }

    fn half_open(&self) -> bool {
        self.step(Self::OPEN, Self::HALF_OPEN)
    }

    fn reopen(&self) -> bool {
        self.step(Self::HALF_OPEN, Self::OPEN)
    }

    /// Closes it from any phase. Returns false if it was closed.
    fn close(&self) -> bool {
        self.count(
            self.now.swap(Self::CLOSED, Relaxed) != Self::CLOSED,
            Self::CLOSED,
        )
    }

    fn entered(&self, state: BreakerState) -> u64 {
        let phase = match state {
            BreakerState::Closed => Self::CLOSED,
            BreakerState::Open => Self::OPEN,
            BreakerState::HalfOpen => Self::HALF_OPEN,
        };
        self.entered[usize::from(phase)].load(Relaxed)
    }

    fn count(&self, changed: bool, to: u8) -> bool {
        if changed {
            self.entered[usize::from(to)].fetch_add(1, Relaxed);
        }
        changed
    }

    fn step(&self, from: u8, to: u8) -> bool {
        let step = self.now.compare_exchange(from, to, Relaxed, Relaxed);
        self.count(step.is_ok(), to)
    }
}

/// The weight of an error against the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// Nothing: the store is well, this process is too busy, or the caller gave up.
    None,
    /// Little: the limit ran out while the store was still sending. Ten of these weigh as much as one failure.
    Late,
    /// A failure.
    Full,
}

impl Weight {
    pub(super) fn of(error: &StoreError) -> Self {
        let is_late = || {
            let source = error.source();
            source.is_some_and(|source| source.is::<StillReceiving>())
        };
        match error.kind() {
            ErrorKind::Timeout if is_late() => Self::Late,
            kind if kind.is_outage() => Self::Full,
            _ => Self::None,
        }
    }

    const fn tenths(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Late => 1,
            Self::Full => 10,
        }
    }
}

/// Answered probes in a row that close an open circuit.
const CLOSE_AFTER: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn circuit(open_after: u32) -> Circuit {
        Circuit::new("test", NonZeroU32::new(open_after).unwrap())
    }

    /// Any task will do: the circuit only aborts it.
    fn task() -> AbortHandle {
        tokio::spawn(std::future::pending::<()>()).abort_handle()
    }

    fn opened() -> Circuit {
        let circuit = circuit(1);
        circuit.open("test", task);
        circuit
    }

    #[test]
    fn it_must_open_at_the_last_failure_of_the_row_and_not_before() {
        let circuit = circuit(2);
        assert!(!circuit.failed(Weight::None, true));
        assert!(!circuit.failed(Weight::Full, false));
        assert_eq!(circuit.failures(), 1);
        for _ in 0..9 {
            assert!(!circuit.failed(Weight::Late, false));
        }
        assert_eq!(circuit.failures(), 1);
        assert!(circuit.failed(Weight::Late, false));
        assert_eq!(circuit.failures(), 2);
    }

    #[test]
    fn a_reply_ends_the_row() {
        let circuit = circuit(2);
        circuit.succeeded();
        assert!(!circuit.failed(Weight::Full, false));
        circuit.succeeded();
        assert!(!circuit.failed(Weight::Full, false));
        assert!(circuit.failed(Weight::Full, false));
    }

    #[test]
    fn a_row_of_any_length_can_be_asked_for() {
        let circuit = circuit(u32::MAX);
        for _ in 0..100 {
            assert!(!circuit.failed(Weight::Full, false));
        }
    }

    #[tokio::test]
    async fn it_opens_once_and_counts_nothing_while_it_is_open() {
        let circuit = opened();
        assert_eq!(circuit.state(), BreakerState::Open);
        circuit.open("again", || panic!("a second task"));
        assert!(!circuit.failed(Weight::Full, false));
        assert_eq!(circuit.failures(), 0);
        // A reply of a call from before does not reset the count, which a handle still shows.
        let circuit = self::circuit(1);
        assert!(circuit.failed(Weight::Full, false));
        circuit.open("test", task);
        circuit.succeeded();
        assert_eq!(circuit.failures(), 1);
    }

    #[tokio::test]
    async fn two_answers_in_a_row_close_it() {
        let circuit = opened();
        assert!(!circuit.probe_answered());
        assert_eq!(
            (circuit.state(), circuit.successes()),
            (BreakerState::HalfOpen, 1)
        );
        circuit.probe_failed();
        assert_eq!(
            (circuit.state(), circuit.successes()),
            (BreakerState::Open, 0)
        );
        assert!(!circuit.probe_answered());
        assert!(circuit.probe_answered());
        let states = [
            BreakerState::Open,
            BreakerState::HalfOpen,
            BreakerState::Closed,
        ];
        assert_eq!(states.map(|state| circuit.entered(state)), [2, 2, 1]);
        assert_eq!(
            (circuit.state(), circuit.failures()),
            (BreakerState::Closed, 0)
        );
    }

    #[tokio::test]
    async fn the_next_outage_counts_its_answers_from_zero() {
        let circuit = opened();
        assert!(!circuit.probe_answered());
        circuit.reset();
        circuit.open("again", task);
        assert_eq!(circuit.successes(), 0);
        assert!(!circuit.probe_answered());
    }

    #[tokio::test]
    async fn a_probe_that_fails_after_a_reset_opens_nothing() {
        let circuit = opened();
        circuit.reset();
        circuit.probe_failed();
        assert_eq!(circuit.state(), BreakerState::Closed);
        circuit.reset();
        assert_eq!(circuit.state(), BreakerState::Closed);
    }

    #[tokio::test]
    async fn its_task_ends_with_a_reset_and_with_the_store() {
        for end in [|circuit: &Circuit| circuit.reset(), Circuit::stop_probe] {
            let circuit = circuit(1);
            let probe = task();
            circuit.open("test", || probe.clone());
            end(&circuit);
            tokio::task::yield_now().await;
            assert!(probe.is_finished());
        }
    }

    #[tokio::test]
    async fn a_write_among_the_failures_is_remembered_until_the_row_ends() {
        let circuit = circuit(3);
        assert!(!circuit.failed(Weight::None, true) && !circuit.writes_fail());
        circuit.failed(Weight::Full, true);
        circuit.failed(Weight::Full, false);
        assert!(circuit.writes_fail());
        circuit.succeeded();
        assert!(!circuit.writes_fail());

        circuit.open("test", task);
        assert!(!circuit.writes_fail());
        // A write from before it opened.
        circuit.failed(Weight::Full, true);
        circuit.succeeded();
        assert!(circuit.writes_fail());
        circuit.reset();
        assert!(!circuit.writes_fail());
    }

    #[tokio::test]
    async fn a_probe_that_has_ended_early_is_started_again() {
        let unwanted = || -> AbortHandle { panic!("a second task") };
        let circuit = circuit(1);
        circuit.keep_probing(unwanted);
        let probe = task();
        circuit.open("test", || probe.clone());
        circuit.keep_probing(unwanted);
        assert!(!circuit.probe_answered());

        probe.abort();
        tokio::task::yield_now().await;
        let second = task();
        circuit.keep_probing(|| second.clone());
        assert_eq!(
            (circuit.state(), circuit.successes()),
            (BreakerState::Open, 0)
        );
        circuit.keep_probing(unwanted);
        circuit.reset();
        tokio::task::yield_now().await;
        assert!(second.is_finished());
        circuit.keep_probing(unwanted);
    }
}
