use http::{Response, StatusCode};
use layer_http::{Body, grpc::ClientProtocol};

use crate::metrics::count_idempotent;

/// A handler's report about its run, in its response's extensions. It overrules the decision by status.
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::{Extension, http::StatusCode, response::IntoResponse};
/// use lock_layer::RunOutcome;
///
/// // The car is gone, and nothing was booked: the same key may be tried again.
/// async fn book() -> impl IntoResponse {
///     (Extension(RunOutcome::NotExecuted), StatusCode::CONFLICT)
/// }
/// # let _ = book;
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RunOutcome {
    /// Nothing was done: the next request with the same key runs.
    NotExecuted,
    /// It was done: the response is kept, whatever its status.
    Executed,
    /// It was done, and nobody may get this response again, such as one with a new secret. It reaches its client at once.
    /// Repetitions get 409 `body-not-kept` with its status, and nothing of it is in the store.
    ExecutedNotKept,
}

/// The reason why [`IdempotencyLayer`](crate::IdempotencyLayer) refused a request. It is in the extensions of the response.
///
/// ```
/// use http::Response;
/// use http_body_util::Empty;
/// use lock_layer::{Body, IdempotencyRefusal};
///
/// let refused: Response<Body<Empty<bytes::Bytes>>> = IdempotencyRefusal::KeyMissing.into_response();
/// assert_eq!(refused.status(), 400);
/// assert_eq!(refused.extensions().get(), Some(&IdempotencyRefusal::KeyMissing));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IdempotencyRefusal {
    /// 400: the request has no `Idempotency-Key`.
    KeyMissing,
    /// 400: the request has two keys, or one that is too long or not visible ASCII.
    KeyInvalid,
    /// 422: the key came with another request before.
    KeyReused,
    /// 409 with `Retry-After`: the first request with this key is running.
    InProgress,
    /// 409: the first request with this key was begun, and its outcome is not known.
    OutcomeUnknown,
    /// 409: the first request with this key is done, and its response was not kept.
    BodyNotKept {
        /// The status of the first response.
        status: StatusCode,
    },
    /// 413: the request's body is longer than [`max_request_body`](crate::IdempotencyLayer::max_request_body).
    BodyTooLarge,
    /// 400: the request's body broke off.
    BodyUnreadable,
    /// 501: a call of gRPC has several messages or none, and only unary calls can have a key. The docs of
    /// [`grpc_methods`](crate::IdempotencyLayer::grpc_methods) say what to do.
    NotUnary,
    /// 400: the request does not say whose it is, and the scope refuses such requests
    /// ([`ClientScope::or_refuse`](crate::ClientScope::or_refuse)).
    ClientMissing,
    /// 500: the scope found no client and no peer address is known, so clients could be given each other's responses.
    ClientUnknown,
    /// 503: the service stops, and begins no more runs ([`RunTracker::close`](crate::RunTracker::close)).
    Closing,
    /// 503: the store did not reply whether the request was handled before. It was not handled now.
    StoreUnavailable,
}

impl IdempotencyRefusal {
    /// Refuses a request of this client, and tells why.
    pub(super) fn refuse<B>(self, protocol: &ClientProtocol) -> Response<Body<B>> {
        count_idempotent(self.as_str());
        tracing::debug!(reason = self.as_str(), "idempotent request refused");
        self.respond(protocol)
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::KeyMissing => "key_missing",
            Self::KeyInvalid => "key_invalid",
            Self::KeyReused => "key_reused",
            Self::InProgress => "in_progress",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::BodyNotKept { .. } => "body_not_kept",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyUnreadable => "body_unreadable",
            Self::NotUnary => "not_unary",
            Self::ClientMissing => "client_missing",
            Self::ClientUnknown => "client_unknown",
            Self::Closing => "closing",
            Self::StoreUnavailable => "store_unavailable",
        }
    }
}
