use cache_layer::{CacheLayer, ResponseCache};

/// The cached pages of this service, to purge when their content changes.
#[derive(Clone, Debug)]
pub(crate) struct Pages(ResponseCache);

impl Pages {
    pub(crate) fn of(cache: &CacheLayer) -> Self {
        Self(cache.handle())
    }

    /// Purges the pages of these paths, in every process on the store.
    ///
    /// The change itself is already made, so an error of the store is only logged. This process repeats the purge later.
    pub(crate) async fn forget(&self, patterns: &[String]) {
        for pattern in patterns {
            if let Err(error) = self.0.purge_path(pattern).await {
                tracing::warn!(%error, "a change is not seen everywhere yet");
            }
        }
    }
}
