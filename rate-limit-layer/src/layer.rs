use std::{fmt, sync::Arc};

use http::Response;
use layer_http::{Content, RequestHead};
use layer_store::{Clock, SharedStore};
use tower_layer::Layer;

use crate::{
    IntoPolicy, Limiter, RateLimit, RateLimitRefusal, response::on_refused::OnRefused,
    shared::Shared,
};

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

    /// Sets if responses also carry `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`. Default false.
    ///
    /// For clients that read these. No standard defines them. Here `Limit` is the burst, the most that may remain; `Remaining` is how
    /// many requests may pass at once; and `Reset` is in seconds from now, as the `t` of `RateLimit`, and not a date. They tell of one
    /// policy: the one with the fewest requests left, or with the longest wait if the request is refused.
    ///
    /// ```
    /// # use http::{Request, Response};
    /// # use tower::{Layer, ServiceExt, service_fn};
    /// use rate_limit_layer::{Quota, RateLimitLayer, store::MemoryStore};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let quota = Quota::per_minute(60).burst(10);
    /// let limit = RateLimitLayer::new(MemoryStore::new(), quota.fail_open()).legacy_headers(true);
    /// # let service = limit.layer(service_fn(|_: Request<()>| async {
    /// #     Ok::<_, std::convert::Infallible>(Response::new(String::new()))
    /// # }));
    /// let response = service.oneshot(Request::new(())).await?;
    /// assert_eq!(response.headers()["x-ratelimit-limit"], "10");
    /// assert_eq!(response.headers()["x-ratelimit-remaining"], "9");
    /// assert_eq!(response.headers()["x-ratelimit-reset"], "9");
    /// # Ok::<_, std::convert::Infallible>(())
    /// # }).unwrap();
    /// ```
    pub fn legacy_headers(self, legacy_headers: bool) -> Self {
        Self::of(self.into_shared().legacy_headers(legacy_headers))
    }

    /// Lets requests pass uncounted for which `rule` returns true. Their responses get no headers. Default: none.
    ///
    /// For health checks, preflights or files; [`skip`](crate::skip) has ready rules. A layer can have several: one that returns true
    /// is enough. To leave out one policy of several, write [`or_skip`](crate::KeyExtractor::or_skip) on its extractor.
    ///
    /// ```
    /// use rate_limit_layer::{Quota, RateLimitLayer, skip, store::MemoryStore};
    ///
    /// let limit = RateLimitLayer::new(MemoryStore::new(), Quota::per_minute(100).fail_open())
    ///     .skip(skip::health_checks)
    ///     .skip(|head| head.path() == "/metrics");
    /// # let _ = limit;
    /// ```
    pub fn skip(self, rule: impl Fn(&RequestHead<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self::of(self.into_shared().skip(rule))
    }

    /// Sets a function that changes refusals before they are sent: 429, 503, 400 and 500. Default: none.
    ///
    /// For another status, another body, or fields of your own. It gets the reason, the request's head and the ready response. What it
    /// does not touch stays: `Retry-After`, the rate limit headers and `Content-Type: application/problem+json`. The reason stays in
    /// the response's extensions too. If it is set twice, the later one counts.
    ///
    /// A client of gRPC gets the fields, and not the status or the body: those are gRPC's own ([`grpc`](crate::grpc)).
    ///
    /// ```
    /// # use http::{Request, Response};
    /// # use tower::{Layer, ServiceExt, service_fn};
    /// use http::{HeaderValue, header::CONTENT_TYPE};
    /// use rate_limit_layer::{Content, Quota, RateLimitLayer, RateLimitRefusal, store::MemoryStore};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let limit = RateLimitLayer::new(MemoryStore::new(), Quota::per_hour(1).fail_open())
    ///     .on_refused(|refusal, head, response| {
    ///         let RateLimitRefusal::QuotaExceeded(exceeded) = refusal else { return };
    ///         let seconds = exceeded.retry_after().as_secs();
    ///         *response.body_mut() = Content::new(format!("{} again in {seconds} s", head.path()));
    ///         response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    ///     });
    /// # let service = limit.layer(service_fn(|_: Request<()>| async {
    /// #     Ok::<_, std::convert::Infallible>(Response::new(String::new()))
    /// # }));
    /// service.clone().oneshot(Request::new(())).await?;
    /// let refused = service.oneshot(Request::new(())).await?;
    /// assert_eq!(refused.headers()["content-type"], "text/plain");
    /// assert_eq!(refused.headers()["retry-after"], "3600");
    /// # Ok::<_, std::convert::Infallible>(())
    /// # }).unwrap();
    /// ```
    pub fn on_refused(
        self,
        change: impl Fn(&RateLimitRefusal, &RequestHead<'_>, &mut Response<Content>)
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self::of(self.into_shared().on_refused(OnRefused::new(change)))
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
        let shared = self.into_shared();
        Self::of(shared.with_limiter(|limiter| limiter.clock(clock)))
    }

    /// Sets how many requests of a key this process may charge in advance, as [`Limiter::prepaid`] does. Default 0.
    ///
    /// # Panics
    ///
    /// If there are several policies.
    #[track_caller]
    pub fn prepaid(self, most: u64) -> Self {
        let shared = self.into_shared();
        Self::of(shared.with_limiter(|limiter| limiter.prepaid(most)))
    }

    /// Tells of keys that have used `percent` of a burst, as [`Limiter::near_limit`] does. Default: nothing is told.
    ///
    /// ```
    /// use rate_limit_layer::{Quota, RateLimitLayer, store::MemoryStore};
    ///
    /// let limit = RateLimitLayer::new(MemoryStore::new(), Quota::per_minute(100).fail_open()).near_limit(80);
    /// # let _ = limit;
    /// ```
    ///
    /// # Panics
    ///
    /// If `percent` is not 1 to 100.
    #[track_caller]
    pub fn near_limit(self, percent: u8) -> Self {
        let shared = self.into_shared();
        Self::of(shared.with_limiter(|limiter| limiter.near_limit(percent)))
    }

    /// Tracks the keys that are refused most by their hashes, for [`Limiter::top`]. Default: none.
    ///
    /// ```
    /// use rate_limit_layer::{Quota, RateLimitLayer, store::MemoryStore};
    ///
    /// let limit = RateLimitLayer::new(MemoryStore::new(), Quota::per_minute(100).fail_open()).track_top(100);
    /// for key in limit.handle().top() {
    ///     println!("{} refused {} {} times", key.policy(), key.hash(), key.refused());
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// If `keys` is not 1 to 1,000.
    #[track_caller]
    pub fn track_top(self, keys: usize) -> Self {
        let shared = self.into_shared();
        Self::of(shared.with_limiter(|limiter| limiter.track_top(keys)))
    }

    /// Tracks the keys that are refused most with their identities, such as addresses and API keys. Default: none.
    ///
    /// For an operator who has to know whom to call. What [`Limiter::top`] returns must then not reach a log.
    ///
    /// # Panics
    ///
    /// If `keys` is not 1 to 1,000.
    #[track_caller]
    pub fn track_top_identities(self, keys: usize) -> Self {
        let shared = self.into_shared();
        Self::of(shared.with_limiter(|limiter| limiter.track_top_identities(keys)))
    }

    /// Returns the limiter inside, to peek, reset, and list the keys that are refused most.
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
