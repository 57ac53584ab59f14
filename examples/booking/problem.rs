use std::borrow::Cow;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use lock_layer::RunOutcome;

/// A refusal as a problem document (RFC 9457), as the layers make them.
#[derive(Debug)]
pub(crate) struct Problem(layer_http::Problem);

impl Problem {
    /// Returns a 400. `detail` tells the client what to send instead.
    pub(crate) fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Bad Request", detail)
    }

    pub(crate) fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not Found", detail)
    }

    /// Returns the problem of a handler whose lock was given to another.
    pub(crate) fn lost_lock() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "The lock was lost",
            "nothing was changed: repeat the request",
        )
    }

    pub(crate) fn new(
        status: StatusCode,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(layer_http::Problem::new(status, "about:blank", title).detail(detail))
    }
}

impl Problem {
    pub(crate) fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// Returns it as one sentence.
    pub(crate) fn text(&self) -> Cow<'static, str> {
        self.0.text()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response::<Body>().map(Body::new);
        // A refused request has changed nothing. So a repetition with its idempotency key may run.
        if response.status() != StatusCode::INTERNAL_SERVER_ERROR {
            response.extensions_mut().insert(RunOutcome::NotExecuted);
        }
        response
    }
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        problem.into_response()
    }
}
