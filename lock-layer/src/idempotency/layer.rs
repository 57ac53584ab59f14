use std::{fmt, sync::Arc, time::Duration};

use http::Method;
use layer_http::RequestHead;
use layer_store::{Clock, KeySpace, SharedStore, Ttl};
use tower_layer::Layer;

use super::{
    fingerprint::{Client, record_name},
    key,
    mode::Mode,
    service::Idempotency,
};
use crate::{Refusal, Scope, shared_store::warn_unless_shared, token::Token};

/// Runs a request once, and answers its repetitions with the first response: for `POST` and `PATCH`, by the header
/// `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header).
///
/// See the [crate docs](crate) for what becomes of whom, and the defaults.
///
/// ```
/// use std::convert::Infallible;
/// use bytes::Bytes;
/// use http::{Request, Response, StatusCode};
/// use http_body_util::Full;
/// use lock_layer::{IdempotencyLayer, Scope, store::{MemoryStore, SharedStore}};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let store = SharedStore::new(MemoryStore::new());
/// let service = ServiceBuilder::new()
///     .layer(IdempotencyLayer::retry_safe(store, Scope::global()))
///     .service(service_fn(|_: Request<Full<Bytes>>| async {
///         Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("booked")))
///     }));
///
/// let book = || Request::post("/").header("idempotency-key", "1").body(Full::from("car 7")).unwrap();
/// let first = service.clone().oneshot(book()).await.unwrap();
/// assert!(!first.headers().contains_key("idempotency-replayed"));
/// let second = service.oneshot(book()).await.unwrap();
/// assert_eq!(second.headers()["idempotency-replayed"], "true");
/// # });
/// ```
#[derive(Clone)]
pub struct IdempotencyLayer {
    shared: Arc<Shared>,
}

#[derive(Clone)]
pub(super) struct Shared {
    pub(super) store: SharedStore,
    scope: Scope,
    pub(super) mode: Mode,
    methods: Arc<[Method]>,
    pub(super) most_request: usize,
    pub(super) most_response: usize,
    pub(super) kept_for: Ttl,
    /// How long a run is expected to take; the life of a claim that is renewed.
    pub(super) expected: Ttl,
    pub(super) records: KeySpace,
    pub(super) clock: Clock,
    enabled: bool,
}

impl IdempotencyLayer {
    /// Never runs a request twice, whatever happens: for payments.
    ///
    /// A run that panics, or whose process dies, may have taken effect: repetitions are answered 409 `outcome-unknown`, and
    /// somebody has to look. Every response is kept but 429 and 503.
    ///
    /// Warns, once a process, if `store` is not shared.
    pub fn at_most_once(store: SharedStore, scope: Scope) -> Self {
        Self::new(store, scope, Mode::AtMostOnce)
    }

    /// Runs a request again if its run failed: for handlers that bear it, such as one transaction.
    ///
    /// Kept are 2xx, 3xx, and 4xx but for 401, 408, 409, 423, 425 and 429. A 5xx or a panic lets the next repetition run, and
    /// so does a process that died, 30 s later.
    ///
    /// Warns, once a process, if `store` is not shared.
    pub fn retry_safe(store: SharedStore, scope: Scope) -> Self {
        Self::new(store, scope, Mode::RetrySafe)
    }

    fn new(store: SharedStore, scope: Scope, mode: Mode) -> Self {
        warn_unless_shared(&store);
        Self {
            shared: Arc::new(Shared {
                store,
                scope,
                mode,
                methods: Arc::new([Method::POST, Method::PATCH]),
                most_request: MIB,
                most_response: MIB,
                kept_for: DAY,
                expected: EXPECTED,
                records: KeySpace::new("record", "http"),
                clock: Clock::system(),
                enabled: true,
            }),
        }
    }

    /// Asks for a key on requests of these methods, `POST` and `PATCH` unless said; others pass by.
    #[must_use]
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.edit().methods = methods.into_iter().collect();
        self
    }

    /// Refuses requests with a longer body, in bytes, with 413; 1 MiB unless said. The body is read before the handler runs.
    #[must_use]
    pub fn request_limit(mut self, bytes: usize) -> Self {
        self.edit().most_request = bytes;
        self
    }

    /// Keeps responses of up to so many bytes, 1 MiB unless said.
    ///
    /// A longer one, one that takes more than 5 s, or an event stream reaches its client all the same; repetitions are
    /// answered 409 `body-not-kept` with its status, and do not run.
    #[must_use]
    pub fn response_limit(mut self, bytes: usize) -> Self {
        self.edit().most_response = bytes;
        self
    }

    /// Keeps records for so long, 24 h unless said. A repetition after that runs.
    ///
    /// # Panics
    ///
    /// If it is shorter than a second.
    #[must_use]
    #[track_caller]
    pub fn keep_for(mut self, time: Duration) -> Self {
        self.edit().kept_for = at_least_a_second(time, "records");
        self
    }

    /// How long a run takes at the most, 30 s unless said.
    ///
    /// `at_most_once` answers a repetition after that time with `outcome-unknown` instead of `in-progress`. `retry_safe` lets
    /// one run when the first was silent for so long: a run renews its claim each third.
    ///
    /// # Panics
    ///
    /// If it is shorter than a second.
    #[must_use]
    #[track_caller]
    pub fn expected_run(mut self, time: Duration) -> Self {
        self.edit().expected = at_least_a_second(time, "a run");
        self
    }

    /// Lets every request pass if `false`, without a change of type.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.edit().enabled = enabled;
        self
    }

    /// Judges by `clock` whether a run is overdue.
    #[cfg(test)]
    pub(super) fn clock(mut self, clock: Clock) -> Self {
        self.edit().clock = clock;
        self
    }

    fn edit(&mut self) -> &mut Shared {
        Arc::make_mut(&mut self.shared)
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = Idempotency<S>;

    fn layer(&self, inner: S) -> Idempotency<S> {
        Idempotency::new(inner, self.shared.clone())
    }
}

impl Shared {
    pub(super) fn guards(&self, method: &Method) -> bool {
        self.enabled && self.methods.contains(method)
    }

    /// Under what a request's record stands.
    pub(super) fn record_name(&self, head: &RequestHead<'_>) -> Result<Token, Refusal> {
        let key = key::read(head.headers)?;
        let Some((identity, is_peer)) = self.scope.client(head) else {
            tracing::error!(
                "an idempotency key has no client: let Scope::by name one, \
                 or serve axum with into_make_service_with_connect_info::<SocketAddr>()"
            );
            return Err(Refusal::ClientUnknown);
        };
        let client = Client {
            subject: identity.as_ref(),
            is_peer,
        };
        Ok(record_name(client, head, &key))
    }
}

impl fmt::Debug for IdempotencyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyLayer")
            .field("store", &self.shared.store)
            .field("scope", &self.shared.scope)
            .field("mode", &self.shared.mode)
            .field("enabled", &self.shared.enabled)
            .finish_non_exhaustive()
    }
}

#[track_caller]
fn at_least_a_second(time: Duration, what: &str) -> Ttl {
    assert!(
        time >= Duration::from_secs(1),
        "{time:?} is too short for {what}: write at least Duration::from_secs(1)"
    );
    Ttl::try_from(time).expect("a second is more than a millisecond")
}

const MIB: usize = 1 << 20;
const DAY: Ttl = Ttl::from_millis(24 * 3_600_000).expect("a day is not zero");
const EXPECTED: Ttl = Ttl::from_millis(30_000).expect("30 s are not zero");
