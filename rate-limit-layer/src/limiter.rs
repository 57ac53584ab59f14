use std::{borrow::Cow, panic::Location, sync::Arc};

use layer_store::{Clock, Identity, SharedStore, StoreError};

use crate::{
    IntoPolicy, InvalidCost, Reserved, Standing, TopKey, Verdict,
    check::{
        Checker,
        decision::{Checked, Tell},
        partition::Partitions,
    },
    observe::{Observers, near_limit::NearLimit, top::TopKeys},
    policy::{costs::Costs, limit::Limit},
    shadow::Shadows,
    throttle::Queues,
    tier::{of_request::Client, quotas::Quotas},
    warnings::Made,
};

/// A limiter without HTTP: for job workers, websockets, or an identity in a request's body.
///
/// All policies count one identity, in one atomic command: a refused check is charged by none of them. Clones share everything.
///
/// ```
/// use rate_limit_layer::{Limiter, Quota, Verdict, store::MemoryStore};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let sms = Limiter::new(MemoryStore::new(), Quota::per_hour(2).fail_closed().name("sms"));
/// assert!(sms.check("+44 20 7946 0000").await.is_admitted());
/// assert!(sms.check("+44 20 7946 0000").await.is_admitted());
/// let Verdict::Refused(exceeded) = sms.check("+44 20 7946 0000").await else { panic!() };
/// assert!(exceeded.retry_after() <= std::time::Duration::from_secs(30 * 60));
/// # });
/// ```
///
/// # When the store fails
///
/// [`check`](Self::check) does what the policies' failure modes say. It takes at most 100 ms, or the limit that
/// [`Options::deadline`](layer_store::Options::deadline) sets.
///
/// # Cancel safety
///
/// A dropped check is charged once or not at all, and never repeated.
#[derive(Clone, Debug)]
pub struct Limiter {
    checker: Arc<Checker>,
    /// Policies that refuse nobody.
    shadows: Shadows,
    observers: Observers,
    /// Who waits in `until_ready`.
    queues: Arc<Queues>,
    /// For the warnings.
    made: Arc<Made>,
}

impl Limiter {
    /// Makes a limiter of one policy over a store: a `SharedStore`, a `MemoryStore` or a `RedisStore`.
    ///
    /// The policy's extractor is not used: the caller names the identity.
    #[track_caller]
    pub fn new(store: impl Into<SharedStore>, policy: impl IntoPolicy) -> Self {
        let (store, policy) = (store.into(), policy.into_policy());
        let is_alone = policy.has_own_bucket();
        let limit = Limit::new(policy);
        let made = Made::limiter(&store, &limit.name, is_alone, Location::caller());
        let (limits, shadow) = match limit.is_shadow() {
            false => ([limit].into(), None),
            true => ([].into(), Some(limit)),
        };
        let this = Self {
            checker: Arc::new(Checker::new(store, limits)),
            shadows: Shadows::default(),
            observers: Observers::default(),
            queues: Arc::default(),
            made,
        };
        match shadow {
            Some(shadow) => this.with_shadow(shadow),
            None => this,
        }
    }

    /// Adds a policy. A check must pass all of them.
    ///
    /// # Panics
    ///
    /// If another policy has the name already (see [`Policy::name`](crate::Policy::name)), if there are eight, or if requests are
    /// charged in advance ([`prepaid`](Self::prepaid)).
    #[must_use]
    #[track_caller]
    pub fn and(self, policy: impl IntoPolicy) -> Self {
        let policy = policy.into_policy();
        let is_alone = policy.has_own_bucket();
        let limit = Limit::new(policy);
        let this = Self {
            made: self.made.and(&limit.name, is_alone),
            queues: Arc::default(),
            ..self
        };
        match limit.is_shadow() {
            true => this.with_shadow(limit),
            false => Self {
                checker: Arc::new(this.checker.with(limit)),
                ..this
            },
        }
    }

    #[track_caller]
    fn with_shadow(self, limit: Limit) -> Self {
        let (store, clock) = (self.checker.store().clone(), self.checker.clock().clone());
        let shadows = self
            .shadows
            .with(limit, |limit| Checker::on_trial(store, limit, clock));
        Self { shadows, ..self }
    }

