use std::{error::Error, time::Duration};

use axum::{
    Router, extract::State, http::header::CONTENT_TYPE, response::IntoResponse, routing::get,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rate_limit_layer::store::SharedStore;

/// The metrics of this process, in the text format of Prometheus.
#[derive(Clone)]
pub(crate) struct Exporter(PrometheusHandle);

impl Exporter {
    /// Begins to collect metrics. Before the store is opened: what is counted earlier is lost.
    ///
    /// # Errors
    ///
    /// Returns an error if another exporter collects already.
    pub(crate) fn install() -> Result<Self, Box<dyn Error>> {
        let handle = PrometheusBuilder::new()
            .set_buckets(&SECONDS)?
            .install_recorder()?;
        let exporter = Self(handle.clone());
        tokio::spawn(async move {
            // Times are kept one by one until then, also if nobody scrapes.
            let mut ticks = tokio::time::interval(Duration::from_secs(5));
            loop {
                ticks.tick().await;
                handle.run_upkeep();
            }
        });
        Ok(exporter)
    }
}

/// Serves `GET /metrics`. In production, serve it where only Prometheus can reach it.
pub(crate) fn routes(store: SharedStore, exporter: Exporter) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .with_state((store, exporter))
}

async fn metrics(
    State((store, exporter)): State<(SharedStore, Exporter)>,
) -> impl IntoResponse + use<> {
    // What only the store knows, as it is now: its connections, its breaker.
    store.publish_metrics();
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4")],
        exporter.0.render(),
    )
}

/// The bounds of the buckets of times: from a store nearby to a call at its limit.
const SECONDS: [f64; 10] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5,
];
