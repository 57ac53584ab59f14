//! Rate limits on an axum router: one for all routes by the client's address, one more on a route by API key.
//!
//! ```text
//! cargo run --example rate-limit-axum
//! REDIS_URL=redis://127.0.0.1 cargo run --example rate-limit-axum    # shared by all processes on this Redis
//!
//! curl -i http://127.0.0.1:3000/                              # 20 at once, then 429
//! curl -i http://127.0.0.1:3000/report -H 'x-api-key: ada'    # 5 at once for each key, then one every 4.8 hours
//! ```
//!
//! Stop the Redis: `/` is served without a limit, and `/report` answers 503. Start it again, and both are limited as before.

use std::{error::Error, net::SocketAddr};

use axum::{Router, routing::get};
use rate_limit_layer::{Quota, RateLimitLayer, header, store};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    examples::log();
    let store = store::connect_from_env_or_memory().await?;

    // By default a policy counts addresses. 20 at once, then one every 0.6 s.
    let limit = RateLimitLayer::new(store.clone(), Quota::per_minute(100).burst(20).fail_open());
    let daily = Quota::per_day(5)
        .fail_closed()
        .name("daily")
        .by(header("x-api-key"));

    let app = Router::new()
        .route("/", get(async || "hello\n"))
        .route(
            "/report",
            get(async || "all is well\n").layer(RateLimitLayer::new(store, daily)),
        )
        .layer(limit);

    // Without the connect info nobody's address is known, and all clients share one limit.
    examples::serve(app.into_make_service_with_connect_info::<SocketAddr>()).await
}
