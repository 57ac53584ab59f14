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
    grpc,
    input::{Input, Sample},
    ledger::{Booked, Booking, Claimed, Fences, Ledger},
    pages::Pages,
    problem::Problem,
    refusal::Refusal,
    stay::Stay,
};

/// Serves `POST` and `GET /cars/{id}/bookings`, `GET` and `DELETE /bookings/{id}`.
pub(crate) fn routes(bookings: Bookings, once: IdempotencyLayer, cache: &CacheLayer) -> Router {
    let of_a_car = get(list).layer(cache.clone());
    Router::new()
        .route(
            "/cars/{id}/bookings",
            of_a_car.merge(post(book).layer(once)),
        )
        .route("/bookings/{id}", get(show).delete(cancel))
        .with_state(bookings)
}

/// Returns the layer that books once, over HTTP and gRPC.
pub(crate) fn once(store: SharedStore, runs: &RunTracker) -> IdempotencyLayer {
    // This example has no authentication. A real service takes the user from there.
    let user = ClientScope::of(header("x-user")).or(PeerIp);
    IdempotencyLayer::at_most_once(store, user).tracked_by(runs)
}

/// The bookings, for the handlers of HTTP and gRPC.
#[derive(Clone, Debug)]
pub(crate) struct Bookings {
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
pub(crate) struct Wish {
    pub(crate) from: String,
    /// The last day, included.
    pub(crate) to: String,
    pub(crate) customer: String,
}

impl Bookings {
    pub(crate) fn new(store: SharedStore, db: Db, cache: &CacheLayer, drill: Drill) -> Self {
        Self {
            ledger: Ledger::new(db.clone(), drill.fences),
            db,
            locks: Locks::new(store)
                .lease(drill.lease)
                .busy_title(ALREADY_BOOKED),
            pages: Pages::of(cache),
            slow: drill.slow,
        }
    }

    /// Books days of a car. A layer does not know them, so the locks are taken here, one for each day.
    pub(crate) async fn book(&self, car: &str, wish: Wish) -> Result<Booking, Refusal> {
        let car = cars::find(&self.db, car).await?.id;
        let (stay, customer) = wish.checked()?;
        let days = self.locks.group(&*format!("car:{car}"));
        let lock = days.try_acquire(stay.days()).await?;
        match self.ledger.claim(car, stay, lock.fence()).await? {
            Claimed::Free => {}
            Claimed::Taken => return Err(already_booked().into()),
            Claimed::Outrun => return Err(Problem::lost_lock().into()),
        }
        tokio::time::sleep(self.slow).await;
        let booked = self.ledger.book(car, stay, customer, lock.fence());
        let booking = match booked.await? {
            Booked::Booking(booking) => booking,
            Booked::Taken => return Err(already_booked().into()),
            Booked::Outrun => return Err(Problem::lost_lock().into()),
        };
        self.forget_pages_of(car).await;
        // If this fails, the booking is made all the same, and the lock ends with its lease.
        let _ = lock.release().await;
        Ok(booking)
    }

    /// Returns the bookings of a car.
    pub(crate) async fn of_car(&self, car: &str) -> Result<Vec<Booking>, Problem> {
        let car = cars::find(&self.db, car).await?.id;
        self.ledger.of_car(car).await
    }

    async fn forget_pages_of(&self, car: u32) {
        let pages = [format!("/cars/{car}/*"), grpc::LIST.to_owned()];
        self.pages.forget(&pages).await;
    }
}

async fn book(
    State(bookings): State<Bookings>,
    Path(id): Path<String>,
    Input(wish): Input<Wish>,
) -> Result<Response, Refusal> {
    let booking = bookings.book(&id, wish).await?;
    let location = [(LOCATION, format!("/bookings/{}", booking.id))];
    Ok((StatusCode::CREATED, location, Json(booking)).into_response())
}

async fn list(
    State(bookings): State<Bookings>,
    Path(id): Path<String>,
) -> Result<Json<Vec<Booking>>, Problem> {
    bookings.of_car(&id).await.map(Json)
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
    bookings.forget_pages_of(car).await;
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

const ALREADY_BOOKED: &str = "Already booked";
const MAX_NAME: usize = 100;
