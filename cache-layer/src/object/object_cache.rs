use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use bytes::Bytes;
use layer_store::Clock;

use super::{
    codec::{Codec, Raw},
    insert::{InsertError, NewObject},
    load_plan::LoadPlan,
    namespace::Namespace,
    nesting,
    shared_error::ErrorTerms,
};
use crate::{
    flight::{FlightKey, flight_key},
    metrics::count_object,
    purge::{
        Purge,
        scope::PurgeScope,
        tags::{MAX_OBJECT_TAGS, within_bounds},
    },
    shared::Shared,
    stats::count,
    stored::address::Address,
};

/// Objects in a cache: values that an application keeps under keys of its own, without HTTP.
///
/// [`ResponseCache::objects`](crate::ResponseCache::objects) makes one. It keeps bytes; [`typed`](Self::typed) makes one of
/// other values. Clones share their objects.
///
/// An object lives for at most 24 hours, and less if the store has no room. It has at most 16 tags of at most 256 bytes each.
/// Purges split its key at `:`.
///
/// ```
/// use std::time::Duration;
///
/// use bytes::Bytes;
/// use cache_layer::{ResponseCache, store::{MemoryStore, SharedStore}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let objects = ResponseCache::new(SharedStore::new(MemoryStore::new())).objects();
/// let minute = Duration::from_secs(60);
///
/// let load = || async { Ok::<_, std::io::Error>(Bytes::from("Ada")) };
/// let user = objects.get_or_insert_with("user:7", minute, &["users"], load).await?;
/// assert_eq!(user, "Ada");
/// assert_eq!(objects.get("user:7").await, Some(user));
///
/// // After a change:
/// objects.purge("user:*").await.unwrap();
/// assert_eq!(objects.get("user:7").await, None);
/// # Ok::<_, std::io::Error>(())
/// # }).unwrap();
/// ```
///
/// # When the store fails
///
/// [`get`](Self::get) finds nothing, [`get_or_insert_with`](Self::get_or_insert_with) loads, and
/// [`insert`](Self::insert) is an error.
pub struct ObjectCache<T = Bytes, C = Raw> {
    pub(super) shared: Arc<Shared>,
    clock: Clock,
    namespace: Namespace,
    pub(super) codec: C,
    values: PhantomData<fn() -> T>,
}

impl ObjectCache {
    /// Makes the objects of the default namespace.
    pub(crate) fn new(shared: Arc<Shared>, clock: Clock) -> Self {
        Self {
            shared,
            clock,
            namespace: Namespace::default(),
            codec: Raw,
            values: PhantomData,
        }
    }
}

impl<T, C> ObjectCache<T, C> {
    /// Returns the objects of a namespace, whose keys are apart from those of all others.
    ///
    /// [`purge`](Self::purge) and [`remove`](Self::remove) stay in their namespace. `*` in the default namespace reaches all of
    /// them, and so does [`purge_tag`](Self::purge_tag). A namespace of a namespace replaces it.
    ///
    /// A purge of the key `@name:..` in the default namespace reaches the namespace `name` too.
    ///
    /// # Panics
    ///
    /// If the name is empty, or holds a colon, a space, or more than printable ASCII.
    #[must_use]
    #[track_caller]
    pub fn namespace(self, name: &str) -> Self {
        Self {
            namespace: Namespace::named(name),
            ..self
        }
    }

    /// Returns the same namespace as a cache of other values.
    ///
    #[cfg_attr(feature = "json", doc = "See [`Json`](crate::Json) for an example.")]
    #[cfg_attr(not(feature = "json"), doc = "See [`Codec`] for an example.")]
    ///
    /// An object that the codec cannot read is taken for missing. So keep values of one type under one namespace or key.
    #[must_use]
    pub fn typed<U, D: Codec<U>>(self, codec: D) -> ObjectCache<U, D> {
        ObjectCache {
            shared: self.shared,
            clock: self.clock,
            namespace: self.namespace,
            codec,
            values: PhantomData,
        }
    }

    /// Removes the object under `key`. The key is taken whole: no `*` stands for others.
    ///
    /// It is a [purge](Self::purge): when it has ended, no process serves the object, nor what a load that began before it
    /// stores.
    pub fn remove(&self, key: &str) -> Purge {
        Purge::begin(&self.shared.purger, Ok(self.namespace.object(key)))
    }

