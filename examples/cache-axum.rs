//! A response cache on an axum router, objects beside it, and handlers that purge what they change.
//!
//! ```text
//! cargo run --example cache-axum
//!
//! curl -i http://127.0.0.1:3000/cars                          # takes a second, the next time nothing: see Cache-Status
//! curl -i http://127.0.0.1:3000/cars -H 'if-none-match: ..'   # with the ETag of the last: 304
//! curl -i http://127.0.0.1:3000/cars -H 'cookie: id=ada'      # never from the cache: the response may be ada's own
//! curl -i http://127.0.0.1:3000/cars/7                        # made from the same object: takes no second any more
//! curl -i http://127.0.0.1:3000/cars/7 -X PUT -d 95           # changes a price, and purges the object and both paths
//! curl -i http://127.0.0.1:3000/cars                          # takes a second again, and shows the new price
//! ```

use std::{
    convert::Infallible,
    error::Error,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::get};
use cache_layer::{CacheLayer, PurgeError, ResponseCache, store};

#[derive(Clone)]
struct Cars {
    /// The price of car 7. A real service has a database here.
    price: Arc<AtomicU32>,
    cache: ResponseCache,
}

const KEPT: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    examples::log();
    let store = store::connect_from_env_or_memory().await?;

    // Responses without a lifetime of their own are kept for 30 s. Those with `Cache-Control: no-store` never are. Stored ones
    // get a tag, so that a client that has one gets no body.
    let cache = CacheLayer::new(store).ttl(KEPT).etag();
    let cars = Cars {
        price: Arc::new(AtomicU32::new(90)),
        cache: cache.handle(),
    };

    let app = Router::new()
        .route("/cars", get(list))
        .route("/cars/{id}", get(list).put(change))
        .route_layer(cache)
        .with_state(cars);
    examples::serve(app.into_make_service_with_connect_info::<SocketAddr>()).await
}

async fn list(State(cars): State<Cars>) -> Result<Bytes, Infallible> {
    // Both pages show one object. Of many requests at once, one waits here. The others get what it loads.
    let load = || async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let price = cars.price.load(Ordering::Relaxed);
        Ok(format!("car 7: {price} a day\n").into())
    };
    let objects = cars.cache.objects();
    objects.get_or_insert_with("car:7", KEPT, &[], load).await
}

async fn change(State(cars): State<Cars>, body: String) -> Result<&'static str, StatusCode> {
    let Ok(price) = body.parse() else {
        return Err(StatusCode::BAD_REQUEST);
    };
    cars.price.store(price, Ordering::Relaxed);
    match purge(&cars).await {
        Ok(()) => Ok("changed\n"),
        // The price is changed, but others may serve the old list for up to 30 s.
        Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// Purges what shows the price. The object goes first, as the pages are made from it.
async fn purge(cars: &Cars) -> Result<(), PurgeError> {
    cars.cache.objects().remove("car:7").await?;
    // A `PUT` that succeeds purges its own path. The list is another one.
    cars.cache.purge_path("/cars").await
}
