mod watched;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use layer_store::{
    Clock, Condition, Context, IdentityRef, Key, KeySpace, MemoryStore, Object, Op, Reply,
    Retention, SharedStore, Store, Ttl, Value,
};

use self::watched::{HintCount, WatchedStamp, WatchedStamps};
use crate::{
    flight::flight_key,
    purge::{
        count::{PurgeCount, Purges},
        scope::tag_key,
    },
    stored::{address::Address, entry::Entry},
};

/// Entries that a lookup of this process has verified, each for a short time.
///
/// A copy is as old as the **sending** of its lookup: a purge that came after that may not be seen in it. So its time counts
/// from there. A purge of this process is seen when it ends: it ends all copies, and those of lookups that were sent before.
/// A purge of another process is seen when the store hints at a stamp, if it gives hints. A hint may be late or lost, so the
/// time of a copy always stands.
#[derive(Debug)]
pub(crate) struct Copies {
    memory: MemoryStore,
    space: KeySpace,
    clock: Clock,
    /// In microseconds. 0: no copies are kept.
    bound: AtomicU64,
    purges: Purges,
    watched: WatchedStamps,
}

/// The moment before a lookup was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// In Unix microseconds.
    at: u64,
    purges: PurgeCount,
    hints: HintCount,
}

struct Copy {
    entry: Arc<Entry>,
    sent: Sent,
    /// Those of the entry. Empty if the store gives no hints.
    stamps: Vec<Arc<WatchedStamp>>,
}

impl Object for Copy {
    /// It never leaves this process.
    fn encode(&self) -> Bytes {
        Bytes::new()
    }

    fn size(&self) -> usize {
        self.entry.body.len() + HEAD + size_of_val(&*self.stamps)
    }
}

impl Copies {
    /// Makes the copies of a cache on `store`.
    pub(crate) fn new(purges: Purges, store: &SharedStore, clock: Clock) -> Self {
        Self {
            memory: MemoryStore::with_bounds(MAX_COPIES, MAX_BYTES),
            space: KeySpace::new("entry", "copy"),
            clock,
            bound: AtomicU64::new(0),
            purges,
            watched: WatchedStamps::new(store),
        }
    }

    pub(crate) fn set_bound(&self, bound: Duration) {
        let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        self.bound.store(micros, Relaxed);
    }

    #[inline]
    pub(crate) fn are_kept(&self) -> bool {
        self.bound.load(Relaxed) > 0
    }

    /// Notes that a lookup is sent.
    pub(crate) fn sent(&self) -> Sent {
        Sent {
            at: self.clock.now(),
            purges: self.purges.count(),
            hints: self.watched.count(),
        }
    }

    /// Returns the copy of an entry, if it matches the request.
    pub(crate) fn get(
        &self,
        address: &Address,
        variant: &[u8],
        fields: &HeaderMap,
    ) -> Option<Arc<Entry>> {
        let flight = flight_key(address, false, variant);
        let key = Key::new(&self.space, IdentityRef::Text(&flight));
        let reply = self.memory.call_now(&Op::Get(&key), &CX)?;
        let value = reply.and_then(Reply::into_value).ok()??;
        let copy: &Copy = value.as_object()?;
        let holds = copy.sent.purges == self.purges.count()
            && !self.left(copy.sent).is_zero()
            && copy.entry.head.matches(fields)
            && self.watched.stand(&copy.stamps, copy.sent.hints);
        holds.then(|| copy.entry.clone())
    }

    /// Keeps a copy of an entry that a lookup has verified.
    pub(crate) fn keep(&self, address: &Address, variant: &[u8], entry: &Arc<Entry>, sent: Sent) {
        // The memory's time removes it. Its own clock decides.
        let Some(ttl) = Ttl::from_millis(self.left(sent).as_micros().div_ceil(1_000) as u64) else {
            return;
        };
        let flight = flight_key(address, false, variant);
        let key = Key::new(&self.space, IdentityRef::Text(&flight));
        let tags = entry.tags.iter().map(|(tag, _)| tag_key(tag));
        let copy = Copy {
            entry: entry.clone(),
            sent,
            stamps: self.watched.watch(address.scopes.keys().chain(tags)),
        };
        let set = Op::Set {
            key: &key,
            value: &Value::object(copy),
            expiry: ttl.into(),
            condition: Condition::Always,
            retention: Retention::Evictable,
        };
        // It may be too large. Then there is no copy.
        let _ = self.memory.call_now(&set, &CX);
    }

    /// Returns for how long a copy may still be sent whose lookup was sent then.
    fn left(&self, sent: Sent) -> Duration {
        let age = self.clock.now().saturating_sub(sent.at);
        Duration::from_micros(self.bound.load(Relaxed).saturating_sub(age))
    }
}

