//! The responses that a refused client receives: problem documents (RFC 9457), or the status of a call ([`grpc`]).

mod grpc;

use std::time::Duration;

use http::{Response, StatusCode, header::RETRY_AFTER};
use layer_http::{
    Body, Problem, RequestHead,
    grpc::{ClientProtocol, Status},
    retry_after,
};

use crate::{AcquireError, IdempotencyRefusal, LockBusy, LockRefusal, RunOutcome};

impl AcquireError {
    /// Returns the problem document that a client reads (RFC 9457).
    pub fn problem(&self) -> Problem {
        match self {
            Self::Busy(busy) => busy.problem(),
            Self::Unavailable(_) => unavailable(
                "it is not known now whether this is locked; nothing was done, so try again later",
            ),
            Self::NoUnits | Self::TooManyUnits { .. } => Problem::new(
                StatusCode::BAD_REQUEST,
                "https://docs.rs/lock-layer/#lock-units",
                "The number of units to lock is not possible",
            )
            .detail(self.to_string()),
        }
    }

    /// Makes the response: the [problem document](Self::problem), `Retry-After` where waiting helps, and this error as a
    /// [`LockRefusal`] in the extensions.
    ///
    /// It also carries [`RunOutcome::NotExecuted`], so an [`IdempotencyLayer`](crate::IdempotencyLayer) further out runs the
    /// next request with the same key.
    pub fn into_response<B>(self) -> Response<Body<B>> {
        LockRefusal::from(self).into_response()
    }

    /// Makes the response to a request with this head: as [`into_response`](Self::into_response), in the protocol of its client,
    /// HTTP, gRPC or gRPC-Web.
    pub fn response_to<B>(self, head: &RequestHead<'_>) -> Response<Body<B>> {
        LockRefusal::from(self).response_to(head)
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy(busy) => Some(busy.retry_after()),
            Self::Unavailable(_) => Some(SOON),
            Self::NoUnits | Self::TooManyUnits { .. } => None,
        }
    }
}

impl LockBusy {
    fn problem(&self) -> Problem {
        Problem::new(
            self.status(),
            "https://docs.rs/lock-layer/#lock-busy",
            self.title(),
        )
        .detail("another request is working on this; try again later")
    }
}

impl LockRefusal {
    /// Returns the problem document that a client reads (RFC 9457).
    pub fn problem(&self) -> Problem {
        match self {
            Self::NotAcquired(error) => error.problem(),
            Self::KeyNotFound => {
                Problem::new(StatusCode::BAD_REQUEST, "about:blank", "Bad Request")
                    .detail("the request does not name the thing that it is about")
            }
            Self::KeyAmbiguous => {
                Problem::new(StatusCode::BAD_REQUEST, "about:blank", "Bad Request")
                    .detail("the request names two different things; send the header once")
            }
            Self::Misconfigured => Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "about:blank",
                "Internal Server Error",
            ),
        }
    }

    /// Makes the response: the [problem document](Self::problem), `Retry-After` where waiting helps, and this refusal in the
    /// extensions, beside [`RunOutcome::NotExecuted`].
    pub fn into_response<B>(self) -> Response<Body<B>> {
        self.respond(&ClientProtocol::HTTP)
    }

    /// Makes the response to a request with this head: as [`into_response`](Self::into_response), in the protocol of its client,
    /// HTTP, gRPC or gRPC-Web.
    pub fn response_to<B>(self, head: &RequestHead<'_>) -> Response<Body<B>> {
        self.respond(&ClientProtocol::of(head.headers))
    }

    fn respond<B>(self, protocol: &ClientProtocol) -> Response<Body<B>> {
        let response = respond(self.problem(), self.retry_after());
        let mut response = protocol.answer(response, || self.grpc_status());
        response.extensions_mut().insert(RunOutcome::NotExecuted);
        response.extensions_mut().insert(self);
        response
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NotAcquired(error) => error.retry_after(),
            Self::KeyNotFound | Self::KeyAmbiguous | Self::Misconfigured => None,
        }
    }
}

#[cfg(feature = "axum")]
impl axum::response::IntoResponse for AcquireError {
    fn into_response(self) -> axum::response::Response {
        self.into_response::<axum::body::Body>()
            .map(axum::body::Body::new)
    }
}

