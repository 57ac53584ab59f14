use std::{error::Error, net::SocketAddr, time::Duration};

use rate_limit_layer::store::{self, SharedStore, Store};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::{app, args::Args, db::Db};

/// Serves until SIGTERM or ctrl-c, and until the requests that have begun by then are answered.
pub(crate) async fn serve(args: Args) -> Result<(), Box<dyn Error>> {
    let policy = args.policy().map_err(|error| format!("--burst: {error}"))?;
    let store = open(args.store.as_deref()).await?;
    let db = Db::open(args.db.as_deref(), args.constraint())
        .map_err(|error| format!("--db: {error}: write the path of a file that can be written"))?;
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        let listen = args.listen;
        format!("cannot listen on {listen} ({error}): write another address, such as --listen 127.0.0.1:0")
    })?;
    let mut stop = Stop::listen()?;
    announce(listener.local_addr()?, &store);

    let app = app::router(&store, policy, db).into_make_service_with_connect_info::<SocketAddr>();
    let (begun, stopping) = oneshot::channel();
    let served = axum::serve(listener, app).with_graceful_shutdown(async move {
        stop.asked().await;
        let _ = begun.send(());
    });
    tokio::select! {
        result = async { served.await } => result?,
        () = patience(stopping) => tracing::warn!("stopping with requests that have not been answered"),
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

fn announce(address: SocketAddr, store: &SharedStore) {
    println!(
        "booking on http://{address}, its store is {}. Try:",
        store.info().name
    );
    println!("  curl -i http://{address}/cars");
    println!(
        "  curl -i http://{address}/cars/7/bookings {JSON} -H 'idempotency-key: 1' -d '{BOOKING}'"
    );
    println!("  curl -i http://{address}/sms {JSON} -d '{MESSAGE}'");
}

/// The signals that end the service. From its making on none of them ends the process at once.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Ends so long after the service was asked to stop: a client that never finishes its request must not keep it.
async fn patience(stopping: oneshot::Receiver<()>) {
    // The other side goes unsent only with the service itself.
    let _ = stopping.await;
    tokio::time::sleep(GRACE).await;
}

const JSON: &str = "-H 'content-type: application/json'";
const BOOKING: &str = r#"{"from": "2026-12-01", "to": "2026-12-05", "customer": "ada"}"#;
const MESSAGE: &str = r#"{"to": "+44 20 7946 0000", "text": "Your car is ready"}"#;
const GRACE: Duration = Duration::from_secs(10);
