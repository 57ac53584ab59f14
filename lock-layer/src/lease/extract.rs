//! [`LockContext`] as an axum extractor.

use std::{convert::Infallible, error::Error, fmt};

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};

use super::guard::LockContext;

/// The rejection of a handler that takes a [`LockContext`] on a route without a [`LockLayer`](crate::LockLayer): 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingLockContext;

impl<S: Sync> FromRequestParts<S> for LockContext {
    type Rejection = MissingLockContext;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingLockContext> {
        let context = parts.extensions.get::<Self>();
        context.cloned().ok_or(MissingLockContext)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for LockContext {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

impl fmt::Display for MissingLockContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "this handler takes a LockContext, but no lock was taken: add a LockLayer to its route, \
             or take Option<LockContext>",
        )
    }
}

impl Error for MissingLockContext {}

impl IntoResponse for MissingLockContext {
    fn into_response(self) -> Response {
        tracing::error!("{self}");
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}
