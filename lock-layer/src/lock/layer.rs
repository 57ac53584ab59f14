use std::{fmt, net::Ipv4Addr, sync::Arc, time::Duration};

use http::{Response, StatusCode};
use layer_http::{Body, KeyExtractor, OnMissing, PeerIp, Problem, RequestHead};
use layer_store::{Identity, SharedStore};
use tower_layer::Layer;

use crate::{
    AcquireError, InvalidLease, Locks, RunOutcome, claim::Claim, lock::Lock, response::respond,
};

/// Lets one request at a time through for each of whatever the extractor names, over all processes on one store.
///
/// Others are answered 409 at once. The handler finds a [`LockContext`](crate::LockContext) in its request's extensions.
/// See the [crate docs](crate).
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
///     .layer(LockLayer::new(store, header("x-car")).group("car").lease(Duration::from_secs(10)))
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

/// Looks at a layer's locks and opens them, for operators.
///
/// They are named as the layer groups them: `car:7` under `.group("car")`, else `/cars/{id}:7`.
#[derive(Clone, Debug)]
pub struct LockHandle {
    locks: Locks,
}

#[derive(Clone)]
pub(super) struct Shared {
    locks: Locks,
    key: Arc<dyn KeyExtractor>,
    group: Option<Box<str>>,
    enabled: bool,
}

/// What becomes of a request before any store is asked.
pub(super) enum Begun<B> {
    /// It needs no lock.
    Pass,
    /// It needs this one.
    Lock(Arc<Claim>),
    /// It is refused.
    Refused(Response<Body<B>>),
}

impl LockLayer {
    /// Locks whatever `key` names, such as `path_param("id")`, with a lease of 30 s.
    ///
    /// Warns, once a process, if `store` is not shared.
    pub fn new(store: SharedStore, key: impl KeyExtractor) -> Self {
        Self {
            shared: Arc::new(Shared {
                locks: Locks::new(store),
                key: Arc::new(key),
                group: None,
                enabled: true,
            }),
        }
    }

    /// Grants locks for `lease` at a time, 10 ms to 12 h. See [`Locks::lease`].
    ///
    /// # Panics
    ///
    /// If it cannot work: see [`try_lease`](Self::try_lease).
    #[must_use]
    #[track_caller]
    pub fn lease(self, lease: Duration) -> Self {
        match self.try_lease(lease) {
            Ok(layer) => layer,
            Err(error) => panic!("{error}"),
        }
    }

    /// The same for a lease that comes from a configuration.
    ///
    /// # Errors
    ///
    /// Less than 10 ms or more than 12 h.
    pub fn try_lease(mut self, lease: Duration) -> Result<Self, InvalidLease> {
        let shared = Arc::make_mut(&mut self.shared);
        shared.locks = shared.locks.clone().try_lease(lease)?;
        Ok(self)
    }

    /// Names what is locked, such as `car`: with it the lock of `7` is the unit `-` of the group `car:7`, on every route.
    ///
    /// Without it the group begins with the matched route's pattern, so that two routes lock apart.
    #[must_use]
    pub fn group(mut self, name: &str) -> Self {
        Arc::make_mut(&mut self.shared).group = Some(name.into());
        self
    }

    /// What a refused client reads first, such as `Already booked`; `Locked` unless said.
    #[must_use]
    pub fn busy_title(mut self, title: &'static str) -> Self {
        let shared = Arc::make_mut(&mut self.shared);
        shared.locks = shared.locks.clone().busy_title(title);
        self
    }

    /// Lets every request pass unlocked if `false`, without a change of type. A handler then finds no
    /// [`LockContext`](crate::LockContext) in its request: who may be switched off takes `Option<Extension<LockContext>>`.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        Arc::make_mut(&mut self.shared).enabled = enabled;
        self
    }

    /// Looks at the locks and opens them.
    pub fn handle(&self) -> LockHandle {
        LockHandle {
            locks: self.shared.locks.clone(),
        }
    }
}

