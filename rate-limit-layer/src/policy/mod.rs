//! What is allowed to whom: a quota with a failure mode, a name and a key extractor.
//!
//! - [`block`]: the clients that are refused for longer, and for how long.
//! - [`quota`]: how much in which time; `calendar`: in days and months. [`cost`]: what a request may cost. [`costs`]: what one costs.
//! - [`counts_by`]: whom a limit counts. [`key_spaces`]: under which keys. [`limit`]: a policy made ready for checks. [`limit_set`]: some of a limiter's limits.

pub(crate) mod block;
#[cfg(feature = "calendar")]
mod calendar;
pub(crate) mod cost;
pub(crate) mod costs;
pub(crate) mod counts_by;
#[cfg(feature = "serde")]
mod file;
pub(crate) mod key_spaces;
pub(crate) mod limit;
pub(crate) mod limit_set;
pub(crate) mod quota;

use std::{fmt, num::NonZeroU32, sync::Arc};

use layer_http::{KeyExtractor, RequestHead};

use crate::{
    Block, Quota, TierLookUp,
    policy::costs::CostOf,
    provisional::{commit_by::CommitBy, response_head::ResponseHead},
    tier::TierBy,
};

/// A [`Quota`] with a failure mode, and optionally a name and a key extractor.
///
/// The order of the calls does not matter, but one of them is [`fail_open`](Quota::fail_open) or
/// [`fail_closed`](Quota::fail_closed): there is no default for what happens while the store is down.
///
/// ```
/// use rate_limit_layer::{FailureMode, Quota, header};
///
/// let by_address = Quota::per_second(10).fail_open();
/// let by_key = Quota::per_day(5_000).name("daily").by(header("x-api-key")).fail_closed();
/// assert_eq!(by_key.quota(), Quota::per_day(5_000));
/// assert_eq!(by_key.failure_mode(), FailureMode::Closed);
/// # let _ = by_address;
/// ```
/// With the feature `serde` a policy is read from a file, in any format of serde:
///
/// ```
/// # #[cfg(feature = "serde")] {
/// use rate_limit_layer::{Limiter, Policy, header, store::MemoryStore};
///
/// let file = r#"{"quota": "5000/day burst 100", "fail": "closed", "name": "daily"}"#;
/// let daily: Policy = serde_json::from_str(file)?;
/// let limiter = Limiter::new(MemoryStore::new(), daily.by(header("x-api-key")));
/// # let _ = limiter;
/// # }
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Policy {
    pub(crate) quota: Quota,
    pub(crate) mode: FailureMode,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) extractor: Option<Arc<dyn KeyExtractor>>,
    pub(crate) is_shadow: bool,
    pub(crate) commit_by: Option<CommitBy>,
    pub(crate) cost_of: Option<CostOf>,
    pub(crate) tier_by: Option<TierBy>,
    pub(crate) block: Option<Block>,
}

/// A policy that lacks its failure mode, as [`Quota::by`] and [`Quota::name`] return it.
///
/// [`fail_open`](Self::fail_open) or [`fail_closed`](Self::fail_closed) makes it a [`Policy`].
///
/// ```
/// use rate_limit_layer::{Policy, Quota, header};
///
/// let policy: Policy = Quota::per_day(5_000).by(header("x-api-key")).fail_closed();
/// # let _ = policy;
/// ```
#[derive(Clone)]
#[must_use = "write .fail_open(), .fail_closed() or .fail_local(instances)"]
pub struct UnfinishedPolicy(
    // Its failure mode means nothing yet.
    Policy,
);

/// The choice of a policy for requests that cannot be checked, because its store is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureMode {
    /// Each process lets as many requests pass as the quota allows, without rate limit headers.
    Open,
    /// Requests are answered 503.
    Closed,
    /// Each process lets its share of the quota pass, without rate limit headers: one part in this number of instances.
    Local(NonZeroU32),
}

