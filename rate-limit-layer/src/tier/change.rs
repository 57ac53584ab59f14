use std::{
    error::Error,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use layer_store::Identity;

use super::quotas::{Quotas, misfit};
use crate::{FailureMode, Limiter, Policy, Quota, check::Checker, policy::limit::Limit};

/// The error of a change of quotas that was not made. Its text says what is wrong, and what was in force stays.
///
/// ```
/// use rate_limit_layer::{Limiter, Quota, store::MemoryStore};
///
/// let limiter = Limiter::new(MemoryStore::new(), Quota::per_minute(100).name("api").fail_open());
/// let error = limiter.set_quota("apo", Quota::per_minute(5)).unwrap_err();
/// assert_eq!(error.policy(), "apo");
/// assert_eq!(error.to_string(), r#"the limiter has no policy named "apo": it has "api""#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidChange {
    policy: Box<str>,
    fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    /// It has another block, or none.
    Block,
    /// There is none of that name, but these.
    Unknown(Vec<Arc<str>>),
    Unnamed,
    Misfit(Quota, &'static str),
    Mode(FailureMode),
    OnTrial,
    Twice,
    Prepaid,
}

/// The policies on trial, which keep their quotas.
type Trials = Arc<[(Arc<str>, Quota)]>;

/// Changing quotas while a service runs.
impl Limiter {
    /// Changes the quota of a policy, at once and for all services of the layer.
    ///
    /// No balance is refilled and nobody is locked out, as with a change of the tier ([`Policy::tier`]). Clients with a tier of their own
    /// keep it. The change is made in this process alone, and lasts until the next one, or until the process ends.
    ///
    /// ```
    /// use rate_limit_layer::{Quota, RateLimitLayer, store::MemoryStore};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let layer = RateLimitLayer::new(MemoryStore::new(), Quota::per_minute(100).name("api").fail_open());
    /// let handle = layer.handle();
    /// let peer: std::net::IpAddr = "203.0.113.9".parse()?;
    /// handle.check_cost(peer, 50).await?;
    /// handle.set_quota("api", Quota::per_minute(10))?;
    /// // Half of the quota is used, as before.
    /// assert_eq!(handle.peek(peer).await?[0].remaining(), 5);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// If there is no policy of this name, if its name is that of its quota because none was written, if it is on trial, if requests are
    /// charged in advance, or if the quota has another algorithm. Under another algorithm than GCRA also if its windows are others.
    pub fn set_quota(&self, policy: &str, quota: Quota) -> Result<(), InvalidChange> {
        let (checker, trials) = (self.checker(), self.trials());
        change(checker, |quotas| {
            let index = find(checker, &trials, policy, quota)?;
            quotas.set(index, quota);
            Ok(())
        })
    }

    /// Changes the quotas to those of `policies`, all of them or none. A policy that is not among them has the quota that it was made with.
    ///
    /// For policies that were read from a file (feature `serde`). [`reload_every`](Self::reload_every) reads it again and again. The rest is as
    /// with [`set_quota`](Self::set_quota).
    ///
    /// # Errors
    ///
    /// Those of [`set_quota`](Self::set_quota); and if a policy is there twice, or has another failure mode, or one on trial another quota than
    /// in force. What was in force stays.
    pub fn set_policies(
        &self,
        policies: impl IntoIterator<Item = Policy>,
    ) -> Result<(), InvalidChange> {
        set_policies(self.checker(), &self.trials(), policies)
    }

    /// Reads policies again and again, every so often, in a task, and changes the quotas to theirs: see [`set_policies`](Self::set_policies).
    ///
    /// `read` may block, as to read a file. If it fails, or policies are invalid, what is in force stays; an event at warn tells why, once
    /// until the reason changes. An event at info tells of each quota that has changed. The task ends when the limiter, its clones, its
    /// layer and all of their services are gone.
    ///
    /// ```
    /// # #[cfg(feature = "serde")] {
    /// use std::{fs, time::Duration};
    /// use rate_limit_layer::{BoxError, Policy, RateLimitLayer, store::MemoryStore};
    ///
    /// fn policies() -> Result<Vec<Policy>, BoxError> {
    ///     Ok(serde_json::from_str(&fs::read_to_string("limits.json")?)?)
    /// }
    ///
    /// # async fn serve() -> Result<(), BoxError> {
    /// // [{"name": "api", "quota": "100/min burst 20", "fail": "open"}]
    /// let first = policies()?.pop().ok_or("no policy")?;
    /// let layer = RateLimitLayer::new(MemoryStore::new(), first);
    /// layer.handle().reload_every(Duration::from_secs(10), policies);
    /// # Ok(()) }
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its timer.
    pub fn reload_every<E: fmt::Display + Send + 'static>(
        &self,
        every: Duration,
        read: impl Fn() -> Result<Vec<Policy>, E> + Send + Sync + 'static,
    ) {
        let (checker, trials) = (Arc::downgrade(self.shared_checker()), self.trials());
        tokio::spawn(reload(checker, trials, every, Arc::new(read)));
    }

    /// Forgets the tier that was found for `identity`: its next request looks it up. See [`Policy::tier_look_up`].
    ///
    /// For a client that has just bought a larger quota. It is for this process alone.
    pub fn forget_tier<'a>(&self, identity: impl Into<Identity<'a>>) {
        self.checker().forget_tier(&identity.into());
    }

    fn trials(&self) -> Trials {
        self.shadows().quotas().collect()
    }
}

