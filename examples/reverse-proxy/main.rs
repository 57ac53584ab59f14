//! A caching reverse proxy for HTTP/1.1 and HTTP/2 in front of any HTTP/1.1 origin: hyper, the cache layer, and a client.
//!
//! ```text
//! cargo run --release --example reverse-proxy -- --listen 127.0.0.1:8100 --origin http://127.0.0.1:8000
//! cargo run --release --example reverse-proxy -- --origin http://127.0.0.1:8000 --store redis://127.0.0.1 --profile rfc
//!
//! curl -i http://127.0.0.1:8100/
//! curl -i --http2-prior-knowledge http://127.0.0.1:8100/
//! ```
//!
//! A response is stored if its own headers give it a lifetime. `Cache-Status` says what the cache did with a request. A target
//! in absolute form replaces the field `Host`; a request that names two hosts is refused with 400. On SIGTERM and ctrl-c the
//! proxy answers the requests that have begun, and ends. A request to upgrade, as of a WebSocket, passes by the cache, and its
//! connection becomes a tunnel to the origin.

mod args;
mod origin;
mod target;
mod tunnel;

use std::{convert::Infallible, error::Error, process::ExitCode, time::Duration};

use cache_layer::{
    Body, Cache, CacheLayer,
    body::HandlerBody,
    store::{Options, Store},
};
use clap::Parser;
use examples::Shutdown;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tower::{Layer, ServiceExt, service_fn};

use crate::{args::Args, origin::Origin, target::with_one_host};

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

/// Answers with 400 what names no host or two, and all else from the cache or the origin.
async fn answer(
    cached: Cache<Origin>,
    request: Request<Incoming>,
) -> Result<Response<Body<HandlerBody<Body<Incoming>>>>, Infallible> {
    if let Some(request) = with_one_host(request) {
        return cached.oneshot(request).await;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    Ok(response)
}

async fn serve(args: Args) -> Result<(), Box<dyn Error>> {
    let options = Options::new().deadline(args.deadline);
    let store = examples::open_with(args.store.as_deref(), options).await?;
    let name = store.info().name;
    let cache = args.profile.apply(CacheLayer::new(store));
    let cached = cache.layer(Origin::new(&args.origin)?);
    let service = service_fn(move |request| answer(cached.clone(), request));
    let listener = examples::listen(&args.listen.to_string()).await;
    let listener = listener.map_err(|error| format!("--listen: {error}"))?;
    let mut shutdown = Shutdown::listen()?;
    let address = listener.local_addr()?;
    println!("reverse-proxy on http://{address}, its store is {name}. Try:");
    println!("  curl -i http://{address}/");

    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new());
    http.http2().timer(TokioTimer::new());
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
        let service = TowerToHyperService::new(service.clone());
        let connection = http
            .serve_connection_with_upgrades(TokioIo::new(stream), service)
            .into_owned();
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
