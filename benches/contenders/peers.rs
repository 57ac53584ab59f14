use std::convert::Infallible;

use axum::body::Body;
use http::{Request, Response};
use tower_governor::{
    GovernorLayer, governor::GovernorConfigBuilder, key_extractor::PeerIpKeyExtractor,
};
use tower_layer::Layer;
use tower_service::Service;

use crate::Bare;

/// `tower_governor` by the peer's address: so many requests a second, all at once if they come so.
pub fn governor(
    limit: u32,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone {
    let config = GovernorConfigBuilder::default()
        .per_nanosecond(1_000_000_000 / u64::from(limit))
        .burst_size(limit)
        .key_extractor(PeerIpKeyExtractor)
        .finish()
        .expect("a burst and a period");
    GovernorLayer::new(config).layer(Bare)
}

/// The same with its headers.
pub fn governor_with_headers(
    limit: u32,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone {
    let config = GovernorConfigBuilder::default()
        .per_nanosecond(1_000_000_000 / u64::from(limit))
        .burst_size(limit)
        .key_extractor(PeerIpKeyExtractor)
        .use_headers()
        .finish()
        .expect("a burst and a period");
    GovernorLayer::new(config).layer(Bare)
}
