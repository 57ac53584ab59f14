use std::convert::Infallible;

use axum::extract::OptionalFromRequestParts;
use http::request::Parts;

use crate::Standing;

/// Takes the request's standing: `None` unless [`RateLimitLayer::standing`](crate::RateLimitLayer::standing) is on and the
/// request was checked.
///
/// There is no extractor of a bare `Standing`: a request that passes while the store is down has none, and would be refused by
/// its handler.
impl<S: Sync> OptionalFromRequestParts<S> for Standing {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        Ok(parts.extensions.get().cloned())
    }
}
