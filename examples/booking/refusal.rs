use axum::response::{IntoResponse, Response};
use lock_layer::AcquireError;
use tonic::{Code, Status};

use crate::problem::Problem;

/// The reason why nothing was booked, for clients of HTTP and of gRPC.
#[derive(Debug)]
pub(crate) enum Refusal {
    Problem(Problem),
    /// The days are locked, or it is not known if they are.
    Lock(AcquireError),
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<AcquireError> for Refusal {
    fn from(error: AcquireError) -> Self {
        Self::Lock(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Problem(problem) => problem.into_response(),
            Self::Lock(error) => IntoResponse::into_response(error),
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Problem(problem) => problem.into(),
            Refusal::Lock(error) => error.grpc_status().into(),
        }
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let code = match problem.status().as_u16() {
            400 => Code::InvalidArgument,
            404 => Code::NotFound,
            409 => Code::AlreadyExists,
            503 => Code::Unavailable,
            _ => Code::Internal,
        };
        Self::new(code, problem.text())
    }
}
