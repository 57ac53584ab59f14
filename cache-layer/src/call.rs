//! Calling the handler, and sending its response on.

use std::{future::poll_fn, time::Duration};

use http::{Request, Response, response};
use layer_http::Handler;
use tokio::time::Instant;

use crate::{http::cache_status::CacheStatus, purge::invalidation::invalidated, route::Route};

/// A handler's response, taken apart.
pub(crate) struct Received<B> {
    pub(crate) parts: response::Parts,
    pub(crate) body: B,
    /// The time that the handler took.
    pub(crate) delay: Duration,
}

/// Calls the handler, and applies the invalidations of its response.
pub(crate) async fn call_handler<S, ReqBody, ResBody>(
    route: &Route,
    mut inner: S,
    mut request: Request<ReqBody>,
) -> Result<Received<ResBody>, S::Error>
where
    S: Handler<ReqBody, ResBody>,
{
    // A service of this cache further in must not wait for this one.
    route.enter(request.extensions_mut());
    let sent = Instant::now();
    poll_fn(|cx| inner.poll_ready(cx)).await?;
    let (parts, body) = inner.call(request).await?.into_parts();
    let delay = sent.elapsed();
    // The handler's change is purged before the client learns of it.
    let scopes = invalidated(&parts);
    route.shared.purger.purge_before_response(scopes).await;
    Ok(Received { parts, body, delay })
}

/// Sends a response on of which nothing is stored.
pub(crate) fn pass_on<B>(
    route: &Route,
    status: CacheStatus,
    mut received: Received<B>,
) -> Response<B> {
    let headers = &mut received.parts.headers;
    route.settings.mark(headers, status);
    Response::from_parts(received.parts, received.body)
}
