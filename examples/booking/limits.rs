use std::{collections::BTreeMap, convert::Infallible, str::FromStr, sync::Arc};

use axum::Router;
use http::HeaderName;
use rate_limit_layer::{
    FailureMode, Identity, KeyExtractor, Policy, Quota, RateLimitLayer, RequestHead, TierLookUp,
    key_fn, store::SharedStore,
};

/// The limits in front of all routes.
#[derive(Debug)]
pub(crate) struct Limits {
    /// For each client's address.
    pub(crate) policy: Policy,
    /// The number of requests of a client that a process may charge in advance.
    pub(crate) prepaid: u64,
    /// A policy that is not in force: the metrics show what it would refuse.
    pub(crate) trial: Option<Policy>,
    pub(crate) tiers: Tiers,
}

/// The API keys with a quota of their own, in place of that of their address. A real service has them in a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tiers(Arc<BTreeMap<String, Quota>>);

/// An API key and its quota, written `KEY=QUOTA`.
#[derive(Clone, Debug)]
pub(crate) struct Tier {
    key: String,
    quota: Quota,
}

impl Limits {
    /// Puts the limits in front of `routes`.
    pub(crate) fn layer(self, routes: Router, store: &SharedStore) -> Router {
        let mut by_address = RateLimitLayer::new(store.clone(), self.policy.clone());
        if let Some(trial) = self.trial {
            by_address = by_address.and(trial.shadow());
        }
        let by_address = by_address.prepaid(self.prepaid);
        let tiers = self.tiers;
        if tiers.0.is_empty() {
            return routes.layer(by_address);
        }
        let by_key = RateLimitLayer::new(store.clone(), tiers.policy(&self.policy));
        // Without authentication a rule by a header would let anyone pass. A key that is known was given to somebody.
        let by_address = by_address.skip(move |head| tiers.of(head).is_some());
        routes.layer(by_key).layer(by_address)
    }
}

impl Tiers {
    pub(crate) fn new(tiers: &[Tier]) -> Self {
        let tiers = tiers
            .iter()
            .map(|Tier { key, quota }| (key.clone(), *quota));
        Self(Arc::new(tiers.collect()))
    }

    /// Makes a policy that counts the keys that are known, each with its own quota, and skips all other requests.
    fn policy(&self, usual: &Policy) -> Policy {
        let (known, table) = (self.clone(), self.clone());
        let by_key = key_fn(move |head| known.of(head).map(Identity::from));
        let look_up = TierLookUp::new(move |key| {
            let table = table.clone();
            async move { table.look_up(&key).await }
        });
        let policy = usual.quota().name("tier").by(by_key.or_skip());
        let policy = match usual.failure_mode() {
            FailureMode::Closed => policy.fail_closed(),
            _ => policy.fail_open(),
        };
        policy.tier_look_up(look_up)
    }

    /// Finds the quota of a key. In a real service that is a query.
    async fn look_up(&self, key: &Identity<'_>) -> Result<Option<Quota>, Infallible> {
        let Identity::Text(key) = key else {
            return Ok(None);
        };
        let key = str::from_utf8(key).unwrap_or_default();
        Ok(self.0.get(key).copied())
    }

    /// Returns the request's API key, if it is known.
    fn of<'a>(&self, head: &RequestHead<'a>) -> Option<&'a str> {
        let mut lines = head.headers.get_all(&API_KEY).iter();
        let key = lines.next()?.to_str().ok()?;
        // Two keys are none.
        if lines.next().is_some() {
            return None;
        }
        self.0.contains_key(key).then_some(key)
    }
}

impl FromStr for Tier {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let write = "write a key and its quota, such as key-of-ada=1000/s";
        let (key, quota) = text.split_once('=').ok_or(write)?;
        if key.is_empty() {
            return Err(write.into());
        }
        Ok(Self {
            key: key.into(),
            quota: quota.parse().map_err(|error| format!("{error}"))?,
        })
    }
}

static API_KEY: HeaderName = HeaderName::from_static("x-api-key");
