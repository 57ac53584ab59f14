use std::{error::Error, net::SocketAddr};

use crate::{app, args::Args, db::Db, metrics::Exporter};
use lock_layer::RunTracker;
use rate_limit_layer::store::{Options, SharedStore, Store};

/// Serves until SIGTERM or ctrl-c, and then until the requests that have begun are answered.
pub(crate) async fn serve(args: Args) -> Result<(), Box<dyn Error>> {
    let limits = args.limits().map_err(|error| format!("--burst: {error}"))?;
    let exporter = Exporter::install()?;
    let options = Options::new().deadline(args.deadline);
    let store = examples::open_with(args.store.as_deref(), options).await?;
    let db = Db::open(args.db.as_deref(), args.constraint())
        .map_err(|error| format!("--db: {error}: write the path of a file that can be written"))?;
    let listener = examples::listen(&args.listen.to_string()).await;
    let listener = listener.map_err(|error| format!("--listen: {error}"))?;
    announce(listener.local_addr()?, &store);

    let runs = RunTracker::new();
    let app = app::router(&store, limits, db, exporter, &runs, args.drill())
        .into_make_service_with_connect_info::<SocketAddr>();
    let grace = examples::serve_on(listener, app).await?;
    // Bookings whose client has left have no connection for which the server has waited.
    let left = runs.close_and_wait(grace).await;
    if left > 0 {
        tracing::warn!(left, "stopping with bookings that have not ended");
    }
    Ok(())
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

const JSON: &str = "-H 'content-type: application/json'";
const BOOKING: &str = r#"{"from": "2026-12-01", "to": "2026-12-05", "customer": "ada"}"#;
const MESSAGE: &str = r#"{"to": "+44 20 7946 0000", "text": "Your car is ready"}"#;
