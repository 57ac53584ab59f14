use std::{fmt, sync::Arc, time::Duration};

use http::Method;
use layer_http::{RequestHead, grpc::MethodPaths, key_fn};
use layer_store::{Finding, Identity, SharedStore};
use tower_layer::Layer;

use super::{
    client_scope::ClientScope, config::IdempotencyConfig, handle::IdempotencyHandle,
    payload::PayloadRule, replay_headers::ReplayHeaders, retry_policy::RetryPolicy,
    service::Idempotency, unkept_types::UnkeptTypes,
};
use crate::{
    doctor::{StoreUse, UnfitStore},
    shared_store::warn_unless_shared,
    tracker::RunTracker,
};

/// Runs a request once, and replays the first response to its repetitions. By default for `POST` and `PATCH`, which then need
/// the header `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header).
///
/// The [crate docs](crate#idempotency-keys) have the meaning of each failure, and the defaults.
///
/// ```
/// use std::convert::Infallible;
/// use bytes::Bytes;
/// use http::{Request, Response, StatusCode};
/// use http_body_util::Full;
/// use lock_layer::{ClientScope, IdempotencyLayer, store::{MemoryStore, SharedStore}};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let store = SharedStore::new(MemoryStore::new());
/// let service = ServiceBuilder::new()
///     .layer(IdempotencyLayer::retry_safe(store, ClientScope::global()))
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
///
/// # Request bodies
///
/// The layer reads a request's body and makes it again for the handler, so the body has a type that can be made from bytes
/// ([`Rebuild`](crate::Rebuild)): those of axum, tonic and hyper (features `axum`, `tonic` and `hyper`),
/// [`Full<Bytes>`](http_body_util::Full), or the `BoxBody` or `UnsyncBoxBody` of `http_body_util`. The handler gets the trailers of
/// the request too, except in a `Full`. A handler behind hyper's `Incoming` gets an `UnsyncBoxBody<Bytes, hyper::Error>`, as
/// nobody but hyper can make an `Incoming`.
///
/// A body of another type does not compile, and the message of the compiler says what to write. A layer that limits bodies makes such
/// a type, if it is outside of this one in a `ServiceBuilder`. In a `Router` of axum it does not: give each of the two a
/// `.layer(..)` of its own.
///
/// ```compile_fail,E0277
/// use std::convert::Infallible;
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::{Full, Limited};
/// use lock_layer::{ClientScope, IdempotencyLayer, store::{MemoryStore, SharedStore}};
/// use tower::{Layer, Service, service_fn};
///
/// let store = SharedStore::new(MemoryStore::new());
/// let mut service = IdempotencyLayer::retry_safe(store, ClientScope::global())
///     .layer(service_fn(async |_: Request<Limited<Full<Bytes>>>| {
///         Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
///     }));
/// let _ = service.call(Request::new(Limited::new(Full::<Bytes>::default(), 1_000)));
/// ```
#[derive(Clone)]
pub struct IdempotencyLayer {
    config: Arc<IdempotencyConfig>,
}

impl IdempotencyLayer {
    /// Makes a layer that never runs a request twice, whatever happens. For payments.
    ///
    /// A run that panics, or whose process dies, may have taken effect: repetitions get 409 `outcome-unknown`, and a person has
    /// to check. Every response is kept except 429 and 503.
    ///
    /// Warns, once per process, if `store` is not shared.
    pub fn at_most_once(store: impl Into<SharedStore>, scope: ClientScope) -> Self {
        Self::new(store.into(), scope, RetryPolicy::AtMostOnce)
    }

    /// Makes a layer that runs a request again if its run failed. For handlers that can bear it, such as one transaction.
    ///
    /// Kept are 2xx, 3xx, and 4xx except 401, 408, 409, 423, 425 and 429. After a 5xx or a panic, the next repetition runs;
    /// after the death of a process, it runs 30 s later.
    ///
    /// Warns, once per process, if `store` is not shared.
    pub fn retry_safe(store: impl Into<SharedStore>, scope: ClientScope) -> Self {
        Self::new(store.into(), scope, RetryPolicy::RetrySafe)
    }

    fn new(store: SharedStore, scope: ClientScope, retry_policy: RetryPolicy) -> Self {
        warn_unless_shared(&store);
        Self {
            config: Arc::new(IdempotencyConfig::new(store, scope, retry_policy)),
        }
    }

