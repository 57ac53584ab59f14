use layer_store::{MemoryStore, SharedStore, wrap};
use rate_limit_layer::{Quota, RateLimit, RateLimitLayer};
use tokio::runtime::Handle;
use tower_layer::Layer;

use crate::Bare;

/// The settings of our layer.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The quota of each peer's address.
    pub quota: Quota,
    /// True to send `RateLimit` and `RateLimit-Policy`.
    pub headers: bool,
    /// True to wrap the store in a breaker and a timeout, as stores over a network are.
    pub wrapped: bool,
}

/// Returns our layer in memory around a bare service. A wrapped store needs a tokio runtime.
pub fn limited(setting: Setting) -> RateLimit<Bare> {
    let memory = MemoryStore::new();
    let store = match setting.wrapped {
        false => SharedStore::new(memory),
        true => {
            let limit = std::time::Duration::from_millis(100);
            SharedStore::new(wrap::Breaker::new(
                wrap::Timeout::new(memory, limit),
                Handle::current(),
            ))
        }
    };
    RateLimitLayer::new(store, setting.quota.fail_open())
        .headers(setting.headers)
        .layer(Bare)
}
