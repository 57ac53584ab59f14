use axum::{Json, Router, extract::State, routing::get};
use cache_layer::{
    ResponseCache,
    store::{Context, Store, StoreExt, StoreInfo},
};
use serde_json::{Value, json};
use tokio::time::Instant;

/// `GET /healthz`.
///
/// It is 200 also while the store is down: this process then serves as its policies say, finds the store again by itself, and
/// would gain nothing from being restarted or taken out of a load balancer together with all others.
pub(crate) fn routes(cache: ResponseCache) -> Router {
    Router::new()
        .route("/healthz", get(health))
        .with_state(cache)
}

async fn health(State(cache): State<ResponseCache>) -> Json<Value> {
    // An open breaker answers at once; otherwise a ping ends with the store's own limit on a call.
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

/// A store in memory has none, which is one that is never open.
fn circuit_breaker(info: &StoreInfo) -> Value {
    let breaker = info.health.breaker.as_ref();
    json!({
        "state": breaker.map_or("closed", |breaker| breaker.state().as_str()),
        "failures": breaker.map_or(0, |breaker| breaker.failures()),
        "successes": breaker.map_or(0, |breaker| breaker.successes()),
    })
}
