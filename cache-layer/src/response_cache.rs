use std::{
    future::Future,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use layer_store::{Clock, KeySpace, SharedStore};

use crate::{
    body::buffer::FillBuffer,
    detach::detach,
    fill::commit::Fill,
    flight::{FlightEnd, flight_key},
    http::{freshness::Freshness, reuse::StaleTerms},
    join::{MAX_ROUNDS, PendingFill, Turn, join_flight},
    metrics::count_object,
    plan::tell_failed,
    purge::{
        Purge,
        scope::{EntryScopes, PurgeScope},
        tags::{MAX_OBJECT_TAGS, within_bounds},
    },
    shared::Shared,
    stats::{Stats, count},
    stored::{
        address::Address,
        entry::{Entry, EntryHead, EntryKind},
    },
};

/// A cache without HTTP: for objects, purges and statistics. Also the handle of a [`CacheLayer`](crate::CacheLayer).
///
/// Clones share everything.
///
/// ```
/// use std::time::Duration;
///
/// use cache_layer::{ResponseCache, store::{MemoryStore, SharedStore}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let cache = ResponseCache::new(SharedStore::new(MemoryStore::new()));
/// let minute = Duration::from_secs(60);
///
/// let load = || async { Ok::<_, std::io::Error>("Ada") };
/// assert_eq!(cache.get_or_set("user:7", minute, &["users"], load).await?, "Ada");
///
/// cache.purge_key("user:*").await.unwrap();
/// let load = || async { Ok::<_, std::io::Error>("Ada Lovelace") };
/// assert_eq!(cache.get_or_set("user:7", minute, &["users"], load).await?, "Ada Lovelace");
/// # Ok::<_, std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct ResponseCache {
    shared: Arc<Shared>,
    /// The place of objects.
    objects: Arc<KeySpace>,
    clock: Clock,
}

/// The way in which an object is got.
enum LoadPlan {
    /// It is stored, or another call has just loaded it.
    Found(Bytes),
    /// It is loaded, and stored if there is a fill.
    Load(Option<PendingFill>),
}

impl ResponseCache {
    /// Makes a cache in `store`.
    pub fn new(store: impl Into<SharedStore>) -> Self {
        Self {
            shared: Arc::new(Shared::new(store.into())),
            // A stored format. No layer's name gives this one.
            objects: Arc::new(KeySpace::new("entry", "1o")),
            clock: Clock::system(),
        }
    }

    /// Sets the clock by which the lifetimes of objects are counted. By default the system's. For tests.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Bounds the responses that are on their way into the store. By default 64 MiB and 1,000 handler calls.
    ///
    /// A body counts from its first byte until it is stored and its last client has read it. Past either bound a response is
    /// sent on as if there were no cache. It applies to all clones.
    ///
    /// ```
    /// use cache_layer::{ResponseCache, store::{MemoryStore, SharedStore}};
    ///
    /// let store = SharedStore::new(MemoryStore::new());
    /// let cache = ResponseCache::new(store).fill_budget(256 * 1024 * 1024, 4_000);
    /// ```
    #[must_use]
    pub fn fill_budget(self, bytes: usize, calls: usize) -> Self {
        self.shared.fills.set(bytes, calls);
        self
    }

    /// Keeps copies of entries in this process for this long, so that a hit on one costs no command. By default none.
    ///
    /// For a networked store and pages that are asked for many times a second. A copy was verified by a lookup, and its time
    /// counts from the sending of that. A purge of this process ends all copies at once. **Another process may still serve
    /// what was purged for this long.** At most 10,000 copies of 64 MiB are kept; a body above an eighth of that has none.
    /// Objects have no copies. It applies to all clones.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use cache_layer::{ResponseCache, store::{MemoryStore, SharedStore}};
    ///
    /// let store = SharedStore::new(MemoryStore::new());
    /// let cache = ResponseCache::new(store).local_copies(Duration::from_secs(1));
    /// ```
    #[must_use]
    pub fn local_copies(self, bound: Duration) -> Self {
        self.shared.copies.set_bound(bound);
        self
    }

    /// Sets if one process calls the handler for a missing entry while the others on the store wait for it. By default true.
    ///
    /// It needs a store that processes share, such as Redis, and costs two commands for each handler call. The others wait for
    /// at most 5 s, and then call the handler themselves. It applies to all clones.
    #[must_use]
    pub fn coalesce_over_instances(self, coalesce: bool) -> Self {
        self.shared.set_claims_leases(coalesce);
        self
    }

