use std::{error::Error, fmt, sync::Arc};

use layer_store::{Identity, SharedStore, StoreError};

use crate::{Policy, Standing, Verdict, check::Core, limit::Bucket};

/// The limiter without HTTP: for job workers, websockets, or what stands in a request's body.
///
/// All of its policies are checked for one subject, in one atomic command: a refused check charges none of them. Clones share
/// everything.
///
/// ```
/// use rate_limit_layer::{Limiter, Quota, Verdict, store::{MemoryStore, SharedStore}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let store = SharedStore::new(MemoryStore::new());
/// let sms = Limiter::new(store, Quota::per_hour(2).fail_closed().named("sms"));
/// assert!(sms.check("+44 20 7946 0000").await.is_admitted());
/// assert!(sms.check("+44 20 7946 0000").await.is_admitted());
/// let Verdict::Refused(refused) = sms.check("+44 20 7946 0000").await else { panic!() };
/// assert!(refused.retry_after() <= std::time::Duration::from_secs(30 * 60));
/// # });
/// ```
///
/// # When the store fails
///
/// [`check`](Self::check) follows the failure mode of its policies. It takes 100 ms at the most, or what
/// [`Options::deadline`](layer_store::Options::deadline) said.
///
/// # Cancel safety
///
/// A dropped check is charged once or not at all, and never repeated.
#[derive(Clone, Debug)]
pub struct Limiter {
    core: Arc<Core>,
}

impl Limiter {
    /// A limiter of one policy. Its extractor is of no use here: the caller says whom a check is for.
    pub fn new(store: SharedStore, policy: Policy) -> Self {
        Self {
            core: Arc::new(Core::new(store, [Bucket::new(policy)].into())),
        }
    }

    /// The same with one more policy.
    ///
    /// # Panics
    ///
    /// If a policy of that name is there already (see [`Policy::named`]), or eight are.
    #[must_use]
    pub fn and(self, policy: Policy) -> Self {
        Self {
            core: Arc::new(self.core.with(Bucket::new(policy))),
        }
    }

    /// Charges one request of `subject`, if all policies allow it.
    pub async fn check(&self, subject: impl Into<Identity<'_>>) -> Verdict {
        self.charge(subject.into(), 1).await
    }

    /// Charges `cost` requests of `subject` at once, if all policies allow that.
    ///
    /// # Errors
    ///
    /// A cost of zero, for which there is [`peek`](Self::peek), or over the burst of a policy, which would never pass.
    pub async fn check_cost(
        &self,
        subject: impl Into<Identity<'_>>,
        cost: u32,
    ) -> Result<Verdict, InvalidCost> {
        self.core.allows(cost)?;
        Ok(self.charge(subject.into(), cost).await)
    }

    /// Says how `subject` stands with each policy, in their order, and changes nothing.
    ///
    /// A subject is of the kind that its extractor gives: a peer is an [`IpAddr`](std::net::IpAddr), what stands in a header is
    /// text. The text of an address is somebody else, who owes nothing.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn peek(
        &self,
        subject: impl Into<Identity<'_>>,
    ) -> Result<Vec<Standing>, StoreError> {
        let accounts = self.core.peek(&subject.into()).await?;
        Ok(accounts
            .into_iter()
            .map(|account| Standing::new(self.core.clone(), account))
            .collect())
    }

    /// Forgets what `subject` was charged: it stands as if it had never come. That holds for all policies of this limiter,
    /// and for the buckets apart in which `subject`, as a peer, is counted for requests that do not say whom they are from.
    ///
    /// ```
    /// # use rate_limit_layer::{Quota, RateLimitLayer, store::{MemoryStore, SharedStore}};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let store = SharedStore::new(MemoryStore::new());
    /// let limit = RateLimitLayer::new(store, Quota::per_minute(100).fail_open());
    /// let peer: std::net::IpAddr = "203.0.113.9".parse()?; // the text itself would be another subject
    /// limit.handle().reset(peer).await?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn reset(&self, subject: impl Into<Identity<'_>>) -> Result<(), StoreError> {
        self.core.reset(&subject.into()).await
    }

    async fn charge(&self, identity: Identity<'_>, cost: u32) -> Verdict {
        let claims = self.core.claims_of(identity);
        let outcome = match self.core.charge_now(&claims, cost) {
            Some(outcome) => outcome,
            None => self.core.charge(&claims, cost).await,
        };
        outcome.into_verdict(&self.core)
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }
}

/// A cost that no request can have, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidCost {
    cost: u32,
    /// The policy that can never allow it, with its burst.
    over: Option<(Arc<str>, u32)>,
}

impl InvalidCost {
    pub(crate) const fn zero() -> Self {
        Self {
            cost: 0,
            over: None,
        }
    }

    pub(crate) const fn over(cost: u32, policy: Arc<str>, burst: u32) -> Self {
        Self {
            cost,
            over: Some((policy, burst)),
        }
    }
}

impl fmt::Display for InvalidCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cost = self.cost;
        match &self.over {
            None => {
                f.write_str("a cost of zero charges nothing: write peek, or a cost of at least 1")
            }
            Some((policy, burst)) => write!(
                f,
                "a cost of {cost} is over the burst of {burst} of the policy `{policy}` and would never pass: write .burst({cost}) or more, or charge less at once"
            ),
        }
    }
}

impl Error for InvalidCost {}
