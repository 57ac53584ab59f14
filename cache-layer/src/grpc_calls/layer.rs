use std::{fmt, sync::Arc};

use layer_http::grpc::MethodPaths;
use tower_layer::Layer;

use super::service::GrpcCache;
use crate::{CacheLayer, ResponseCache};

/// Caches unary calls of gRPC beside the requests of HTTP: what [`CacheLayer::grpc`] makes.
///
/// ```
/// use std::time::Duration;
/// use cache_layer::{CacheLayer, store::{MemoryStore, SharedStore}};
///
/// let cache = CacheLayer::new(SharedStore::new(MemoryStore::new()))
///     .ttl(Duration::from_secs(30))
///     .grpc(["/cars.Cars/Show", "/cars.Cars/List"]);
/// let replies = cache.handle(); // for purges
/// # let _ = replies;
/// ```
#[derive(Clone)]
pub struct GrpcCacheLayer {
    cache: CacheLayer,
    calls: Arc<CachedCalls>,
}

/// The calls that are cached.
#[derive(Clone, Debug)]
pub(super) struct CachedCalls {
    pub(super) methods: MethodPaths,
    /// In bytes, with the prefix.
    pub(super) max_message: usize,
}

impl GrpcCacheLayer {
    pub(crate) fn new(cache: CacheLayer, methods: MethodPaths) -> Self {
        let max_message = DEFAULT_MAX_MESSAGE;
        Self {
            cache,
            calls: Arc::new(CachedCalls {
                methods,
                max_message,
            }),
        }
    }

    /// Sets the longest message of a call that is read for its key, in bytes. Default 64 KiB. A call with a longer one passes by.
    ///
    /// For methods that are asked with long messages, such as a list of all that a client wants to know.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    #[track_caller]
    pub fn max_message(mut self, bytes: usize) -> Self {
        assert!(
            bytes > 0,
            "max_message(0) caches no call with a message: write a number of bytes, such as 64 * 1024"
        );
        Arc::make_mut(&mut self.calls).max_message = bytes.saturating_add(PREFIX);
        self
    }

    /// Returns the handle for purges and look-ups: [`CacheLayer::handle`].
    pub fn handle(&self) -> ResponseCache {
        self.cache.handle()
    }
}

impl<S> Layer<S> for GrpcCacheLayer {
    type Service = GrpcCache<S>;

    fn layer(&self, inner: S) -> GrpcCache<S> {
        GrpcCache::new(self.cache.layer(inner), self.calls.clone())
    }
}

impl fmt::Debug for GrpcCacheLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcCacheLayer")
            .field("cache", &self.cache)
            .field("calls", &self.calls)
            .finish()
    }
}

const DEFAULT_MAX_MESSAGE: usize = 64 * 1024 + PREFIX;
/// The bytes in front of a message.
const PREFIX: usize = 5;

#[cfg(test)]
mod tests {
    use layer_store::{MemoryStore, SharedStore};

    use super::*;

    fn cache() -> CacheLayer {
        CacheLayer::new(SharedStore::new(MemoryStore::new()))
    }

    #[test]
    #[should_panic(expected = "\"cars.Cars/Show\" is no method of gRPC")]
    fn a_path_without_its_slash_is_a_panic() {
        let _ = cache().grpc(["cars.Cars/Show"]);
    }

    #[test]
    #[should_panic(expected = "write one, such as \"/cars.Cars/Show\"")]
    fn no_methods_are_a_panic() {
        let _ = cache().grpc([]);
    }

    #[test]
    #[should_panic(expected = "such as 64 * 1024")]
    fn a_longest_message_of_nothing_is_a_panic() {
        let _ = cache().grpc(["/cars.Cars/Show"]).max_message(0);
    }
}
