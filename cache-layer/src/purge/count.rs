//! The number of purges in this process: while it stands, an entry that was valid is valid.
//!
//! A lookup compares the stamps of an entry with those in the store. In the memory of this process nobody but a purge of this
//! process makes an entry invalid. So a lookup may leave the stamps out if nothing was purged since the last one that read
//! them. The argument for promise P1 (a request that starts after a purge returned gets nothing from before it):
//!
//! - A purge counts after it has deleted stamps and before it returns, whether it succeeded, failed or was dropped.
//! - A lookup reads the count first and the stamps second. Were they deleted before it read them, it sees that. Are they
//!   deleted later, the purge counts later too, and the count that the lookup remembers does not stand any more.
//! - A purge that failed is repeated before this cache serves anything again, and the repetition counts again. Another cache
//!   on the store may serve the old entry until then, as it always may.
//!
//! What might come between:
//!
//! - *Eviction* of a stamp makes an entry invalid that nobody has purged. It may be served until somebody purges anything, or
//!   until its second is over ([`sent`](crate::stored::sent)). Its stamps are then looked at again, so those of an entry in
//!   use are not evicted as unused ones. An entry that is evicted or overwritten takes what is remembered of it along.
//! - *Several caches on one store*, behind whatever prefixes: the count is that of the process. What one cache remembers of an
//!   entry is for itself alone. So an entry that another one has put is looked at first, and a value that was copied to
//!   another store is never taken for one that was looked at there.
//! - *Tags and users*: all stamps of an entry have to be valid before it is remembered, and a purge of any kind counts.
//! - *A layer with a key of its own* gives one address to several paths. The stamps of an entry there depend on the request,
//!   so nothing is remembered.
//! - *Wrappers*: a store with copies, whose reads may lag, may answer with stamps that were deleted. Remembered, that would
//!   last longer than its bound. Such a store is not used in this way, nor one that other processes share, nor one that has to
//!   wait, nor one that may lead to another server. A fallback deletes in its memory and repeats that in its store before it
//!   reads there again.
//!
//! Two versions of this crate in one process do not count each other's purges. They see them after a second.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use layer_store::StoreInfo;

/// The counter of the purges of all caches in this process.
#[derive(Clone, Debug)]
pub(crate) struct Purges(Arc<AtomicU64>);

/// The number of purges that this process had counted at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PurgeCount(u64);

/// A purge under way. It is counted when this is dropped.
#[derive(Debug)]
pub(super) struct CountedPurge<'a>(&'a Purges);

impl Purges {
    /// Returns the counter of this process.
    #[cfg(not(test))]
    pub(crate) fn of_process() -> Self {
        static PURGES: std::sync::LazyLock<Purges> = std::sync::LazyLock::new(Purges::none);
        PURGES.clone()
    }

    /// Returns the counter of the caches that this thread makes. The unit tests of one process run side by side, and each of
    /// them purges.
    #[cfg(test)]
    pub(crate) fn of_process() -> Self {
        thread_local! {
            static PURGES: Purges = Purges::none();
        }
        PURGES.with(Clone::clone)
    }

    /// Reads the count. Before the stamps, if it is to be remembered.
    #[inline]
    pub(crate) fn count(&self) -> PurgeCount {
        PurgeCount(self.0.load(SeqCst))
    }

    /// Begins a purge.
    pub(super) const fn begin(&self) -> CountedPurge<'_> {
        CountedPurge(self)
    }

    /// Returns true if the count tells of all that makes entries of such a store invalid.
    pub(crate) fn are_enough_for(store: &StoreInfo) -> bool {
        store.answers_now && !store.shared && !store.reads_may_lag && store.incarnation.is_none()
    }

    pub(super) fn none() -> Self {
        Self(Arc::default())
    }
}

impl Drop for CountedPurge<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use layer_store::{
        KeyPrefix, MemoryStore, Store,
        conformance::FaultInjector,
        wrap::{Prefix, Tiered},
    };

    use super::*;

    #[test]
    fn a_purge_is_counted_at_its_end_for_all_caches() {
        let (purges, others) = (Purges::of_process(), Purges::of_process());
        let before = purges.count();
        let purge = others.begin();
        assert_eq!(purges.count(), before);
        drop(purge);
        assert_ne!(purges.count(), before);
    }

    #[test]
    fn it_is_enough_for_the_memory_of_this_process_alone() {
        let enough = |store: &StoreInfo| Purges::are_enough_for(store);
        let memory = MemoryStore::new();
        assert!(enough(&memory.info()));
        let prefixed = Prefix::new(memory.clone(), KeyPrefix::new("a"));
        assert!(enough(&prefixed.info()));
        let waits = FaultInjector::new(memory.clone()).networked();
        assert!(!enough(&waits.info()));
        let copies = Tiered::new(memory.clone()).kinds(["data"]);
        assert!(!enough(&copies.info()));
        let mut shared = memory.info();
        shared.shared = true;
        assert!(!enough(&shared));
        let mut server = memory.info();
        server.incarnation = Some(1);
        assert!(!enough(&server));
    }
}
