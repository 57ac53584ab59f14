use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    routing::{get, put},
};
use cache_layer::CacheLayer;
use lock_layer::{LockContext, LockLayer, path_param, store::SharedStore};
use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use crate::{
    db::Db,
    input::{Input, Sample},
    pages::Pages,
    problem::Problem,
};

/// Serves `GET /cars`, `GET /cars/{id}`, and `PUT /cars/{id}`, one `PUT` at a time for each car.
pub(crate) fn routes(store: SharedStore, db: Db, cache: &CacheLayer) -> Router {
    let lock = LockLayer::new(store, path_param("id")).name("car");
    let car = get(show).layer(cache.clone());
    Router::new()
        .route("/cars", get(list).layer(cache.clone()))
        .route("/cars/{id}", car.merge(put(update).layer(lock)))
        .with_state(Cars {
            db,
            pages: Pages::of(cache),
        })
}

/// Returns the car of a path.
///
/// # Errors
///
/// Returns a 404 if there is none.
pub(crate) async fn find(db: &Db, id: &str) -> Result<Car, Problem> {
    let unknown = || Problem::not_found("there is no such car: GET /cars lists them");
    let id: u32 = id.parse().map_err(|_no_number| unknown())?;
    let car = db
        .read(move |db| {
            let query = "SELECT id, model, seats, price_per_day FROM cars WHERE id = ?1";
            db.query_row(query, [id], Car::read).optional()
        })
        .await?;
    car.ok_or_else(unknown)
}

#[derive(Debug, Serialize)]
pub(crate) struct Car {
    pub(crate) id: u32,
    model: String,
    seats: u8,
    /// In pence.
    price_per_day: u32,
}

#[derive(Clone, Debug)]
struct Cars {
    db: Db,
    pages: Pages,
}

#[derive(Debug, Deserialize)]
struct Change {
    price_per_day: u32,
}

async fn list(State(cars): State<Cars>) -> Result<Json<Vec<Car>>, Problem> {
    let query = "SELECT id, model, seats, price_per_day FROM cars ORDER BY id";
    let cars = cars
        .db
        .read(|db| db.prepare(query)?.query_map([], Car::read)?.collect());
    cars.await.map(Json)
}

async fn show(State(cars): State<Cars>, Path(id): Path<String>) -> Result<Json<Car>, Problem> {
    find(&cars.db, &id).await.map(Json)
}

async fn update(
    State(cars): State<Cars>,
    Path(id): Path<String>,
    Extension(lock): Extension<LockContext>,
    Input(change): Input<Change>,
) -> Result<Json<Car>, Problem> {
    let Car { id, .. } = find(&cars.db, &id).await?;
    let fence = lock.fence() as i64;
    let changed = cars.db.read(move |db| {
        // A process that has lost the lock meanwhile does not overwrite what the next one wrote.
        let update = "UPDATE cars SET price_per_day = ?2, fence = ?3 WHERE id = ?1 AND fence < ?3";
        db.execute(update, params![id, change.price_per_day, fence])
    });
    if changed.await? == 0 {
        return Err(Problem::lost_lock());
    }
    cars.pages
        .forget(&["/cars".into(), format!("/cars/{id}")])
        .await;
    find(&cars.db, &id.to_string()).await.map(Json)
}

impl Car {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            model: row.get(1)?,
            seats: row.get(2)?,
            price_per_day: row.get(3)?,
        })
    }
}

impl Sample for Change {
    const SAMPLE: &str = r#"{"price_per_day": 8500}"#;
}