/// A [`Policy`], as [`RateLimitLayer::new`](crate::RateLimitLayer::new) and [`Limiter::new`](crate::Limiter::new) take it.
///
/// A quota alone is none: there is no default for what happens while the store is down. The compiler says what to write.
///
/// ```compile_fail
/// use rate_limit_layer::{Quota, RateLimitLayer, store::MemoryStore};
///
/// RateLimitLayer::new(MemoryStore::new(), Quota::per_minute(100));
/// ```
///
/// With the failure mode it compiles.
///
/// ```
/// use rate_limit_layer::{Quota, RateLimitLayer, store::MemoryStore};
///
/// let layer = RateLimitLayer::new(MemoryStore::new(), Quota::per_minute(100).fail_open());
/// # let _ = layer;
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what happens to requests while the store is down",
    label = "no failure mode",
    note = "write `.fail_open()` to let requests pass while the store is down, `.fail_closed()` to answer them 503, or `.fail_local(instances)` to share the quota out"
)]
pub trait IntoPolicy {
    /// Makes the policy.
    fn into_policy(self) -> Policy;
}

impl FailureMode {
    #[track_caller]
    const fn local(instances: u32) -> Self {
        match NonZeroU32::new(instances) {
            Some(instances) => Self::Local(instances),
            None => panic!("a quota is shared out among at least one process: write 1 or more"),
        }
    }
}

impl IntoPolicy for Policy {
    fn into_policy(self) -> Policy {
        self
    }
}

impl Quota {
    /// Makes a policy that lets requests pass while the store is down, in each process as many as the quota allows.
    ///
    /// A process counts what it lets through, so `n` processes let at most `n` times the quota pass. See
    /// [`fail_local`](Self::fail_local) for one part of it each.
    pub const fn fail_open(self) -> Policy {
        Policy::new(self, FailureMode::Open)
    }

    /// Makes a policy that shares its quota out while the store is down: each process lets one part in `instances` pass.
    ///
    /// `per_minute(100).fail_local(4)`: 25 a minute in each of 4 processes. If there are more processes than `instances`, more than
    /// the quota passes. A share of less than one request lets one pass, and the next when it is earned.
    ///
    /// Over a memory store it is the same as [`fail_open`](Self::fail_open).
    ///
    /// # Panics
    ///
    /// If `instances` is zero.
    #[track_caller]
    pub const fn fail_local(self, instances: u32) -> Policy {
        Policy::new(self, FailureMode::local(instances))
    }

    /// Makes a policy that answers requests 503 while the store is down.
    pub const fn fail_closed(self) -> Policy {
        Policy::new(self, FailureMode::Closed)
    }

    /// Sets the identity to count by, as [`Policy::by`] does. The failure mode is still to be written.
    pub fn by(self, extractor: impl KeyExtractor) -> UnfinishedPolicy {
        UnfinishedPolicy(self.fail_closed().by(extractor))
    }

    /// Sets the policy's name, as [`Policy::name`] does. The failure mode is still to be written.
    ///
    /// # Panics
    ///
    /// As [`Policy::name`] does.
    #[track_caller]
    pub fn name(self, name: &str) -> UnfinishedPolicy {
        UnfinishedPolicy(self.fail_closed().name(name))
    }
}

impl UnfinishedPolicy {
    /// Makes a policy that lets requests pass while the store is down, as [`Quota::fail_open`] does.
    pub fn fail_open(self) -> Policy {
        Policy {
            mode: FailureMode::Open,
            ..self.0
        }
    }

    /// Makes a policy that shares its quota out while the store is down, as [`Quota::fail_local`] does.
    ///
    /// # Panics
    ///
    /// If `instances` is zero.
    #[track_caller]
    pub fn fail_local(self, instances: u32) -> Policy {
        Policy {
            mode: FailureMode::local(instances),
            ..self.0
        }
    }

    /// Makes a policy that answers requests 503 while the store is down.
    pub fn fail_closed(self) -> Policy {
        Policy {
            mode: FailureMode::Closed,
            ..self.0
        }
    }

    /// Sets the identity to count by, as [`Policy::by`] does.
    pub fn by(self, extractor: impl KeyExtractor) -> Self {
        Self(self.0.by(extractor))
    }

    /// Sets the policy's name, as [`Policy::name`] does.
    ///
    /// # Panics
    ///
    /// As [`Policy::name`] does.
    #[track_caller]
    pub fn name(self, name: &str) -> Self {
        Self(self.0.name(name))
    }

    /// Blocks clients that go on though they are refused, as [`Policy::block`] does.
    pub fn block(self, block: Block) -> Self {
        Self(self.0.block(block))
    }

