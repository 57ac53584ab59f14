mod keys;

use std::{fmt, sync::Arc, time::Duration};

use http::StatusCode;
use layer_http::grpc::MethodPaths;
use layer_store::{Clock, SharedStore};
use tower_layer::Layer;

use crate::{
    client_directives::ClientDirectives,
    grpc_calls::layer::GrpcCacheLayer,
    http::storable::is_whole,
    response_cache::ResponseCache,
    route::Route,
    service::Cache,
    settings::{CacheSettings, Profile},
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
/// // For routes on which each client has a session of its own, and downloads of up to 16 MiB:
/// let downloads = CacheLayer::new(store)
///     .name("downloads")
///     .credential_headers(["x-session"])
///     .max_body(16 * 1024 * 1024);
/// ```
#[derive(Clone)]
pub struct CacheLayer {
    cache: ResponseCache,
    settings: CacheSettings,
}

impl CacheLayer {
    /// Makes a layer with a cache of its own in `store`.
    pub fn new(store: impl Into<SharedStore>) -> Self {
        Self::with_cache(ResponseCache::new(store))
    }

    /// Makes a layer that stores the replies of unary calls of gRPC too: of these methods, by their paths. All other calls pass by.
    ///
    /// Name methods that change nothing, and whose replies depend on their message alone, as an address of HTTP does. Make all
    /// other settings before.
    ///
    /// - The key has the path, the message, and the encodings of request and reply (`grpc-encoding`, `grpc-accept-encoding`).
    /// - A reply has a lifetime by its metadata `cache-control`, or by [`ttl`](Self::ttl).
    /// - It is stored with its trailers, if it has one message and `grpc-status: 0`. Calls that wait for it get it when it is whole.
    /// - Metadata is what the fields of HTTP are: a call with `authorization` passes by, unless its reply is `public` or
    ///   [`per_user`](Self::per_user) tells whose it is.
    /// - [`ResponseCache::purge_path`] with the path of the method ends all its replies.
    ///
    /// A method with streams must not be listed. The request of a bidirectional stream has no end that could be waited for.
    /// gRPC-Web passes by: place `tonic_web`'s layer outside of this one.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use cache_layer::{CacheLayer, store::{MemoryStore, SharedStore}};
    /// let store = SharedStore::new(MemoryStore::new());
    /// let cache = CacheLayer::new(store).ttl(Duration::from_secs(30)).grpc(["/cars.Cars/Show"]);
    /// # let _ = cache;
    /// ```
    ///
    /// # Panics
    ///
    /// If there are none, or one is not of the form `/package.Service/Method`.
    #[track_caller]
    pub fn grpc<'m>(self, methods: impl IntoIterator<Item = &'m str>) -> GrpcCacheLayer {
        let if_none = "without methods no call is stored: write one, such as \"/cars.Cars/Show\"";
        GrpcCacheLayer::new(self, MethodPaths::new(methods, if_none))
    }

    /// Makes a layer on a cache that others use too. They share entries, purges, statistics and calls under way.
    ///
    /// ```
    /// use cache_layer::{CacheLayer, ResponseCache, store::{MemoryStore, SharedStore}};
    ///
    /// let cache = ResponseCache::new(SharedStore::new(MemoryStore::new()));
    /// let pages = CacheLayer::with_cache(cache.clone());
    /// let images = CacheLayer::with_cache(cache).name("images").max_body(8 * 1024 * 1024);
    /// ```
    pub fn with_cache(cache: ResponseCache) -> Self {
        Self {
            settings: CacheSettings::new(cache.clock_of_objects().clone()),
            cache,
        }
    }

    /// Sets the lifetime of responses that state none. By default they are not stored.
    ///
    /// It applies to the statuses 200, 203, 204, 300, 301 and 308; [`ttl_for`](Self::ttl_for) is for others. A response that states a lifetime keeps that one. Every
    /// entry ends after at most 24 hours.
    ///
    /// # Panics
    ///
    /// If it is below a millisecond.
    #[must_use]
    #[track_caller]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        assert!(
            ttl >= Duration::from_millis(1),
            "a lifetime of {ttl:?} stores nothing: write at least Duration::from_millis(1), or leave out .ttl(..)"
        );
        self.settings.ttl = Some(ttl);
        self
    }

    /// Sets the lifetime of responses with one status that state none, and stores that status in every profile.
    ///
    /// For statuses that [`ttl`](Self::ttl) leaves out, such as 404, and for failures and refusals (401, 403, 428, 429, 431, 5xx), which
    /// the safe profile stores only if their status is named here. A response that states a lifetime keeps that one. The
    /// second call for a status replaces the first.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use cache_layer::{CacheLayer, store::{MemoryStore, SharedStore}};
    /// use http::StatusCode;
    ///
    /// let store = SharedStore::new(MemoryStore::new());
    /// let cache = CacheLayer::new(store)
    ///     .ttl(Duration::from_secs(60))
    ///     .ttl_for(StatusCode::NOT_FOUND, Duration::from_secs(5))
    ///     .ttl_for(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(1));
    /// ```
    ///
    /// # Panics
    ///
    /// If the lifetime is below a millisecond. If the status is 1xx, 206, 304, 412 or 416: such a response is no whole one, and
    /// is never stored.
    #[must_use]
    #[track_caller]
    pub fn ttl_for(mut self, status: StatusCode, ttl: Duration) -> Self {
        assert!(
            ttl >= Duration::from_millis(1),
            "a lifetime of {ttl:?} stores nothing: write at least Duration::from_millis(1), or leave out .ttl_for({status}, ..)"
        );
        assert!(
            is_whole(status),
            "a response with status {status} is never stored: leave out .ttl_for({status}, ..)"
        );
        self.settings.ttls.retain(|(listed, _)| *listed != status);
        self.settings.ttls.push((status, ttl));
        self
    }

    /// Shares errors with those who wait for them, and for this time after. By default none is shared.
    ///
    /// An error is a response with status 404, 410 or 5xx that states no lifetime, and that may be stored otherwise. So many
    /// requests at once for a page that fails are one handler call, and not one after the other. A second is enough for that.
    /// [`ttl_for`](Self::ttl_for) comes first for its status. An error with a lifetime is treated as without this setting, and
    /// an error of the inner service, which is no response, is not shared.
    ///
    /// An error is not stored in place of a response that is fresh, or that may be sent stale: see
    /// [`stale_while_revalidate`](Self::stale_while_revalidate) and [`stale_if_error`](Self::stale_if_error).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use cache_layer::{CacheLayer, store::{MemoryStore, SharedStore}};
    ///
    /// let store = SharedStore::new(MemoryStore::new());
    /// let cache = CacheLayer::new(store).share_errors(Duration::from_secs(1));
    /// ```
    ///
    /// # Panics
    ///
    /// If the time is below a millisecond.
    #[must_use]
    #[track_caller]
    pub fn share_errors(mut self, time: Duration) -> Self {
        assert!(
            time >= Duration::from_millis(1),
            "a time of {time:?} shares nothing: write at least Duration::from_millis(1), or leave out .share_errors(..)"
        );
        self.settings.shared_errors = Some(time);
        self
    }

    /// Sets how long a stale response may be sent while a new one is fetched, for responses that do not say. By default 0.
    ///
    /// A response says it with `stale-while-revalidate` (RFC 5861, section 3). One with `must-revalidate`,
    /// `proxy-revalidate`, `s-maxage` or `no-cache` is not sent stale by this setting.
    #[must_use]
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.settings.grace.while_revalidate = window;
        self
    }

    /// Sets how long a stale response may be sent if the handler fails, for responses that do not say. By default 0.
    ///
    /// A failure is a response with status 500, 502, 503 or 504, or an error of the inner service. A response says it with
    /// `stale-if-error` (RFC 5861, section 4). One with `must-revalidate`, `proxy-revalidate`, `s-maxage` or `no-cache` is
    /// not sent stale by this setting.
    #[must_use]
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.settings.grace.if_error = window;
        self
    }

    /// Sets the influence that clients have by `Cache-Control` and `Pragma`. By default [`ClientDirectives::Coalesce`].
    ///
    /// ```
    /// use cache_layer::{CacheLayer, ClientDirectives, store::{MemoryStore, SharedStore}};
    ///
    /// let store = SharedStore::new(MemoryStore::new());
    /// let reports = CacheLayer::new(store).client_directives(ClientDirectives::Ignore);
    /// ```
    #[must_use]
    pub fn client_directives(mut self, influence: ClientDirectives) -> Self {
        self.settings.client_directives = influence;
        self
    }

    /// Gives a strong `ETag` to stored responses with status 200 that have none: a hash of their body.
    ///
    /// For handlers that make no tags, so that clients with a copy get 304 (RFC 9110, section 13.1.2). The tag is known when
    /// the body has ended, so the response that is being stored is sent without it. By default off.
    ///
    /// A compression layer belongs inside: outside it changes the bytes and keeps the tag.
    #[must_use]
    pub fn etag(mut self) -> Self {
        self.settings.makes_etags = true;
        self
    }

    /// Sets the rules that decide what is stored and shared. By default [`Profile::Safe`].
    ///
    /// Layers of two profiles do not share entries.
    ///
    /// ```
    /// use cache_layer::{CacheLayer, Profile, store::{MemoryStore, SharedStore}};
    ///
    /// let store = SharedStore::new(MemoryStore::new());
    /// let before_a_cdn_origin = CacheLayer::new(store).profile(Profile::Rfc);
    /// ```
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.settings.set_profile(profile);
        self
    }

    /// Sets the length of the longest body that is stored, in bytes. By default 2 MiB. A longer one passes through.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    #[track_caller]
    pub fn max_body(mut self, bytes: usize) -> Self {
        assert!(
            bytes > 0,
            "a longest body of 0 bytes stores nothing: write at least 1, or .enabled(false)"
        );
        self.settings.max_body = bytes;
        self
    }

    /// Sets how many variants of one address are stored at once. By default 64.
    ///
    /// A response that names a request field in `Vary` has a variant for each value that clients send. The next one beyond the
    /// bound is not stored, with `detail=variants`; those that are stored are served as before. So a client that makes up
    /// values cannot fill the store with one page.
    ///
    /// Each process counts what it has stored itself, for as long as that would live. Several processes on a store may keep as
    /// many variants each, if they are not the same ones, and a process that has begun anew has counted none.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    #[track_caller]
    pub fn max_variants(mut self, variants: usize) -> Self {
        assert!(
            variants > 0,
            "0 variants store no response with a Vary: write at least 1"
        );
        self.settings.max_variants = variants;
        self
    }

    /// Sets how long a handler call and its body may take to be stored. By default 30 s, counted from the call.
    ///
    /// A call that takes longer goes on for the clients that read its response, and is not stored. Requests that wait for it
    /// call the handler themselves.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    #[track_caller]
    pub fn max_fill_time(mut self, time: Duration) -> Self {
        assert!(
            !time.is_zero(),
            "a call of no time stores nothing: write such as Duration::from_secs(30), or .enabled(false)"
        );
        self.settings.max_fill_time = time;
        self
    }

    /// Sets if a handler call whose response may be stored goes on when all of its clients have left. By default true.
    ///
    /// It goes on for at most [`max_fill_time`](Self::max_fill_time). So a page that takes longer than its clients wait is
    /// there for the next one. With false the call is dropped, as it is without a cache.
    #[must_use]
    pub fn fills_outlive_clients(mut self, outlive: bool) -> Self {
        self.settings.fills_outlive_clients = outlive;
        self
    }

    /// Sets the name of this cache in `Cache-Status`. By default `cache`.
    ///
    /// The name is also part of the place of the entries. Layers with one name on one store share them if they have the same
    /// [`profile`](Self::profile) and the same settings about keys, credentials and fields. So two layers without a name share
    /// nothing that one of them would not have stored or sent. A purge reaches the entries of all layers.
    ///
    /// Functions cannot be compared. Give layers names of their own if they differ in the function of [`key`](Self::key) or
    /// [`per_user`](Self::per_user).
    ///
    /// # Panics
    ///
    /// If it is empty or holds more than printable ASCII.
    #[must_use]
    #[track_caller]
    pub fn name(mut self, name: &str) -> Self {
        self.settings.rename(name);
        self
    }

    /// Switches the layer off or on. By default it is on. Switched off, it passes every request on and adds no header.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.settings.enabled = enabled;
        self
    }

    /// Sets the clock by which ages are computed. By default the system's. For tests.
    ///
    /// It becomes the clock of [`handle`](Self::handle) too.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.cache = self.cache.clock(clock.clone());
        self.settings.clock = clock;
        self
    }

    /// Returns the cache of this layer, its clones and its services: for purges, statistics, objects and
    /// [look-ups](ResponseCache::look_up).
    ///
    /// Call it when all settings are made: a look-up goes by those of this moment.
    pub fn handle(&self) -> ResponseCache {
        self.cache.with_settings(&self.settings)
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = Cache<S>;

    fn layer(&self, inner: S) -> Cache<S> {
        let route = Route {
            shared: self.cache.shared().clone(),
            settings: self.settings.clone(),
        };
        Cache::new(inner, Arc::new(route))
    }
}

