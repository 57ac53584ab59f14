use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use layer_store::{Key, SharedStore, Store, Watch};
use parking_lot::{Mutex, RwLock};

/// The stamps of copies, which the store watches: a purge in another process then ends the copies at once.
///
/// A hint is noticed when somebody looks, and gets a number then. A copy was verified by a lookup that was sent at some
/// number. A stamp that was hinted at since has a higher one, and the copy has ended. A hint that came before the lookup, and
/// is noticed after it, ends the copy needlessly.
///
/// A stamp is watched from the first copy on. A store over a network has to be asked for hints, and gives one when that is
/// done, as it may have missed a purge before. So the first copy under a stamp may end after a moment.
#[derive(Debug)]
pub(crate) struct WatchedStamps {
    /// `None`: it gives no hints, and the copies have their time alone.
    store: Option<SharedStore>,
    stamps: Mutex<HashMap<u128, Arc<WatchedStamp>>>,
    noticed: AtomicU64,
}

/// One stamp that is watched.
#[derive(Debug)]
pub(crate) struct WatchedStamp {
    watch: RwLock<Watch>,
    /// The number of the last hint. 0: there was none.
    hinted: AtomicU64,
}

/// The number of hints that were noticed when a lookup was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HintCount(u64);

impl WatchedStamps {
    /// Makes the watched stamps of a cache on `store`, if that gives hints.
    pub(crate) fn new(store: &SharedStore) -> Self {
        Self {
            store: store.info().watches.then(|| store.clone()),
            stamps: Mutex::default(),
            noticed: AtomicU64::new(0),
        }
    }

    /// Reads the count. Before a lookup is sent.
    pub(crate) fn count(&self) -> HintCount {
        HintCount(self.noticed.load(SeqCst))
    }

    /// Watches the stamps under these keys. A stamp for which there is no room is left out.
    pub(crate) fn watch<'k>(&self, keys: impl Iterator<Item = Key<'k>>) -> Vec<Arc<WatchedStamp>> {
        let Some(store) = &self.store else {
            return Vec::new();
        };
        let mut stamps = self.stamps.lock();
        let watched = keys.filter_map(|key| {
            if let Some(stamp) = stamps.get(&key.bits()) {
                return Some(stamp.clone());
            }
            if stamps.len() >= MAX_WATCHED {
                // Those that no copy needs.
                stamps.retain(|_, stamp| Arc::strong_count(stamp) > 1);
            }
            if stamps.len() >= MAX_WATCHED {
                return None;
            }
            let stamp = Arc::new(WatchedStamp {
                watch: RwLock::new(store.watch(&key)),
                hinted: AtomicU64::new(0),
            });
            stamps.insert(key.bits(), stamp.clone());
            Some(stamp)
        });
        watched.collect()
    }

    /// Returns true if no hint at one of these stamps came after `since`.
    pub(crate) fn stand(&self, stamps: &[Arc<WatchedStamp>], since: HintCount) -> bool {
        // All are looked at: a hint that nobody notices would end the next copy too.
        let hinted = stamps.iter().map(|stamp| stamp.notice(&self.noticed));
        hinted.max().unwrap_or(0) <= since.0
    }
}

impl WatchedStamp {
    /// Notices a hint, and returns the number of the last one.
    fn notice(&self, noticed: &AtomicU64) -> u64 {
        if self.watch.read().has_hint() {
            // Nobody reads the number between the taking and the change.
            let mut watch = self.watch.write();
            if watch.take_hint() {
                self.hinted.store(noticed.fetch_add(1, SeqCst) + 1, SeqCst);
            }
        }
        self.hinted.load(SeqCst)
    }
}

const MAX_WATCHED: usize = 16_384;
