//! A caching reverse proxy in front of any HTTP/1.1 origin: hyper, the cache layer, and a client.
//!
//! ```text
//! cargo run --release --example reverse-proxy -- --listen 127.0.0.1:8100 --origin http://127.0.0.1:8000
//! cargo run --release --example reverse-proxy -- --origin http://127.0.0.1:8000 --store redis://127.0.0.1 --profile rfc
//!
//! curl -i http://127.0.0.1:8100/
//! ```
//!
//! A response is stored if its own headers give it a lifetime. `Cache-Status` says what the cache did with a request. On SIGTERM
//! and ctrl-c the proxy answers the requests that have begun, and ends.

mod args;
mod origin;

use std::{error::Error, process::ExitCode, time::Duration};

use cache_layer::{CacheLayer, store::Store};
use clap::Parser;
use examples::Shutdown;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tower::Layer;

use crate::{args::Args, origin::Origin};

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    examples::log();
    match serve(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: Args) -> Result<(), Box<dyn Error>> {
    let store = examples::open(args.store.as_deref()).await?;
    let name = store.info().name;
    let cache = args.profile.apply(CacheLayer::new(store));
    let service = cache.layer(Origin::new(&args.origin)?);
    let listener = examples::listen(&args.listen.to_string()).await;
    let listener = listener.map_err(|error| format!("--listen: {error}"))?;
    let mut shutdown = Shutdown::listen()?;
    let address = listener.local_addr()?;
    println!("reverse-proxy on http://{address}, its store is {name}. Try:");
    println!("  curl -i http://{address}/");

    let connections = GracefulShutdown::new();
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                // Too many files are open, or the client has left. The listener goes on.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = shutdown.requested() => break,
        };
        // Without this a small response may wait for more data.
        let _ = stream.set_nodelay(true);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(
                TokioIo::new(stream),
                TowerToHyperService::new(service.clone()),
            );
        tokio::spawn(connections.watch(connection));
    }
    drop(listener);
    if tokio::time::timeout(examples::GRACE, connections.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("stopping with requests that have not been answered");
    }
    Ok(())
}
