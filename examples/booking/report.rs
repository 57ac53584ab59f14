use std::time::Duration;

use axum::{Json, Router, extract::State, routing::get};
use rate_limit_layer::{InFlightLayer, MaxInFlight, route, store::SharedStore};
use serde::Serialize;

use crate::{db::Db, problem::Problem};

/// Serves `GET /report`: the booked days of all cars. It reads every booking, and takes at least the time `slow`.
///
/// A route that is dear is limited by how many of its requests run at once, over all processes: a quota would let them pile up while
/// the database is slow.
pub(crate) fn routes(store: SharedStore, db: Db, slow: Duration) -> Router {
    let two_at_once = MaxInFlight::new(2).name("reports").by(route());
    Router::new()
        .route("/report", get(report))
        .layer(InFlightLayer::new(store, two_at_once.fail_open()))
        .with_state((db, slow))
}

#[derive(Debug, Serialize)]
struct Booked {
    car: u32,
    days: u32,
}

async fn report(State((db, slow)): State<(Db, Duration)>) -> Result<Json<Vec<Booked>>, Problem> {
    tokio::time::sleep(slow).await;
    let query = "SELECT car, COUNT(*) FROM booked_days GROUP BY car ORDER BY car";
    let booked = db.read(|db| {
        let mut query = db.prepare(query)?;
        let rows = query.query_map([], |row| {
            Ok(Booked {
                car: row.get(0)?,
                days: row.get(1)?,
            })
        })?;
        rows.collect()
    });
    booked.await.map(Json)
}