    /// Sets the clock of this process's own count. Default: the system's clock. For tests that move the time.
    ///
    /// A limiter over a network counts what it lets through, so that it knows what the store would refuse, and holds the quota
    /// while the store fails. The store's clock is another one; a memory store takes it by
    /// [`MemoryStore::with_clock`](layer_store::MemoryStore::with_clock), and needs this one only while it is full.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        Self {
            checker: Arc::new(self.checker.on_clock(clock.clone())),
            shadows: self.shadows.on_clock(&clock),
            ..self
        }
    }

    /// Sets how many requests of a key this process may charge in advance, so that one command is enough for many checks. Default 0.
    ///
    /// For keys with many requests, such as a limit of the whole service. `prepaid(10)`: a busy key costs one command for 10 checks, and
    /// no check waits as long as they come no faster than 10 in a round trip to the store. If they do, all that wait for a key share the
    /// next command: 64 tasks that ask for one key without a pause cost one command for 74 checks.
    ///
    /// The number adapts to the key: 1, 2, 4 and so on while they are used up within a second. What is left after a second is given
    /// back, so a key with few requests is charged one by one. At most half of what a key has left is charged in advance.
    ///
    /// With `n` processes at most `burst + limit * t / window + 10 * n` requests pass in any interval of length `t`. In the long
    /// run no more pass than without. A process that ends has charged up to 10 for nothing. A check that is dropped while it waits gets
    /// its share back.
    ///
    /// Over a memory store nothing is charged in advance.
    ///
    /// # Panics
    ///
    /// If there are several policies: their requests cannot be charged in advance.
    #[must_use]
    #[track_caller]
    pub fn prepaid(self, most: u64) -> Self {
        Self {
            checker: Arc::new(self.checker.with_prepaid(most)),
            ..self
        }
    }

    /// Charges `identity` one request, if all policies allow it.
    pub async fn check(&self, identity: impl Into<Identity<'_>>) -> Verdict {
        let identity = identity.into();
        let this = self.of(&identity).await;
        this.charge(identity, 1.into()).await
    }

    /// Charges `identity` `cost` requests at once, if all policies allow it.
    ///
    /// # Errors
    ///
    /// A cost of zero ([`peek`](Self::peek) looks without charging), or one above the burst of a policy, which would never pass.
    pub async fn check_cost(
        &self,
        identity: impl Into<Identity<'_>>,
        cost: u64,
    ) -> Result<Verdict, InvalidCost> {
        let identity = identity.into();
        let this = self.of(&identity).await;
        this.checker.allows(cost)?;
        Ok(this.charge(identity, cost.into()).await)
    }

    /// Charges `identity` a cost of its own under each policy, in one atomic command, if all of them allow it.
    ///
    /// For policies that count different things, such as requests and tokens. The costs are in the order of the policies, those on trial
    /// left out; these are charged the first cost. A policy whose cost is zero is only looked at.
    ///
    /// ```
    /// use rate_limit_layer::{Limiter, Quota, store::MemoryStore};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let requests = Quota::per_minute(60).name("requests").fail_open();
    /// let tokens = Quota::per_minute(100_000).name("tokens").fail_open();
    /// let limiter = Limiter::new(MemoryStore::new(), requests).and(tokens);
    /// assert!(limiter.check_costs("ada", &[1, 4_000]).await?.is_admitted());
    /// let error = limiter.check_costs("ada", &[1, 100_001]).await.unwrap_err();
    /// assert!(error.to_string().contains("would never pass"));
    /// # Ok::<_, rate_limit_layer::InvalidCost>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Costs that are all zero ([`peek`](Self::peek) looks without charging), or one above the burst of its policy, which would never
    /// pass.
    ///
    /// # Panics
    ///
    /// If there are more or fewer costs than policies.
    pub async fn check_costs(
        &self,
        identity: impl Into<Identity<'_>>,
        costs: &[u64],
    ) -> Result<Verdict, InvalidCost> {
        let identity = identity.into();
        let this = self.of(&identity).await;
        let costs = this.checker.costs(costs)?;
        Ok(this.charge(identity, costs).await)
    }

    /// Charges `identity` `most` units before work of which it is not known how many it takes, such as the tokens of an answer by a
    /// language model. [`Reserved::commit`] gives back what was not used; a dropped [`Reserved`] gives back all.
    ///
    /// Inside the result of the charge: an `Err` is the verdict that refuses, and nothing was charged.
    ///
    /// # Errors
    ///
    /// A cost of zero, or one above the burst of a policy, which would never pass.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, `most` was charged once or not at all. It is not given back, as nobody knows which; what was charged
    /// is earned again in its time.
    pub async fn reserve(
        &self,
        identity: impl Into<Identity<'_>>,
        most: u64,
    ) -> Result<Result<Reserved, Verdict>, InvalidCost> {
        let identity = identity.into();
        let checker = self.of(&identity).await.checker.clone();
        checker.allows(most)?;
        let charged_at = checker.now();
        let checked = checker.charge_identity(&identity, most).await;
        Ok(match Verdict::new(checked, checker.limits()) {
            Verdict::Admitted(standing) => {
                let identity = identity.into_owned();
                Ok(Reserved::new(checker, identity, most, charged_at, standing))
            }
            refused => Err(refused),
        })
    }

    /// Returns the standing of `identity` under each policy, in their order, and changes nothing.
    ///
    /// The identity must have the type that the extractor gives: a peer is an [`IpAddr`](std::net::IpAddr), a header's value is
    /// text, and for a tuple of extractors [`joined`](crate::joined) makes it. The text of an address is another identity.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn peek(
        &self,
        identity: impl Into<Identity<'_>>,
    ) -> Result<Vec<Standing>, StoreError> {
        let identity = identity.into();
        let this = self.of(&identity).await;
        let debts = this.checker.peek(&identity).await?;
        let limits = this.checker.limits();
        let standings = debts.into_iter();
        Ok(standings
            .map(|debt| Standing::new(limits.clone(), debt))
            .collect())
    }

    /// Takes up to `units` from what `identity` has left under each policy, and returns its standing under each, in their order.
    ///
    /// For a client that did what it should not, such as a wrong password: its next requests have to wait. Nothing is refused, and no
    /// more is taken than is left: an identity never owes more than a burst. `u64::MAX` takes all. Other processes see it with their
    /// next command for the identity.
    ///
    /// ```
    /// use rate_limit_layer::{Limiter, Quota, store::MemoryStore};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let logins = Limiter::new(MemoryStore::new(), Quota::per_hour(10).fail_closed().name("logins"));
    /// assert!(logins.check("ada").await.is_admitted());
    /// assert_eq!(logins.penalize("ada", 4).await?[0].remaining(), 5);
    /// assert_eq!(logins.penalize("ada", 99).await?[0].remaining(), 0);
    /// assert!(!logins.check("ada").await.is_admitted());
    /// # Ok::<_, rate_limit_layer::store::StoreError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Those of the store. Units may have been taken then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, some of the units may have been taken, and never more than `units`.
    pub async fn penalize(
        &self,
        identity: impl Into<Identity<'_>>,
        units: u64,
    ) -> Result<Vec<Standing>, StoreError> {
        let identity = identity.into();
        let this = self.of(&identity).await;
        let debts = this.checker.penalize(&identity, units).await?;
        let limits = this.checker.limits();
        let standings = debts.into_iter();
        Ok(standings
            .map(|debt| Standing::new(limits.clone(), debt))
            .collect())
    }

    /// Erases what `identity` was charged in every policy of this limiter.
    ///
    /// If `identity` is an address, that includes what it was charged as the peer of requests without an identity.
    ///
    /// ```
    /// # use rate_limit_layer::{Quota, RateLimitLayer, store::MemoryStore};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let limit = RateLimitLayer::new(MemoryStore::new(), Quota::per_minute(100).fail_open());
    /// let peer: std::net::IpAddr = "203.0.113.9".parse()?; // the text itself would be another identity
    /// limit.handle().reset(peer).await?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn reset(&self, identity: impl Into<Identity<'_>>) -> Result<(), StoreError> {
        let identity = identity.into();
        self.checker.reset(&identity).await?;
        self.shadows.reset(&identity).await
    }

    /// Tells of keys that have used `percent` of a burst, by an event at info and the counter `rate_limit_near_limit_total`: once for each
    /// key and window. Default: nothing is told.
    ///
    /// For a warning before clients are refused. An event names the policy, what remains, and a hash of the key; at most 4,096 keys are
    /// remembered at once.
    ///
    /// # Panics
    ///
    /// If `percent` is not 1 to 100.
    #[must_use]
    #[track_caller]
    pub fn near_limit(mut self, percent: u8) -> Self {
        self.observers.near_limit = Some(Arc::new(NearLimit::new(percent)));
        self
    }

    /// Tracks the keys that are refused most, for [`top`](Self::top): at most `keys` of them, by their hashes. Default: none.
    ///
    /// # Panics
    ///
    /// If `keys` is not 1 to 1,000.
    #[must_use]
    #[track_caller]
    pub fn track_top(mut self, keys: usize) -> Self {
        self.observers.top = Some(Arc::new(TopKeys::new(keys, false)));
        self
    }

    /// Tracks the keys that are refused most with their identities, such as addresses and API keys. See
    /// [`track_top`](Self::track_top).
    ///
    /// # Panics
    ///
    /// If `keys` is not 1 to 1,000.
    #[must_use]
    #[track_caller]
    pub fn track_top_identities(mut self, keys: usize) -> Self {
        self.observers.top = Some(Arc::new(TopKeys::new(keys, true)));
        self
    }

    /// Lists the keys that this process refused most in the last 10 to 20 minutes, the first of them most often. Empty unless
    /// [`track_top`](Self::track_top) is on.
    ///
    /// ```
    /// use rate_limit_layer::{Limiter, Quota, store::MemoryStore};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let quota = Quota::per_hour(2).fail_open().name("sms");
    /// let sms = Limiter::new(MemoryStore::new(), quota).track_top_identities(100);
    /// for _ in 0..10 {
    ///     let _ = sms.check("+44 20 7946 0000").await;
    /// }
    /// let top = sms.top();
    /// assert_eq!((top[0].policy(), top[0].refused()), ("sms", 8));
    /// assert_eq!(top[0].identity(), Some(&"+44 20 7946 0000".into()));
    /// # });
    /// ```
    pub fn top(&self) -> Vec<TopKey> {
        let top = self.observers.top.as_ref();
        top.map_or_else(Vec::new, |top| top.list(self.checker.clock().now()))
    }

    /// Returns the limiter under the quotas of an identity.
    async fn of(&self, identity: &Identity<'_>) -> Cow<'_, Self> {
        match self.checker.live().varies() {
            false => Cow::Borrowed(self),
            true => self.under(&self.checker.quotas(Client::Identity(identity)).await),
        }
    }

    /// Returns the limiter under these quotas: itself, if it was made with them.
    pub(crate) fn under(&self, quotas: &Quotas) -> Cow<'_, Self> {
        match self.checker.under(quotas) {
            None => Cow::Borrowed(self),
            Some(checker) => Cow::Owned(Self {
                checker,
                ..self.clone()
            }),
        }
    }

    async fn charge(&self, identity: Identity<'_>, costs: Costs) -> Verdict {
        let tell = match self.observers.near_limit {
            Some(_) => Tell::All,
            None => Tell::Refusals,
        };
        let checked = self.checker.check_identity(&identity, costs, tell).await;
        let limits = self.checker.limits();
        self.observe(&checked, || Some(Partitions::all(limits, &identity)));
        let verdict = Verdict::new(checked, self.checker.limits());
        if verdict.is_admitted() {
            self.shadows.charge_identity(&identity, costs.of(0));
        }
        verdict
    }

    /// Returns the number of the store.
    pub(crate) fn store_id(&self) -> usize {
        self.made.store()
    }

    pub(crate) const fn observers(&self) -> &Observers {
        &self.observers
    }

    /// Shows the result of a check to the observers. `partitions` finds for whom it was made.
    #[inline]
    pub(crate) fn observe<'a>(
        &self,
        checked: &Checked,
        partitions: impl FnOnce() -> Option<Partitions<'a>>,
    ) {
        let checker = &self.checker;
        if self.observers.near_limit.is_some() || self.observers.top.is_some() {
            let now = checker.clock().now();
            let limits = checker.limits();
            self.observers.look(checked, limits, now, partitions);
        }
    }

    pub(crate) const fn shadows(&self) -> &Shadows {
        &self.shadows
    }

    pub(crate) fn queues(&self) -> &Queues {
        &self.queues
    }

    /// Returns what all clones share.
    pub(crate) fn checker(&self) -> &Checker {
        &self.checker
    }

    pub(crate) const fn shared_checker(&self) -> &Arc<Checker> {
        &self.checker
    }
}
