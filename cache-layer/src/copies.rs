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
    Condition, Context, IdentityRef, Key, KeySpace, MemoryStore, Object, Op, Reply, Retention,
    Store, Ttl, Value,
};
use tokio::time::Instant;

use crate::{
    flight::flight_key,
    purge::count::{PurgeCount, Purges},
    stored::{address::Address, entry::Entry},
};

/// Entries that a lookup of this process has verified, each for a short time.
///
/// A copy is as old as the **sending** of its lookup: a purge that came after that may not be seen in it. So its time counts
/// from there. A purge of this process is seen when it ends: it ends all copies, and those of lookups that were sent before.
#[derive(Debug)]
pub(crate) struct Copies {
    memory: MemoryStore,
    space: KeySpace,
    /// In milliseconds. 0: no copies are kept.
    bound: AtomicU64,
    purges: Purges,
}

/// The moment before a lookup was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    at: Instant,
    purges: PurgeCount,
}

struct Copy {
    entry: Arc<Entry>,
    purges: PurgeCount,
}

impl Object for Copy {
    /// It never leaves this process.
    fn encode(&self) -> Bytes {
        Bytes::new()
    }

    fn size(&self) -> usize {
        self.entry.body.len() + HEAD
    }
}

impl Copies {
    pub(crate) fn new(purges: Purges) -> Self {
        Self {
            memory: MemoryStore::with_bounds(MAX_COPIES, MAX_BYTES),
            space: KeySpace::new("entry", "copy"),
            bound: AtomicU64::new(0),
            purges,
        }
    }

    pub(crate) fn set_bound(&self, bound: Duration) {
        let millis = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
        self.bound.store(millis, Relaxed);
    }

    #[inline]
    pub(crate) fn are_kept(&self) -> bool {
        self.bound.load(Relaxed) > 0
    }

    /// Notes that a lookup is sent.
    pub(crate) fn sent(&self) -> Sent {
        Sent {
            at: Instant::now(),
            purges: self.purges.count(),
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
        let holds = copy.purges == self.purges.count() && copy.entry.head.matches(fields);
        holds.then(|| copy.entry.clone())
    }

    /// Keeps a copy of an entry that a lookup has verified.
    pub(crate) fn keep(&self, address: &Address, variant: &[u8], entry: &Arc<Entry>, sent: Sent) {
        let bound = Duration::from_millis(self.bound.load(Relaxed));
        let left = bound.saturating_sub(sent.at.elapsed());
        let Some(ttl) = Ttl::from_millis(left.as_millis() as u64) else {
            return;
        };
        let flight = flight_key(address, false, variant);
        let key = Key::new(&self.space, IdentityRef::Text(&flight));
        let copy = Copy {
            entry: entry.clone(),
            purges: sent.purges,
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

    #[tokio::test]
    async fn a_copy_lives_for_its_time_from_the_sending_of_its_lookup() {
        let (copies, entry) = (
            Copies::new(Purges::of_process()),
            verified(&World::new()).await,
        );
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
            at: sent.at - Duration::from_secs(60),
            ..sent
        };
        copies.keep(&address, b"v", &entry, before);
        assert!(copies.get(&address, b"v", &HeaderMap::new()).is_none());
    }

    #[tokio::test]
    async fn a_purge_of_this_process_ends_all_copies_and_those_under_way() {
        let world = World::new();
        let (copies, entry) = (Copies::new(Purges::of_process()), verified(&world).await);
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
