use std::{convert::Infallible, future::ready, sync::Arc, time::Duration};

use axum::body::Body;
use axum_idempotent::{IdempotentLayer, IdempotentOptions};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use rate_limit_layer::Quota;
use ruts::{CookieOptions, SessionLayer, store::moka::MokaStore};
use tower::{ServiceExt, service_fn};
use tower_cookies::CookieManagerLayer;
use tower_governor::{
    GovernorLayer, governor::GovernorConfigBuilder, key_extractor::PeerIpKeyExtractor,
};
use tower_layer::Layer;
use tower_resilience_cache::CacheError;
use tower_service::Service;

use crate::{Bare, Page};

/// Returns `tower_governor` by the peer's address.
pub fn governor(
    quota: Quota,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone {
    let config = GovernorConfigBuilder::default()
        .per_nanosecond(nanos_a_request(quota))
        .burst_size(quota.capacity() as u32)
        .key_extractor(PeerIpKeyExtractor)
        .finish()
        .expect("a burst and a period");
    GovernorLayer::new(config).layer(Bare)
}

/// Returns `tower_governor` with its headers.
pub fn governor_with_headers(
    quota: Quota,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone {
    let config = GovernorConfigBuilder::default()
        .per_nanosecond(nanos_a_request(quota))
        .burst_size(quota.capacity() as u32)
        .key_extractor(PeerIpKeyExtractor)
        .use_headers()
        .finish()
        .expect("a burst and a period");
    GovernorLayer::new(config).layer(Bare)
}

const fn nanos_a_request(quota: Quota) -> u64 {
    quota.window().as_nanos() as u64 / quota.limit()
}

/// Returns `axum-response-cache` around a page of this length. It adds no fields to a response.
pub fn response_cache(
    length: usize,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Sync {
    axum_response_cache::CacheLayer::with_lifespan(HOUR).layer(Page::of(length))
}

/// Returns `tower-resilience-cache` around a page of this length. It adds no fields to a response.
///
/// It keeps responses that can be cloned, so its body is another one than axum's.
pub fn resilience_cache(
    length: usize,
) -> impl Service<Request<Body>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
+ Clone
+ Sync {
    let page = Page::of(length);
    let handler = service_fn(move |_: Request<Body>| {
        ready(Ok::<_, Infallible>(page.response::<Full<Bytes>>()))
    });
    let layer = tower_resilience_cache::CacheLayer::builder()
        .max_size(10_000)
        .ttl(HOUR)
        .key_extractor(|request: &Request<Body>| request.uri().to_string())
        .build();
    let layer = layer.expect("it has a key extractor");
    layer
        .layer(handler)
        .map_err(|error: CacheError<Infallible>| match error.into_inner() {})
}

/// Returns `axum-idempotent` in memory around a page of this length, by a hash of the whole request.
pub fn axum_idempotent(
    length: usize,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone
{
    let store = Arc::new(MokaStore::builder().build());
    let session = CookieOptions::build()
        .name("session")
        .max_age(3_600)
        .path("/");
    let sessions = SessionLayer::new(store).with_cookie_options(session);
    let idempotent = IdempotentLayer::<MokaStore>::new(IdempotentOptions::new(3_600));
    CookieManagerLayer::new().layer(sessions.layer(idempotent.layer(Page::of(length))))
}

const HOUR: Duration = Duration::from_secs(3_600);
