use std::{
    fmt,
    future::Future,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{self, Poll, Waker},
    time::Duration,
};

use layer_store::{Context, SharedStore, Store};
use tokio::{runtime::Handle, task::JoinHandle, time::Instant};

use crate::{
    flight::Flights, purge::purger::FailedPurges, purge::stamp::Token, stats::Counters,
    stored::address::Address, stored::hints::Bounded, stored::lookup::Hint,
};

/// What all clones of one cache share.
pub(crate) struct Core {
    pub(crate) store: SharedStore,
    /// The same store for calls that wait, which end in time whatever it does.
    pub(crate) waiting: SharedStore,
    pub(crate) flights: Arc<Flights>,
    pub(crate) hints: Bounded<Arc<Hint>>,
    /// Until when a key that answered with something uncacheable is not asked for.
    refused: Bounded<Instant>,
    /// When a stamp with this token was last made to live on.
    extended: Bounded<Instant>,
    pub(crate) failed: FailedPurges,
    pub(crate) stats: Counters,
}

/// Work that goes on when nobody waits for it.
#[derive(Debug)]
pub(crate) enum Detached<T> {
    Done(T),
    Running(JoinHandle<T>),
    /// There is no runtime to run on.
    Lost,
}

impl Core {
    pub(crate) fn new(store: SharedStore) -> Self {
        Self {
            waiting: store.clone().limited(CALL_LIMIT),
            store,
            flights: Arc::default(),
            hints: Bounded::new(HINTS),
            refused: Bounded::new(HINTS),
            extended: Bounded::new(HINTS),
            failed: FailedPurges::default(),
            stats: Counters::default(),
        }
    }

    /// One deadline for the commands of a lookup together, however many they are.
    pub(crate) fn context_until(&self) -> Context {
        CONTEXT.within(self.waiting.info().call_limit.unwrap_or(CALL_LIMIT))
    }

    /// Whether what is at `address` is known to answer with what cannot be stored.
    pub(crate) fn is_refused(&self, address: &Address, credentialed: bool) -> bool {
        let key = (address.space.name(), &address.text, credentialed);
        match self.refused.get(key) {
            None => false,
            Some(until) if Instant::now() < until => true,
            Some(_) => {
                self.refused.remove(key);
                false
            }
        }
    }

    pub(crate) fn refuse(&self, address: &Address, credentialed: bool) {
        let key = (address.space.name(), &address.text, credentialed);
        self.refused.insert(key, Instant::now() + REFUSED_FOR);
    }

    /// Whether a stamp needs to be told to live on.
    pub(crate) fn is_due(&self, token: &Token) -> bool {
        let extended = self.extended.get(token);
        extended.is_none_or(|at| at.elapsed() >= MAX_LIFE / 2)
    }

    pub(crate) fn extended(&self, token: &Token) {
        self.extended.insert(token, Instant::now());
    }

    pub(crate) fn count_stored(&self) {
        self.stats.stored.fetch_add(1, Relaxed);
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// Runs `work` to its end, whatever becomes of the caller: at once if it needs no waiting, in a task of its own otherwise.
pub(crate) fn detach<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Detached<T> {
    let mut work = Box::pin(work);
    let first = work
        .as_mut()
        .poll(&mut task::Context::from_waker(Waker::noop()));
    match (first, Handle::try_current()) {
        (Poll::Ready(done), _) => Detached::Done(done),
        (Poll::Pending, Ok(runtime)) => Detached::Running(runtime.spawn(work)),
        (Poll::Pending, Err(_)) => Detached::Lost,
    }
}

/// How long a call may take where the store sets no limit of its own.
const CALL_LIMIT: Duration = Duration::from_millis(100);
/// For a single call, which the store's own limit ends.
pub(crate) const CONTEXT: Context = Context::new("cache");
/// The longest that an entry lives, whatever its `s-maxage` says; its stamps live twice as long.
pub(crate) const MAX_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// Of each kind.
const HINTS: usize = 16_384;
