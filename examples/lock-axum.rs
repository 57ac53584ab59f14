//! A lock for each car: of two requests that change one car at once, one is refused.
//!
//! ```text
//! cargo run --example lock-axum
//!
//! curl -i http://127.0.0.1:3000/cars/7 -X PUT -d 95 &         # takes 2 s
//! curl -i http://127.0.0.1:3000/cars/7 -X PUT -d 80           # 409 with Retry-After, meanwhile
//! curl -i http://127.0.0.1:3000/cars/8 -X PUT -d 80           # another car has another lock
//! ```
//!
//! With REDIS_URL set, two processes share the locks.

use std::{
    collections::HashMap,
    error::Error,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Extension, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::put,
};
use lock_layer::{LockContext, LockLayer, path_param, store};

/// The price of each car, with the fencing token of the request that wrote it. A real service has a database here.
type Prices = Arc<Mutex<HashMap<String, (u64, String)>>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    examples::log();
    let store = store::connect_from_env_or_memory().await?;

    // If this process dies, others may change its car after 10 s. While it lives, the lease is renewed.
    let lock = LockLayer::new(store, path_param("id"))
        .name("car")
        .lease(Duration::from_secs(10));

    let app = Router::new()
        .route("/cars/{id}", put(change).layer(lock))
        .with_state(Prices::default());
    examples::serve(app.into_make_service_with_connect_info::<SocketAddr>()).await
}

async fn change(
    State(prices): State<Prices>,
    Path(id): Path<String>,
    Extension(lock): Extension<LockContext>,
    price: String,
) -> Result<&'static str, StatusCode> {
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut prices = prices.lock().unwrap_or_else(PoisonError::into_inner);
    // The token rises with every lock. A process that was stopped, lost its lock and goes on now has an old one.
    // In SQL: UPDATE cars SET price = $1, fence = $2 WHERE id = $3 AND fence < $2
    if prices
        .get(&id)
        .is_some_and(|(fence, _)| *fence > lock.fence())
    {
        return Err(StatusCode::CONFLICT);
    }
    prices.insert(id, (lock.fence(), price));
    Ok("changed\n")
}
