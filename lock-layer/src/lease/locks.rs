use std::{
    fmt,
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::StatusCode;
use layer_store::{Finding, Identity, Protocol, SharedStore, StoreError, StoreInfo, Value};
use tokio::time::Instant;

use super::{
    InvalidLease, Lease, acquiring,
    config::LockConfig,
    guard::LockGuard,
    holder::Holder,
    keeper::Keepers,
    mode::LockMode,
    operator::{CountHeld, Revoke},
    programs::fence_in,
    shared_lock::SharedLock,
    units::{IntoUnits, Units},
    waiting,
};
use crate::{
    AcquireError,
    doctor::{StoreUse, UnfitStore},
    inspect::Inspect,
    retry::{Retry, run_with_retry},
    shared_store::warn_unless_shared,
};

/// Locks on a store, without HTTP: for handlers that find the units in a request's body, for job workers and CLIs.
///
/// Clones share everything. See the [crate docs](crate#locks).
///
/// ```
/// use lock_layer::{AcquireError, Locks, store::{MemoryStore, SharedStore}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let locks = Locks::new(SharedStore::new(MemoryStore::new()));
/// let days = locks.group("car:7").try_acquire(["2026-12-01", "2026-12-02"]).await?;
/// let overlap = locks.group("car:7").try_acquire("2026-12-02").await;
/// assert!(matches!(overlap, Err(AcquireError::Busy(_))));
///
/// days.release().await.unwrap();
/// locks.group("car:7").try_acquire("2026-12-02").await?;
/// # Ok::<_, AcquireError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Locks {
    config: Arc<LockConfig>,
}

/// A group of units that can be taken together, such as the days of one car.
///
/// The group is part of a unit's identity: the unit `1` of `car:7` and the unit `1` of `car:8` are two locks. Made by
/// [`Locks::group`].
#[derive(Clone, Debug)]
pub struct LockGroup {
    config: Arc<LockConfig>,
    name: Identity<'static>,
}

/// A unit that somebody holds, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldUnit {
    unit: Box<[u8]>,
    mode: LockMode,
    holders: usize,
    fence: u64,
    ends_in: Duration,
}

impl Locks {
    /// Makes locks on `store`, with a lease of 30 s.
    ///
    /// Warns, once per process, if `store` is not shared: its locks keep out this process alone.
    pub fn new(store: impl Into<SharedStore>) -> Self {
        let store = store.into();
        warn_unless_shared(&store);
        Self {
            config: Arc::new(LockConfig::new(store)),
        }
    }

    /// Sets the lease: how long a lock is granted at a time. Default 30 s; 10 ms to 12 h.
    ///
    /// A guard renews its lease after each third, so it does not limit how long a lock is held. It is the time that others
    /// wait after a process has died.
    ///
    /// # Panics
    ///
    /// If `lease` is out of bounds. [`try_lease`](Self::try_lease) returns an error instead.
    #[must_use]
    #[track_caller]
    pub fn lease(self, lease: Duration) -> Self {
        match self.try_lease(lease) {
            Ok(locks) => locks,
            Err(error) => panic!("{error}"),
        }
    }

    /// Sets the lease, for a value that comes from a configuration. See [`lease`](Self::lease).
    ///
    /// # Errors
    ///
    /// `lease` is shorter than 10 ms, which one command may take, or longer than 12 h.
    pub fn try_lease(mut self, lease: Duration) -> Result<Self, InvalidLease> {
        let config = Arc::make_mut(&mut self.config);
        config.lease = Lease::new(lease)?;
        // All locks of a keeper have one lease, so they grow up in their order.
        config.keepers = Keepers::new(config.lease);
        Ok(self)
    }

    /// Sets the title of the problem document that a refused client reads, such as `Already booked`. Default `Locked`.
    #[must_use]
    pub fn busy_title(mut self, title: &'static str) -> Self {
        Arc::make_mut(&mut self.config).busy_title = title;
        self
    }

    /// Sets the status of the response that a refused client gets. Default 409; 423 (`Locked`, RFC 4918, section 11.3) for
    /// clients that expect it.
    ///
    /// # Panics
    ///
    /// If it is no client error.
    #[must_use]
    #[track_caller]
    pub fn busy_status(mut self, status: StatusCode) -> Self {
        assert!(
            status.is_client_error(),
            "{status} is no client error: write StatusCode::CONFLICT or StatusCode::LOCKED"
        );
        Arc::make_mut(&mut self.config).busy_status = status;
        self
    }

