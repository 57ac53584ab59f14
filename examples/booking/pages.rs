use cache_layer::{CacheLayer, ResponseCache};

/// What the cache keeps of this service, to be forgotten when it has changed.
#[derive(Clone, Debug)]
pub(crate) struct Pages(ResponseCache);

impl Pages {
    pub(crate) fn of(cache: &CacheLayer) -> Self {
        Self(cache.handle())
    }

    /// Forgets the pages of these paths, in every process on the store, before the client is answered.
    ///
    /// The change they show is made: a store that fails now does not undo it, and this process repeats the purge.
    pub(crate) async fn forget(&self, patterns: &[String]) {
        for pattern in patterns {
            if let Err(error) = self.0.purge_path(pattern).await {
                tracing::warn!(%error, "a change is not seen everywhere yet");
            }
        }
    }
}