impl IdempotencyRefusal {
    /// Returns the problem document that a client reads (RFC 9457).
    pub fn problem(&self) -> Problem {
        let (status, type_uri, title, detail) = match self {
            Self::KeyMissing => (
                StatusCode::BAD_REQUEST,
                "https://docs.rs/lock-layer/#key-missing",
                "Idempotency-Key is missing",
                "send the header Idempotency-Key: a new value for each operation, and the same value when you repeat one",
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
                "another request was sent with this key: repeat that request unchanged, or choose a new key",
            ),
            Self::InProgress => (
                StatusCode::CONFLICT,
                "https://docs.rs/lock-layer/#in-progress",
                "A request with this Idempotency-Key is in progress",
                "repeat the request later to get its response",
            ),
            Self::OutcomeUnknown => (
                StatusCode::CONFLICT,
                "https://docs.rs/lock-layer/#outcome-unknown",
                "The outcome of this request is not known",
                "the request was begun and may have taken effect: check before you send it again with a new key",
            ),
            Self::BodyNotKept { status } => {
                return Problem::new(
                    StatusCode::CONFLICT,
                    "https://docs.rs/lock-layer/#body-not-kept",
                    "This request is done, and its response was not kept",
                )
                .detail("the first response was too long, or is not for keeping; original-status is its status")
                .member("original-status", status.as_u16());
            }
            Self::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "https://docs.rs/lock-layer/#body-too-large",
                "The request's body is too long",
                "nothing was done: send a shorter body",
            ),
            Self::BodyUnreadable => (
                StatusCode::BAD_REQUEST,
                "https://docs.rs/lock-layer/#body-unreadable",
                "The request's body broke off",
                "nothing was done: repeat the request",
            ),
            Self::NotUnary => (
                StatusCode::NOT_IMPLEMENTED,
                "https://docs.rs/lock-layer/#not-unary",
                "Only a unary call can have an idempotency key",
                "nothing was done: send exactly one message, or call a method that needs no key",
            ),
            Self::ClientMissing => (
                StatusCode::BAD_REQUEST,
                "https://docs.rs/lock-layer/#client-missing",
                "This request does not say whose it is",
                "nothing was done: send it with your credentials",
            ),
            Self::ClientUnknown => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "https://docs.rs/lock-layer/#client-unknown",
                "This service cannot tell its clients apart",
                "nothing was done",
            ),
            Self::Closing => (
                StatusCode::SERVICE_UNAVAILABLE,
                "https://docs.rs/lock-layer/#closing",
                "This service is stopping",
                "nothing was done: repeat the request",
            ),
            Self::StoreUnavailable => {
                return unavailable(
                    "it is not known now whether this was done before; nothing was done now, so try again later",
                );
            }
        };
        Problem::new(status, type_uri, title).detail(detail)
    }

    /// Makes the response: the [problem document](Self::problem), `Retry-After` where waiting helps, and this refusal in the
    /// extensions.
    pub fn into_response<B>(self) -> Response<Body<B>> {
        self.respond(&ClientProtocol::HTTP)
    }

    /// Makes the response to a request with this head: as [`into_response`](Self::into_response), in the protocol of its client,
    /// HTTP, gRPC or gRPC-Web.
    pub fn response_to<B>(self, head: &RequestHead<'_>) -> Response<Body<B>> {
        self.respond(&ClientProtocol::of(head.headers))
    }

    pub(crate) fn respond<B>(self, protocol: &ClientProtocol) -> Response<Body<B>> {
        let response = respond(self.problem(), self.retry_after());
        let mut response = protocol.answer(response, || self.grpc_status());
        response.extensions_mut().insert(self);
        response
    }

    const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::InProgress | Self::Closing | Self::StoreUnavailable => Some(SOON),
            _ => None,
        }
    }
}

