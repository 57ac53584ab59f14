use std::time::Duration;

use axum::{
    Json, Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use cache_layer::CacheLayer;
use http::{StatusCode, header::LOCATION};
use lock_layer::{
    ClientScope, IdempotencyLayer, Locks, PeerIp, RunTracker, header, store::SharedStore,
};
use serde::Deserialize;

use crate::{
    cars,
    db::Db,
    input::{Input, Sample},
    ledger::{Booked, Booking, Claimed, Fences, Ledger},
    pages::Pages,
    problem::Problem,
    stay::Stay,
};

/// Serves `POST` and `GET /cars/{id}/bookings`, `GET` and `DELETE /bookings/{id}`.
pub(crate) fn routes(
    store: SharedStore,
    db: Db,
    cache: &CacheLayer,
    runs: &RunTracker,
    drill: Drill,
) -> Router {
    // This example has no authentication. A real service takes the user from there.
    let user = ClientScope::of(header("x-user")).or(PeerIp);
    let once = IdempotencyLayer::at_most_once(store.clone(), user).tracked_by(runs);
    let bookings = Bookings {
        ledger: Ledger::new(db.clone(), drill.fences),
        db,
        locks: Locks::new(store)
            .lease(drill.lease)
            .busy_title(ALREADY_BOOKED),
        pages: Pages::of(cache),
        slow: drill.slow,
    };
    let of_a_car = get(list).layer(cache.clone());
    Router::new()
        .route(
            "/cars/{id}/bookings",
            of_a_car.merge(post(book).layer(once)),
        )
        .route("/bookings/{id}", get(show).delete(cancel))
        .with_state(bookings)
}

#[derive(Clone, Debug)]
struct Bookings {
    ledger: Ledger,
    db: Db,
    locks: Locks,
    pages: Pages,
    /// The time between the two steps of a booking.
    slow: Duration,
}

/// The conditions under which bookings are made. Others than the defaults show what happens at a deploy, or without fencing tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drill {
    /// The time that each booking takes at least.
    pub(crate) slow: Duration,
    /// The time until others get the locks of a process that died.
    pub(crate) lease: Duration,
    pub(crate) fences: Fences,
}

#[derive(Debug, Deserialize)]
struct Wish {
    from: String,
    /// The last day, included.
    to: String,
    customer: String,
}

/// Books the days in the body. A layer does not read bodies, so the handler takes the locks itself, one for each day.
async fn book(
    State(bookings): State<Bookings>,
    Path(id): Path<String>,
    Input(wish): Input<Wish>,
) -> Result<Response, Response> {
    let car = cars::find(&bookings.db, &id).await?.id;
    let (stay, customer) = wish.checked()?;
    let days = bookings.locks.group(&*format!("car:{car}"));
    let lock = days
        .try_acquire(stay.days())
        .await
        .map_err(IntoResponse::into_response)?;
    match bookings.ledger.claim(car, stay, lock.fence()).await? {
        Claimed::Free => {}
        Claimed::Taken => return Err(already_booked().into()),
        Claimed::Outrun => return Err(Problem::lost_lock().into()),
    }
    tokio::time::sleep(bookings.slow).await;
    let booking = match bookings
        .ledger
        .book(car, stay, customer, lock.fence())
        .await?
    {
        Booked::Booking(booking) => booking,
        Booked::Taken => return Err(already_booked().into()),
        Booked::Outrun => return Err(Problem::lost_lock().into()),
    };
    bookings.pages.forget(&[pages_of(car)]).await;
    // If this fails, the booking is made all the same, and the lock ends with its lease.
    let _ = lock.release().await;
    let location = [(LOCATION, format!("/bookings/{}", booking.id))];
    Ok((StatusCode::CREATED, location, Json(booking)).into_response())
}

async fn list(
    State(bookings): State<Bookings>,
    Path(id): Path<String>,
) -> Result<Json<Vec<Booking>>, Problem> {
    let car = cars::find(&bookings.db, &id).await?.id;
    bookings.ledger.of_car(car).await.map(Json)
}

async fn show(
    State(bookings): State<Bookings>,
    Path(id): Path<String>,
) -> Result<Json<Booking>, Problem> {
    let booking = match id.parse() {
        Ok(id) => bookings.ledger.find(id).await?,
        Err(_) => None,
    };
    booking.map(Json).ok_or_else(no_such_booking)
}

async fn cancel(
    State(bookings): State<Bookings>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let car = match id.parse() {
        Ok(id) => bookings.ledger.cancel(id).await?,
        Err(_) => None,
    };
    let car = car.ok_or_else(no_such_booking)?;
    bookings.pages.forget(&[pages_of(car)]).await;
    Ok(StatusCode::NO_CONTENT)
}

impl Wish {
    fn checked(self) -> Result<(Stay, String), Problem> {
        let stay = Stay::parse(&self.from, &self.to)?;
        match (1..=MAX_NAME).contains(&self.customer.chars().count()) {
            true => Ok((stay, self.customer)),
            false => Err(Problem::bad_request(
                "write a name of 1 to 100 characters, such as \"customer\": \"ada\"",
            )),
        }
    }
}

impl Sample for Wish {
    const SAMPLE: &str = r#"{"from": "2026-12-01", "to": "2026-12-05", "customer": "ada"}"#;
}

fn already_booked() -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        ALREADY_BOOKED,
        "another booking has one of these days: GET /cars/{id}/bookings lists them",
    )
}

fn no_such_booking() -> Problem {
    Problem::not_found("there is no such booking: GET /cars/{id}/bookings lists them")
}

fn pages_of(car: u32) -> String {
    format!("/cars/{car}/*")
}

const ALREADY_BOOKED: &str = "Already booked";
const MAX_NAME: usize = 100;
