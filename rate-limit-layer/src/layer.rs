use std::{fmt, sync::Arc};

use layer_store::{Clock, SharedStore};
use tower_layer::Layer;

use crate::{IntoPolicy, Limiter, RateLimit, shared::Shared};

/// A layer that refuses requests over a quota. See the [crate docs](crate).
///
/// ```
/// use rate_limit_layer::{ClientIp, Quota, RateLimitLayer, header, store::{MemoryStore, SharedStore}};
///
/// let store = SharedStore::new(MemoryStore::new());
/// let simple = RateLimitLayer::new(store.clone(), Quota::per_minute(100).burst(20).fail_open());
/// // Behind a proxy, two policies, one of them per API key:
/// let by_address = Quota::per_second(10).fail_open().by(ClientIp::behind(["10.0.0.0/8"]));
/// let by_key = Quota::per_day(5_000).fail_closed().name("daily").by(header("x-api-key"));
/// let both = RateLimitLayer::new(store, by_address).and(by_key);
/// # let _ = (simple, both);
/// ```
#[derive(Clone)]
#[must_use]
pub struct RateLimitLayer {
    shared: Arc<Shared>,
}

impl RateLimitLayer {
    /// Makes a layer of one policy over a store: a `SharedStore`, a `MemoryStore` or a `RedisStore`.
    #[track_caller]
    pub fn new(store: impl Into<SharedStore>, policy: impl IntoPolicy) -> Self {
        Self::of(Shared::new(store.into(), policy.into_policy()))
    }

    /// Adds a policy. A request must pass all of them; one that is refused is charged by none.
    ///
    /// Policies that count a request for one identity are checked in one atomic command. Each further identity, such as an API key
    /// beside an address, costs one more; earlier charges are given back if a later policy refuses.
    ///
    /// # Panics
    ///
    /// If another policy has the name already (see [`Policy::name`](crate::Policy::name)), if there are eight, or if the cost is
    /// above the policy's burst.
    #[track_caller]
    pub fn and(self, policy: impl IntoPolicy) -> Self {
        let policy = policy.into_policy();
        Self::of(self.into_shared().and(policy))
    }

    /// Sets how many units of each quota a request costs. Default 1.
    ///
    /// For a route that is more expensive than others with the same policy.
    ///
    /// # Panics
    ///
    /// If it is zero, or above the burst of a policy: no request would pass.
    #[track_caller]
    pub fn cost(self, cost: u64) -> Self {
        Self::of(self.into_shared().cost(cost))
    }

    /// Sets if responses carry `RateLimit` and `RateLimit-Policy`. Default true.
    ///
    /// Without them an admitted request allocates nothing. A 429 has its `Retry-After` either way.
    pub fn headers(self, headers: bool) -> Self {
        Self::of(self.into_shared().headers(headers))
    }

    /// Sets if a request's extensions carry its [`Standing`](crate::Standing), for handlers. Default false, as it costs an
    /// allocation.
    ///
    /// There is none if nothing was checked: the store is down and all policies fail open, or they skip the request. So an axum
    /// handler takes `Option<Standing>` (feature `axum`).
    ///
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// use axum::{Router, routing::get};
    /// use rate_limit_layer::{Quota, RateLimitLayer, Standing, store::MemoryStore};
    ///
    /// async fn balance(standing: Option<Standing>) -> String {
    ///     match standing {
    ///         Some(standing) => format!("{} requests left", standing.remaining()),
    ///         None => "not limited".into(),
    ///     }
    /// }
    ///
    /// let limit = RateLimitLayer::new(MemoryStore::new(), Quota::per_minute(100).fail_open());
    /// let app: Router = Router::new().route("/", get(balance)).layer(limit.standing(true));
    /// # let _ = app;
    /// # }
    /// ```
    pub fn standing(self, standing: bool) -> Self {
        Self::of(self.into_shared().standing(standing))
    }

    /// Switches the layer on or off without changing types. Default true. Off, every request passes uncounted.
    ///
    /// For a switch in a configuration file.
    pub fn enabled(self, enabled: bool) -> Self {
        Self::of(self.into_shared().enabled(enabled))
    }

    /// Sets the clock of this process's own count, as [`Limiter::clock`] does. Default: the system's clock.
    pub fn clock(self, clock: Clock) -> Self {
        Self::of(self.into_shared().clock(clock))
    }

    /// Sets how many requests of a key this process may charge in advance, as [`Limiter::prepaid`] does. Default 0.
    ///
    /// # Panics
    ///
    /// If there are several policies.
    #[track_caller]
    pub fn prepaid(self, most: u64) -> Self {
        Self::of(self.into_shared().prepaid(most))
    }

    /// Returns the limiter inside, to peek and reset.
    pub fn handle(&self) -> Limiter {
        self.shared.limiter.clone()
    }

    fn of(shared: Shared) -> Self {
        Self {
            shared: Arc::new(shared),
        }
    }

    fn into_shared(self) -> Shared {
        Arc::unwrap_or_clone(self.shared)
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimit<S>;

    fn layer(&self, inner: S) -> RateLimit<S> {
        RateLimit::new(inner, self.shared.clone())
    }
}

impl fmt::Debug for RateLimitLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}
