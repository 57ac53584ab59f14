use std::{sync::Arc, time::Duration};

use layer_http::RequestHead;
use layer_store::{Clock, SharedStore};

use crate::{
    look_up::{LookUp, LookUpError, look_up},
    object::{namespace::Namespace, object_cache::ObjectCache},
    purge::{
        Purge,
        error::PurgeError,
        preview::{PreviewError, PurgePreview, preview},
        scope::PurgeScope,
    },
    settings::CacheSettings,
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
    /// Those of the layer whose handle this is, or the default ones. Their clock is that of objects too.
    settings: Arc<CacheSettings>,
}

impl ResponseCache {
    /// Makes a cache in `store`.
    pub fn new(store: impl Into<SharedStore>) -> Self {
        Self {
            shared: Arc::new(Shared::new(store.into())),
            settings: Arc::new(CacheSettings::new(Clock::system())),
        }
    }

    /// Sets the clock by which the lifetimes of objects are counted. By default the system's. For tests.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        Arc::make_mut(&mut self.settings).clock = clock;
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
    /// counts from the sending of that. A purge of this process ends all copies at once. One of another process ends them as soon
    /// as the store hints at it, if it does ([`Store::watch`](layer_store::Store::watch)); such a hint may be late or lost. So
    /// **another process may still serve what was purged for this long.** At most 10,000 copies of 64 MiB are kept; a body above an eighth of that has none.
    /// Objects have no copies. It applies to all clones.
    ///
    /// On Redis the hints cost two commands for each stamp that has a first copy, in the background. A page has a stamp of its
    /// own and one for each segment of its path, which it shares with others. The first copy of a page ends when its stamps are
    /// watched, so it takes two or three lookups until hits cost nothing. At most 16,384 stamps are watched.
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
        ObjectCache::new(self.shared.clone(), self.settings.clock.clone())
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

    /// Counts what [`purge_path`](Self::purge_path) would end, for operators. It purges nothing.
    ///
    /// It counts the responses of the layer whose [handle](crate::CacheLayer::handle) this is. A purge also reaches those of
    /// other layers on the store.
    ///
    /// # Cost
    ///
    /// A purge is one command. A preview scans: the store looks at about `limit` keys of any kind, 100 in each command, and each
    /// entry of the layer that it lists is read whole, body included, 8 in each command. On Redis that is `SCAN` and `MGET`.
    /// Nothing is locked. Past the limit the preview [is partial](PurgePreview::is_partial).
    ///
    /// # Accuracy
    ///
    /// It is a snapshot that takes its time: what is stored, purged or evicted meanwhile may be counted or not. What another
    /// purge has ended already may be counted, unless that was `*`. Keys longer than 128 escaped bytes are
    /// [unknown](PurgePreview::unknown), and variants with longer fields are not seen at all.
    ///
    /// ```
    /// use cache_layer::{CacheLayer, store::{MemoryStore, SharedStore}};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let pages = CacheLayer::new(SharedStore::new(MemoryStore::new())).handle();
    /// let preview = pages.preview_path("/cars/*", 100_000).await?;
    /// println!("{} pages of {} bytes", preview.entries, preview.bytes);
    /// # Ok::<_, cache_layer::PreviewError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// If the pattern is malformed, or the store fails.
    ///
    /// # Cancel safety
    ///
    /// A dropped future ends the scan.
    pub async fn preview_path(
        &self,
        pattern: &str,
        limit: u64,
    ) -> Result<PurgePreview, PreviewError> {
        self.preview(PurgeScope::path(pattern), limit).await
    }

    /// Counts what [`purge_key`](Self::purge_key) would end, in the default namespace. See
    /// [`preview_path`](Self::preview_path).
    ///
    /// # Errors
    ///
    /// If the pattern is malformed, or the store fails.
    pub async fn preview_key(
        &self,
        pattern: &str,
        limit: u64,
    ) -> Result<PurgePreview, PreviewError> {
        self.preview(PurgeScope::key(pattern), limit).await
    }

    /// Counts what [`purge_user`](Self::purge_user) would end. See [`preview_path`](Self::preview_path).
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn preview_user(&self, user: &str, limit: u64) -> Result<PurgePreview, PreviewError> {
        self.preview(Ok(PurgeScope::user(user)), limit).await
    }

    /// Counts what [`purge_tag`](Self::purge_tag) would end: responses of this layer, and objects of the default namespace. See
    /// [`preview_path`](Self::preview_path).
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn preview_tag(&self, tag: &str, limit: u64) -> Result<PurgePreview, PreviewError> {
        self.preview(Ok(PurgeScope::tag(tag)), limit).await
    }

    /// Tells what is stored for a request, for operators: status, age, lifetime, size, tags, validators. Never the body.
    ///
    /// This has to be the [handle](crate::CacheLayer::handle) of a layer: it looks where that layer stores, by its name, profile
    /// and settings of keys. A cache that no layer made looks where a layer with default settings stores.
    ///
    /// The request has to be as the layer would get it. Host, scheme and port are in the key as they are sent: a client of
    /// HTTP/1.1 sends a path and a `Host`, one of HTTP/2 a whole URI. Of several variants it finds the one for the fields of
    /// this request. With [`per_user`](crate::CacheLayer::per_user), that of its user.
    ///
    /// It costs one command. The first time in a process it may be two or three: it has to learn by which fields the responses
    /// vary, and their tags. It counts as no request in [`stats`](Self::stats).
    ///
    /// ```
    /// use cache_layer::{CacheLayer, LookUp, RequestHead, store::{MemoryStore, SharedStore}};
    /// use http::Request;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let pages = CacheLayer::new(SharedStore::new(MemoryStore::new())).handle();
    /// let request = Request::get("/cars/7").header("host", "cars.example").body(()).unwrap();
    /// match pages.look_up(&RequestHead::of(&request)).await? {
    ///     LookUp::Found(page) => println!("{} of {} bytes, {:?} old", page.status, page.size, page.age),
    ///     other => println!("{other:?}"),
    /// }
    /// # Ok::<_, cache_layer::LookUpError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// If the layer answers no such request from the store, such as a `POST`. If the store fails.
    pub async fn look_up(&self, request: &RequestHead<'_>) -> Result<LookUp, LookUpError> {
        look_up(&self.shared, &self.settings, request).await
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

    async fn preview(
        &self,
        scope: Result<PurgeScope, PurgeError>,
        limit: u64,
    ) -> Result<PurgePreview, PreviewError> {
        let objects = Namespace::default();
        let spaces = [&*self.settings.space, objects.space()];
        preview(&self.shared.caller, scope, spaces, limit).await
    }

    /// Makes the handle of a layer with these settings.
    pub(crate) fn with_settings(&self, settings: &CacheSettings) -> Self {
        Self {
            shared: self.shared.clone(),
            settings: Arc::new(settings.clone()),
        }
    }

    pub(crate) fn clock_of_objects(&self) -> &Clock {
        &self.settings.clock
    }
}
