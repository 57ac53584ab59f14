use axum::{Json, Router, extract::State, routing::get};
use rate_limit_layer::store::{BreakerHandle, Context, SharedStore, Store, StoreExt};
use serde_json::{Value, json};
use tokio::time::Instant;

/// `GET /healthz`.
///
/// It is 200 also while the store is down: this process then serves as its policies say, finds the store again by itself, and
/// would gain nothing from being restarted or taken out of a load balancer together with all others.
pub(crate) fn routes(store: SharedStore) -> Router {
    Router::new()
        .route("/healthz", get(health))
        .with_state(store)
}

async fn health(State(store): State<SharedStore>) -> Json<Value> {
    Json(json!({
        "status": "up",
        "store": describe(&store).await,
    }))
}

async fn describe(store: &SharedStore) -> Value {
    // An open breaker answers at once; otherwise a ping ends with the store's own limit on a call.
    let start = Instant::now();
    let alive = store.ping(&Context::new("health")).await.is_ok();
    let latency = start.elapsed().as_secs_f64() * 1_000.0;
    let info = store.info();
    json!({
        "status": if alive { "up" } else { "down" },
        "provider": info.name,
        "latency_ms": alive.then_some(latency),
        "circuit_breaker": info.health.breaker.as_ref().map(breaker),
    })
}

fn breaker(breaker: &BreakerHandle) -> Value {
    json!({
        "state": breaker.state().as_str(),
        "failures": breaker.failures(),
        "successes": breaker.successes(),
    })
}
