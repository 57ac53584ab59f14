//! All layers around HTTP and gRPC on one port: each client is refused in its own protocol.
//!
//! ```text
//! cargo run --example tonic-all
//! REDIS_URL=redis://127.0.0.1 cargo run --example tonic-all                  # shared by all processes on this Redis
//!
//! cargo run --example tonic-all -- show http://127.0.0.1:3000 7              # cached for 30 s
//! cargo run --example tonic-all -- book http://127.0.0.1:3000 7 mon key-1    # twice: the second is a replay of the first
//! cargo run --example tonic-all -- book http://127.0.0.1:3000 7 tue key-1    # FAILED_PRECONDITION: another message
//! curl -i http://127.0.0.1:3000/cars/7                                       # the page of the car, cached too
//! ```
//!
//! HTTP and gRPC share one limit of 10 requests at once for each address. Nothing is generated: the messages and the service are in
//! `cars.rs`.

mod cars;
mod client;

use std::{env, error::Error, net::SocketAddr, time::Duration};

use axum::{extract::Path, routing::get};
use cache_layer::CacheLayer;
use lock_layer::{ClientScope, IdempotencyLayer, Locks, PeerIp};
use rate_limit_layer::{Quota, RateLimitLayer, store};
use tonic::service::Routes;

use self::cars::Cars;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = env::args().skip(1).collect();
    match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["show", url, id] => client::show(url, id).await,
        ["book", url, id, day, key] => client::book(url, id, day, key).await,
        [] | [_] => serve().await,
        _ => Err("write an address, show URL ID, or book URL ID DAY KEY".into()),
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    examples::log();
    let store = store::connect_from_env_or_memory().await?;

    // 10 at once, then one each second, of HTTP and gRPC together.
    let limit = RateLimitLayer::new(store.clone(), Quota::per_minute(60).burst(10).fail_open());
    let pages = CacheLayer::new(store.clone()).ttl(Duration::from_secs(30));
    let replies = pages.clone().grpc(["/cars.Cars/Show"]);
    // The key is in the metadata `idempotency-key`. Calls of other methods pass.
    let once = IdempotencyLayer::retry_safe(store.clone(), ClientScope::of(PeerIp))
        .grpc_methods(["/cars.Cars/Book"]);
    // A lock by a field of the message is taken in the handler.
    let cars = Cars::new(Locks::new(store));

    // In a tuple the first layer is the outermost.
    let app = Routes::new(cars)
        .into_axum_router()
        .layer((replies, once))
        .route("/cars/{id}", get(page).layer(pages))
        .layer(limit);
    examples::serve(app.into_make_service_with_connect_info::<SocketAddr>()).await
}

async fn page(Path(id): Path<String>) -> String {
    format!("car {id}\n")
}