async fn reload<E: fmt::Display + Send + 'static>(
    checker: Weak<Checker>,
    trials: Trials,
    every: Duration,
    read: Arc<impl Fn() -> Result<Vec<Policy>, E> + Send + Sync + 'static>,
) {
    let mut told = None;
    loop {
        tokio::time::sleep(every).await;
        let Some(checker) = checker.upgrade() else {
            return;
        };
        let read = read.clone();
        let policies = tokio::task::spawn_blocking(move || {
            let policies = read();
            policies.map_err(|error| error.to_string())
        });
        // ## Waiting => read | not read
        let policies = policies
            .await
            .unwrap_or_else(|error| Err(error.to_string()));
        // ## Read => in force | invalid
        let fault = match policies {
            Ok(policies) => set_policies(&checker, &trials, policies)
                .err()
                .map(|error| error.to_string()),
            Err(error) => Some(error),
        };
        if let Some(error) = &fault
            && told != fault
        {
            tracing::warn!(
                error,
                "the policies were not read again: those that are in force stay"
            );
        }
        told = fault;
    }
}

fn set_policies(
    checker: &Checker,
    trials: &Trials,
    policies: impl IntoIterator<Item = Policy>,
) -> Result<(), InvalidChange> {
    change(checker, |quotas| {
        *quotas = *checker.live().made();
        let mut seen = Vec::new();
        for policy in policies {
            let limit = Limit::new(policy);
            let name = &limit.name;
            let fault = |fault| Err(InvalidChange::new(name, fault));
            let is_trial =
                |(trial, quota): &(Arc<str>, Quota)| trial == name && *quota == limit.quota;
            if limit.is_shadow() && trials.iter().any(is_trial) {
                continue;
            }
            let index = find(checker, trials, name, limit.quota)?;
            let made = &checker.limits()[index];
            if limit.is_shadow() {
                return fault(Fault::OnTrial);
            }
            if seen.contains(&index) {
                return fault(Fault::Twice);
            }
            if let Some(block) = limit.block_of()
                && made.block_of() != Some(block)
            {
                return fault(Fault::Block);
            }
            if limit.mode() != made.mode() {
                return fault(Fault::Mode(made.mode()));
            }
            seen.push(index);
            quotas.set(index, limit.quota);
        }
        Ok(())
    })
}

/// Changes the quotas in force, and tells what has changed.
fn change(
    checker: &Checker,
    change: impl FnOnce(&mut Quotas) -> Result<(), InvalidChange>,
) -> Result<(), InvalidChange> {
    let (before, after) = checker.live().change(change)?;
    for (index, limit) in checker.limits().iter().enumerate() {
        if let (Some(from), Some(to)) = (before.get(index), after.get(index))
            && from != to
        {
            tracing::info!(policy = &*limit.name, %from, %to, "the quota of a policy has changed");
        }
    }
    Ok(())
}

/// Finds the policy of a name, if it can have the quota.
fn find(
    checker: &Checker,
    trials: &Trials,
    policy: &str,
    quota: Quota,
) -> Result<usize, InvalidChange> {
    let fault = |fault| Err(InvalidChange::new(policy, fault));
    let mut limits = checker.limits().iter();
    let Some(index) = limits.position(|limit| *limit.name == *policy) else {
        if trials.iter().any(|(trial, _)| **trial == *policy) {
            return fault(Fault::OnTrial);
        }
        let known = checker.limits().iter().map(|limit| limit.name.clone());
        return fault(Fault::Unknown(known.collect()));
    };
    let limit = &checker.limits()[index];
    if !limit.is_named {
        return fault(Fault::Unnamed);
    }
    if checker.is_prepaid() {
        return fault(Fault::Prepaid);
    }
    match misfit(limit.quota, quota) {
        Some(why) => fault(Fault::Misfit(quota, why)),
        None => Ok(index),
    }
}

impl InvalidChange {
    fn new(policy: &str, fault: Fault) -> Self {
        Self {
            policy: policy.into(),
            fault,
        }
    }

    /// Returns the name of the policy that the change is about.
    pub fn policy(&self) -> &str {
        &self.policy
    }
}

impl fmt::Display for InvalidChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = &*self.policy;
        match &self.fault {
            Fault::Unknown(known) => {
                write!(f, "the limiter has no policy named {policy:?}: it has")?;
                for (index, known) in known.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma} {known:?}")?;
                }
                if known.is_empty() {
                    f.write_str(" none")?;
                }
                Ok(())
            }
            Fault::Unnamed => write!(
                f,
                "the name {policy:?} is that of a quota, and another quota has another: write .name(..) on the policy"
            ),
            Fault::Misfit(quota, why) => {
                write!(
                    f,
                    "the policy {policy:?} cannot have the quota {quota}: {why}"
                )
            }
            Fault::Mode(mode) => write!(
                f,
                "the policy {policy:?} has the failure mode {mode:?}, which stays until the process is started again"
            ),
            Fault::Block => write!(
                f,
                "the block of the policy {policy:?} stays until the process is started again"
            ),
            Fault::OnTrial => write!(
                f,
                "the policy {policy:?} is on trial: it keeps its quota until the process is started again"
            ),
            Fault::Twice => write!(f, "the policy {policy:?} is there twice: write it once"),
            Fault::Prepaid => write!(
                f,
                "requests of the policy {policy:?} are charged in advance: write it without .prepaid(..)"
            ),
        }
    }
}

impl Error for InvalidChange {}
