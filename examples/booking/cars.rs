use axum::{Json, Router, extract::Path, routing::get};
use serde::Serialize;

use crate::problem::Problem;

/// `GET /cars` and `GET /cars/{id}`.
pub(crate) fn routes() -> Router {
    Router::new()
        .route("/cars", get(list))
        .route("/cars/{id}", get(show))
}

#[derive(Debug, Serialize)]
struct Car {
    id: u32,
    model: &'static str,
    seats: u8,
    /// In pence.
    price_per_day: u32,
}

async fn list() -> Json<&'static [Car]> {
    Json(&CARS)
}

async fn show(Path(id): Path<String>) -> Result<Json<&'static Car>, Problem> {
    find(&id).map(Json)
}

fn find(id: &str) -> Result<&'static Car, Problem> {
    let car = CARS.iter().find(|car| id.parse() == Ok(car.id));
    car.ok_or_else(|| Problem::not_found("there is no such car: GET /cars lists them"))
}

static CARS: [Car; 8] = [
    car(1, "Fiat Panda", 4, 2_900),
    car(2, "Renault Clio", 5, 3_200),
    car(3, "Skoda Octavia", 5, 4_500),
    car(4, "Volkswagen Golf", 5, 4_200),
    car(5, "Volvo V60", 5, 6_400),
    car(6, "Tesla Model 3", 5, 7_900),
    car(7, "Ford Tourneo", 8, 8_500),
    car(8, "Morgan Plus Four", 2, 21_000),
];

const fn car(id: u32, model: &'static str, seats: u8, price_per_day: u32) -> Car {
    Car {
        id,
        model,
        seats,
        price_per_day,
    }
}
