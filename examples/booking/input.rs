use axum::{
    Json,
    extract::{FromRequest, Request},
};
use http::StatusCode;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// A body of JSON. If it cannot be read, the client gets a problem document with a good body.
#[derive(Debug)]
pub(crate) struct Input<T>(pub(crate) T);

/// A type that clients send as JSON.
pub(crate) trait Sample: DeserializeOwned {
    /// A good body, for error messages.
    const SAMPLE: &str;
}

impl<S: Send + Sync, T: Sample> FromRequest<S> for Input<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Json::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(
                Problem::new(rejection.status(), "Content Too Large", "send less"),
            ),
            Err(rejection) => Err(Problem::bad_request(format!(
                "{}: send JSON such as {}",
                rejection.body_text(),
                T::SAMPLE
            ))),
        }
    }
}