impl fmt::Debug for CacheLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheLayer")
            .field("name", &self.settings.name)
            .field("profile", &self.settings.profile)
            .field("ttl", &self.settings.ttl)
            .field("max_body", &self.settings.max_body)
            .field("enabled", &self.settings.enabled)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use layer_store::MemoryStore;

    use super::*;

    fn layer() -> CacheLayer {
        CacheLayer::new(SharedStore::new(MemoryStore::new()))
    }

    #[test]
    #[should_panic(expected = "write at least Duration::from_millis(1)")]
    fn a_lifetime_of_nothing_is_a_panic() {
        let _ = layer().ttl(Duration::from_micros(999));
    }

    #[test]
    #[should_panic(expected = "leave out .share_errors(..)")]
    fn errors_that_are_shared_for_no_time_are_a_panic() {
        let _ = layer().share_errors(Duration::from_micros(999));
    }

    #[test]
    #[should_panic(expected = "leave out .ttl_for(404 Not Found, ..)")]
    fn a_lifetime_of_nothing_for_a_status_is_a_panic() {
        let _ = layer().ttl_for(StatusCode::NOT_FOUND, Duration::ZERO);
    }

    #[test]
    #[should_panic(expected = "status 206 Partial Content is never stored")]
    fn a_lifetime_for_a_part_is_a_panic() {
        let _ = layer().ttl_for(StatusCode::PARTIAL_CONTENT, Duration::from_secs(1));
    }

    #[test]
    fn the_last_lifetime_of_a_status_is_used() {
        let missing = StatusCode::NOT_FOUND;
        let layer = layer().ttl_for(missing, Duration::from_secs(1));
        let layer = layer.ttl_for(missing, Duration::from_secs(2));
        assert_eq!(layer.settings.ttls, [(missing, Duration::from_secs(2))]);
    }

    #[test]
    fn grace_has_two_windows() {
        let layer = layer()
            .stale_while_revalidate(Duration::from_secs(1))
            .stale_if_error(Duration::from_secs(2));
        let grace = layer.settings.grace;
        assert_eq!(grace.while_revalidate, Duration::from_secs(1));
        assert_eq!(grace.if_error, Duration::from_secs(2));
    }

    #[test]
    #[should_panic(expected = "write at least 1")]
    fn a_longest_body_of_nothing_is_a_panic() {
        let _ = layer().max_body(0);
    }

    #[test]
    #[should_panic(expected = "write at least 1")]
    fn no_variants_are_a_panic() {
        let _ = layer().max_variants(0);
    }

    #[test]
    fn the_smallest_settings_are_accepted() {
        let smallest = layer().ttl(Duration::from_millis(1));
        let _ = smallest.max_body(1).max_variants(1);
    }
}
