use std::{fmt, future::Future, sync::Arc, time::Duration};

use layer_store::{Identity, KeySpace, SharedStore};

use crate::{
    AcquireError, Busy, Guard, InvalidLease,
    claim::{Claim, Denied},
    keeper,
    lease::Lease,
    shared_store::warn_unless_shared,
};

/// Locks on a store, without HTTP: for handlers whose units stand in the body, job workers, CLIs.
///
/// Clones share everything. See the [crate docs](crate).
///
/// ```
/// use lock_layer::{AcquireError, Locks, store::{MemoryStore, SharedStore}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let locks = Locks::new(SharedStore::new(MemoryStore::new()));
/// let days = locks.group("car:7").try_acquire(["2026-12-01", "2026-12-02"]).await?;
/// let overlap = locks.group("car:7").try_acquire(["2026-12-02", "2026-12-03"]).await;
/// assert!(matches!(overlap, Err(AcquireError::Busy(_))));
///
/// days.release().await.unwrap();
/// locks.group("car:7").try_acquire(["2026-12-02", "2026-12-03"]).await?;
/// # Ok::<_, AcquireError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Locks {
    shared: Arc<Shared>,
}

/// What lives in one place, such as the days of one car: the locks that can be taken together.
///
/// The group is part of a unit's identity: the same unit in two groups is two locks.
#[derive(Clone, Debug)]
pub struct Group {
    shared: Arc<Shared>,
    name: Identity<'static>,
}

#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) store: SharedStore,
    pub(crate) lease: Lease,
    pub(crate) locks: KeySpace,
    pub(crate) fences: KeySpace,
    pub(crate) title: &'static str,
}

/// The most units of one acquisition: a program has at most 128 keys, and a unit needs a lock and a fence.
pub(crate) const MOST_UNITS: usize = 64;

impl Locks {
    /// Locks on `store`, with a lease of 30 s.
    ///
    /// Warns, once a process, if `store` is not shared: its locks keep out this process alone.
    pub fn new(store: SharedStore) -> Self {
        warn_unless_shared(&store);
        Self {
            shared: Arc::new(Shared {
                store,
                lease: Lease::DEFAULT,
                locks: KeySpace::new("lock", UNIT),
                fences: KeySpace::new("fence", UNIT),
                title: "Locked",
            }),
        }
    }

    /// Grants locks for `lease` at a time, 10 ms to 12 h.
    ///
    /// A guard renews it each third, so it does not limit how long a lock is held: it is how long others wait after a
    /// process has died.
    ///
    /// # Panics
    ///
    /// If it cannot work: see [`try_lease`](Self::try_lease).
    #[must_use]
    #[track_caller]
    pub fn lease(self, lease: Duration) -> Self {
        match self.try_lease(lease) {
            Ok(locks) => locks,
            Err(error) => panic!("{error}"),
        }
    }

    /// The same for a lease that comes from a configuration.
    ///
    /// # Errors
    ///
    /// Less than 10 ms, which a command alone may take, or more than 12 h.
    pub fn try_lease(mut self, lease: Duration) -> Result<Self, InvalidLease> {
        Arc::make_mut(&mut self.shared).lease = Lease::new(lease)?;
        Ok(self)
    }

    /// What a refused client reads first, such as `Already booked`; `Locked` unless said.
    #[must_use]
    pub fn busy_title(mut self, title: &'static str) -> Self {
        Arc::make_mut(&mut self.shared).title = title;
        self
    }

    /// The group of this name.
    pub fn group<'a>(&self, name: impl Into<Identity<'a>>) -> Group {
        Group {
            shared: self.shared.clone(),
            name: name.into().into_owned(),
        }
    }
}

impl Group {
    /// Takes all of `units`, or none, without waiting for others.
    ///
    /// Their order does not matter, and one named twice is one. A guard renews the lease until it is
    /// [released](Guard::release) or dropped.
    ///
    /// # Errors
    ///
    /// [`Busy`](AcquireError::Busy) if somebody holds one of them, [`Unavailable`](AcquireError::Unavailable) if the store
    /// did not say, within half a second; no units at all, or more than 64.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with a timer.
    ///
    /// # Cancel safety
    ///
    /// A dropped future leaves nothing locked: what it was given is given back by a task.
    pub fn try_acquire<I, U>(
        &self,
        units: I,
    ) -> impl Future<Output = Result<Guard, AcquireError>> + Send + use<I, U>
    where
        I: IntoIterator<Item = U>,
        U: AsRef<[u8]>,
    {
        let claim = self.claim(units);
        async move { acquire(claim?).await }
    }

    /// How many of `units` somebody holds.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire) does, but for `Busy`.
    pub async fn held<U: AsRef<[u8]>>(
        &self,
        units: impl IntoIterator<Item = U>,
    ) -> Result<usize, AcquireError> {
        let claim = self.claim(units)?;
        claim.held().await.map_err(AcquireError::Unavailable)
    }

    /// Takes `units` from whoever holds them, and says how many were held: for operators.
    ///
    /// Their guards learn of it at their next renewal, and until then work on: only fences keep such a holder out.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire) does, but for `Busy`.
    pub async fn force_release<U: AsRef<[u8]>>(
        &self,
        units: impl IntoIterator<Item = U>,
    ) -> Result<u64, AcquireError> {
        let claim = self.claim(units)?;
        claim.revoke().await.map_err(AcquireError::Unavailable)
    }

    /// The claim on `units`.
    pub(crate) fn claim<U: AsRef<[u8]>>(
        &self,
        units: impl IntoIterator<Item = U>,
    ) -> Result<Arc<Claim>, AcquireError> {
        let units = units.into_iter().map(|unit| Box::from(unit.as_ref()));
        let mut units: Vec<Box<[u8]>> = units.collect();
        units.sort_unstable();
        units.dedup();
        match units.len() {
            0 => Err(AcquireError::NoUnits),
            1..=MOST_UNITS => Ok(Arc::new(Claim::new(
                self.shared.clone(),
                self.name.clone(),
                units.into(),
            ))),
            given => Err(AcquireError::TooManyUnits { given }),
        }
    }
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Locks").field(&self.shared).finish()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locks")
            .field("store", &self.store)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

impl Denied {
    pub(crate) fn into_error(self, shared: &Shared) -> AcquireError {
        match self {
            Self::Busy { wait } => AcquireError::Busy(Busy::new(wait, shared.title)),
            Self::Unavailable(error) => AcquireError::Unavailable(error),
        }
    }
}

pub(crate) async fn acquire(claim: Arc<Claim>) -> Result<Guard, AcquireError> {
    match acquire_now(&claim) {
        Some(result) => result,
        None => keeper::acquire(claim).await,
    }
}

pub(crate) fn acquire_now(claim: &Arc<Claim>) -> Option<Result<Guard, AcquireError>> {
    let result = claim.acquire_now()?;
    Some(match result {
        Ok(grant) => Ok(keeper::keep(claim.clone(), grant)),
        Err(denied) => Err(denied.into_error(claim.shared())),
    })
}

/// What the keys of locks and fences stand for.
const UNIT: &str = "unit";

#[cfg(test)]
mod tests;