    /// Purges the objects of a pattern: `user:7`, `user:*` for all under it, `*` for all.
    ///
    /// A glob widens the pattern to everything under the segments before it, see
    /// [`ResponseCache::purge_key`](crate::ResponseCache::purge_key). It costs one command, whatever the number of objects.
    pub fn purge(&self, pattern: &str) -> Purge {
        Purge::begin(&self.shared.purger, self.namespace.pattern(pattern))
    }

    /// Purges all objects with a tag, in all namespaces, and all responses with it.
    pub fn purge_tag(&self, tag: &str) -> Purge {
        Purge::begin(&self.shared.purger, Ok(PurgeScope::tag(tag)))
    }

    /// Counts a request for an object, and tells of it.
    pub(super) fn tell(result: &'static str, counter: &AtomicU64) {
        count(counter);
        count_object(result);
        tracing::debug!(result, "object answered");
    }
}

impl<T, C: Codec<T>> ObjectCache<T, C> {
    /// Returns the object under `key`. `None`: there is none, its time is over, it was purged, or the store fails.
    ///
    /// It costs one command. The first one for an object with tags costs two in each process.
    pub async fn get(&self, key: &str) -> Option<T> {
        let stats = &self.shared.stats;
        let found = self.look_up(&self.namespace.address(key, &[])).await;
        let value = found.and_then(|found| self.read(&found));
        match &value {
            Some(_) => Self::tell("hit", &stats.hits),
            None => Self::tell("miss", &stats.misses),
        }
        value
    }

    /// Returns true if [`get`](Self::get) would return an object now. It is not counted.
    pub async fn contains(&self, key: &str) -> bool {
        let found = self.look_up(&self.namespace.address(key, &[])).await;
        found.is_some_and(|found| self.read(&found).is_some())
    }

    /// Stores an object under `key` for `ttl`, instead of what is there.
    ///
    /// With a `ttl` below a millisecond nothing is there afterwards. It costs three commands.
    ///
    /// # What it promises
    ///
    /// A purge that begins after this call has ended reaches the object. Of one that runs at the same time, either may come
    /// first. A load that began before this call is not kept over it.
    ///
    /// It cannot know when the value was read. If you read it from a database, and the key or one of its tags is purged after
    /// that and before this call, then the object is stored all the same and is **out of date** until its time is over. A load
    /// of [`get_or_insert_with`](Self::get_or_insert_with) is not: use that for what is read from elsewhere, and `insert` for
    /// what is made here, such as a session or the result of this request's own write.
    ///
    /// If two calls, or a call and a load that began before it, store under one key at once, there may be no object afterwards.
    ///
    /// # Errors
    ///
    /// See [`InsertError`]. The object is not stored.
    ///
    /// # Cancel safety
    ///
    /// Once polled it happens, even if the future is dropped.
    pub async fn insert(
        &self,
        key: &str,
        value: &T,
        ttl: Duration,
        tags: &[&str],
    ) -> Result<(), InsertError> {
        if !within_bounds(tags, MAX_OBJECT_TAGS) {
            return Err(InsertError::Tags);
        }
        let encoded = self.codec.encode(value);
        let object = encoded.map_err(|error| InsertError::Codec(error.into()))?;
        let address = Arc::new(self.namespace.address(key, tags));
        let flight = flight_key(&address, false, &[]);
        let object = self.new_object(address, flight, ttl, object);
        object.insert(self.namespace.object(key)).await
    }

