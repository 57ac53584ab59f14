use std::{fmt, sync::Arc};

use layer_store::Identity;

use crate::{
    Standing,
    check::{Checker, partition::Partitions},
    policy::limit_set::LimitSet,
};

/// Units of quotas that are charged before it is known how many of them work takes, by [`Limiter::reserve`](crate::Limiter::reserve).
///
/// [`commit`](Self::commit) gives back what was not used. Dropped without it, all is given back: the work was not done. Nothing waits for
/// that. If it fails, or the process ends before, the units are earned again in their time, as all others.
///
/// In any interval of length `t` at most `burst + limit * t / window` units are used, and those that were reserved when it began.
///
/// ```
/// use rate_limit_layer::{Limiter, Quota, store::MemoryStore};
///
/// # async fn answer() -> u64 { 900 }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let tokens = Limiter::new(MemoryStore::new(), Quota::per_day(10_000).fail_closed().name("tokens"));
/// // The most that the answer may take.
/// let Ok(reserved) = tokens.reserve("ada", 4_000).await? else { panic!("refused") };
/// let used = answer().await;
/// reserved.commit(used);
/// assert_eq!(tokens.peek("ada").await.unwrap()[0].remaining(), 9_100);
/// # Ok::<_, rate_limit_layer::InvalidCost>(())
/// # }).unwrap();
/// ```
#[must_use = "what is dropped without commit is given back"]
pub struct Reserved {
    checker: Arc<Checker>,
    identity: Identity<'static>,
    /// What is given back when this is dropped.
    left: u64,
    most: u64,
    /// The time before they were charged.
    charged_at: u64,
    /// `None`: the store did not answer. It has not counted the units, and must not get them back.
    standing: Option<Standing>,
}

impl Reserved {
    pub(crate) const fn new(
        checker: Arc<Checker>,
        identity: Identity<'static>,
        most: u64,
        charged_at: u64,
        standing: Option<Standing>,
    ) -> Self {
        Self {
            checker,
            identity,
            left: most,
            most,
            charged_at,
            standing,
        }
    }

    /// Returns the number of units that are reserved.
    pub const fn most(&self) -> u64 {
        self.most
    }

    /// Returns the standing after they were reserved, of the policy with the fewest left. `None`: the store did not answer.
    pub const fn standing(&self) -> Option<&Standing> {
        self.standing.as_ref()
    }

    /// Keeps `used` of the units charged and gives the others back, without waiting for it.
    ///
    /// More than are reserved count as all: reserve the most that the work may take.
    pub fn commit(mut self, used: u64) {
        self.left = self.most.saturating_sub(used);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.left > 0 {
            let limits = self.checker.limits();
            let partitions = Partitions::all(limits, &self.identity);
            let all = partitions.set();
            let counted = match self.standing {
                Some(_) => all,
                None => LimitSet::default(),
            };
            self.checker
                .give_back(&partitions, all, self.left, self.charged_at, counted);
        }
    }
}

impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserved")
            .field("most", &self.most)
            .field("standing", &self.standing)
            .finish_non_exhaustive()
    }
}
