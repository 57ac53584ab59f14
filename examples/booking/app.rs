use axum::Router;
use rate_limit_layer::{Policy, RateLimitLayer, store::SharedStore};

use crate::{cars, health, sms};

/// The service: every route under the limit, but for `/healthz`.
pub(crate) fn router(store: &SharedStore, policy: Policy) -> Router {
    let limit = RateLimitLayer::new(store.clone(), policy);
    Router::new()
        .merge(cars::routes())
        .merge(sms::routes(store.clone()))
        .layer(limit)
        .merge(health::routes(store.clone()))
}
