//! What was last sent of an entry: for its second, the next hit sends it again.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use http::HeaderMap;
use layer_http::Content;
use parking_lot::Mutex;

use crate::purge::count::PurgeCount;

/// The place of a [`SentHead`] in an entry. A clone of the entry has an empty one.
#[derive(Debug, Default)]
pub(crate) struct LastSent(Mutex<Option<Arc<SentHead>>>);

/// The finished fields and content of a stored response, with what has to hold for them to be sent again.
#[derive(Debug)]
pub(crate) struct SentHead {
    /// The cache that found the entry valid.
    pub(crate) cache: CacheId,
    /// Read before its stamps were.
    pub(crate) purges: PurgeCount,
    pub(crate) second: Second,
    /// With `Age` and `Cache-Status`.
    pub(crate) fields: HeaderMap,
    pub(crate) content: Content,
}

/// A time in the life of a response, as its fields tell it: its age, and for how long it stays fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Second {
    pub(crate) age: u64,
    pub(crate) left: u64,
}

/// A number that each cache of this process has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheId(u64);

impl LastSent {
    /// Returns what this cache sent last, if nothing was purged since.
    pub(crate) fn get(&self, cache: CacheId) -> Option<Arc<SentHead>> {
        let sent = self.0.lock().clone()?;
        (sent.cache == cache && sent.purges.stands()).then_some(sent)
    }

    pub(crate) fn set(&self, sent: SentHead) {
        let sent = Some(Arc::new(sent));
        // The one before is dropped without the lock.
        let _before = std::mem::replace(&mut *self.0.lock(), sent);
    }
}

impl Clone for LastSent {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl CacheId {
    /// Makes another one than all before.
    pub(crate) fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Relaxed))
    }
}