    /// Returns what is known of the store's server, with the severity and the meaning that it has for locks: see
    /// [two may hold](crate#when-two-may-hold). Empty before the first connection, and for a store without a server.
    pub fn doctor(&self) -> Vec<Finding> {
        StoreUse::Locks.findings(&self.info())
    }

    /// Checks that the store is fit for locks.
    ///
    /// # Errors
    ///
    /// The [`doctor`](Self::doctor) found something fatal: a server that runs no scripts, or a replica. A server that is not reached
    /// yet has no findings, and is no error.
    pub fn checked(self) -> Result<Self, UnfitStore> {
        StoreUse::Locks.check(&self.info())?;
        Ok(self)
    }

    pub(crate) fn info(&self) -> StoreInfo {
        self.config.caller.info()
    }

    /// Returns the group with this name.
    pub fn group<'a>(&self, name: impl Into<Identity<'a>>) -> LockGroup {
        LockGroup {
            config: self.config.clone(),
            name: name.into().into_owned(),
        }
    }
}

impl LockGroup {
    /// Takes one unit or a list of units: all or none. It does not wait for other holders.
    ///
    /// The order of a list does not matter, and a unit that is in it twice is taken once. At most 64 units.
    ///
    /// # Errors
    ///
    /// - [`Busy`](AcquireError::Busy): another holder has one of the units.
    /// - [`Unavailable`](AcquireError::Unavailable): the store did not reply, and nothing is locked. It is known within 200 ms over a
    ///   network, whose calls have a limit of 100 ms by default, and within 500 ms on any store.
    /// - [`NoUnits`](AcquireError::NoUnits), [`TooManyUnits`](AcquireError::TooManyUnits): the list is empty or too long.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with a timer.
    ///
    /// # Cancel safety
    ///
    /// A dropped future leaves nothing locked: a task gives back units that were granted.
    pub fn try_acquire<U: IntoUnits<Shape>, Shape>(
        &self,
        units: U,
    ) -> impl Future<Output = Result<LockGuard, AcquireError>> + Send + use<U, Shape> {
        let holder = self.holder(units);
        async move { acquiring::acquire(holder?).await }
    }

    /// Takes one unit or a list of units, all or none, and waits until others give them back, for at most `wait`.
    ///
    /// In a process, those who wait for a unit are served in the order in which they came, and one of them asks the store. It
    /// is woken by a hint where the store pushes, and asks every 250 ms where it does not. Between processes there is no order.
    ///
    /// # Errors
    ///
    /// Those of [`try_acquire`](Self::try_acquire). `Busy` after `wait`.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with a timer.
    ///
    /// # Cancel safety
    ///
    /// A dropped future leaves nothing locked, and loses its place.
    ///
    /// ```
    /// use std::time::Duration;
    /// use lock_layer::{AcquireError, Locks, store::{MemoryStore, SharedStore}};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let car = Locks::new(SharedStore::new(MemoryStore::new())).group("car:7");
    /// let first = car.try_acquire("2026-12-01").await?;
    /// let second = tokio::spawn(car.acquire("2026-12-01", Duration::from_secs(5)));
    /// first.release().await.unwrap();
    /// let second = second.await.unwrap()?;
    /// # drop(second);
    /// # Ok::<_, AcquireError>(())
    /// # }).unwrap();
    /// ```
    pub fn acquire<U: IntoUnits<Shape>, Shape>(
        &self,
        units: U,
        wait: Duration,
    ) -> impl Future<Output = Result<LockGuard, AcquireError>> + Send + use<U, Shape> {
        let holder = self.waiting_holder(units, LockMode::Exclusive, wait);
        async move { waiting::acquire(holder?, wait).await }
    }

