//! All layers in one service on Redis, behind a proxy: how they are ordered, and how they share a store.
//!
//! ```text
//! REDIS_URL=redis://127.0.0.1 cargo run --example stack-redis
//!
//! curl -i http://127.0.0.1:3000/cars/7                                            # cached; limited by address
//! curl -i http://127.0.0.1:3000/cars/7 -X PUT -H 'x-api-key: ada' -d 95           # one at a time; purges the page
//! curl -i http://127.0.0.1:3000/cars/7/bookings -X POST -H 'x-api-key: ada' -H 'idempotency-key: 1' -d mon   # once
//! curl -i http://127.0.0.1:3000/healthz                                           # the store
//! ```
//!
//! Without REDIS_URL or REDIS_HOST the store is the memory of this process. Start a second process on the Redis with
//! `-- 127.0.0.1:3001`: both share limits and locks and, for requests with one `Host`, pages and idempotency keys.

use std::{error::Error, net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post, put},
};
use cache_layer::CacheLayer;
use lock_layer::{ClientScope, IdempotencyLayer, LockLayer, PeerIp, path_param};
use rate_limit_layer::{
    ClientIp, Quota, RateLimitLayer, header,
    store::{self, Context, SharedStore, Store, StoreExt},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    examples::log();
    // One connection for all layers, with a limit of 100 ms a call and a circuit breaker.
    let store = store::connect_from_env_or_memory().await?;
    println!("the store is {}", store.info().name);

    // `X-Forwarded-For` is believed if the request comes from one of these networks.
    let client = ClientIp::behind(["127.0.0.0/8", "10.0.0.0/8"]);
    // Both have to admit a request. If the store fails, the first lets it pass and the second does not.
    let limit = RateLimitLayer::new(store.clone(), Quota::per_second(10).fail_open().by(client));
    let daily = RateLimitLayer::new(
        store.clone(),
        Quota::per_day(5_000)
            .burst(100)
            .fail_closed()
            .name("writes")
            .by(header("x-api-key")),
    );
    let cache = CacheLayer::new(store.clone()).ttl(Duration::from_secs(30));
    let lock = LockLayer::new(store.clone(), path_param("id")).name("car");
    let user = ClientScope::of(header("x-api-key")).or(PeerIp);
    let once = IdempotencyLayer::at_most_once(store.clone(), user);

    // In a tuple the first layer is the outermost: a repetition is answered before it asks for a lock.
    let update = put(update).layer((daily.clone(), lock.clone()));
    let book = post(book).layer((daily, once, lock));
    let app = Router::new()
        // The cache is around both methods: a `PUT` that succeeds purges the page.
        .route("/cars/{id}", get(show).merge(update).layer(cache))
        .route("/cars/{id}/bookings", book)
        .layer(limit)
        // Added after the limit, so not limited: a health check always gets an answer.
        .route("/healthz", get(health))
        .with_state(store);
    examples::serve(app.into_make_service_with_connect_info::<SocketAddr>()).await
}

async fn show(Path(id): Path<String>) -> String {
    format!("car {id}\n")
}

async fn update(Path(id): Path<String>, price: String) -> String {
    format!("car {id} costs {price} now\n")
}

async fn book(Path(id): Path<String>, day: String) -> (StatusCode, String) {
    (
        StatusCode::CREATED,
        format!("car {id} is booked on {day}\n"),
    )
}

/// 200 also while the store is down: the layers find it again by themselves, and a restart would gain nothing.
async fn health(State(store): State<SharedStore>) -> String {
    let name = store.info().name;
    match store.ping(&Context::new("health")).await {
        Ok(()) => format!("{name} is up\n"),
        Err(error) => format!("{name} is down: {error}\n"),
    }
}