    /// Puts the policy on trial, as [`Policy::shadow`] does.
    pub fn shadow(self) -> Self {
        Self(self.0.shadow())
    }
}

impl Policy {
    const fn new(quota: Quota, mode: FailureMode) -> Self {
        Self {
            quota,
            mode,
            name: None,
            extractor: None,
            is_shadow: false,
            commit_by: None,
            cost_of: None,
            tier_by: None,
            block: None,
        }
    }

    /// Sets the name in the headers and in the store. Default: the quota's text, such as `100/min`.
    ///
    /// Policies with one name on one store share their state, across layers and processes. A policy with a name keeps its state
    /// when its quota changes; one without starts anew.
    ///
    /// During a rollout two quotas may share a name for a while. A caller who owes more than the smaller burst allows then has
    /// the rest forgiven, under the larger burst too. Otherwise the smaller one would lock the caller out.
    ///
    /// # Panics
    ///
    /// If `name` is not 1 to 64 printable ASCII characters, or ends in `/peer` or `/shadow`, which are kept for requests without an identity
    /// and for policies on trial.
    #[track_caller]
    pub fn name(mut self, name: &str) -> Self {
        check_name(name);
        self.name = Some(name.into());
        self
    }

    /// Sets the identity to count by: the one that `extractor` finds in a request. Default: the peer's address,
    /// [`PeerIp`](layer_http::PeerIp).
    ///
    /// A request without an identity is counted by its peer's address, apart from all identities.
    /// [`or_refuse`](KeyExtractor::or_refuse) answers it 400 instead, [`or_skip`](KeyExtractor::or_skip) lets it pass uncounted.
    pub fn by(mut self, extractor: impl KeyExtractor) -> Self {
        self.extractor = Some(Arc::new(extractor));
        self
    }