impl LockHandle {
    /// Whether somebody holds the lock of `group`, such as `car:7`.
    ///
    /// # Errors
    ///
    /// If the store does not say.
    pub async fn is_held(&self, group: impl Into<Identity<'_>>) -> Result<bool, AcquireError> {
        let group = self.locks.group(group);
        group.held([UNIT]).await.map(|held| held > 0)
    }

    /// Takes the lock of `group` from whoever holds it, and says whether somebody did. See
    /// [`Group::force_release`](crate::Group::force_release).
    ///
    /// # Errors
    ///
    /// If the store does not say.
    pub async fn force_release(
        &self,
        group: impl Into<Identity<'_>>,
    ) -> Result<bool, AcquireError> {
        let group = self.locks.group(group);
        group.force_release([UNIT]).await.map(|held| held > 0)
    }
}

impl<S> Layer<S> for LockLayer {
    type Service = Lock<S>;

    fn layer(&self, inner: S) -> Lock<S> {
        Lock::new(inner, self.shared.clone())
    }
}

impl Shared {
    pub(super) fn begin<B>(&self, head: &RequestHead<'_>) -> Begun<B> {
        if !self.enabled {
            return Begun::Pass;
        }
        let group = match self.key.extract(head) {
            Some(identity) => self.group_of(head, "", &identity),
            None => match self.key.missing() {
                OnMissing::Skip => return Begun::Pass,
                OnMissing::Refuse => return Begun::Refused(unnamed()),
                OnMissing::Misconfigured => return Begun::Refused(misconfigured()),
                OnMissing::UsePeer => match PeerIp.extract(head) {
                    Some(peer) => self.group_of(head, "/peer", &peer),
                    None => self.group_of(head, "/peer", &Identity::from("")),
                },
                OnMissing::Shared => self.group_of(head, "/peer", &Identity::from("")),
            },
        };
        match self.locks.group(group).claim([UNIT]) {
            Ok(claim) => Begun::Lock(claim),
            Err(error) => Begun::Refused(error.into_response()),
        }
    }

    /// `prefix:identity`. One prefix has one extractor, so the kinds of identity need not be told apart.
    fn group_of(
        &self,
        head: &RequestHead<'_>,
        apart: &str,
        identity: &Identity<'_>,
    ) -> Identity<'static> {
        let prefix = match &self.group {
            Some(name) => name,
            None => head.matched_path().unwrap_or_default(),
        };
        let mut group = format!("{prefix}{apart}:").into_bytes();
        match identity {
            Identity::Text(text) => group.extend_from_slice(text),
            Identity::Int(number) => group.extend_from_slice(number.to_string().as_bytes()),
            Identity::V4(address) => {
                let address = Ipv4Addr::from_bits(*address).to_string();
                group.extend_from_slice(address.as_bytes());
            }
            Identity::V6(network) => {
                group.extend_from_slice(format!("{network:016x}").as_bytes());
            }
        }
        Identity::Text(group.into())
    }
}

impl fmt::Debug for LockLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockLayer")
            .field("locks", &self.shared.locks)
            .field("group", &self.shared.group)
            .field("enabled", &self.shared.enabled)
            .finish_non_exhaustive()
    }
}

/// A request that says not what it is about, where it has to.
fn unnamed<B>() -> Response<Body<B>> {
    not_executed(
        Problem::new(StatusCode::BAD_REQUEST, "about:blank", "Bad Request")
            .detail("the request does not say what it is about"),
    )
}

fn misconfigured<B>() -> Response<Body<B>> {
    tracing::error!(
        "a lock's extractor finds nothing on this route: put the layer on the route whose parameter it names"
    );
    not_executed(Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "about:blank",
        "Internal Server Error",
    ))
}

fn not_executed<B>(problem: Problem) -> Response<Body<B>> {
    let mut response = respond(problem, None);
    response.extensions_mut().insert(RunOutcome::NotExecuted);
    response
}

/// The one unit of a bare group.
const UNIT: &str = "-";