    /// Takes one unit or a list of units to share them with others: all or none. It does not wait.
    ///
    /// For those who read. Several holders may share a unit, up to 512, and nobody has it alone meanwhile. The guard is one like any
    /// other: its lease is renewed, and it is told of a loss. Its [`fence`](LockGuard::fence) is that of the last who had one of the
    /// units alone, so it is no token to write with.
    ///
    /// Whoever waits for a unit alone ([`acquire`](Self::acquire)) goes first: while it waits, nobody new may share the unit. So
    /// writers wait for the readers that are there, and readers may wait for as long as writers keep coming. Once a writer has given
    /// up, readers are let in half a second later at most. Who shares a unit cannot take it alone before it has given it back.
    ///
    /// # Errors
    ///
    /// Those of [`try_acquire`](Self::try_acquire). `Busy`: another has a unit alone, or waits for that, or 512 share it.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with a timer.
    ///
    /// # Cancel safety
    ///
    /// A dropped future leaves nothing locked.
    ///
    /// ```
    /// use lock_layer::{AcquireError, Locks, store::{MemoryStore, SharedStore}};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let prices = Locks::new(SharedStore::new(MemoryStore::new())).group("prices");
    /// let reader = prices.try_acquire_shared("2026").await?;
    /// let another = prices.try_acquire_shared("2026").await?;
    /// assert!(matches!(prices.try_acquire("2026").await, Err(AcquireError::Busy(_))));
    ///
    /// reader.release().await.unwrap();
    /// another.release().await.unwrap();
    /// let writer = prices.try_acquire("2026").await?;
    /// assert!(matches!(prices.try_acquire_shared("2026").await, Err(AcquireError::Busy(_))));
    /// # drop(writer);
    /// # Ok::<_, AcquireError>(())
    /// # }).unwrap();
    /// ```
    pub fn try_acquire_shared<U: IntoUnits<Shape>, Shape>(
        &self,
        units: U,
    ) -> impl Future<Output = Result<LockGuard, AcquireError>> + Send + use<U, Shape> {
        let holder = self.holder_in(units, LockMode::Shared);
        async move { acquiring::acquire(holder?).await }
    }

    /// Takes one unit or a list of units to share them, all or none, and waits for those who have them alone, for at most `wait`.
    ///
    /// See [`try_acquire_shared`](Self::try_acquire_shared) and [`acquire`](Self::acquire). In a process, those who share a unit do
    /// not wait for each other, and wait for a writer that came before them.
    ///
    /// # Errors
    ///
    /// Those of [`try_acquire_shared`](Self::try_acquire_shared). `Busy` after `wait`.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with a timer.
    ///
    /// # Cancel safety
    ///
    /// A dropped future leaves nothing locked, and loses its place.
    pub fn acquire_shared<U: IntoUnits<Shape>, Shape>(
        &self,
        units: U,
        wait: Duration,
    ) -> impl Future<Output = Result<LockGuard, AcquireError>> + Send + use<U, Shape> {
        let holder = self.waiting_holder(units, LockMode::Shared, wait);
        async move { waiting::acquire(holder?, wait).await }
    }

    /// Counts how many of `units` somebody holds.
    ///
    /// # Errors
    ///
    /// Those of [`try_acquire`](Self::try_acquire), except `Busy`.
    pub async fn held<Shape>(&self, units: impl IntoUnits<Shape>) -> Result<usize, AcquireError> {
        let holder = self.holder(units)?;
        run(&holder, CountHeld::new(&holder)).await
    }

    /// Looks at `units`, for operators: returns those that somebody holds, alone or with others.
    ///
    /// # Errors
    ///
    /// Those of [`try_acquire`](Self::try_acquire), except `Busy`.
    pub async fn inspect<Shape>(
        &self,
        units: impl IntoUnits<Shape>,
    ) -> Result<Vec<HeldUnit>, AcquireError> {
        let holder = self.holder(units)?;
        let seen = run(&holder, Inspect(&holder.keys())).await?;
        let held = holder.units().zip(seen.chunks_exact(2));
        let held = held.filter_map(|(unit, seen)| {
            let (lock, ends_in) = seen[0].as_ref()?;
            let last_fence = seen[1].as_ref().and_then(|(fence, _)| fence.as_pair());
            HeldUnit::new(
                unit,
                lock,
                *ends_in,
                last_fence.map_or(0, |(fence, _)| fence),
            )
        });
        Ok(held.collect())
    }