fn respond<B>(problem: Problem, wait: Option<Duration>) -> Response<Body<B>> {
    let mut response = problem.into_response();
    if let Some(wait) = wait {
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, retry_after(wait));
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

/// Makes the status of a call of a problem's text, with the wait that the HTTP response has.
fn waiting(status: Status, wait: Option<Duration>) -> Status {
    match wait {
        Some(wait) => status.retry_after(wait),
        None => status,
    }
}

/// The time after which a client may try again where nothing better is known.
const SOON: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use http::{Request, header::CONTENT_TYPE};
    use http_body_util::{BodyExt, Empty};
    use layer_store::{ErrorKind, StoreError};

    use super::*;

    type LayerResponse = Response<Body<Empty<bytes::Bytes>>>;

    /// The status, `Retry-After`, and the last part of the type.
    async fn parts(response: LayerResponse) -> (u16, Option<String>, String) {
        let (parts, body) = response.into_parts();
        let wait = parts.headers.get(RETRY_AFTER);
        let wait = wait.map(|wait| wait.to_str().unwrap().to_owned());
        let bytes = body.collect().await.unwrap().to_bytes();
        let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(document["status"], parts.status.as_u16());
        let kind = document["type"].as_str().unwrap();
        let kind = kind.rsplit('#').next().unwrap().to_owned();
        (parts.status.as_u16(), wait, kind)
    }

    fn grpc_call() -> Request<()> {
        let call = Request::post("/cars.Cars/Book").header(CONTENT_TYPE, "application/grpc");
        call.body(()).unwrap()
    }

    /// A client of gRPC reads the status of the refusal, with the details of its reason, from the headers alone.
    fn assert_grpc(response: &LayerResponse, status: &Status) {
        assert_eq!(response.status(), StatusCode::OK);
        assert!(http_body::Body::is_end_stream(response.body()));
        assert_eq!(status.detail_kinds(), status.reason().details());
        let fields = response.headers();
        let code = status.code().number().to_string();
        assert_eq!(fields["grpc-status"], code, "{status:?}");
        let waits = fields.contains_key(RETRY_AFTER);
        assert_eq!(fields.contains_key("grpc-retry-pushback-ms"), waits);
    }

    #[tokio::test]
    async fn each_refusal_of_a_lock_has_its_status_and_reason() {
        let call = grpc_call();
        let head = RequestHead::of(&call);
        let busy = LockBusy::new(Duration::from_millis(1_001), "Locked", StatusCode::CONFLICT);
        let error = StoreError::unknown(ErrorKind::Timeout);
        let table = [
            (AcquireError::Busy(busy).into(), 409, Some("2"), "lock-busy"),
            (
                AcquireError::Unavailable(error).into(),
                503,
                Some("1"),
                "store-unavailable",
            ),
            (AcquireError::NoUnits.into(), 400, None, "lock-units"),
            (
                AcquireError::TooManyUnits { given: 65 }.into(),
                400,
                None,
                "lock-units",
            ),
            (LockRefusal::KeyNotFound, 400, None, "about:blank"),
            (LockRefusal::KeyAmbiguous, 400, None, "about:blank"),
            (LockRefusal::Misconfigured, 500, None, "about:blank"),
        ];
        for (refusal, status, wait, kind) in table {
            let grpc = refusal.clone().response_to(&head);
            assert_eq!(grpc.extensions().get(), Some(&RunOutcome::NotExecuted));
            assert_grpc(&grpc, &refusal.grpc_status());
            let response: LayerResponse = LockRefusal::into_response(refusal);
            let extensions = response.extensions();
            assert!(extensions.get::<LockRefusal>().is_some());
            assert_eq!(extensions.get(), Some(&RunOutcome::NotExecuted));
            let expected = (status, wait.map(str::to_owned), kind.to_owned());
            assert_eq!(parts(response).await, expected);
        }
    }

    #[tokio::test]
    async fn each_refusal_of_idempotency_has_its_status_and_reason() {
        use IdempotencyRefusal as R;
        let call = grpc_call();
        let head = RequestHead::of(&call);
        let status = StatusCode::CREATED;
        let table = [
            (R::KeyMissing, 400, None, "key-missing"),
            (R::KeyInvalid, 400, None, "key-invalid"),
            (R::KeyReused, 422, None, "key-reused"),
            (R::InProgress, 409, Some("1"), "in-progress"),
            (R::OutcomeUnknown, 409, None, "outcome-unknown"),
            (R::BodyNotKept { status }, 409, None, "body-not-kept"),
            (R::BodyTooLarge, 413, None, "body-too-large"),
            (R::BodyUnreadable, 400, None, "body-unreadable"),
            (R::NotUnary, 501, None, "not-unary"),
            (R::ClientMissing, 400, None, "client-missing"),
            (R::ClientUnknown, 500, None, "client-unknown"),
            (R::Closing, 503, Some("1"), "closing"),
            (R::StoreUnavailable, 503, Some("1"), "store-unavailable"),
        ];
        for (refusal, status, wait, kind) in table {
            let grpc = refusal.response_to(&head);
            assert_eq!(grpc.extensions().get(), Some(&refusal));
            assert_grpc(&grpc, &refusal.grpc_status());
            let response: LayerResponse = refusal.into_response();
            assert_eq!(response.extensions().get(), Some(&refusal));
            let expected = (status, wait.map(str::to_owned), kind.to_owned());
            assert_eq!(parts(response).await, expected);
        }
    }

    #[cfg(feature = "axum")]
    #[tokio::test]
    async fn a_handler_returns_the_same_response() {
        use axum::response::IntoResponse;
        let response = IntoResponse::into_response(AcquireError::NoUnits);
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert!(response.extensions().get::<LockRefusal>().is_some());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(bytes, AcquireError::NoUnits.problem().to_bytes());
    }
}