const CX: Context = Context::new("cache");
const MAX_COPIES: usize = 10_000;
const MAX_BYTES: usize = 64 << 20;
/// About what the head of an entry takes.
const HEAD: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        purge::scope::PurgeScope,
        testing::{World, address},
    };

    async fn verified(world: &World) -> Arc<Entry> {
        let fill = world.fill(Arc::new(address("/cars"))).await;
        fill.commit(&["body".into()], HeaderMap::new()).await;
        let (address, fields) = (address("/cars"), HeaderMap::new());
        let found = world.shared().look_up(&address, &fields).await;
        found.unwrap().entry.unwrap()
    }

    fn copies(world: &World) -> Copies {
        let store = world.shared().caller.store();
        Copies::new(Purges::of_process(), store, Clock::system())
    }

    /// As a purge of another process, of which this one hears nothing but the hint.
    async fn purge_elsewhere(world: &World, scope: PurgeScope) {
        let keys: Vec<_> = scope.keys().collect();
        let cx = Context::new("elsewhere");
        world.store.call(&Op::DeleteMany(&keys), &cx).await.unwrap();
    }

    #[tokio::test]
    async fn a_hint_ends_the_copies_under_its_stamp_and_no_others() {
        let world = World::new();
        let (copies, entry) = (copies(&world), verified(&world).await);
        let address = address("/cars");
        let get = || copies.get(&address, b"", &HeaderMap::new());
        copies.set_bound(Duration::from_secs(60));
        for path in ["*", "/cars"] {
            copies.keep(&address, b"", &entry, copies.sent());
            assert!(get().is_some());
            for other in ["/vans/*", "/cars/*", "/car"] {
                purge_elsewhere(&world, PurgeScope::path(other).unwrap()).await;
                assert!(get().is_some(), "{other} is another stamp");
            }
            purge_elsewhere(&world, PurgeScope::path(path).unwrap()).await;
            assert!(get().is_none(), "{path} was purged");
            // It stays ended, however often one looks.
            assert!(get().is_none());
            // There has to be a stamp that can be purged again.
            let fill = world.fill(Arc::new(address.clone())).await;
            fill.commit(&["body".into()], HeaderMap::new()).await;
            assert!(get().is_none());
        }
    }

    #[tokio::test]
    async fn a_hint_ends_the_copies_of_lookups_under_way() {
        let world = World::new();
        let (copies, entry) = (copies(&world), verified(&world).await);
        let address = address("/cars");
        let get = || copies.get(&address, b"", &HeaderMap::new());
        copies.set_bound(Duration::from_secs(60));
        copies.keep(&address, b"", &entry, copies.sent());
        // Its reply was made before the purge, and comes after the hint.
        let sent = copies.sent();
        purge_elsewhere(&world, PurgeScope::page("/cars")).await;
        copies.keep(&address, b"", &entry, sent);
        assert!(get().is_none());
        // The same if somebody has noticed the hint already.
        copies.keep(&address, b"", &entry, sent);
        assert!(get().is_none());
        copies.keep(&address, b"", &entry, copies.sent());
        assert!(get().is_some());
    }

    #[tokio::test]
    async fn a_hint_at_a_tag_ends_its_copies() {
        let world = World::new();
        let (copies, mut entry) = (copies(&world), verified(&world).await);
        let stamp = entry.scopes[0];
        Arc::make_mut(&mut entry).tags = vec![("t".into(), stamp)];
        let set = Op::Set {
            key: &tag_key("t"),
            value: &stamp.value(),
            expiry: Ttl::from_millis(60_000).unwrap().into(),
            condition: Condition::Always,
            retention: Retention::Evictable,
        };
        world.store.call(&set, &CX).await.unwrap();
        let address = address("/cars");
        let get = || copies.get(&address, b"", &HeaderMap::new());
        copies.set_bound(Duration::from_secs(60));
        copies.keep(&address, b"", &entry, copies.sent());
        assert!(get().is_some());
        purge_elsewhere(&world, PurgeScope::tag("t")).await;
        assert!(get().is_none());
    }

    #[tokio::test]
    async fn a_copy_lives_for_its_time_from_the_sending_of_its_lookup() {
        let world = World::new();
        let (copies, entry) = (copies(&world), verified(&world).await);
        let address = address("/cars");
        let get = || copies.get(&address, b"", &HeaderMap::new());
        let sent = copies.sent();
        copies.keep(&address, b"", &entry, sent);
        assert!(
            get().is_none() && !copies.are_kept(),
            "none are kept by default"
        );
        copies.set_bound(Duration::from_secs(60));
        copies.keep(&address, b"", &entry, sent);
        assert_eq!(get().unwrap().body, "body");
        assert!(copies.get(&address, b"v", &HeaderMap::new()).is_none());
        // One whose lookup took longer than that is kept no more.
        let before = Sent {
            at: sent.at - 60_000_000,
            ..sent
        };
        copies.keep(&address, b"v", &entry, before);
        assert!(copies.get(&address, b"v", &HeaderMap::new()).is_none());
    }

    #[tokio::test]
    async fn a_purge_of_this_process_ends_all_copies_and_those_under_way() {
        let world = World::new();
        let (copies, entry) = (copies(&world), verified(&world).await);
        let address = address("/cars");
        let get = || copies.get(&address, b"", &HeaderMap::new());
        copies.set_bound(Duration::from_secs(60));
        let sent = copies.sent();
        copies.keep(&address, b"", &entry, sent);
        assert!(get().is_some());
        world.store.hang();
        let scopes = PurgeScope::everything();
        let mut purge = Box::pin(world.shared().purger.purge(&scopes));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(purge.as_mut().poll(&mut cx).is_pending());
        // Its lookup was sent before the purge began, or while it was under way.
        let during = copies.sent();
        drop(purge);
        assert!(get().is_none());
        for sent in [sent, during] {
            copies.keep(&address, b"", &entry, sent);
            assert!(get().is_none());
        }
        copies.keep(&address, b"", &entry, copies.sent());
        assert!(get().is_some());
    }
}
