use std::time::Duration;

use axum::{Json, Router, routing::get};
use cache_layer::CacheLayer;
use lock_layer::RunTracker;
use rate_limit_layer::store::SharedStore;
use serde_json::{Value, json};

use crate::{
    bookings,
    bookings::{Bookings, Drill},
    cars,
    db::Db,
    grpc, health,
    limits::Limits,
    metrics,
    metrics::Exporter,
    report, sms,
};

/// Returns the service. Every route but `/healthz` and `/metrics` is limited; a path that no route has is a 404 and not limited.
///
/// `runs` tracks the bookings, which are made under the conditions of a `drill`.
pub(crate) fn router(
    store: &SharedStore,
    limits: Limits,
    db: Db,
    exporter: Exporter,
    runs: &RunTracker,
    drill: Drill,
) -> Router {
    let cache = CacheLayer::new(store.clone()).ttl(Duration::from_secs(30));
    let once = bookings::once(store.clone(), runs);
    let bookings = Bookings::new(store.clone(), db.clone(), &cache, drill);
    let routes = Router::new()
        .route("/", get(index))
        .merge(cars::routes(store.clone(), db.clone(), &cache))
        .merge(report::routes(store.clone(), db, drill.slow))
        .merge(bookings::routes(bookings.clone(), once.clone(), &cache))
        .merge(grpc::routes(bookings, once, &cache))
        .merge(sms::routes(store.clone()));
    limits
        .layer(routes, store)
        .merge(health::routes(cache.handle()))
        .merge(metrics::routes(store.clone(), exporter))
}

/// Lists the routes for people who open the address in a browser.
async fn index() -> Json<Value> {
    Json(
        json!({"cars": "/cars", "bookings": "/cars/7/bookings", "report": "/report", "health": "/healthz", "metrics": "/metrics"}),
    )
}
