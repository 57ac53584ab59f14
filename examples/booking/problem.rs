use std::borrow::Cow;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::StatusCode;

/// A refusal as a problem document (RFC 9457): the layers' own kind, as an axum response.
#[derive(Debug)]
pub(crate) struct Problem(layer_http::Problem);

impl Problem {
    /// What the client should send instead.
    pub(crate) fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Bad Request", detail)
    }

    pub(crate) fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not Found", detail)
    }

    pub(crate) fn new(
        status: StatusCode,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(layer_http::Problem::new(status, "about:blank", title).detail(detail))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.0.into_response::<Body>().map(Body::new)
    }
}
