use std::{sync::Arc, time::Duration};

use layer_store::{Clock, SharedStore};

use crate::{
    object::object_cache::ObjectCache,
    purge::{Purge, scope::PurgeScope},
    shared::Shared,
    stats::Stats,
};

/// A cache without HTTP: for objects, purges and statistics. Also the handle of a [`CacheLayer`](crate::CacheLayer).
///
/// Clones share everything. [`objects`](Self::objects) has the objects.
///
/// ```
/// use cache_layer::{ResponseCache, store::{MemoryStore, SharedStore}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let cache = ResponseCache::new(SharedStore::new(MemoryStore::new()));
///
/// // After the change is committed:
/// cache.purge_path("/cars/*").await?;
/// cache.purge_tag("car:7").await?;
/// # Ok::<_, cache_layer::PurgeError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct ResponseCache {
    shared: Arc<Shared>,
    /// The clock of objects.
    clock: Clock,
}

impl ResponseCache {
    /// Makes a cache in `store`.
    pub fn new(store: impl Into<SharedStore>) -> Self {
        Self {
            shared: Arc::new(Shared::new(store.into())),
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

    /// Returns the objects of this cache: those of the default namespace.
    pub fn objects(&self) -> ObjectCache {
        ObjectCache::new(self.shared.clone(), self.clock.clone())
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
    /// It names keys of the default namespace, as [`ObjectCache::purge`] does there. Only `*` reaches the
    /// [namespaces](ObjectCache::namespace) too.
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
}