    /// Returns the object under `key`, or loads it with `load` and keeps it for `ttl`.
    ///
    /// Concurrent calls in this process share one load. An object lives for at most 24 hours; a `ttl` below a millisecond
    /// stores nothing. If the store fails, `load` is called.
    ///
    /// [`purge_key`](Self::purge_key) splits keys at `:`. [`purge_tag`](Self::purge_tag) reaches the object by its `tags`.
    /// It has at most 16 of at most 256 bytes each; with more or longer tags it is not stored.
    ///
    /// A page or an object may be built from objects. After a change, purge the inner ones first, or give both one tag.
    ///
    /// # Errors
    ///
    /// That of `load`. Nothing is stored then, and the next call that waits loads.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the next call that waits loads.
    pub async fn get_or_set<F, Fut, B, E>(
        &self,
        key: &str,
        ttl: Duration,
        tags: &[&str],
        load: F,
    ) -> Result<Bytes, E>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<B, E>>,
        B: Into<Bytes>,
    {
        let address = Arc::new(Address {
            space: self.objects.clone(),
            text: key.as_bytes().into(),
            scopes: EntryScopes::of_key(key).into_owned(),
            tags: tags.iter().map(|tag| (*tag).into()).collect(),
        });
        let plan = match within_bounds(tags, MAX_OBJECT_TAGS) {
            true => self.plan(&address).await,
            false => LoadPlan::Load(None),
        };
        let fill = match plan {
            LoadPlan::Found(object) => return Ok(object),
            LoadPlan::Load(fill) => fill,
        };
        Self::tell_object("miss", &self.shared.stats.misses);
        let object: Bytes = load().await?.into();
        if let Some(fill) = fill {
            self.store_object(address, fill, ttl, object.clone());
        }
        Ok(object)
    }

    /// Purges the responses of the paths of a pattern.
    ///
    /// `/cars/7` is one path, `/cars/*` all paths under `/cars/` (and not `/cars` itself), `*` all paths.
    ///
    /// A pattern is a glob as in Redis: `*` is any text, `[0-9]` one character of a class, and a backslash makes the next
    /// character plain. A glob widens the pattern to everything under the segments before it: `/cars/*/photos` and
    /// `/cars/[0-9]` are `/cars/*`. A `?` would begin a query and is an error, for which the text says what to write.
    ///
    /// | pattern | purges |
    /// | --- | --- |
    /// | `/cars/7` | `/cars/7`, with all its queries |
    /// | `/cars/*`, `/cars/7*`, `/cars/[0-9]` | all under `/cars/` |
    /// | `/a\*b`, `/a%2Ab` | the path `/a*b` |
    /// | `/a\?b`, `/a%3Fb` | the path `/a%3Fb` |
    /// | `/cars?page=1`, `/cars/?`, `cars/*` | nothing: an error |
    ///
    /// All hosts, queries and variants of a path are purged, in every process on the store. It costs one command, whatever
    /// the number of entries. Call it after the change is committed: responses from before it are then never served.
    pub fn purge_path(&self, pattern: &str) -> Purge {
        Purge::begin(&self.shared.purger, PurgeScope::path(pattern))
    }

    /// Purges the objects of a pattern: `user:7`, `user:*` for all under it, `*` for all objects.
    ///
    /// A pattern is a glob as in Redis, as in [`purge_path`](Self::purge_path); here `?` is one character. A glob widens the
    /// pattern to everything under the segments before it: `user:?`, `user:[0-9]*` and `user:*:profile` are `user:*`. For a
    /// key that holds one of `*?[\`, put a backslash before that character: `user:\*` is the key `user:*` alone.
    pub fn purge_key(&self, pattern: &str) -> Purge {
        Purge::begin(&self.shared.purger, PurgeScope::key(pattern))
    }

    /// Purges all responses that are kept for one user, on every path. See [`per_user`](crate::CacheLayer::per_user).
    ///
    /// `user` is the text that the layer's function gives. It is taken whole: no `*` stands for others. See
    /// [`purge_path`](Self::purge_path).
    pub fn purge_user(&self, user: &str) -> Purge {
        Purge::begin(&self.shared.purger, Ok(PurgeScope::user(user)))
    }

    /// Purges all responses and objects with a tag.
    ///
    /// See [`purge_path`](Self::purge_path).
    pub fn purge_tag(&self, tag: &str) -> Purge {
        Purge::begin(&self.shared.purger, Ok(PurgeScope::tag(tag)))
    }

    /// Returns the numbers of requests since this cache was made.
    pub fn stats(&self) -> Stats {
        self.shared.stats.read()
    }