    /// Returns the object under `key`, or loads it with `load` and keeps it for `ttl`.
    ///
    /// Calls at once share one load: in this process, and over all processes on the store as far as
    /// [`coalesce_over_instances`](crate::ResponseCache::coalesce_over_instances) says. What was loaded before a purge is
    /// never stored after it. A `ttl` below a millisecond, more than 16 tags, or a value that the codec cannot write are not
    /// stored.
    ///
    /// A load may ask for other objects. One that asks for its own, or for one whose load waits for this one, would wait for
    /// itself: that call loads at once, and does not store. This is found also if the loads run in different tasks, but not
    /// through a task that a load spawns, nor over processes: such a ring ends after 30 s.
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
    pub async fn get_or_insert_with<F, Fut, E>(
        &self,
        key: &str,
        ttl: Duration,
        tags: &[&str],
        load: F,
    ) -> Result<T, E>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.get_or_load(key, ttl, tags, None, load).await
    }

    /// As [`get_or_insert_with`](Self::get_or_insert_with), and shares an error of `load` for `errors`.
    ///
    /// Calls of this method that wait for the load, or come within that time, get a clone of its error, so that a database
    /// that fails is not asked by each of them. This process alone shares it. A purge of the object ends it, and so does an
    /// insert.
    ///
    /// ```
    /// use std::{io::ErrorKind, time::Duration};
    ///
    /// use bytes::Bytes;
    /// use cache_layer::{ResponseCache, store::{MemoryStore, SharedStore}};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let objects = ResponseCache::new(SharedStore::new(MemoryStore::new())).objects();
    /// let (minute, second) = (Duration::from_secs(60), Duration::from_secs(1));
    ///
    /// let fails = || async { Err(ErrorKind::TimedOut) };
    /// let first = objects.get_or_insert_sharing_errors("user:7", minute, &[], second, fails).await;
    /// let works = || async { Ok(Bytes::from("Ada")) };
    /// let second = objects.get_or_insert_sharing_errors("user:7", minute, &[], second, works).await;
    /// assert_eq!((first, second), (Err(ErrorKind::TimedOut), Err(ErrorKind::TimedOut)));
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// That of `load`, or of another call's load.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the next call that waits loads.
    pub async fn get_or_insert_sharing_errors<F, Fut, E>(
        &self,
        key: &str,
        ttl: Duration,
        tags: &[&str],
        errors: Duration,
        load: F,
    ) -> Result<T, E>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: Clone + Send + Sync + 'static,
    {
        let errors = ErrorTerms::new(errors);
        self.get_or_load(key, ttl, tags, Some(errors), load).await
    }

    async fn get_or_load<F, Fut, E>(
        &self,
        key: &str,
        ttl: Duration,
        tags: &[&str],
        errors: Option<ErrorTerms<E>>,
        load: F,
    ) -> Result<T, E>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let address = Arc::new(self.namespace.address(key, tags));
        let flight = flight_key(&address, false, &[]);
        let plan = match within_bounds(tags, MAX_OBJECT_TAGS) {
            true => self.plan(&address, &flight, errors.as_ref()).await,
            false => LoadPlan::Load(None),
        };
        let fill = match plan {
            LoadPlan::Found(value) => return Ok(value),
            LoadPlan::Failed(error) => return Err(error),
            LoadPlan::Load(fill) => fill,
        };
        Self::tell("miss", &self.shared.stats.misses);
        let loaded = nesting::inside(&self.shared, flight.clone(), load).await;
        let Some(fill) = fill else {
            return loaded;
        };
        match &loaded {
            Ok(value) => match self.codec.encode(value) {
                Ok(object) => {
                    let object = self.new_object(address, flight, ttl, object);
                    object.store_loaded(fill);
                }
                Err(error) => {
                    let error = error.into();
                    tracing::warn!(%error, "an object cannot be written, and is not stored");
                    fill.not_shared();
                }
            },
            // Before the fill is dropped: those who wait look for the error then.
            Err(error) => {
                if let Some(errors) = &errors {
                    let snapshot = &fill.snapshot;
                    self.shared.errors.keep(&flight, error, errors, snapshot);
                }
            }
        }
        loaded
    }

    fn new_object(
        &self,
        address: Arc<Address>,
        key: FlightKey,
        ttl: Duration,
        object: Bytes,
    ) -> NewObject {
        NewObject {
            shared: self.shared.clone(),
            clock: self.clock.clone(),
            address,
            key,
            ttl,
            object,
        }
    }
}

impl<T, C: Clone> Clone for ObjectCache<T, C> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            clock: self.clock.clone(),
            namespace: self.namespace.clone(),
            codec: self.codec.clone(),
            values: PhantomData,
        }
    }
}

impl<T, C> fmt::Debug for ObjectCache<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectCache")
            .field("namespace", &self.namespace)
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
