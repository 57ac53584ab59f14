//! A small car rental on the three layers of this workspace over one pluggable store, in memory or on Redis: a limit on
//! every route, pages from a cache that forgets them when they change, bookings that happen once and never overlap. The bookings are
//! served over gRPC too, on the same port and with the same layers: `grpc/bookings.proto`.
//!
//! ```text
//! cargo run --example booking
//! cargo run --example booking -- --store redis://127.0.0.1 --db cars.db --limit 100/min --burst 20 --on-store-error closed
//! cargo run --example booking -- --tier key-of-ada=1000/s --trial 10/s --prepaid 10
//!
//! curl -i http://127.0.0.1:8080/cars                         # the second time from the cache
//! curl -i http://127.0.0.1:8080/cars -H 'x-api-key: key-of-ada'    # with the quota of --tier
//! curl -i http://127.0.0.1:8080/cars/7/bookings -H 'content-type: application/json' -H 'idempotency-key: 1' \
//!      -d '{"from": "2026-12-01", "to": "2026-12-05", "customer": "ada"}'    # the second time replayed
//! curl -i http://127.0.0.1:8080/cars/7/bookings
//! curl -i http://127.0.0.1:8080/bookings/1 -X DELETE
//! curl -i http://127.0.0.1:8080/cars/7 -X PUT -H 'content-type: application/json' -d '{"price_per_day": 9000}'
//! curl -i http://127.0.0.1:8080/sms -H 'content-type: application/json' -d '{"to": "+44 20 7946 0000", "text": "Your car is ready"}'
//! curl -i http://127.0.0.1:8080/report                       # at most two at once
//! curl -i http://127.0.0.1:8080/healthz
//! curl -i http://127.0.0.1:8080/metrics                      # for Prometheus
//! ```
//!
//! `RUST_LOG=rate_limit_layer=debug,cache_layer=debug,lock_layer=debug` tells why a request was refused, and what came from the
//! cache. `--help` lists the flags. SIGTERM and ctrl-c let the requests that have begun finish, and the bookings whose client
//! has left. `--slow 2s` makes each booking and each report take that long, so that one can be caught by a signal.
//! `--trial` is a limit that is not in force: `/metrics` shows what it would refuse (`would_refuse`).

mod app;
mod args;
mod bookings;
mod cars;
mod db;
mod grpc;
mod health;
mod input;
mod ledger;
mod limits;
mod metrics;
mod pages;
mod problem;
mod refusal;
mod report;
mod serve;
mod sms;
mod stay;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Args;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    examples::log();
    match serve::serve(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
