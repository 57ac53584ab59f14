use axum::{Json, Router, extract::State, routing::get};
use cache_layer::{
    ResponseCache,
    store::{Context, Store, StoreExt, StoreInfo},
};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Serves `GET /healthz`.
///
/// It is 200 also while the store is down: the process serves as its policies say and finds the store again by itself. A
/// restart would not help, nor would taking it out of the load balancer, together with all others.
pub(crate) fn routes(cache: ResponseCache) -> Router {
    Router::new()
        .route("/healthz", get(health))
        .with_state(cache)
}

async fn health(State(cache): State<ResponseCache>) -> Json<Value> {
    // With an open breaker a ping fails at once. Otherwise the store's limit of a call ends it.
    let start = Instant::now();
    let alive = cache.store().ping(&Context::new("health")).await.is_ok();
    let latency = start.elapsed().as_secs_f64() * 1_000.0;
    let status = if alive { "up" } else { "down" };
    let (info, stats) = (cache.store().info(), cache.stats());
    Json(json!({
        "status": "up",
        "store": {
            "status": status,
            "provider": info.name,
            "latency_ms": alive.then_some(latency),
            "circuit_breaker": circuit_breaker(&info),
        },
        "cache": {
            "status": status,
            "provider": info.name,
            "hits": stats.hits,
            "misses": stats.misses,
            "hit_rate": stats.hit_rate(),
            "circuit_breaker": circuit_breaker(&info),
        },
    }))
}

/// A store in memory has no breaker. It is shown as one that is always closed.
fn circuit_breaker(info: &StoreInfo) -> Value {
    let breaker = info.health.breaker.as_ref();
    json!({
        "state": breaker.map_or("closed", |breaker| breaker.state().as_str()),
        "failures": breaker.map_or(0, |breaker| breaker.failures()),
        "successes": breaker.map_or(0, |breaker| breaker.successes()),
    })
}
