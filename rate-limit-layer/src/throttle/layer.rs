use std::{fmt, time::Duration};

use layer_store::Identity;
use tower_layer::Layer;

use super::Throttle;
use crate::Limiter;

/// A layer that makes requests wait until a quota has room for them: for a client, a job worker, or any other service.
///
/// [`RateLimitLayer`](crate::RateLimitLayer) refuses instead. This one takes requests of any type: `http::Request`,
/// `reqwest::Request`, a job of apalis. Its response is that of the inner service.
///
/// `key` names whom a request is counted for, such as the host that it is sent to.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use rate_limit_layer::{Identity, Limiter, Quota, ThrottleError, ThrottleLayer, store::MemoryStore};
/// use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
///
/// struct Job {
///     tenant: String,
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// // Each tenant may send two mails at once, and one each minute after that. A job waits for at most 10 s.
/// let mails = Limiter::new(MemoryStore::new(), Quota::per_minute(1).burst(2).fail_open());
/// let throttle = ThrottleLayer::new(mails, Duration::from_secs(10), |job: &Job| Identity::from(&job.tenant));
///
/// let worker = ServiceBuilder::new()
///     .layer(throttle)
///     .service(service_fn(|_: Job| async { Ok::<_, BoxError>("sent") }));
///
/// let job = || Job { tenant: "ada".into() };
/// assert_eq!(worker.clone().oneshot(job()).await?, "sent");
/// assert_eq!(worker.clone().oneshot(job()).await?, "sent");
/// // The third would wait for a minute, and is refused at once.
/// let error = worker.oneshot(job()).await.unwrap_err();
/// assert!(matches!(error.downcast_ref(), Some(ThrottleError::WaitTooLong { .. })));
/// # Ok::<_, BoxError>(())
/// # }).unwrap();
/// ```
///
/// # In front of a client
///
/// ```text
/// let client = ServiceBuilder::new()
///     .layer(ThrottleLayer::new(limiter, wait, |request: &reqwest::Request| Identity::from(request.url().host_str().unwrap_or(""))))
///     .service(reqwest::Client::new());
/// ```
///
/// A client of tonic reads an error of its channel as a status of code UNKNOWN, whose source is the [`ThrottleError`]. So turn that
/// into a status of its own, around the throttle (feature `tonic`):
///
/// ```text
/// let channel = ServiceBuilder::new()
///     .map_err(|error: BoxError| match error.downcast::<ThrottleError>() {
///         Ok(throttled) => tonic::Status::from(throttled.grpc_status()).into(),
///         Err(error) => error,
///     })
///     .layer(ThrottleLayer::new(limiter, wait, |_: &http::Request<tonic::body::Body>| Identity::from("cars")))
///     .service(channel);
/// let client = CarsClient::new(channel);
/// ```
///
/// [`ThrottleError`]: crate::ThrottleError
///
/// # Errors, order, cancellation
///
/// Those of [`Limiter::until_ready`]. The service's error is a boxed [`ThrottleError`](crate::ThrottleError), or that of the inner
/// service.
#[derive(Clone)]
#[must_use]
pub struct ThrottleLayer<K> {
    throttle: Throttle<(), K>,
}

impl<K> ThrottleLayer<K> {
    /// Makes a layer over a limiter. A request waits for at most `max_wait`, and is refused at once if it would have to wait longer.
    pub fn new<Req>(limiter: Limiter, max_wait: Duration, key: K) -> Self
    where
        K: for<'a> Fn(&'a Req) -> Identity<'a>,
    {
        Self {
            throttle: Throttle::new((), limiter, max_wait, key),
        }
    }

    /// Sets how many units of each quota a request costs. Default 1.
    ///
    /// With a cost of zero, or one above the burst of a policy, each request is refused with
    /// [`ThrottleError::InvalidCost`](crate::ThrottleError::InvalidCost).
    pub fn cost(mut self, cost: u64) -> Self {
        self.throttle.cost = cost;
        self
    }
}

impl<S, K: Clone> Layer<S> for ThrottleLayer<K> {
    type Service = Throttle<S, K>;

    fn layer(&self, inner: S) -> Throttle<S, K> {
        self.throttle.around(inner)
    }
}

impl<K> fmt::Debug for ThrottleLayer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.throttle.fmt_as("ThrottleLayer", f)
    }
}
