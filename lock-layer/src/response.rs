//! What a refused client receives.

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header::RETRY_AFTER};
use layer_http::{Body, Problem};

use crate::{AcquireError, Refusal, RunOutcome, error::Busy};

impl AcquireError {
    /// The document a client reads (RFC 9457).
    pub fn problem(&self) -> Problem {
        match self {
            Self::Busy(busy) => busy.problem(),
            Self::Unavailable(_) => unavailable("nobody can say now whether this is locked"),
            Self::NoUnits | Self::TooManyUnits { .. } => Problem::new(
                StatusCode::BAD_REQUEST,
                "https://docs.rs/lock-layer/#lock-units",
                "Nothing, or too much, to lock",
            )
            .detail(self.to_string()),
        }
    }

    /// The response that carries it, with `Retry-After` where waiting helps, and this error in its extensions.
    ///
    /// It says [`RunOutcome::NotExecuted`], so an [`IdempotencyLayer`](crate::IdempotencyLayer) further out runs the next
    /// request with that key.
    pub fn into_response<B>(self) -> Response<Body<B>> {
        let wait = match &self {
            Self::Busy(busy) => Some(busy.retry_after()),
            Self::Unavailable(_) => Some(SOON),
            Self::NoUnits | Self::TooManyUnits { .. } => None,
        };
        let mut response = respond(self.problem(), wait);
        response.extensions_mut().insert(RunOutcome::NotExecuted);
        response.extensions_mut().insert(self);
        response
    }
}

impl Busy {
    fn problem(&self) -> Problem {
        Problem::new(
            StatusCode::CONFLICT,
            "https://docs.rs/lock-layer/#lock-busy",
            self.title(),
        )
        .detail("somebody else is changing this")
    }
}

#[cfg(feature = "axum")]
impl axum::response::IntoResponse for AcquireError {
    fn into_response(self) -> axum::response::Response {
        self.into_response::<axum::body::Body>()
            .map(axum::body::Body::new)
    }
}

impl Refusal {
    /// The document a client reads (RFC 9457).
    pub fn problem(&self) -> Problem {
        let (status, type_uri, title, detail) = match self {
            Self::KeyMissing => (
                StatusCode::BAD_REQUEST,
                "https://docs.rs/lock-layer/#key-missing",
                "Idempotency-Key is missing",
                "send a key of your own choice, another for each operation, and the same when you repeat one",
            ),
            Self::KeyInvalid => (
                StatusCode::BAD_REQUEST,
                "https://docs.rs/lock-layer/#key-invalid",
                "Idempotency-Key is not valid",
                "send one line of 1 to 255 visible ASCII characters, bare or as a quoted string",
            ),
            Self::KeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "https://docs.rs/lock-layer/#key-reused",
                "Idempotency-Key is already used",
                "another request was sent with this key: repeat it as it was, or choose another key",
            ),
            Self::InProgress => (
                StatusCode::CONFLICT,
                "https://docs.rs/lock-layer/#in-progress",
                "A request with this Idempotency-Key is in progress",
                "its response is replayed once it is there",
            ),
            Self::OutcomeUnknown => (
                StatusCode::CONFLICT,
                "https://docs.rs/lock-layer/#outcome-unknown",
                "The outcome of this request is not known",
                "the request was begun and may have taken effect: look before you send it with another key",
            ),
            Self::BodyNotKept { status } => {
                return Problem::new(
                    StatusCode::CONFLICT,
                    "https://docs.rs/lock-layer/#body-not-kept",
                    "This request is done, and its response was not kept",
                )
                .detail("the first response was too long to be repeated; its status is in original-status")
                .member("original-status", status.as_u16());
            }
            Self::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "https://docs.rs/lock-layer/#body-too-large",
                "The request's body is too long",
                "a request with an Idempotency-Key is read whole before it is handled",
            ),
            Self::BodyUnreadable => (
                StatusCode::BAD_REQUEST,
                "https://docs.rs/lock-layer/#body-unreadable",
                "The request's body broke off",
                "nothing was done: repeat the request",
            ),
            Self::ClientUnknown => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "https://docs.rs/lock-layer/#client-unknown",
                "This service cannot tell its clients apart",
                "nothing was done",
            ),
            Self::StoreUnavailable => {
                return unavailable("nobody can say now whether this was done before");
            }
        };
        Problem::new(status, type_uri, title).detail(detail)
    }

    /// The response that carries it, with `Retry-After` where waiting helps, and this reason in its extensions.
    pub fn into_response<B>(self) -> Response<Body<B>> {
        let wait = match self {
            Self::InProgress | Self::StoreUnavailable => Some(SOON),
            _ => None,
        };
        let mut response = respond(self.problem(), wait);
        response.extensions_mut().insert(self);
        response
    }
}

/// A problem with the time to wait, in whole seconds rounded up and at least one (RFC 9110, section 10.2.3).
pub(crate) fn respond<B>(problem: Problem, wait: Option<Duration>) -> Response<Body<B>> {
    let mut response = problem.into_response();
    if let Some(wait) = wait {
        let seconds = wait.as_millis().div_ceil(1_000).max(1) as u64;
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn unavailable(detail: &'static str) -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "https://docs.rs/lock-layer/#store-unavailable",
        "The store is unavailable",
    )
    .detail(detail)
}

/// When to come back where nothing better is known.
const SOON: Duration = Duration::from_secs(1);
