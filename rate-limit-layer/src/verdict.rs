use std::{fmt, sync::Arc, time::Duration};

use layer_store::Output;

use crate::{Quota, check::Core, limit::Bucket, limit_set::Set};

/// What a [`Limiter`](crate::Limiter) says of a check.
#[derive(Clone, Debug)]
#[must_use]
pub enum Verdict {
    /// It passes, and was charged. The standing is that of the tightest policy; `None` if nothing was checked, as the store
    /// is down and every policy fails open.
    Admitted(Option<Standing>),
    /// A quota is spent. Nothing was charged.
    Refused(Refused),
    /// The store is down, and a policy fails closed.
    Unavailable(Unavailable),
}

/// How a subject stands with a policy.
#[derive(Clone)]
pub struct Standing {
    core: Arc<Core>,
    account: Account,
}

/// Why and for how long a check was refused. The layer attaches it to the extensions of its 429.
#[derive(Clone)]
pub struct Refused {
    core: Arc<Core>,
    refusal: Refusal,
}

/// Why nothing could be checked. The layer attaches it to the extensions of its 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable {
    reason: Reason,
}

/// Why nothing could be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The store is gone, slow, or not readable.
    StoreDown,
    /// The store is at its bound, and all that is in it must be kept.
    StoreFull,
}

/// A bucket and what a subject owes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) bucket: usize,
    pub(crate) debt: u64,
}

/// The account that refuses for longest, and all that refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) account: Account,
    pub(crate) violated: Set,
    /// Microseconds.
    pub(crate) retry_after: u64,
}

/// A [`Verdict`] in numbers: what the layer decides on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Admitted(Option<Account>),
    Refused(Refusal),
    Unavailable(Reason),
}

impl Verdict {
    /// Whether it passes.
    pub const fn is_admitted(&self) -> bool {
        matches!(self, Self::Admitted(_))
    }
}

impl Standing {
    pub(crate) const fn new(core: Arc<Core>, account: Account) -> Self {
        Self { core, account }
    }

    /// The policy's name.
    pub fn policy(&self) -> &str {
        &self.bucket().name
    }

    /// The policy's quota.
    pub fn quota(&self) -> Quota {
        self.bucket().quota
    }

    /// How many requests may pass at once.
    pub fn remaining(&self) -> u32 {
        let remaining = self.bucket().rate.remaining(self.account.debt);
        u32::try_from(remaining).unwrap_or(u32::MAX)
    }

    /// In how much time nothing will be owed any more.
    pub fn reset_after(&self) -> Duration {
        Duration::from_micros(self.bucket().rate.reset_after(self.account.debt))
    }

    fn bucket(&self) -> &Bucket {
        self.account.bucket(&self.core)
    }
}

impl Refused {
    pub(crate) const fn new(core: Arc<Core>, refusal: Refusal) -> Self {
        Self { core, refusal }
    }

    /// How the subject stands with the policy that refuses for longest.
    pub fn standing(&self) -> Standing {
        Standing::new(self.core.clone(), self.refusal.account)
    }

    /// The names of all policies that refuse.
    pub fn violated(&self) -> impl Iterator<Item = &str> {
        let buckets = self.core.buckets();
        self.refusal
            .violated
            .iter()
            .map(|bucket| &*buckets[bucket].name)
    }

    /// After how much time the same check passes, if nobody else is charged meanwhile. A microsecond earlier it does not.
    pub const fn retry_after(&self) -> Duration {
        Duration::from_micros(self.refusal.retry_after)
    }

    pub(crate) const fn parts(&self) -> (&Arc<Core>, Refusal) {
        (&self.core, self.refusal)
    }
}

impl Unavailable {
    pub(crate) const fn new(reason: Reason) -> Self {
        Self { reason }
    }

    /// Why.
    pub const fn reason(&self) -> Reason {
        self.reason
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standing")
            .field("policy", &self.policy())
            .field("remaining", &self.remaining())
            .field("reset_after", &self.reset_after())
            .finish()
    }
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused")
            .field("violated", &self.violated().collect::<Vec<_>>())
            .field("retry_after", &self.retry_after())
            .finish()
    }
}

impl Account {
    /// The account at a place of a reply to [`CHARGE`](crate::program::CHARGE). `None` if there is none.
    #[inline]
    pub(crate) fn read(data: &Output, place: usize, bucket: usize) -> Option<Self> {
        let debt = u64::try_from(data.int(place)?).ok()?;
        Some(Self { bucket, debt })
    }

    pub(crate) fn bucket(self, core: &Core) -> &Bucket {
        &core.buckets()[self.bucket]
    }
}

impl Outcome {
    pub(crate) fn into_verdict(self, core: &Arc<Core>) -> Verdict {
        match self {
            Self::Admitted(account) => {
                Verdict::Admitted(account.map(|account| Standing::new(core.clone(), account)))
            }
            Self::Refused(refusal) => Verdict::Refused(Refused::new(core.clone(), refusal)),
            Self::Unavailable(reason) => Verdict::Unavailable(Unavailable::new(reason)),
        }
    }
}
