//! A round of bookings: a hundred wishes at once, of which one can be granted.

use std::{ops::Deref, time::Duration};

use bytes::Bytes;
use http::Response;
use layer_store::conformance::Random;
use serde_json::Value;
use tests::{Client, Service};
use tokio::{task::JoinSet, time::timeout};

use crate::wish::{Wish, title};

/// Sends the wishes of a round to all services. Returns each with its last response.
///
/// All have one day in common. Some clients leave before they have a response, and come back.
pub(crate) async fn play(
    services: &[impl Deref<Target = Service>],
    round: u64,
) -> Vec<(Wish, Response<Bytes>)> {
    let mut random = Random::new(round);
    let mut clients = JoinSet::new();
    for at in 0..WISHES {
        let service = &services[at % services.len()];
        let (wish, leaves) = (wish(&mut random, round), leaves(&mut random));
        let (mut client, address) = (service.connect().await, service.address());
        clients.spawn(async move {
            if let Some(after) = leaves {
                let answered = timeout(after, wish.send(&mut client)).await;
                drop(client);
                if let Ok(response) = answered {
                    return (wish, response);
                }
                client = Client::connect(address).await;
            }
            let response = answer(&mut client, &wish).await;
            (wish, response)
        });
    }
    clients.join_all().await
}

/// Asks until a wish has an end: also one whose client left and that is still running, or whose service has no store.
async fn answer(client: &mut Client, wish: &Wish) -> Response<Bytes> {
    let mut response = wish.send(client).await;
    for _ in 0..200 {
        let again = match response.status().as_u16() {
            503 => true,
            409 => title(&response).contains("in progress"),
            _ => false,
        };
        if !again {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        response = wish.send(client).await;
    }
    response
}

/// Returns a wish for the day of the round and up to three days before and after it.
fn wish(random: &mut Random, round: u64) -> Wish {
    let (car, slot) = (round % u64::from(CARS), round / u64::from(CARS));
    let (before, after) = (random.below(4), random.below(4));
    Wish::new(
        car as u32 + 1,
        &day(slot, 10 - before),
        &day(slot, 10 + after),
    )
}

/// Returns a day in the month of the slot.
fn day(slot: u64, day: u64) -> String {
    let (year, month) = (2_030 + slot / 12, slot % 12 + 1);
    format!("{year}-{month:02}-{day:02}")
}

/// Returns the time after which a client leaves: one in five, after at most 20 ms.
fn leaves(random: &mut Random) -> Option<Duration> {
    let after = Duration::from_micros(random.below(20_000));
    (random.below(5) == 0).then_some(after)
}

/// Returns the pairs of bookings that share a day.
pub(crate) fn doubles(bookings: &[Value]) -> usize {
    let day = |booking: &Value, end: &str| booking[end].to_string();
    let mut stays: Vec<_> = bookings
        .iter()
        .map(|booking| (day(booking, "from"), day(booking, "to")))
        .collect();
    stays.sort_unstable();
    stays
        .windows(2)
        .filter(|pair| pair[0].1 >= pair[1].0)
        .count()
}

const WISHES: usize = 100;
pub(crate) const CARS: u32 = 8;
