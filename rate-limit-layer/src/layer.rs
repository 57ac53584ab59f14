use std::{fmt, sync::Arc};

use http::{HeaderValue, Request, Response};
use layer_http::{Body, Content, RequestHead};
use layer_store::SharedStore;
use tower_layer::Layer;

use crate::{
    InvalidCost, Limiter, Policy, RateLimit, Verdict,
    limit::NoClaim,
    response,
    verdict::{Account, Outcome},
};

/// Limits how often whoever a [`Policy`] counts for is served. See the [crate docs](crate).
///
/// ```
/// use rate_limit_layer::{ClientIp, Quota, RateLimitLayer, header, store::{MemoryStore, SharedStore}};
///
/// let store = SharedStore::new(MemoryStore::new());
/// let simple = RateLimitLayer::new(store.clone(), Quota::per_minute(100).burst(20).fail_open());
/// // Behind a proxy, two policies, one of them per API key:
/// let by_address = Quota::per_second(10).fail_open().by(ClientIp::behind(["10.0.0.0/8"]));
/// let by_key = Quota::per_day(5_000).fail_closed().named("daily").by(header("x-api-key"));
/// let both = RateLimitLayer::new(store, by_address).and(by_key);
/// # let _ = (simple, both);
/// ```
#[derive(Clone)]
#[must_use]
pub struct RateLimitLayer {
    shared: Arc<Shared>,
}

/// What all services of a layer share: axum calls [`Layer::layer`] anew for each connection.
#[derive(Clone)]
pub(crate) struct Shared {
    limiter: Limiter,
    cost: u32,
    enabled: bool,
    /// `RateLimit-Policy`, unless the headers are off.
    policies: Option<HeaderValue>,
}

/// What rides along with an admitted request whose response gets headers.
#[derive(Debug)]
pub(crate) struct Mark {
    shared: Arc<Shared>,
    account: Account,
}

impl RateLimitLayer {
    /// A layer of one policy over `store`.
    pub fn new(store: SharedStore, policy: Policy) -> Self {
        let shared = Shared {
            limiter: Limiter::new(store, policy),
            cost: 1,
            enabled: true,
            policies: None,
        };
        Self {
            shared: Arc::new(shared.with_headers(true)),
        }
    }

    /// Adds a policy. A request must pass all of them; one that is refused is charged by none.
    ///
    /// Policies that count a request for the same subject are checked in one atomic command. Each further subject, such as an
    /// API key beside an address, costs one more; what the earlier ones charged is given back on a refusal.
    ///
    /// # Panics
    ///
    /// If a policy of that name is there already (see [`Policy::named`]), or eight are; if the cost is over its burst.
    pub fn and(self, policy: Policy) -> Self {
        self.change(|mut shared| {
            shared.limiter = shared.limiter.and(policy);
            let headers = shared.policies.is_some();
            shared.checked().with_headers(headers)
        })
    }

    /// Charges so many requests for one. By default 1.
    ///
    /// # Panics
    ///
    /// If that is zero, or over the burst of a policy, which no request would pass then.
    pub fn cost(self, cost: u32) -> Self {
        self.change(|shared| Shared { cost, ..shared }.checked())
    }

    /// Whether responses carry `RateLimit` and `RateLimit-Policy`. By default they do; without them an admitted request
    /// allocates nothing. `Retry-After` stays.
    pub fn headers(self, headers: bool) -> Self {
        self.change(|shared| shared.with_headers(headers))
    }

    /// Switches the layer off without changing types: every request passes, uncounted. By default it is on.
    pub fn enabled(self, enabled: bool) -> Self {
        self.change(|shared| Shared { enabled, ..shared })
    }

    /// The limiter inside, to peek and reset.
    pub fn handle(&self) -> Limiter {
        self.shared.limiter.clone()
    }

    fn change(self, change: impl FnOnce(Shared) -> Shared) -> Self {
        let shared = Arc::unwrap_or_clone(self.shared);
        Self {
            shared: Arc::new(change(shared)),
        }
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

impl Shared {
    /// The same for the usual layer: one policy, by the peer's address. `None`: nothing was charged, ask
    /// [`check_now`](Self::check_now).
    #[inline]
    pub(crate) fn check_peer_now<B>(&self, req: &Request<B>) -> Option<Outcome> {
        if !self.enabled {
            return Some(Outcome::Admitted(None));
        }
        self.limiter
            .core()
            .check_peer_now(&RequestHead::of(req), self.cost)
    }

    /// What becomes of a request, if the store needs no waiting. `None`: nothing was charged, ask [`check`](Self::check).
    #[inline]
    pub(crate) fn check_now(&self, head: &RequestHead<'_>) -> Option<Result<Outcome, NoClaim>> {
        self.limiter.core().check_now(head, self.cost)
    }

    /// What becomes of a request.
    pub(crate) async fn check(&self, head: &RequestHead<'_>) -> Result<Outcome, NoClaim> {
        self.limiter.core().check(head, self.cost).await
    }

    /// What is to be written on the response of an admitted request.
    #[inline]
    pub(crate) fn mark(self: &Arc<Self>, account: Option<Account>) -> Option<Mark> {
        match (&self.policies, account) {
            (Some(_), Some(account)) => Some(Mark {
                shared: self.clone(),
                account,
            }),
            _ => None,
        }
    }

    /// The response to what is not admitted.
    #[inline(never)]
    pub(crate) fn refuse(&self, outcome: Result<Outcome, NoClaim>) -> Response<Content> {
        match outcome.map(|outcome| outcome.into_verdict(self.limiter.core())) {
            Ok(Verdict::Refused(refused)) => response::refused(refused, self.policies.as_ref()),
            Ok(Verdict::Unavailable(unavailable)) => response::unavailable(unavailable),
            Ok(Verdict::Admitted(_)) => unreachable!("an admitted request is not refused"),
            Err(no_claim) => response::no_claim(no_claim),
        }
    }

    fn with_headers(mut self, headers: bool) -> Self {
        let buckets = self.limiter.core().buckets();
        self.policies = headers.then(|| response::policies(buckets));
        self
    }

    #[track_caller]
    fn checked(self) -> Self {
        let allowed: Result<(), InvalidCost> = self.limiter.core().allows(self.cost);
        if let Err(error) = allowed {
            panic!("{error}");
        }
        self
    }
}

impl Mark {
    /// Adds the headers.
    pub(crate) fn write<B>(&self, response: Response<B>) -> Response<Body<B>> {
        let mut response = response.map(Body::inner);
        if let Some(policies) = &self.shared.policies {
            let core = self.shared.limiter.core();
            response::write(response.headers_mut(), core, policies, self.account);
        }
        response
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayer")
            .field("limiter", &self.limiter)
            .field("cost", &self.cost)
            .field("enabled", &self.enabled)
            .field("headers", &self.policies.is_some())
            .finish()
    }
}