    /// Sets the function that returns how many units of this policy a request costs. Default: the cost of the layer
    /// ([`RateLimitLayer::cost`](crate::RateLimitLayer::cost)), which is 1.
    ///
    /// For policies that count different things, in one atomic check:
    ///
    /// ```
    /// # use http::{Request, Response};
    /// # use tower::{Layer, ServiceExt, service_fn};
    /// use rate_limit_layer::{Quota, RateLimitLayer, RateLimitRefusal, store::MemoryStore};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let requests = Quota::per_minute(60).name("requests").fail_open();
    /// let tokens = Quota::per_minute(100_000).name("tokens").fail_open().cost(|head| {
    ///     let most = head.headers.get("x-max-tokens").and_then(|most| most.to_str().ok());
    ///     most.and_then(|most| most.parse().ok()).unwrap_or(4_000)
    /// });
    /// let layer = RateLimitLayer::new(MemoryStore::new(), requests).and(tokens);
    /// # let service = layer.layer(service_fn(|_: Request<()>| async {
    /// #     Ok::<_, std::convert::Infallible>(Response::new(String::new()))
    /// # }));
    /// let passed = service.clone().oneshot(Request::new(())).await?;
    /// assert_eq!(passed.headers()["ratelimit"], "\"requests\";r=59;t=59, \"tokens\";r=96000;t=58");
    /// // More than the burst never passes: 429 without `Retry-After`.
    /// let vast = Request::get("/").header("x-max-tokens", "100001").body(()).unwrap();
    /// let refused = service.oneshot(vast).await?;
    /// assert!(matches!(refused.extensions().get(), Some(RateLimitRefusal::TooCostly(_))));
    /// assert!(!refused.headers().contains_key("retry-after"));
    /// # Ok::<_, std::convert::Infallible>(())
    /// # }).unwrap();
    /// ```
    ///
    /// A cost of zero only looks: the request passes this policy, and is told what remains. A cost above the burst is refused by
    /// [`RateLimitRefusal::TooCostly`](crate::RateLimitRefusal::TooCostly), and charged by no policy. What a client writes is not to be
    /// trusted: with [`charge_declared`](Self::charge_declared) the handler has the last word.
    ///
    /// It is for the layer. A [`Limiter`](crate::Limiter) has [`check_costs`](crate::Limiter::check_costs).
    pub fn cost(mut self, cost: impl Fn(&RequestHead<'_>) -> u64 + Send + Sync + 'static) -> Self {
        self.cost_of = Some(CostOf::new(cost));
        self
    }

    /// Gives some clients another quota: the one that `tier_of` returns for a request. Default: all have the policy's own, which is also that of
    /// a request for which it returns `None`.
    ///
    /// For tiers that the request itself tells, such as by an extension that authentication has set. What only a database knows,
    /// [`tier_look_up`](Self::tier_look_up) finds.
    ///
    /// A client that changes its tier, and be it with each request, has no balance refilled and is not locked out: it owes on what it
    /// owes.
    ///
    /// - Under GCRA that is a time, so it is worth more requests under a faster quota. 50 of 100 a minute are half a minute, and so are 5
    ///   of 10. What is above the burst of the new quota is forgiven at the next refusal, so that nobody waits longer than that burst.
    /// - Under the other algorithms the count stays. Only the limit of a tier may differ, not its windows.
    ///
    /// The headers, the [`Standing`](crate::Standing) and refusals tell of the client's own quota. A tier that does not fit (another
    /// algorithm, or other windows) is not used, and an event at warn tells of the first. A request that costs more than the burst of its
    /// tier is refused by [`RateLimitRefusal::TooCostly`](crate::RateLimitRefusal::TooCostly).
    ///
    /// Up to 64 different quotas are kept ready; with more, requests take longer. The policy needs a [`name`](Self::name), and cannot be on
    /// trial or [charged in advance](crate::RateLimitLayer::prepaid). It is for the layer: a [`Limiter`](crate::Limiter) has no request.
    ///
    /// ```
    /// use rate_limit_layer::{Quota, RateLimitLayer, store::MemoryStore};
    ///
    /// #[derive(Clone)]
    /// struct Plan { requests_per_minute: u64 }
    ///
    /// let by_plan = Quota::per_minute(60).name("api").fail_open().tier(|head| {
    ///     let plan = head.extensions.get::<Plan>()?;
    ///     Some(Quota::per_minute(plan.requests_per_minute))
    /// });
    /// let layer = RateLimitLayer::new(MemoryStore::new(), by_plan);
    /// # let _ = layer;
    /// ```
    pub fn tier(
        mut self,
        tier_of: impl Fn(&RequestHead<'_>) -> Option<Quota> + Send + Sync + 'static,
    ) -> Self {
        self.tier_by = Some(TierBy::Head(Arc::new(tier_of)));
        self
    }

    /// Gives some clients another quota: the one that `look_up` finds for their identity, in a database or at another service. Default: all
    /// have the policy's own.
    ///
    /// A request without an identity, which is counted by its peer, has the policy's own quota, and nothing is looked up. The rest is as
    /// with [`tier`](Self::tier); [`TierLookUp`] tells what is kept, and what happens while a look-up fails. A
    /// [`Limiter`](crate::Limiter) looks up the identity that it is given.
    ///
    /// ```
    /// # use http::{Request, Response};
    /// # use tower::{Layer, ServiceExt, service_fn};
    /// use rate_limit_layer::{Identity, Quota, RateLimitLayer, TierLookUp, header, store::MemoryStore};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let plans = TierLookUp::new(|key: Identity<'static>| async move {
    ///     // In truth a query.
    ///     let is_customer = key == Identity::from("key-of-ada");
    ///     Ok::<_, std::io::Error>(is_customer.then(|| Quota::per_minute(1_000)))
    /// });
    /// let policy = Quota::per_minute(60).name("api").by(header("x-api-key")).fail_open();
    /// let layer = RateLimitLayer::new(MemoryStore::new(), policy.tier_look_up(plans));
    /// # let service = layer.layer(service_fn(|_: Request<()>| async {
    /// #     Ok::<_, std::convert::Infallible>(Response::new(String::new()))
    /// # }));
    /// let ada = Request::get("/").header("x-api-key", "key-of-ada").body(()).unwrap();
    /// assert_eq!(service.clone().oneshot(ada).await?.headers()["ratelimit"], "\"api\";r=999;t=60");
    /// let bob = Request::get("/").header("x-api-key", "key-of-bob").body(()).unwrap();
    /// assert_eq!(service.oneshot(bob).await?.headers()["ratelimit"], "\"api\";r=59;t=59");
    /// # Ok::<_, std::convert::Infallible>(())
    /// # }).unwrap();
    /// ```
    pub fn tier_look_up(mut self, look_up: TierLookUp) -> Self {
        self.tier_by = Some(TierBy::LookUp(look_up));
        self
    }

    /// Keeps the charge of a request only if `keep` returns true for its response. Default: every charge is kept.
    ///
    /// For a limit of failures, such as attempts to log in:
    ///
    /// ```
    /// # use http::{Request, Response};
    /// # use tower::{Layer, ServiceExt, service_fn};
    /// use http::StatusCode;
    /// use rate_limit_layer::{Quota, RateLimitLayer, store::MemoryStore};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let failures = Quota::per_hour(5).name("login").fail_closed()
    ///     .charge_on(|response| response.status == StatusCode::UNAUTHORIZED);
    /// let layer = RateLimitLayer::new(MemoryStore::new(), failures);
    /// # let service = layer.layer(service_fn(|_: Request<()>| async {
    /// #     Ok::<_, std::convert::Infallible>(Response::new(String::new()))
    /// # }));
    /// for _ in 0..20 {
    ///     let welcome = service.clone().oneshot(Request::new(())).await?;
    ///     assert_eq!(welcome.status(), StatusCode::OK);
    /// }
    /// # Ok::<_, std::convert::Infallible>(())
    /// # }).unwrap();
    /// ```
    ///
    /// A request is charged before its handler runs, and its charge is given back with the head of its response. So of any number of
    /// attempts at once no more run than the quota allows; while they run, others may be refused that would pass later. Nothing waits
    /// for what is given back, and it comes back at most once: if that fails, it is earned again in its time. What is earned between
    /// the charge and its return may pass above the bound.
    ///
    /// If there is no response, the charge stays: the handler failed or panicked, or the client left before. Nobody saves a charge by
    /// leaving early. What becomes of the response's body changes nothing. `RateLimit` tells what remains with the charge given back.
    ///
    /// It is for the layer. A [`Limiter`](crate::Limiter) has [`reserve`](crate::Limiter::reserve), and a policy on trial
    /// ([`shadow`](Self::shadow)) charges every request for good.
    pub fn charge_on(
        self,
        keep: impl Fn(&ResponseHead<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.commit_by(CommitBy::choice(keep))
    }

    /// Keeps so many of the units that a request was charged as `used` returns for its response. Default: all are kept.
    ///
    /// For a quota of bytes, or of anything that the response's head tells; [`Limiter::meter`](crate::Limiter::meter) counts the bytes of a
    /// body as they go by. The cost of a request ([`cost`](Self::cost)) is the most that it
    /// may use; more than that counts as all. The rest is as with [`charge_on`](Self::charge_on).
    ///
    /// ```
    /// use rate_limit_layer::{Quota, RateLimitLayer, store::MemoryStore};
    ///
    /// // A megabyte is charged, and the part given back that was not sent. A stream, of unknown length, keeps all.
    /// let bytes = Quota::per_day(100_000_000).name("bytes").fail_open()
    ///     .charge_used(|response| response.content_length().unwrap_or(u64::MAX));
    /// let layer = RateLimitLayer::new(MemoryStore::new(), bytes).cost(1_000_000);
    /// # let _ = layer;
    /// ```
    pub fn charge_used(
        self,
        used: impl Fn(&ResponseHead<'_>) -> u64 + Send + Sync + 'static,
    ) -> Self {
        self.commit_by(CommitBy::used(used))
    }

    /// Keeps so many of the units that a request was charged as its handler declares, by the extension [`Charged`](crate::Charged) on
    /// its response. Without it all are kept. Default: all are kept.
    ///
    /// For budgets that only the handler knows, such as the tokens of a model's answer. The rest is as with
    /// [`charge_used`](Self::charge_used). A handler that knows the number at the end of a stream takes a
    /// [`Reserved`](crate::Reserved) into the stream instead.
    ///
    /// ```
    /// use rate_limit_layer::{Quota, RateLimitLayer, store::MemoryStore};
    ///
    /// let tokens = Quota::per_minute(100_000).name("tokens").fail_open();
    /// let requests = Quota::per_minute(60).name("requests").fail_open();
    /// let layer = RateLimitLayer::new(MemoryStore::new(), requests)
    ///     .and(tokens.cost(|_| 4_000).charge_declared());
    /// # let _ = layer;
    /// ```
    pub fn charge_declared(self) -> Self {
        self.commit_by(CommitBy::declared())
    }

    fn commit_by(mut self, by: CommitBy) -> Self {
        self.commit_by = Some(by);
        self
    }

    /// Blocks clients that go on though this policy refuses them: for a time all of their requests are refused. Default: nobody is blocked.
    ///
    /// A client that comes back when it was told is never blocked. One that does not, such as a script that guesses passwords, is blocked
    /// again and again, each time for longer. [`Block`] says what counts.
    ///
    /// ```
    /// use std::time::Duration;
    /// use rate_limit_layer::{Block, Limiter, Quota, Verdict, store::MemoryStore};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let block = Block::after(10, Duration::from_secs(60)).up_to(Duration::from_secs(3_600));
    /// let logins = Quota::per_minute(5).name("logins").fail_closed().block(block);
    /// let limiter = Limiter::new(MemoryStore::new(), logins);
    /// for _ in 0..5 + 9 {
    ///     let _ = limiter.check("mallory").await;
    /// }
    /// let Verdict::Refused(refused) = limiter.check("mallory").await else {
    ///     unreachable!("the tenth strike")
    /// };
    /// assert_eq!(refused.retry_after(), Duration::from_secs(60));
    /// assert!(refused.standing().blocked_for().is_some());
    /// // An operator ends it.
    /// limiter.reset("mallory").await?;
    /// assert!(limiter.check("mallory").await.is_admitted());
    /// # Ok::<_, rate_limit_layer::store::StoreError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// `Retry-After` tells when the block ends, or when the quota has room if that is later. A client that obeys it exactly passes. The
    /// event `rate limit blocks a key` (at info) and the counter `rate_limit_blocks_total` tell of each block that begins.
    ///
    /// All instances count together: strikes and blocks are in the store, under a key beside the policy's. They cost no command of their
    /// own. Over a network each refusal is a command, so that no strike is missed. Once the block has begun, a blocked key costs one
    /// command a second in each process, as every refused key does.
    ///
    /// - The block is the policy's, whatever the tier of a client is.
    /// - If another policy refuses by another identity first, this one only looks, and counts no strike.
    /// - [`Limiter::penalize`](crate::Limiter::penalize) makes no strikes. A [`Throttle`](crate::Throttle) that comes too early does.
    /// - While the store fails, no strikes are counted.
    /// - While a store in memory is full, there may be no room for a client's first strike. It is then counted with the newcomers, who are
    ///   never blocked.
    ///
    /// # Panics
    ///
    /// A limiter panics when it is made if the policy is on [trial](Self::shadow) or [charged in
    /// advance](crate::RateLimitLayer::prepaid), or if its policies and their blocks are more than 8.
    pub const fn block(mut self, block: Block) -> Self {
        self.block = Some(block);
        self
    }

    /// Puts the policy on trial: it counts, and never refuses.
    ///
    /// For a quota that is not yet in force. The counter `rate_limit_decisions_total` (outcome `would_refuse`) and an event at debug tell
    /// what it would have refused of that which the other policies admit. No response shows it, whatever its store does: down,
    /// slow or full, the request passes and the trial counts `shadow_unchecked`.
    ///
    /// It has keys of its own in the store: a trial neither reads nor changes what a policy of the same name has counted. The two may be
    /// in one layer. For each request that the others admit it costs a command; over a network nobody waits for it, and at most 64
    /// are under way at once. What more there is counts `shadow_unchecked`. Only checks are counted, not [`Limiter::reserve`](crate::Limiter::reserve).
    ///
    /// ```
    /// use rate_limit_layer::{Quota, RateLimitLayer, store::MemoryStore};
    ///
    /// let today = Quota::per_minute(100).fail_open().name("api");
    /// let planned = Quota::per_minute(20).fail_open().name("api-20").shadow();
    /// let layer = RateLimitLayer::new(MemoryStore::new(), today).and(planned);
    /// # let _ = layer;
    /// ```
    pub const fn shadow(mut self) -> Self {
        self.is_shadow = true;
        self
    }

    /// Returns true if the policy is on trial.
    pub const fn is_shadow(&self) -> bool {
        self.is_shadow
    }

    /// Returns true if no other policy shares its bucket by having an equal quota.
    pub(crate) const fn has_own_bucket(&self) -> bool {
        self.name.is_some() || self.is_shadow
    }

    /// Returns the quota.
    pub const fn quota(&self) -> Quota {
        self.quota
    }

    /// Returns what happens while the store is down.
    pub const fn failure_mode(&self) -> FailureMode {
        self.mode
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("quota", &self.quota.to_string())
            .field("mode", &self.mode)
            .field("name", &self.name)
            .field("shadow", &self.is_shadow)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for UnfinishedPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnfinishedPolicy")
            .field("quota", &self.0.quota.to_string())
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}

/// # Panics
///
/// If no policy can have the name.
#[track_caller]
pub(crate) fn check_name(name: &str) {
    if let Some(fault) = name_fault(name) {
        panic!("{fault}");
    }
}

/// Returns why no policy can have the name. `None`: one can.
pub(crate) fn name_fault(name: &str) -> Option<String> {
    let printable = name.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if !printable || !(1..=MAX_NAME).contains(&name.len()) {
        return Some(format!(
            "a policy's name is sent in a header: write 1 to {MAX_NAME} printable ASCII characters, not {name:?}"
        ));
    }
    let kept = [
        (PEER, "requests without an identity"),
        (SHADOW, "a policy on trial"),
    ];
    let (end, others) = kept.into_iter().find(|(end, _)| name.ends_with(end))?;
    Some(format!(
        "{name:?} would be mixed up with {others}: write a name that does not end in {end}"
    ))
}

/// Ends the name under which a policy's requests without an identity are counted.
pub(crate) const PEER: &str = "/peer";
/// Ends the name under which a policy on trial counts.
pub(crate) const SHADOW: &str = "/shadow";
/// The maximum length of a policy's name, in bytes.
const MAX_NAME: usize = 64;

#[cfg(test)]
mod tests {
    use layer_http::{PeerIp, header};

    use super::*;

    #[test]
    #[should_panic(expected = "write 1 to 64 printable ASCII characters")]
    fn a_name_that_no_header_can_carry_panics() {
        let _ = Quota::per_second(1).fail_open().name("tägl\n");
    }

    #[test]
    #[should_panic(expected = "does not end in /peer")]
    fn a_name_of_the_fallback_panics() {
        let _ = Quota::per_second(1).fail_open().name("daily/peer");
    }

    #[test]
    #[should_panic(expected = "does not end in /shadow")]
    fn a_name_of_a_trial_panics() {
        let _ = Quota::per_second(1).fail_open().name("daily/shadow");
    }

    #[test]
    fn a_name_has_1_to_64_characters_from_the_space_to_the_tilde() {
        let accepts = |name: &str| {
            let name = name.to_owned();
            std::panic::catch_unwind(|| Quota::per_second(1).fail_open().name(&name)).is_ok()
        };
        for name in [" ", "~", "a b", &"x".repeat(64)] {
            assert!(accepts(name), "{name:?}");
        }
        for name in ["", "\x1f", "\x7f", &"x".repeat(65)] {
            assert!(!accepts(name), "{name:?}");
        }
    }

    #[test]
    fn the_failure_mode_may_be_written_last() {
        let quota = Quota::per_second(1);
        for (policy, mode) in [
            (quota.by(PeerIp).name("a").fail_open(), FailureMode::Open),
            (
                quota.name("a").by(PeerIp).fail_closed(),
                FailureMode::Closed,
            ),
            (quota.fail_open().name("a").by(PeerIp), FailureMode::Open),
        ] {
            assert_eq!(policy.failure_mode(), mode);
            assert_eq!(policy.quota(), quota);
            assert_eq!(policy.name.as_deref(), Some("a"));
            assert!(policy.extractor.is_some());
        }
    }

    #[test]
    fn a_policy_shows_its_quota_and_name_and_no_extractor() {
        let unfinished = Quota::per_second(1).by(header("x-api-key")).name("a");
        assert_eq!(
            format!("{unfinished:?}"),
            r#"UnfinishedPolicy { quota: "1/s", name: Some("a"), .. }"#
        );
        assert_eq!(
            format!("{:?}", unfinished.fail_open()),
            r#"Policy { quota: "1/s", mode: Open, name: Some("a"), shadow: false, .. }"#
        );
    }
}
