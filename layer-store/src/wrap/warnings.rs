//! Counts warnings, for tests.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tracing::{Dispatch, Event, Level, Metadata, Subscriber, span};

/// Counts the warnings of one module.
#[derive(Clone)]
pub(super) struct Warnings {
    module: &'static str,
    count: Arc<AtomicUsize>,
}

impl Warnings {
    /// Makes a counter for the modules whose path contains `module`.
    pub(super) fn of(module: &'static str) -> Self {
        listen_on_all_threads();
        Self::new(module)
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    fn new(module: &'static str) -> Self {
        Self {
            module,
            count: Arc::default(),
        }
    }
}

/// Keeps two subscribers alive, which hear nothing.
///
/// `tracing` remembers for each place if anybody listens to it. While there is one subscriber in the process, it asks only the
/// thread that comes to the place first. That may be the thread of another test, on which nobody listens.
fn listen_on_all_threads() {
    static KEPT: OnceLock<[Dispatch; 2]> = OnceLock::new();
    KEPT.get_or_init(|| [(); 2].map(|()| Dispatch::new(Warnings::new(""))));
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let is_ours = event.metadata().target().contains(self.module);
        self.count.fetch_add(usize::from(is_ours), Relaxed);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
