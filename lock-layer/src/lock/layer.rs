use std::{fmt, sync::Arc, time::Duration};

use http::StatusCode;
use layer_http::{KeyExtractor, RequestHead};
use layer_store::{Finding, Identity, SharedStore};
use tower_layer::Layer;

use super::{
    service::Lock,
    shared::{Shared, UNIT},
};
use crate::{
    AcquireError, HeldUnit, InvalidLease, Locks,
    doctor::{StoreUse, UnfitStore},
    lease::Lease,
};

/// Lets one request at a time through for each key that the extractor finds, over all processes on one store.
///
/// Other requests with that key get 409 at once, or [wait](Self::wait). The handler finds a [`LockContext`](crate::LockContext) in its request's
/// extensions. See the [crate docs](crate#locks).
///
/// ```
/// use std::{convert::Infallible, time::Duration};
/// use http::{Request, Response, StatusCode};
/// use lock_layer::{LockContext, LockLayer, header, store::{MemoryStore, SharedStore}};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let store = SharedStore::new(MemoryStore::new());
/// let service = ServiceBuilder::new()
///     .layer(LockLayer::new(store, header("x-car")).name("car").lease(Duration::from_secs(10)))
///     .service(service_fn(|request: Request<()>| async move {
///         let fence = request.extensions().get::<LockContext>().unwrap().fence();
///         Ok::<_, Infallible>(Response::new(fence.to_string()))
///     }));
///
/// let request = Request::put("/").header("x-car", "7").body(()).unwrap();
/// assert_eq!(service.oneshot(request).await.unwrap().status(), StatusCode::OK);
/// # });
/// ```
#[derive(Clone)]
pub struct LockLayer {
    shared: Arc<Shared>,
}

/// Inspects the locks of a layer and releases them by force, for operators.
///
/// A lock has the name of its group: `car:7` with `.name("car")`, otherwise the route and the key, as in `/cars/{id}:7`.
#[derive(Clone, Debug)]
pub struct LockHandle {
    locks: Locks,
}

impl LockLayer {
    /// Makes a layer that locks what `key` finds, such as `path_param("id")`, with a lease of 30 s.
    ///
    /// Warns, once per process, if `store` is not shared.
    pub fn new(store: impl Into<SharedStore>, key: impl KeyExtractor) -> Self {
        Self {
            shared: Arc::new(Shared {
                locks: Locks::new(store),
                key: Arc::new(key),
                name: None,
                wait: Duration::ZERO,
                hold: None,
                shares: None,
                enabled: true,
            }),
        }
    }

    /// Sets the lease: how long a lock is granted at a time. Default 30 s; 10 ms to 12 h. See [`Locks::lease`].
    ///
    /// # Panics
    ///
    /// If `lease` is out of bounds. [`try_lease`](Self::try_lease) returns an error instead.
    #[must_use]
    #[track_caller]
    pub fn lease(self, lease: Duration) -> Self {
        match self.try_lease(lease) {
            Ok(layer) => layer,
            Err(error) => panic!("{error}"),
        }
    }

    /// Sets the lease, for a value that comes from a configuration. See [`lease`](Self::lease).
    ///
    /// # Errors
    ///
    /// `lease` is shorter than 10 ms or longer than 12 h.
    pub fn try_lease(mut self, lease: Duration) -> Result<Self, InvalidLease> {
        let shared = Arc::make_mut(&mut self.shared);
        shared.locks = shared.locks.clone().try_lease(lease)?;
        Ok(self)
    }

    /// Names the locks, such as `car`, so that all layers with that name share them. Default: the pattern of the matched
    /// route, so that two routes have separate locks.
    ///
    /// With the name `car`, the lock of the key `7` is the unit `-` of the [group](Locks::group) `car:7`.
    ///
    /// # Panics
    ///
    /// If it is empty.
    #[must_use]
    #[track_caller]
    pub fn name(mut self, name: &str) -> Self {
        assert!(
            !name.is_empty(),
            "an empty name shares the locks of all routes: write one, such as \"car\""
        );
        Arc::make_mut(&mut self.shared).name = Some(name.into());
        self
    }

    /// Sets the title of the problem document that a refused client reads, such as `Already booked`. Default `Locked`.
    #[must_use]
    pub fn busy_title(mut self, title: &'static str) -> Self {
        let shared = Arc::make_mut(&mut self.shared);
        shared.locks = shared.locks.clone().busy_title(title);
        self
    }

    /// Sets the status of the response that a refused client gets. Default 409. See [`Locks::busy_status`].
    ///
    /// # Panics
    ///
    /// If it is no client error.
    #[must_use]
    #[track_caller]
    pub fn busy_status(mut self, status: StatusCode) -> Self {
        let shared = Arc::make_mut(&mut self.shared);
        shared.locks = shared.locks.clone().busy_status(status);
        self
    }

