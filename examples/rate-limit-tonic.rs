//! A rate limit on a server of tonic, and a client that waits as long as the server tells it to.
//!
//! ```text
//! cargo run --example rate-limit-tonic                                     # the server, on 127.0.0.1:3000
//! cargo run --example rate-limit-tonic -- call http://127.0.0.1:3000       # a client with 5 calls
//! ```
//!
//! Three calls pass at once, then two a second. The client is refused with RESOURCE_EXHAUSTED, waits for the milliseconds in
//! `grpc-retry-pushback-ms`, and succeeds. The service is tonic's own health check, so that nothing has to be generated.

use std::{env, error::Error, time::Duration};

use rate_limit_layer::{PeerIp, Quota, RateLimitLayer, grpc_method, store};
use tokio::time::sleep;
use tonic::{
    Status,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    examples::log();
    let args: Vec<_> = env::args().skip(1).collect();
    match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["call", url] => call((*url).to_owned()).await,
        [] => serve("127.0.0.1:3000").await,
        [address] => serve(address).await,
        _ => Err("write an address, or call and a URL".into()),
    }
}

async fn serve(address: &str) -> Result<(), Box<dyn Error>> {
    let store = store::connect_from_env_or_memory().await?;
    // Each method by itself, for each address. The address is that of the connection: the feature `tonic` reads it.
    let quota = Quota::per_second(2).burst(3).fail_open();
    let limit = RateLimitLayer::new(store, quota.by((PeerIp, grpc_method())));

    let (_reporter, health) = tonic_health::server::health_reporter();
    let listener = examples::listen(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let mut shutdown = examples::Shutdown::listen()?;
    Server::builder()
        .layer(limit)
        .add_service(health)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener), async move {
            shutdown.requested().await;
        })
        .await?;
    Ok(())
}

async fn call(url: String) -> Result<(), Box<dyn Error>> {
    let channel = Endpoint::from_shared(url)?.connect().await?;
    let mut client = HealthClient::new(channel);
    for number in 1..=5 {
        let waits = check(&mut client).await?;
        println!("call {number} passed after {waits} waits");
    }
    Ok(())
}

/// Calls until it succeeds or fails without a time to wait. Returns how often it waited.
async fn check(client: &mut HealthClient<Channel>) -> Result<u32, Status> {
    let mut waits = 0;
    loop {
        let Err(status) = client.check(HealthCheckRequest::default()).await else {
            return Ok(waits);
        };
        match pushback(&status) {
            Some(wait) if waits < 5 => sleep(wait).await,
            _ => return Err(status),
        }
        waits += 1;
    }
}

/// Reads how long to wait. A negative number is no time: the server does not want to be asked again (gRFC A6).
fn pushback(status: &Status) -> Option<Duration> {
    let millis = status.metadata().get("grpc-retry-pushback-ms")?;
    let millis = millis.to_str().ok()?.parse().ok()?;
    Some(Duration::from_millis(millis))
}
