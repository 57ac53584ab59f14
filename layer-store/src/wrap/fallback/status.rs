use std::{
    sync::atomic::{
        AtomicBool,
        Ordering::{Acquire, Release},
    },
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::{Key, Op, Reply, info::FallbackControl};

/// The flags that every call looks at first: if the memory answers, and which kinds are refused.
///
/// It does not hold the store, so a handle to it does not keep the store alive.
#[derive(Debug, Default)]
pub(super) struct Status {
    degraded: AtomicBool,
    /// False if no kind is refused, so that a call on a store that is well takes no lock.
    refuses: AtomicBool,
    refused: Mutex<Vec<Refused>>,
}

/// A kind whose values in the store may be out of date.
#[derive(Debug)]
struct Refused {
    kind: &'static str,
    until: Option<Instant>,
}

impl Status {
    #[inline]
    pub(super) fn degraded(&self) -> bool {
        self.degraded.load(Acquire)
    }

    pub(super) fn set_degraded(&self, degraded: bool) {
        self.degraded.store(degraded, Release);
    }

    #[inline]
    pub(super) fn refuses(&self) -> bool {
        self.refuses.load(Acquire)
    }

    /// Refuses `kinds` for `time` from now. A time that is too long for any clock never ends.
    pub(super) fn refuse(&self, kinds: &[&'static str], time: Duration) {
        if kinds.is_empty() {
            return;
        }
        let until = Instant::now().checked_add(time);
        let mut refused = self.refused.lock();
        refused.retain(|refused| !kinds.contains(&refused.kind));
        refused.extend(kinds.iter().map(|kind| Refused { kind, until }));
        self.refuses.store(true, Release);
    }

    /// Makes values of refused kinds absent in a reply of the store that is no batch.
    #[inline]
    pub(super) fn hide(&self, op: &Op<'_>, mut reply: Reply) -> Reply {
        if self.refuses() {
            self.hide_in(op, &mut reply);
        }
        reply
    }

    #[cold]
    fn hide_in(&self, op: &Op<'_>, reply: &mut Reply) {
        match (op, reply) {
            (Op::Get(key), Reply::Value(value)) if self.is_refused(key) => *value = None,
            (Op::GetMany(keys), Reply::Values(values)) => {
                for (key, value) in keys.iter().zip(values) {
                    if self.is_refused(key) {
                        *value = None;
                    }
                }
            }
            _ => {}
        }
    }

    fn is_refused(&self, key: &Key<'_>) -> bool {
        let refused = self.still_refused();
        refused.iter().any(|refused| refused.kind == key.kind())
    }

    /// Returns the kinds that are refused now, without those whose time is over.
    fn still_refused(&self) -> MutexGuard<'_, Vec<Refused>> {
        let mut refused = self.refused.lock();
        let now = Instant::now();
        refused.retain(|refused| refused.until.is_none_or(|until| now < until));
        self.refuses.store(!refused.is_empty(), Release);
        refused
    }
}

impl FallbackControl for Status {
    fn is_degraded(&self) -> bool {
        self.degraded()
    }

    fn refused(&self) -> Vec<&'static str> {
        let refused = self.still_refused();
        refused.iter().map(|refused| refused.kind).collect()
    }

    fn trust(&self, kind: &str) {
        self.still_refused().retain(|refused| refused.kind != kind);
        drop(self.still_refused());
    }
}