    /// Takes `units` from their holders, also from all who share them, for operators. Returns how many were held.
    ///
    /// Their guards learn of it within 100 ms where the store pushes, and elsewhere at their next renewal, a third of the lease
    /// later at most. Until then only [fencing tokens](LockGuard::fence) keep those holders from writing.
    ///
    /// # Errors
    ///
    /// Those of [`try_acquire`](Self::try_acquire), except `Busy`.
    pub async fn force_release<Shape>(
        &self,
        units: impl IntoUnits<Shape>,
    ) -> Result<u64, AcquireError> {
        let holder = self.holder(units)?;
        run(&holder, Revoke::new(&holder)).await
    }

    /// Makes a holder that has nothing yet, and wants its units alone.
    pub(crate) fn holder<Shape>(
        &self,
        units: impl IntoUnits<Shape>,
    ) -> Result<Arc<Holder>, AcquireError> {
        self.holder_in(units, LockMode::Exclusive)
    }

    /// Makes a holder that has nothing yet.
    pub(crate) fn holder_in<Shape>(
        &self,
        units: impl IntoUnits<Shape>,
        mode: LockMode,
    ) -> Result<Arc<Holder>, AcquireError> {
        self.new_holder(units, mode).map(Arc::new)
    }

    /// Makes a holder that has nothing yet, and waits for its units for at most `wait`.
    pub(crate) fn waiting_holder<Shape>(
        &self,
        units: impl IntoUnits<Shape>,
        mode: LockMode,
        wait: Duration,
    ) -> Result<Arc<Holder>, AcquireError> {
        let holder = self.new_holder(units, mode)?;
        Ok(Arc::new(match wait.is_zero() {
            true => holder,
            false => holder.waiting(),
        }))
    }

    fn new_holder<Shape>(
        &self,
        units: impl IntoUnits<Shape>,
        mode: LockMode,
    ) -> Result<Holder, AcquireError> {
        let units = Units::new(units);
        let holder = Holder::new(self.config.clone(), self.name.clone(), units);
        let holder = holder.inspect_err(AcquireError::tell)?;
        Ok(holder.in_mode(mode))
    }
}

impl HeldUnit {
    /// Reads a lock. `None`: nobody holds it, or wants to.
    fn new(unit: &[u8], lock: &Value, ends_in: Duration, last_fence: u64) -> Option<Self> {
        let held = |mode, holders, fence| Self {
            unit: unit.into(),
            mode,
            holders,
            fence,
            ends_in,
        };
        let Some(lock) = SharedLock::read(lock) else {
            return Some(held(LockMode::Exclusive, 1, fence_in(lock)));
        };
        // The key lives as long as the last of the times in it.
        let now = lock.latest().saturating_sub(ends_in.as_millis() as u64);
        Some(held(LockMode::Shared, lock.live(now), last_fence))
    }

    /// Returns the unit.
    pub fn unit(&self) -> &[u8] {
        &self.unit
    }

    /// Returns how it is held: by one alone, or by several who share it.
    pub fn mode(&self) -> LockMode {
        self.mode
    }

    /// Returns the number of its holders: 1, or of those who share it. 0: nobody, but one that waits for it alone keeps new ones out,
    /// for half a second.
    pub fn holders(&self) -> usize {
        self.holders
    }

    /// Returns the fencing token of its holder. If it is shared, that of the last who had it alone, or 0.
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Returns the time at which it was granted, as the store's clock told it: fencing tokens are such times, in microseconds.
    /// `None` if it is shared.
    pub fn since(&self) -> Option<SystemTime> {
        let since = SystemTime::UNIX_EPOCH + Duration::from_micros(self.fence);
        (self.mode == LockMode::Exclusive).then_some(since)
    }

    /// Returns the time until the lease ends, unless it is renewed.
    pub fn ends_in(&self) -> Duration {
        self.ends_in
    }
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Locks").field(&self.config).finish()
    }
}

async fn run<P, T>(holder: &Holder, mut protocol: P) -> Result<T, AcquireError>
where
    P: Protocol<Output = Result<T, StoreError>> + Send + Sync,
{
    let mut retry = Retry::once(Instant::now());
    let caller = &holder.config().caller;
    let (result, _) = run_with_retry(caller, &mut protocol, &mut retry).await;
    result.map_err(AcquireError::Unavailable)
}