    /// Sets the methods whose requests need a key. Default `POST` and `PATCH`. Requests with other methods pass.
    ///
    /// # Panics
    ///
    /// If there are none.
    #[must_use]
    #[track_caller]
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        let methods: Arc<[Method]> = methods.into_iter().collect();
        assert!(
            !methods.is_empty(),
            "without methods the layer does nothing: write one, such as Method::POST, or .enabled(false)"
        );
        self.edit().methods = methods;
        self
    }

    /// Sets the methods of gRPC whose calls need a key, by their paths. Default: all calls do. Calls of other methods pass, and
    /// so do their replies.
    ///
    /// Name the unary methods that change something. Only a unary call can have a key, as its one message is compared with that
    /// of the first call. A listed call with several messages, or none, is refused: `UNIMPLEMENTED`. A bidirectional stream
    /// must not be listed: its client may wait for a reply before it ends its request, which this layer reads to the end.
    /// Requests of HTTP are not affected.
    ///
    /// ```
    /// # use lock_layer::{ClientScope, IdempotencyLayer, store::{MemoryStore, SharedStore}};
    /// # let store = SharedStore::new(MemoryStore::new());
    /// let once = IdempotencyLayer::retry_safe(store, ClientScope::global())
    ///     .grpc_methods(["/cars.Cars/Book", "/cars.Cars/Cancel"]);
    /// # let _ = once;
    /// ```
    ///
    /// # Panics
    ///
    /// If there are none, or one is not of the form `/package.Service/Method`.
    #[must_use]
    #[track_caller]
    pub fn grpc_methods<'m>(mut self, paths: impl IntoIterator<Item = &'m str>) -> Self {
        let if_none =
            "without methods every call of gRPC passes: write one, such as \"/cars.Cars/Book\"";
        self.edit().grpc_methods = Some(MethodPaths::new(paths, if_none));
        self
    }

    /// Lets requests without a key pass: they run as if there were no layer. By default they get 400.
    ///
    /// For an API whose clients do not all send keys yet.
    #[must_use]
    pub fn optional_key(mut self) -> Self {
        self.edit().key.is_optional = true;
        self
    }

    /// Reads keys from the header `name`. Default `idempotency-key`.
    ///
    /// # Panics
    ///
    /// If `name` is not the name of a header.
    #[must_use]
    #[track_caller]
    pub fn key_header(mut self, name: &'static str) -> Self {
        match name.parse() {
            Ok(name) => self.edit().key.header = name,
            Err(_) => panic!("{name:?} is no name of a header: write one such as \"x-request-id\""),
        }
        self
    }

    /// Derives keys from the heads of requests, such as from a path with an order's number. Then no header is read.
    ///
    /// A request for which `derive` returns `None` has no key.
    ///
    /// ```
    /// # use lock_layer::{ClientScope, Identity, IdempotencyLayer, store::{MemoryStore, SharedStore}};
    /// # let store = SharedStore::new(MemoryStore::new());
    /// // A webhook names its event.
    /// let once = IdempotencyLayer::retry_safe(store, ClientScope::global())
    ///     .key(|head| Some(Identity::from(head.headers.get("x-event-id")?.as_bytes())));
    /// # let _ = once;
    /// ```
    #[must_use]
    pub fn key<F>(mut self, derive: F) -> Self
    where
        F: for<'a> Fn(&RequestHead<'a>) -> Option<Identity<'a>> + Send + Sync + 'static,
    {
        let key = &mut self.edit().key;
        key.derived = Some(Arc::new(key_fn(derive)));
        key.in_message = None;
        self
    }

    /// Derives keys from the heads and the messages of requests, such as from the number of an order in it. Then no header is
    /// read.
    ///
    /// `derive` gets the message of a unary call of gRPC, without the five bytes in front of it, and the whole body of any other
    /// request. A request for which it returns `None` has no key. A compressed message cannot be read and is refused:
    /// `INVALID_ARGUMENT`.
    ///
    /// ```
    /// # use lock_layer::{ClientScope, Identity, IdempotencyLayer, store::{MemoryStore, SharedStore}};
    /// # let store = SharedStore::new(MemoryStore::new());
    /// // The first field of the message is the number of the order: tag 0x0a, a length below 128, and the text.
    /// let once = IdempotencyLayer::retry_safe(store, ClientScope::global())
    ///     .grpc_methods(["/shop.Orders/Pay"])
    ///     .key_from_message(|_, message| {
    ///         let [0x0a, length, rest @ ..] = message else { return None };
    ///         Some(Identity::from(rest.get(..usize::from(*length))?))
    ///     });
    /// # let _ = once;
    /// ```
    #[must_use]
    pub fn key_from_message<F>(mut self, derive: F) -> Self
    where
        F: for<'a> Fn(&RequestHead<'a>, &'a [u8]) -> Option<Identity<'a>> + Send + Sync + 'static,
    {
        let key = &mut self.edit().key;
        key.derived = None;
        key.in_message = Some(Arc::new(derive));
        self
    }

    /// Refuses keys for which `is_valid` returns false: 400 `key-invalid`. By default a key has 1 to 255 visible ASCII
    /// characters.
    ///
    /// For an API whose keys are UUIDs, say.
    #[must_use]
    pub fn key_format(mut self, is_valid: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.edit().key.format = Some(Arc::new(is_valid));
        self
    }

    /// Sets what a repetition must have in common with the first request. Default [`PayloadRule::bytes`].
    #[must_use]
    pub fn payload(mut self, rule: PayloadRule) -> Self {
        self.edit().payload = rule;
        self
    }

    /// Sets the headers of a response that are sent with its replays.
    #[must_use]
    pub fn replay_headers(mut self, headers: ReplayHeaders) -> Self {
        self.edit().replay_headers = headers;
        self
    }

    /// Lets a repetition wait for the first request, for at most `time`, and then replays its response. By default it gets 409
    /// `in-progress` at once, and so it does after `time`.
    ///
    /// It waits for a hint of the store, and looks every 250 ms where there are none. It never runs the handler itself.
    #[must_use]
    pub fn wait(mut self, time: Duration) -> Self {
        self.edit().set_wait(time);
        self
    }

    /// Sets the maximum length of a request's body, in bytes. Default 1 MiB. A longer one gets 413.
    ///
    /// The body is read into memory before the handler runs.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    #[track_caller]
    pub fn max_request_body(mut self, bytes: usize) -> Self {
        assert!(
            bytes > 0,
            "max_request_body(0) refuses every request that has a body: write a number of bytes, such as 1 << 20"
        );
        self.edit().max_request_body = bytes;
        self
    }

    /// Sets the maximum length of a response's body that is kept, in bytes. Default 1 MiB. As much is held in memory for each
    /// run whose response has begun.
    ///
    /// A body that comes bit by bit reaches its client as it comes, and is copied beside it. The client learns of the end when
    /// the record is written. A longer response, one that takes longer than [`expected_run`](Self::expected_run), or an event
    /// stream reaches its client unchanged. Its repetitions get 409 `body-not-kept` with its status, and do not run.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    #[track_caller]
    pub fn max_response_body(mut self, bytes: usize) -> Self {
        assert!(
            bytes > 0,
            "max_response_body(0) keeps no response that has a body: write a number of bytes, such as 1 << 20"
        );
        self.edit().max_response_body = bytes;
        self
    }

    /// Sets the content types of responses that are not kept, such as `application/x-ndjson` or `video/*`. Default
    /// `text/event-stream`.
    ///
    /// Such a response reaches its client as it comes, and nothing is copied. Its repetitions get 409 `body-not-kept` with its
    /// status, and do not run. For one response, a handler says it with
    /// [`RunOutcome::ExecutedNotKept`](crate::RunOutcome::ExecutedNotKept).
    ///
    /// ```
    /// # use lock_layer::{ClientScope, IdempotencyLayer, store::{MemoryStore, SharedStore}};
    /// # let store = SharedStore::new(MemoryStore::new());
    /// let once = IdempotencyLayer::retry_safe(store, ClientScope::global())
    ///     .unkept_types(["text/event-stream", "application/x-ndjson"]);
    /// # let _ = once;
    /// ```
    #[must_use]
    pub fn unkept_types<'a>(mut self, types: impl IntoIterator<Item = &'a str>) -> Self {
        self.edit().unkept_types = UnkeptTypes::new(types);
        self
    }

    /// Keeps copies of completed records in this process, of at most so many bytes in all, and believes each for `time`. By
    /// default there are none.
    ///
    /// A replay from a copy costs no command. It is for clients that repeat a request many times. A completed record does not
    /// change, but it ends after [`keep_for`](Self::keep_for), and an operator may [forget](IdempotencyHandle::forget) it: other
    /// processes learn of that after `time`, so write some seconds. The copies of this process are forgotten with the record.
    ///
    /// # Panics
    ///
    /// If one of them is zero.
    #[must_use]
    #[track_caller]
    pub fn local_copies(mut self, bytes: usize, time: Duration) -> Self {
        self.edit().set_local_copies(bytes, time);
        self
    }

    /// Returns what is known of the store's server, with the severity and the meaning that it has for these records.
    ///
    /// An evicting server, for example, is a warning with `retry_safe` and fatal with `at_most_once`: a request may run twice.
    /// Empty before the first connection, and for a store without a server. See [`checked`](Self::checked).
    pub fn doctor(&self) -> Vec<Finding> {
        self.store_use().findings(&self.config.caller.info())
    }

    /// Checks that the store is fit for these records.
    ///
    /// ```
    /// # use lock_layer::{ClientScope, IdempotencyLayer, UnfitStore, store::{MemoryStore, SharedStore}};
    /// # let store = SharedStore::new(MemoryStore::new());
    /// let once = IdempotencyLayer::at_most_once(store, ClientScope::global()).checked()?;
    /// # let _ = once;
    /// # Ok::<_, UnfitStore>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The [`doctor`](Self::doctor) found something fatal: a server that evicts, if nothing may run twice, one that runs no scripts,
    /// or a replica. A server that is not reached yet has no findings, and is no error.
    pub fn checked(self) -> Result<Self, UnfitStore> {
        self.store_use().check(&self.config.caller.info())?;
        Ok(self)
    }

    fn store_use(&self) -> StoreUse {
        self.config.retry_policy.store_use()
    }

    /// Sets the time for which records are kept. Default 24 h; 1 s to ten years. A repetition after that time runs.
    ///
    /// A run may last longer: its claim is renewed.
    ///
    /// # Panics
    ///
    /// If it is out of bounds, or shorter than [`expected_run`](Self::expected_run): a record would end before its run.
    #[must_use]
    #[track_caller]
    pub fn keep_for(mut self, time: Duration) -> Self {
        match self.edit().set_keep_for(time) {
            Ok(()) => self,
            Err(text) => panic!("{text}"),
        }
    }

    /// Sets the time that a run takes at most, as far as you expect. Default 30 s, or [`keep_for`](Self::keep_for) if that is
    /// shorter; 1 s to `keep_for`.
    ///
    /// With `at_most_once`, a repetition after that time gets `outcome-unknown` instead of `in-progress`. With `retry_safe`, a
    /// run renews its claim after each third of that time; a repetition runs once a claim was not renewed for all of it.
    ///
    /// # Panics
    ///
    /// If it is out of bounds. To set more than 24 h, set `keep_for` first.
    #[must_use]
    #[track_caller]
    pub fn expected_run(mut self, time: Duration) -> Self {
        match self.edit().set_expected_run(time) {
            Ok(()) => self,
            Err(text) => panic!("{text}"),
        }
    }

    /// Returns a handle that finds the records of this layer and settles those that wait for a person.
    pub fn handle(&self) -> IdempotencyHandle {
        IdempotencyHandle::new(self.config.clone())
    }

    /// Returns the tracker of this layer's runs, so that a service that stops can wait for them. See [`RunTracker`].
    pub fn tracker(&self) -> RunTracker {
        self.config.tracker.clone()
    }

    /// Lets `tracker` track the runs of this layer, for several layers that are waited for together. By default a layer has a
    /// tracker of its own, which its clones share.
    #[must_use]
    pub fn tracked_by(mut self, tracker: &RunTracker) -> Self {
        self.edit().tracker = tracker.clone();
        self
    }

    /// Turns the layer off, without a change of type: with `false`, every request passes. Default `true`.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.edit().enabled = enabled;
        self
    }

    /// Sets the clock by which a run is found overdue.
    #[cfg(test)]
    pub(super) fn clock(mut self, clock: layer_store::Clock) -> Self {
        self.edit().clock = clock;
        self
    }

    fn edit(&mut self) -> &mut IdempotencyConfig {
        Arc::make_mut(&mut self.config)
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = Idempotency<S>;

    fn layer(&self, inner: S) -> Idempotency<S> {
        Idempotency::new(inner, self.config.clone())
    }
}

impl fmt::Debug for IdempotencyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyLayer")
            .field("store", self.config.caller.store())
            .field("client_scope", &self.config.client_scope)
            .field("retry_policy", &self.config.retry_policy)
            .field("enabled", &self.config.enabled)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
