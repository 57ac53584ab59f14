use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use axum::Router;
use http::HeaderName;
use rate_limit_layer::{
    Identity, KeyExtractor, Policy, Quota, RateLimitLayer, RequestHead, key_fn, store::SharedStore,
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

/// The API keys with a quota of their own, in place of that of their address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tiers(Arc<BTreeMap<String, Vec<String>>>);

/// An API key and its quota, written `KEY=QUOTA`.
#[derive(Clone, Debug)]
pub(crate) struct Tier {
    key: String,
    quota: Quota,
}

impl Limits {
    /// Puts the limits in front of `routes`.
    pub(crate) fn layer(self, routes: Router, store: &SharedStore) -> Router {
        let finish = |quota| match self.policy.failure_mode() {
            rate_limit_layer::FailureMode::Closed => Quota::fail_closed(quota),
            _ => Quota::fail_open(quota),
        };
        let mut by_address = RateLimitLayer::new(store.clone(), self.policy.clone());
        if let Some(trial) = self.trial {
            by_address = by_address.and(trial.shadow());
        }
        let by_address = by_address.prepaid(self.prepaid);
        let tiers = self.tiers;
        let Some(by_key) = tiers.layer(store, finish) else {
            return routes.layer(by_address);
        };
        // Without authentication a rule by a header would let anyone pass. A key that is known was given to somebody.
        let by_address = by_address.skip(move |head| tiers.of(head).is_some());
        routes.layer(by_key).layer(by_address)
    }
}

impl Tiers {
    pub(crate) fn new(tiers: &[Tier]) -> Self {
        let mut keys = BTreeMap::<_, Vec<_>>::new();
        for Tier { key, quota } in tiers {
            keys.entry(quota.to_string()).or_default().push(key.clone());
        }
        Self(Arc::new(keys))
    }

    /// Makes a layer with a policy for each quota, which counts the keys that have it and skips all others. `None`: there are no keys.
    fn layer(
        &self,
        store: &SharedStore,
        finish: impl Fn(Quota) -> Policy,
    ) -> Option<RateLimitLayer> {
        let mut policies = self.0.keys().map(|name| {
            let quota = name.parse().expect("it is the text of a quota");
            let (tiers, tier) = (self.clone(), name.clone());
            let by_key = key_fn(move |head| {
                let (key, quota) = tiers.of(head)?;
                (*quota == tier).then(|| Identity::from(key))
            });
            finish(quota)
                .name(&format!("tier {name}"))
                .by(by_key.or_skip())
        });
        let first = RateLimitLayer::new(store.clone(), policies.next()?);
        Some(policies.fold(first, RateLimitLayer::and))
    }

    /// Returns the request's API key and the text of its quota, if the key is known.
    fn of<'a>(&self, head: &RequestHead<'a>) -> Option<(&'a str, &String)> {
        let mut lines = head.headers.get_all(&API_KEY).iter();
        let key = lines.next()?.to_str().ok()?;
        // Two keys are none.
        if lines.next().is_some() {
            return None;
        }
        let mut tiers = self.0.iter();
        let (quota, _) = tiers.find(|(_, keys)| keys.iter().any(|known| known == key))?;
        Some((key, quota))
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
