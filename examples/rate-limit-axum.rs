//! Rate limits on an axum router: one for all routes by the client's address, one more on a route, by API key.
//!
//! ```text
//! cargo run --example rate-limit-axum
//! REDIS_URL=redis://127.0.0.1 cargo run --example rate-limit-axum    # the same, shared by all that use this Redis
//!
//! curl -i http://127.0.0.1:3000/                              # 20 at once, then 429
//! curl -i http://127.0.0.1:3000/report -H 'x-api-key: ada'    # 5 a day for each key
//! ```
//!
//! Stop the Redis: `/` goes on, unlimited, and `/report` answers 503. Start it again, and both are as before.

use std::{error::Error, net::SocketAddr};

use axum::{Router, routing::get};
use rate_limit_layer::{Quota, RateLimitLayer, header, store};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let store = store::connect_from_env_or_memory().await?;

    let limit = RateLimitLayer::new(store.clone(), Quota::per_minute(100).burst(20).fail_open());
    let daily = RateLimitLayer::new(
        store,
        Quota::per_day(5)
            .fail_closed()
            .name("daily")
            .by(header("x-api-key")),
    );

    let app = Router::new()
        .route("/", get(async || "hello\n"))
        .route("/report", get(async || "all is well\n").layer(daily))
        .layer(limit);

    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:3000");
    let listener = TcpListener::bind(address).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    println!("listening on http://{}", listener.local_addr()?);
    // Without the connect info nobody's address is known, and all clients share one limit.
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        })
        .await?;
    Ok(())
}
