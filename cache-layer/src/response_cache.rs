use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use layer_store::{Clock, KeySpace, SharedStore};

use crate::{
    flight::{Entrance, Lead, Outcome, flight_key},
    http::freshness::Freshness,
    purge::Purge,
    purge::scope::{Scope, Scopes},
    purge::snapshot::{Fence, plant},
    purge::tags::{MOST_KNOWN, within_bounds},
    shared::{Core, detach},
    stats::{Stats, count},
    stored::address::Address,
    stored::entry::{Entry, EntryHead, EntryWriter},
    stored::fill::Fill,
    stored::lookup::Found,
};

/// A cache without HTTP: objects, purges, statistics. Also the handle of a [`CacheLayer`](crate::CacheLayer).
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
    core: Arc<Core>,
    objects: Arc<KeySpace>,
}

impl ResponseCache {
    /// A cache in `store`.
    pub fn new(store: SharedStore) -> Self {
        Self {
            core: Arc::new(Core::new(store)),
            // A stored format. No layer's name gives this one.
            objects: Arc::new(KeySpace::new("entry", "1o")),
        }
    }

    /// The object under `key`, or what `load` gives, kept for `ttl` (at most 24 hours).
    ///
    /// Of many calls at once in this process one loads. Keys split at `:` for [`purge_key`](Self::purge_key); `tags` are
    /// for [`purge_tag`](Self::purge_tag), at most 16 of at most 256 bytes, else nothing is stored. If the store fails, `load` is called.
    ///
    /// Build a page or an object from others with this, and purge the inner ones first; simplest is one tag on both.
    ///
    /// # Errors
    ///
    /// That of `load`; nothing is stored then, and others who wait load themselves.
    ///
    /// # Cancel safety
    ///
    /// A dropped future leaves the load to one of those that wait for it.
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
            scopes: Scopes::of_key(key).into_owned(),
            tags: tags.iter().map(|tag| (*tag).into()).collect(),
        });
        let storable = within_bounds(tags, MOST_KNOWN);
        let approach = match storable {
            true => self.approach(&address).await,
            false => Approach::Load(None),
        };
        let filling = match approach {
            Approach::Found(entry) => return Ok(entry.body.clone()),
            Approach::Load(filling) => filling,
        };
        count(&self.core.stats.misses);
        let object: Bytes = load().await?.into();
        if let Some((fence, lead)) = filling {
            self.keep(address, fence, lead, ttl, &object).await;
        }
        Ok(object)
    }

    /// Forgets the responses of the paths that `pattern` names: `/cars/7`, `/cars/*` for everything under it, `*` for all.
    ///
    /// All hosts, queries and variants of a path go together, in every process on the store. `/cars/*` is not `/cars`. A
    /// `*` elsewhere widens the pattern to everything under the segments before it: `/cars/*/photos` is `/cars/*`. Costs
    /// one command, whatever the number of entries.
    ///
    /// Call it after the change is committed. What a handler read before is then never served or stored.
    pub fn purge_path(&self, pattern: &str) -> Purge {
        Purge::begin(&self.core, Scope::path(pattern))
    }

    /// Forgets the objects that `pattern` names: `user:7`, `user:*` for everything under it, `*` for all.
    ///
    /// See [`purge_path`](Self::purge_path).
    pub fn purge_key(&self, pattern: &str) -> Purge {
        Purge::begin(&self.core, Scope::key(pattern))
    }

    /// Forgets the responses and objects that have `tag`.
    ///
    /// See [`purge_path`](Self::purge_path).
    pub fn purge_tag(&self, tag: &str) -> Purge {
        Purge::begin(&self.core, Ok(Scope::tag(tag)))
    }

    /// How requests were answered since this cache was made.
    pub fn stats(&self) -> Stats {
        self.core.stats.read()
    }

    /// The store, to ask how it is doing.
    pub fn store(&self) -> &SharedStore {
        &self.core.store
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Finds the object, in the store or with another who loads it, or the right to load and keep it.
    async fn approach(&self, address: &Address) -> Approach {
        let core = &self.core;
        for _ in 0..MOST_ROUNDS {
            let found = match core.settle_purges().await {
                true => core.find(address, &HeaderMap::new()).await.ok(),
                false => None,
            };
            let Some(mut found) = found else {
                count(&core.stats.store_errors);
                return Approach::Load(None);
            };
            if let Some(entry) = found.entry {
                count(&core.stats.hits);
                return Approach::Found(entry);
            }
            match self.enter(address, &mut found).await {
                Ok(lead) => return Approach::Load(lead),
                Err(Outcome::Shared(entry)) => {
                    count(&core.stats.collapsed);
                    return Approach::Found(entry);
                }
                Err(Outcome::Abandoned) => {}
                Err(Outcome::Refused | Outcome::TooLong) => return Approach::Load(None),
            }
        }
        Approach::Load(None)
    }

    /// The lead with its fence, none if nothing can be stored; or what became of the load of another.
    async fn enter(
        &self,
        address: &Address,
        found: &mut Found,
    ) -> Result<Option<(Arc<Fence>, Lead)>, Outcome> {
        let core = &self.core;
        let cx = core.context_until();
        let lead = loop {
            match core.flights.enter(
                address,
                flight_key(address, false, &[]),
                &found.seen,
                found.landed,
            ) {
                // Nothing became of the lookup: the loop looks again.
                Entrance::LookAgain => return Err(Outcome::Abandoned),
                Entrance::Lead(lead) => break lead,
                Entrance::Follow(follower) => return Err(follower.outcome().await),
                Entrance::PlantFirst => {
                    if plant(&core.waiting, &cx, address, &mut found.seen)
                        .await
                        .is_none()
                    {
                        return Ok(None);
                    }
                }
            }
        };
        let Some(fence) = plant(&core.waiting, &cx, address, &mut found.seen).await else {
            lead.refuse();
            return Ok(None);
        };
        let fence = Arc::new(fence);
        lead.begin(fence.clone());
        Ok(Some((fence, lead)))
    }

    async fn keep(
        &self,
        address: Arc<Address>,
        fence: Arc<Fence>,
        lead: Lead,
        ttl: Duration,
        object: &Bytes,
    ) {
        let clock = Clock::system();
        let head = EntryHead {
            status: 0,
            public: true,
            came: clock.now() / 1_000,
            freshness: Freshness::given(ttl),
            chosen_by: Vec::new(),
        };
        let fill = Fill {
            core: self.core.clone(),
            clock,
            address,
            credentialed: false,
            fence,
            lead: Some(lead),
            head,
            headers: HeaderMap::new(),
            tags: Vec::new(),
            variant: None,
        };
        let mut written = EntryWriter::new(object.len());
        written.push(object);
        // Nobody waits for the store.
        detach(fill.commit(written, HeaderMap::new()));
    }
}

enum Approach {
    Found(Arc<Entry>),
    Load(Option<(Arc<Fence>, Lead)>),
}

/// A call that finds the load it waited for broken off looks again so often, and then loads for itself.
const MOST_ROUNDS: usize = 8;
