use layer_store::{MemoryStore, SharedStore, wrap};
use rate_limit_layer::{Quota, RateLimit, RateLimitLayer};
use tokio::runtime::Handle;
use tower_layer::Layer;

use crate::Bare;

/// How our layer is set up.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// By the peer's address.
    pub quota: Quota,
    /// With `RateLimit` and `RateLimit-Policy`.
    pub headers: bool,
    /// With a breaker and a timeout round the store, as a networked one has them.
    pub wrapped: bool,
}

/// Our layer over memory, round a bare service. A wrapped store needs a tokio runtime about it.
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
