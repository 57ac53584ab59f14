use axum::{
    Json,
    extract::{FromRequest, Request},
};
use http::StatusCode;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// A body of JSON; one that cannot be read is a problem that shows how to write it.
#[derive(Debug)]
pub(crate) struct Input<T>(pub(crate) T);

/// What can be sent as JSON.
pub(crate) trait Sample: DeserializeOwned {
    /// A good one.
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
