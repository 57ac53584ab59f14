use std::fmt;

use http::{HeaderMap, Response};
use layer_http::{Body, Content, RequestHead, grpc::ClientProtocol};
use layer_store::SharedStore;
use tower_layer::Layer;

use super::{
    body::InFlightBody,
    limiter::InFlightLimiter,
    permit::Permit,
    refusal::{InFlightRefusal, limit_field},
    service::InFlight,
};
use crate::{
    InFlightPolicy,
    check::partition::{Partition, Unpartitioned},
    response::headers::{RATE_LIMIT, RATE_LIMIT_POLICY},
};

/// A layer that limits how many requests of one identity are in flight at once, over all processes. See the
/// [crate docs](crate#in-flight-limits).
///
/// ```
/// use axum::{Router, body::Body, routing::get};
/// use http::{Request, StatusCode};
/// use rate_limit_layer::{InFlightLayer, MaxInFlight, header, store::MemoryStore};
/// use tower::ServiceExt;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let policy = MaxInFlight::new(1).by(header("x-api-key")).fail_open();
/// let app: Router = Router::new()
///     .route("/report", get(|| async { "a long report" }))
///     .layer(InFlightLayer::new(MemoryStore::new(), policy));
///
/// let ask = || Request::get("/report").header("x-api-key", "ada").body(Body::empty()).unwrap();
/// let first = app.clone().oneshot(ask()).await?;
/// assert_eq!(first.headers()["ratelimit-policy"], "\"1-in-flight\";q=1;qu=\"concurrent-requests\"");
/// assert_eq!(first.headers()["ratelimit"], "\"1-in-flight\";r=0");
/// // Its body is not read so far.
/// let second = app.clone().oneshot(ask()).await?;
/// assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
/// drop(first);
/// assert_eq!(app.oneshot(ask()).await?.status(), StatusCode::OK);
/// # Ok::<_, std::convert::Infallible>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
#[must_use]
pub struct InFlightLayer {
    shared: Shared,
}

/// The state that all services of a layer share.
#[derive(Clone)]
pub(super) struct Shared {
    limiter: InFlightLimiter,
    enabled: bool,
    headers: bool,
}

impl InFlightLayer {
    /// Makes a layer over a store: a `SharedStore`, a `MemoryStore` or a `RedisStore`.
    pub fn new(store: impl Into<SharedStore>, policy: InFlightPolicy) -> Self {
        Self {
            shared: Shared {
                limiter: InFlightLimiter::new(store, policy),
                enabled: true,
                headers: true,
            },
        }
    }

    /// Sets if responses carry `RateLimit` and `RateLimit-Policy`. Default true.
    ///
    /// A refusal has its `Retry-After` either way.
    pub fn headers(mut self, headers: bool) -> Self {
        self.shared.headers = headers;
        self
    }

    /// Switches the layer on or off without changing types. Default true. Off, every request passes uncounted.
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.shared.enabled = enabled;
        self
    }

    /// Returns the limiter inside, to see how many are in flight.
    pub fn handle(&self) -> InFlightLimiter {
        self.shared.limiter.clone()
    }
}

impl<S> Layer<S> for InFlightLayer {
    type Service = InFlight<S>;

    fn layer(&self, inner: S) -> InFlight<S> {
        InFlight::new(inner, self.shared.clone())
    }
}

/// The permit of an admitted request. `None`: it is not counted.
pub(super) type Admitted = Option<Permit>;

impl Shared {
    /// Finds whom a request is counted for. `None`: it is not counted.
    pub(super) fn partition<'a>(
        &self,
        head: &RequestHead<'a>,
    ) -> Result<Option<Partition<'a>>, Unpartitioned> {
        match self.enabled {
            true => Partition::of(&self.limiter.permits().limit.by, head),
            false => Ok(None),
        }
    }

    /// Takes a permit if that needs no waiting.
    pub(super) fn take_now(
        &self,
        partition: &Partition<'_>,
    ) -> Option<Result<Permit, InFlightRefusal>> {
        self.limiter.permits().take_now(partition)
    }

    /// Takes a permit, waiting for the store.
    pub(super) async fn take(
        &self,
        partition: Partition<'static>,
    ) -> Result<Permit, InFlightRefusal> {
        self.limiter.permits().take(partition).await
    }

    /// Makes the response to a request with these fields that is not admitted.
    #[cold]
    pub(super) fn refuse(&self, refusal: InFlightRefusal, fields: &HeaderMap) -> Response<Content> {
        let limit = &self.limiter.permits().limit;
        refusal.into_response(limit, self.headers, &ClientProtocol::of(fields))
    }

    /// Hands an admitted request's permit to the body of its response, and adds the two headers.
    pub(super) fn respond<B>(
        &self,
        response: Response<B>,
        admitted: Admitted,
    ) -> Response<Body<InFlightBody<B>>> {
        let remaining = admitted.as_ref().and_then(Permit::remaining);
        let mut response = response.map(|body| Body::inner(InFlightBody::new(body, admitted)));
        if let (true, Some(remaining)) = (self.headers, remaining) {
            let limit = &self.limiter.permits().limit;
            let fields = response.headers_mut();
            // Appended: a limiter further in may have written its own.
            fields.append(RATE_LIMIT_POLICY.clone(), limit.policy_field.clone());
            fields.append(RATE_LIMIT.clone(), limit_field(limit, remaining));
        }
        response
    }
}

impl fmt::Debug for InFlightLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlightLayer")
            .field("limiter", &self.limiter)
            .field("enabled", &self.enabled)
            .field("headers", &self.headers)
            .finish()
    }
}
