use std::{fmt, sync::Arc, time::Duration};

use http::HeaderName;
use layer_store::{Clock, SharedStore};
use tower_layer::Layer;

use crate::{
    fetch::Shared,
    response_cache::ResponseCache,
    service::Cache,
    settings::{Profile, Rule},
};

/// Caches the responses of the service it wraps. See the [crate docs](crate).
///
/// ```
/// use std::time::Duration;
///
/// use cache_layer::{CacheLayer, store::{MemoryStore, SharedStore}};
///
/// let store = SharedStore::new(MemoryStore::new());
/// let cache = CacheLayer::new(store.clone()).ttl(Duration::from_secs(30));
///
/// // Behind an API gateway that has dealt with cookies:
/// let gateway = CacheLayer::new(store)
///     .name("gateway")
///     .credentials(["authorization"])
///     .max_body(16 * 1024 * 1024);
/// ```
#[derive(Clone)]
pub struct CacheLayer {
    cache: ResponseCache,
    rule: Rule,
}

impl CacheLayer {
    /// A cache in `store` of what may be shared and names its lifetime.
    pub fn new(store: SharedStore) -> Self {
        Self::with_cache(ResponseCache::new(store))
    }

    /// The same on a [`ResponseCache`] that others use too: purges, statistics and calls under way are common.
    pub fn with_cache(cache: ResponseCache) -> Self {
        Self {
            cache,
            rule: Rule::new(),
        }
    }

    /// Keeps answers that name no lifetime so long: those with status 200, 203, 204, 300, 301 or 308. By default they are
    /// not stored. Answers live at most 24 hours, whatever they say.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.rule.ttl = Some(ttl);
        self
    }

    /// Applies the rules of RFC 9111 and no others: `Set-Cookie` is stored, `Authorization` is the only credential and only
    /// forbids storing, an encoded answer that does not say so does not vary, a method is what it is.
    ///
    /// For a cache in front of origins that know about caches. Entries are kept apart from those of the safe profile.
    #[must_use]
    pub fn rfc(mut self) -> Self {
        self.rule.set_profile(Profile::Rfc);
        self
    }

    /// The request fields that say who asks: a request with one of them is answered by the handler, unless the answer says
    /// `public` or `s-maxage`. By default `Authorization`, `Cookie` and `X-Api-Key`; leave out what the route ignores.
    ///
    /// # Panics
    ///
    /// If one is not a header's name.
    #[must_use]
    #[track_caller]
    pub fn credentials<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut credentials = Vec::new();
        for name in names {
            match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => credentials.push(name),
                Err(_) => panic!("{name:?} is not a header's name: write one such as \"cookie\""),
            }
        }
        self.rule.credentials = credentials;
        self
    }

    /// The longest body that is stored, in bytes. By default 2 MiB. A longer one passes through.
    #[must_use]
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.rule.max_body = bytes;
        self
    }

    /// How the cache calls itself in `Cache-Status`, and where its entries stand: layers of one name on one store share
    /// them. By default `cache`.
    ///
    /// # Panics
    ///
    /// If it is empty or holds more than printable ASCII.
    #[must_use]
    #[track_caller]
    pub fn name(mut self, name: &str) -> Self {
        self.rule.rename(name);
        self
    }

    /// Whether it does anything. Switched off, it passes every request on and adds no header.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.rule.enabled = enabled;
        self
    }

    /// The clock that ages are counted by; the system's by default. For tests.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.rule.clock = clock;
        self
    }

    /// Purges, statistics, and objects beside the responses. It belongs to this layer, its clones and its services.
    pub fn handle(&self) -> ResponseCache {
        self.cache.clone()
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = Cache<S>;

    fn layer(&self, inner: S) -> Cache<S> {
        let shared = Shared {
            core: self.cache.core().clone(),
            rule: self.rule.clone(),
        };
        Cache::new(inner, Arc::new(shared))
    }
}

impl fmt::Debug for CacheLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheLayer")
            .field("name", &self.rule.name)
            .field("profile", &self.rule.profile)
            .field("ttl", &self.rule.ttl)
            .field("max_body", &self.rule.max_body)
            .field("enabled", &self.rule.enabled)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}
