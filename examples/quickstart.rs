//! The program of the README: a rate limit, a cache and idempotency keys before two handlers.
//!
//! ```text
//! cargo run --example quickstart
//!
//! curl -i http://127.0.0.1:3000/report                                       # the second time from the cache
//! curl -i -X POST http://127.0.0.1:3000/orders -H 'idempotency-key: 1'       # the second time replayed
//! for i in 1 2 3 4 5 6; do curl -i http://127.0.0.1:3000/report; done        # 429 once the burst is used up
//! ```

use std::{
    error::Error,
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use axum::{
    Router,
    routing::{get, post},
};
use cache_layer::CacheLayer;
use lock_layer::{ClientScope, IdempotencyLayer, PeerIp, header};
use rate_limit_layer::{Quota, RateLimitLayer, store};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Redis, if REDIS_URL is set; else the memory of this process.
    let store = store::connect_from_env_or_memory().await?;

    // For each client address: 5 requests at once, then one every 6 s. While the store is down, requests pass uncounted.
    let limit = RateLimitLayer::new(store.clone(), Quota::per_minute(10).burst(5).fail_open());
    // Responses are kept for 30 s, unless their own headers say otherwise.
    let cache = CacheLayer::new(store.clone()).ttl(Duration::from_secs(30));
    // Of the requests of one user with one key, the first reaches the handler. Take the user from your authentication. A
    // request that names none belongs to its address.
    let user = ClientScope::of(header("x-user")).or(PeerIp);
    let once = IdempotencyLayer::at_most_once(store, user);

    let app = Router::new()
        .route("/report", get(report).layer(cache))
        .route("/orders", post(order).layer(once))
        .layer(limit); // the last layer is the outermost

    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3000".into());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    // Without the connect info the limit does not know the clients' addresses.
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app).await?;
    Ok(())
}

async fn report() -> String {
    static CALLS: AtomicU32 = AtomicU32::new(1);
    format!("report {}\n", CALLS.fetch_add(1, Ordering::Relaxed))
}

async fn order() -> String {
    static CALLS: AtomicU32 = AtomicU32::new(1);
    format!("order {}\n", CALLS.fetch_add(1, Ordering::Relaxed))
}