    /// Lets a request wait for its lock, for at most `time`, and then through. By default it gets 409 at once, and so it does
    /// after `time`. See [`LockGroup::acquire`](crate::LockGroup::acquire).
    ///
    /// Put a limit on concurrent requests outside it: those that wait keep their connections.
    #[must_use]
    pub fn wait(mut self, time: Duration) -> Self {
        Arc::make_mut(&mut self.shared).wait = time;
        self
    }

    /// Keeps a lock for `time` after a response that is a success (2xx): a reservation, so that the next request for it is
    /// told that it is taken. After any other response it is given back. By default it is always given back.
    ///
    /// A lock that is [shared](Self::shared_for) is always given back.
    ///
    /// A gRPC call is a success unless the head of its response tells another code than OK.
    ///
    /// It ends by itself, or by [`LockHandle::force_release`]. See [`LockGuard::keep`](crate::LockGuard::keep).
    ///
    /// # Panics
    ///
    /// If `time` is shorter than 10 ms or longer than 12 h.
    #[must_use]
    #[track_caller]
    pub fn hold_on_success(mut self, time: Duration) -> Self {
        if let Err(error) = Lease::new(time) {
            panic!("{error}");
        }
        Arc::make_mut(&mut self.shared).hold = Some(time);
        self
    }

    /// Lets requests share a lock for which `shares` is true, such as those that only read. By default none does.
    ///
    /// Requests that share a lock run at the same time. One that has it alone runs when they are done, and while it
    /// [waits](Self::wait), no new ones are let through: see [`LockGroup::try_acquire_shared`](crate::LockGroup::try_acquire_shared).
    ///
    /// ```
    /// use lock_layer::{LockLayer, header, store::{MemoryStore, SharedStore}};
    ///
    /// let store = SharedStore::new(MemoryStore::new());
    /// // GET, HEAD, OPTIONS and TRACE share; all others are alone.
    /// let layer = LockLayer::new(store, header("x-car")).shared_for(|head| head.method.is_safe());
    /// # drop(layer);
    /// ```
    #[must_use]
    pub fn shared_for(
        mut self,
        shares: impl Fn(&RequestHead<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        Arc::make_mut(&mut self.shared).shares = Some(Arc::new(shares));
        self
    }

    /// Turns the layer off, without a change of type: with `false`, every request passes unlocked. Default `true`.
    ///
    /// Its handler then finds no [`LockContext`](crate::LockContext); in axum let it take `Option<LockContext>`.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        Arc::make_mut(&mut self.shared).enabled = enabled;
        self
    }

    /// Returns what is known of the store's server. See [`Locks::doctor`].
    pub fn doctor(&self) -> Vec<Finding> {
        self.shared.locks.doctor()
    }

    /// Checks that the store is fit for locks. See [`Locks::checked`].
    ///
    /// # Errors
    ///
    /// Where that does.
    pub fn checked(self) -> Result<Self, UnfitStore> {
        StoreUse::Locks.check(&self.shared.locks.info())?;
        Ok(self)
    }

    /// Returns a handle that inspects the locks and releases them by force.
    pub fn handle(&self) -> LockHandle {
        LockHandle {
            locks: self.shared.locks.clone(),
        }
    }
}

impl LockHandle {
    /// Returns true if somebody holds the lock of `group`, such as `car:7`.
    ///
    /// # Errors
    ///
    /// The store did not reply within 500 ms.
    pub async fn is_held(&self, group: impl Into<Identity<'_>>) -> Result<bool, AcquireError> {
        let group = self.locks.group(group);
        group.held(UNIT).await.map(|held| held > 0)
    }

    /// Returns what can be seen of the lock of `group`, such as `car:7`: how many hold it and in which mode, its fencing token and
    /// its lease. `None`: nobody holds it.
    ///
    /// # Errors
    ///
    /// The store did not reply within 500 ms.
    pub async fn inspect(
        &self,
        group: impl Into<Identity<'_>>,
    ) -> Result<Option<HeldUnit>, AcquireError> {
        let group = self.locks.group(group);
        group.inspect(UNIT).await.map(|mut held| held.pop())
    }

    /// Takes the lock of `group` from its holder. Returns true if it was held. See
    /// [`LockGroup::force_release`](crate::LockGroup::force_release).
    ///
    /// # Errors
    ///
    /// The store did not reply within 500 ms.
    pub async fn force_release(
        &self,
        group: impl Into<Identity<'_>>,
    ) -> Result<bool, AcquireError> {
        let group = self.locks.group(group);
        group.force_release(UNIT).await.map(|held| held > 0)
    }
}

impl<S> Layer<S> for LockLayer {
    type Service = Lock<S>;

    fn layer(&self, inner: S) -> Lock<S> {
        Lock::new(inner, self.shared.clone())
    }
}

impl fmt::Debug for LockLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockLayer")
            .field("locks", &self.shared.locks)
            .field("name", &self.shared.name)
            .field("enabled", &self.shared.enabled)
            .finish_non_exhaustive()
    }
}
