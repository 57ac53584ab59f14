use std::{error::Error, fmt, time::Duration};

use http::{Response, StatusCode};
use layer_http::{
    Body, Problem, RequestHead,
    grpc::{ClientProtocol, Reason, Status},
};
use layer_store::{ErrorKind, StoreError};

/// The error of a [`Purge`](crate::Purge).
///
#[cfg_attr(
    feature = "axum",
    doc = "It implements `IntoResponse`, so that an axum handler may return it with `?`. Elsewhere use"
)]
#[cfg_attr(
    not(feature = "axum"),
    doc = "A handler that wants to answer with it calls"
)]
/// [`to_response`](Self::to_response).
///
/// ```
/// use cache_layer::{ResponseCache, store::{MemoryStore, SharedStore}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let cache = ResponseCache::new(SharedStore::new(MemoryStore::new()));
/// let error = cache.purge_path("cars").await.unwrap_err();
/// assert_eq!(error.to_string(), "a path pattern begins with a slash: write \"/cars/*\"");
/// assert_eq!(error.to_response::<String>().status(), 400);
/// # })
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PurgeError {
    /// The pattern is malformed. Nothing was purged. The text says what to write.
    Pattern(&'static str),
    /// The store did not confirm the purge.
    ///
    /// This instance serves nothing from the cache until it has repeated the purge. Another instance that still reaches the
    /// store may serve the old entries until then.
    Store(StoreError),
}

impl PurgeError {
    /// Returns the error as a problem document (RFC 9457): status 400 for a pattern, 503 for the store.
    pub fn to_response<B>(&self) -> Response<Body<B>> {
        self.problem().into_response()
    }

    /// Returns the error to a request with this head: as [`to_response`](Self::to_response), in the protocol of its client, HTTP,
    /// gRPC or gRPC-Web.
    pub fn response_to<B>(&self, head: &RequestHead<'_>) -> Response<Body<B>> {
        ClientProtocol::of(head.headers).answer(self.to_response(), || self.grpc_status())
    }

    /// Returns the status that a client of gRPC reads. A handler of tonic makes its own `Status` of it.
    pub fn grpc_status(&self) -> Status {
        let text = self.problem().text();
        match self {
            Self::Pattern(_) => Status::new(Reason::PatternInvalid, text),
            Self::Store(_) => Status::new(Reason::PurgeUnconfirmed, text).retry_after(SOON),
        }
    }

    /// The purge has no runtime to run on.
    pub(crate) fn no_runtime(why: &'static str) -> Self {
        Self::Store(StoreError::unknown(ErrorKind::Unavailable).with_source(why))
    }

    fn problem(&self) -> Problem {
        match self {
            Self::Pattern(instead) => {
                Problem::new(StatusCode::BAD_REQUEST, "about:blank", "Bad Request").detail(*instead)
            }
            Self::Store(_) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "about:blank",
                "Service Unavailable",
            )
            .detail("the cache could not be purged yet; the server will try again"),
        }
    }
}

impl fmt::Display for PurgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern(instead) => f.write_str(instead),
            Self::Store(_) => f.write_str("the purge did not reach the store and will be repeated"),
        }
    }
}

impl Error for PurgeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Pattern(_) => None,
            Self::Store(error) => Some(error),
        }
    }
}

#[cfg(feature = "axum")]
impl axum::response::IntoResponse for PurgeError {
    fn into_response(self) -> axum::response::Response {
        self.to_response::<axum::body::Body>()
            .map(axum::body::Body::new)
    }
}

/// The store is asked again about once a second.
const SOON: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_of_grpc_gets_the_status_of_the_error() {
        let mut call = http::Request::new(());
        let content_type = "application/grpc".parse().unwrap();
        call.headers_mut().insert("content-type", content_type);
        for (error, code) in [
            (PurgeError::Pattern("write /"), "3"),
            (PurgeError::no_runtime("stopped"), "14"),
        ] {
            let response = error.response_to::<String>(&RequestHead::of(&call));
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["grpc-status"], code);
            let status = error.grpc_status();
            assert_eq!(status.detail_kinds(), status.reason().details());
        }
    }

    #[test]
    fn a_pattern_is_the_callers_mistake_and_a_store_is_not() {
        let status = |error: PurgeError| error.to_response::<String>().status().as_u16();
        assert_eq!(status(PurgeError::Pattern("write /")), 400);
        assert_eq!(status(PurgeError::no_runtime("stopped")), 503);
    }

    #[test]
    fn the_store_s_error_is_the_source() {
        assert!(PurgeError::Pattern("write /").source().is_none());
        let error = PurgeError::no_runtime("stopped");
        let store = error.source().and_then(|e| e.downcast_ref::<StoreError>());
        assert_eq!(store.unwrap().kind(), ErrorKind::Unavailable);
    }
}