    /// Returns the store, whose `info` tells its health.
    pub fn store(&self) -> &SharedStore {
        self.shared.caller.store()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn clock_of_objects(&self) -> &Clock {
        &self.clock
    }

    /// Finds the object in the store or with another call, or the right to load and store it.
    async fn plan(&self, address: &Address) -> LoadPlan {
        let shared = &self.shared;
        let fields = HeaderMap::new();
        for _ in 0..MAX_ROUNDS {
            // ## Look up => (Found | Load | Wait)
            // Nothing may be served while a purge is outstanding.
            let found = match shared.purger.settle().await {
                true => {
                    let found = shared.look_up(address, &fields).await;
                    found.inspect_err(tell_failed).ok()
                }
                false => None,
            };
            let Some(mut found) = found else {
                return self.store_down();
            };
            if let Some(object) = found.entry.as_deref().ok().and_then(object) {
                Self::tell_object("hit", &shared.stats.hits);
                return LoadPlan::Found(object);
            }
            // Objects have no variants and no credentials.
            let key = flight_key(address, false, &[]);
            let follower = match join_flight(shared, address, key, false, &mut found).await {
                Turn::Fill(fill) => return LoadPlan::Load(Some(fill)),
                // Not counted as an error of the store: the lookup succeeded.
                Turn::StoreDown => return LoadPlan::Load(None),
                Turn::LookAgain => continue,
                Turn::Wait(follower) => follower,
            };
            // ## Wait => (Found | Load | Look up)
            match follower.end().await {
                FlightEnd::Shared(entry) => {
                    if let Some(object) = entry.body.object() {
                        Self::tell_object("collapsed", &shared.stats.collapsed);
                        return LoadPlan::Found(object);
                    }
                }
                FlightEnd::Abandoned => {}
                FlightEnd::NotShared | FlightEnd::TooLong => return LoadPlan::Load(None),
            }
        }
        LoadPlan::Load(None)
    }

    /// Counts a request for an object, and tells of it.
    fn tell_object(result: &'static str, counter: &AtomicU64) {
        count(counter);
        count_object(result);
        tracing::debug!(result, "object answered");
    }

    fn store_down(&self) -> LoadPlan {
        count(&self.shared.stats.store_errors);
        LoadPlan::Load(None)
    }

    /// Stores an object, without waiting for the store.
    fn store_object(&self, address: Arc<Address>, fill: PendingFill, ttl: Duration, object: Bytes) {
        let fill = Fill {
            shared: self.shared.clone(),
            clock: self.clock.clone(),
            address,
            key: fill.key,
            snapshot: fill.snapshot,
            leader: fill.leader,
            lease: fill.lease,
            head: EntryHead {
                kind: EntryKind::Object,
                received_at: self.clock.now() / 1_000,
                freshness: Freshness::given(ttl),
                terms: StaleTerms::default(),
            },
            headers: HeaderMap::new(),
            makes_etag: false,
            tags: Vec::new(),
            variant: None,
        };
        // One that lives for no time is for its own caller.
        if fill.ttl().is_none() {
            return fill.not_shared();
        }
        fill.share(&FillBuffer::complete(object.clone(), None));
        detach(async move { fill.commit(&[object], HeaderMap::new()).await });
    }
}

/// Returns the object of an entry. `None` if the entry is a response.
fn object(entry: &Entry) -> Option<Bytes> {
    match entry.head.kind {
        EntryKind::Object => Some(entry.body.clone()),
        EntryKind::Http { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use layer_store::{Context, IdentityRef, Key, MemoryStore, StoreExt};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn cache() -> ResponseCache {
        ResponseCache::new(SharedStore::new(MemoryStore::new()))
    }

    async fn load(cache: &ResponseCache, ttl: Duration, tags: &[&str], object: &str) -> Bytes {
        let load = || async { Ok::<_, ()>(object.to_owned()) };
        cache.get_or_set("user:7", ttl, tags, load).await.unwrap()
    }

    #[tokio::test]
    async fn an_object_is_dated_by_the_clock_of_the_cache() {
        let (clock, _) = Clock::manual(1_700_000_000_000_000);
        let cache = cache().clock(clock);
        load(&cache, MINUTE, &[], "Ada").await;
        let key = Key::new(&cache.objects, IdentityRef::Text(b"user:7"));
        let value = cache.store().get(&Context::new("test"), &key).await;
        let entry = Entry::read(&value.unwrap().unwrap(), b"user:7").unwrap();
        assert_eq!(entry.head.received_at, 1_700_000_000_000);
        assert_eq!(entry.head.kind, EntryKind::Object);
        assert_eq!(entry.head.freshness.lifetime, MINUTE);
    }

    #[tokio::test]
    async fn an_object_is_loaded_once_and_counted() {
        let cache = cache();
        assert_eq!(load(&cache, MINUTE, &["t"], "Ada").await, "Ada");
        assert_eq!(load(&cache, MINUTE, &["t"], "Bob").await, "Ada");
        let stats = cache.stats();
        assert_eq!((stats.misses, stats.hits, stats.stored), (1, 1, 1));
    }

    #[tokio::test]
    async fn no_lifetime_or_too_many_tags_store_nothing() {
        let cache = cache();
        load(&cache, Duration::ZERO, &[], "Ada").await;
        load(&cache, MINUTE, &["t"; 17], "Ada").await;
        load(&cache, MINUTE, &[&"t".repeat(257)], "Ada").await;
        assert_eq!(cache.stats().stored, 0);
        assert_eq!(load(&cache, MINUTE, &[], "Bob").await, "Bob");
    }

    #[tokio::test]
    async fn a_response_is_no_object() {
        let head = crate::testing::head(MINUTE);
        let none = HeaderMap::new();
        let bytes =
            crate::stored::codec::EntryWriter::new(0).finish(b"a", &head, &none, &none, &[], &[]);
        let entry = Entry::read(&bytes.into(), b"a").unwrap();
        assert_eq!(object(&entry), None);
    }
}
