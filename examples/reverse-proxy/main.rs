//! A caching reverse proxy in front of any HTTP/1.1 origin: hyper, the cache layer, and a client.
//!
//! ```text
//! cargo run --release --example reverse-proxy -- --listen 127.0.0.1:8100 --origin http://127.0.0.1:8000
//! cargo run --release --example reverse-proxy -- --origin http://127.0.0.1:8000 --store redis://127.0.0.1 --profile rfc
//!
//! curl -i http://127.0.0.1:8100/
//! ```
//!
//! Nothing is stored that does not name its lifetime. What the cache did with a request stands in `Cache-Status`. SIGTERM
//! and ctrl-c let the requests that have begun finish.

mod args;
mod origin;

use std::{
    error::Error,
    io::{IsTerminal, stderr},
    process::ExitCode,
    time::Duration,
};

use cache_layer::{
    CacheLayer,
    store::{self, SharedStore, Store},
};
use clap::Parser;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tower::Layer;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::{args::Args, origin::Origin};

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    // To stderr, since stdout says where to find the proxy.
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into());
    tracing_subscriber::fmt()
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_env_filter(filter.from_env_lossy())
        .init();
    match serve(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: Args) -> Result<(), Box<dyn Error>> {
    let store = open(args.store.as_deref()).await?;
    let name = store.info().name;
    let cache = args.profile.apply(CacheLayer::new(store));
    let service = cache.layer(Origin::new(&args.origin)?);
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        let listen = args.listen;
        format!("cannot listen on {listen} ({error}): write another address, such as --listen 127.0.0.1:0")
    })?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let address = listener.local_addr()?;
    println!("reverse-proxy on http://{address}, its store is {name}. Try:");
    println!("  curl -i http://{address}/");

    let connections = GracefulShutdown::new();
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                // Too many files are open, or the client has left: neither is the listener's end.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        };
        // What is small goes out at once.
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
    if tokio::time::timeout(GRACE, connections.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("stopping with requests that have not been answered");
    }
    Ok(())
}

async fn open(url: Option<&str>) -> Result<SharedStore, Box<dyn Error>> {
    match url {
        Some(url) => store::connect(url)
            .await
            .map_err(|error| format!("--store: {error}").into()),
        None => Ok(store::connect_from_env_or_memory().await?),
    }
}

const GRACE: Duration = Duration::from_secs(10);
