//! [`IdempotencyContext`] as an axum extractor.

use std::{convert::Infallible, error::Error, fmt};

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};

use super::context::IdempotencyContext;

/// The rejection of a handler that takes an [`IdempotencyContext`] for a request without a key, or on a route without an
/// [`IdempotencyLayer`](crate::IdempotencyLayer): 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingIdempotencyContext;

impl<S: Sync> FromRequestParts<S> for IdempotencyContext {
    type Rejection = MissingIdempotencyContext;

    async fn from_request_parts(
        parts: &mut Parts,
        _: &S,
    ) -> Result<Self, MissingIdempotencyContext> {
        let context = parts.extensions.get::<Self>();
        context.cloned().ok_or(MissingIdempotencyContext)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for IdempotencyContext {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

impl fmt::Display for MissingIdempotencyContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "this handler takes an IdempotencyContext, but its request has no key: add an IdempotencyLayer to its route, \
             or take Option<IdempotencyContext>",
        )
    }
}

impl Error for MissingIdempotencyContext {}

impl IntoResponse for MissingIdempotencyContext {
    fn into_response(self) -> Response {
        tracing::error!("{self}");
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}
