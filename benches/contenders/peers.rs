use std::convert::Infallible;

use axum::body::Body;
use http::{Request, Response};
use rate_limit_layer::Quota;
use tower_governor::{
    GovernorLayer, governor::GovernorConfigBuilder, key_extractor::PeerIpKeyExtractor,
};
use tower_layer::Layer;
use tower_service::Service;

use crate::Bare;

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
