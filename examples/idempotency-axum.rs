//! Payments that run once, however often a client repeats the request.
//!
//! ```text
//! cargo run --example idempotency-axum
//!
//! curl -i http://127.0.0.1:3000/payments -H 'idempotency-key: 1' -H 'x-user: ada' -d 50
//! curl -i http://127.0.0.1:3000/payments -H 'idempotency-key: 1' -H 'x-user: ada' -d 50    # replayed: the same payment
//! curl -i http://127.0.0.1:3000/payments -H 'idempotency-key: 1' -H 'x-user: ada' -d 60    # 422: the key had another body
//! curl -i http://127.0.0.1:3000/payments -H 'idempotency-key: 1' -H 'x-user: bob' -d 50    # another user: a new payment
//! curl -i http://127.0.0.1:3000/payments -H 'x-user: ada' -d 50                            # 400: without a key
//! ```

use std::{
    error::Error,
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use axum::{Router, http::StatusCode, routing::post};
use lock_layer::{ClientScope, IdempotencyLayer, PeerIp, header, store};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    examples::log();
    let store = store::connect_from_env_or_memory().await?;

    // A key belongs to its user. A real service takes the user from authentication, not from a header that anybody can write.
    let user = ClientScope::of(header("x-user")).or(PeerIp);
    // At most once: if a run ends without a response, repetitions get 409, and somebody has to look.
    // For work that may safely run again there is `IdempotencyLayer::retry_safe`.
    let once = IdempotencyLayer::at_most_once(store, user).keep_for(Duration::from_secs(48 * 3600));

    let app = Router::new().route("/payments", post(pay).layer(once));
    examples::serve(app.into_make_service_with_connect_info::<SocketAddr>()).await
}

async fn pay(amount: String) -> (StatusCode, String) {
    static PAYMENTS: AtomicU32 = AtomicU32::new(1);
    let number = PAYMENTS.fetch_add(1, Ordering::Relaxed);
    (StatusCode::CREATED, format!("payment {number}: {amount}\n"))
}
