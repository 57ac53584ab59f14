use std::time::Duration;

use http::StatusCode;
use layer_http::grpc::{Reason, Status};

/// A response extension: the reason why the cache itself answered with an error.
///
/// An outer layer can tell by it that the response is not the handler's.
///
/// ```
/// use cache_layer::{CacheLayer, CacheRefusal, store::{MemoryStore, SharedStore}};
/// use http::{Request, Response, header::CACHE_CONTROL};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let handler = service_fn(|_: Request<String>| async { Ok::<_, ()>(Response::new(String::new())) });
/// let cache = CacheLayer::new(SharedStore::new(MemoryStore::new())).layer(handler);
///
/// let request = Request::get("/cars").header(CACHE_CONTROL, "only-if-cached").body(String::new()).unwrap();
/// let response = cache.oneshot(request).await.unwrap();
/// assert_eq!(response.status(), 504);
/// assert_eq!(response.extensions().get(), Some(&CacheRefusal::OnlyIfCached));
/// # })
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheRefusal {
    /// 504: the request asked for a stored response or none (`Cache-Control: only-if-cached`), and there is none (RFC 9111,
    /// section 5.2.1.7).
    OnlyIfCached,
    /// 503: the runtime ended while the handler ran.
    Interrupted,
    /// 502: asked if the stored response still holds, the handler has confirmed another one (RFC 9111, section 4.3.4).
    Mistaken,
}

impl CacheRefusal {
    /// Returns the status that a client of HTTP reads.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::OnlyIfCached => StatusCode::GATEWAY_TIMEOUT,
            Self::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
            Self::Mistaken => StatusCode::BAD_GATEWAY,
        }
    }

    /// Returns the status that a client of gRPC reads.
    pub fn grpc_status(self) -> Status {
        match self {
            Self::OnlyIfCached => Status::new(
                Reason::NotStored,
                "no response is stored, and the request asks for a stored one only",
            )
            .precondition("STORED", "response"),
            Self::Interrupted => Status::new(
                Reason::Interrupted,
                "the service stopped while the request was handled",
            )
            .retry_after(SOON),
            Self::Mistaken => Status::new(
                Reason::ConfirmedAnother,
                "the service confirmed a response that is not stored",
            ),
        }
    }
}

/// The time after which another process may have taken over.
const SOON: Duration = Duration::from_secs(1);
