//! A response cache on an axum router, and handlers that purge what they change.
//!
//! ```text
//! cargo run --example cache-axum
//!
//! curl -i http://127.0.0.1:3000/cars                          # takes a second, the next time nothing: see Cache-Status
//! curl -i http://127.0.0.1:3000/cars -H 'cookie: id=ada'      # never from the cache: the response may be ada's own
//! curl -i http://127.0.0.1:3000/cars/7 -X PUT -d 95           # changes a price, and purges both paths
//! curl -i http://127.0.0.1:3000/cars                          # takes a second again, and shows the new price
//! ```

use std::{
    error::Error,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use cache_layer::{CacheLayer, ResponseCache, store};

#[derive(Clone)]
struct Cars {
    /// The price of car 7. A real service has a database here.
    price: Arc<AtomicU32>,
    pages: ResponseCache,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    examples::log();
    let store = store::connect_from_env_or_memory().await?;

    // Responses without a lifetime of their own are kept for 30 s. Those with `Cache-Control: no-store` never are.
    let cache = CacheLayer::new(store).ttl(Duration::from_secs(30));
    let cars = Cars {
        price: Arc::new(AtomicU32::new(90)),
        pages: cache.handle(),
    };

    let app = Router::new()
        .route("/cars", get(list))
        .route("/cars/{id}", get(list).put(change))
        .route_layer(cache)
        .with_state(cars);
    examples::serve(app.into_make_service_with_connect_info::<SocketAddr>()).await
}

async fn list(State(cars): State<Cars>) -> String {
    // Of many requests at once, one waits here. The others get its response.
    tokio::time::sleep(Duration::from_secs(1)).await;
    format!("car 7: {} a day\n", cars.price.load(Ordering::Relaxed))
}

async fn change(State(cars): State<Cars>, body: String) -> Result<&'static str, StatusCode> {
    let Ok(price) = body.parse() else {
        return Err(StatusCode::BAD_REQUEST);
    };
    cars.price.store(price, Ordering::Relaxed);
    // A `PUT` that succeeds purges its own path. The list is another one.
    match cars.pages.purge_path("/cars").await {
        Ok(()) => Ok("changed\n"),
        // The price is changed, but others may serve the old list for up to 30 s.
        Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}
