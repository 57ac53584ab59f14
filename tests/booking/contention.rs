use std::time::Duration;

use layer_store::conformance::Random;
use serde_json::Value;
use tests::{Client, RedisServer, Service};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    bookings::{DbFile, FLAGS},
    wish::{Wish, bookings, json_of, title},
};

/// Without a constraint in the database only the locks keep two bookings apart.
#[tokio::test]
async fn of_100_overlapping_bookings_at_three_processes_one_is_made_a_round() {
    let (redis, file) = (RedisServer::start(), DbFile::new());
    let url = redis.url();
    let more = ["--store", &url, "--db", file.path(), "--no-constraint"];
    let flags = [&FLAGS[..], &more].concat();
    let services: Vec<_> = (0..3).map(|_| Service::start("booking", &flags)).collect();
    let rounds = tests::scale(1_000);
    for round in 0..rounds {
        play(&services, round).await;
    }
    for service in &services {
        let mut made = 0;
        for car in 1..=CARS {
            made += disjoint(&bookings(&mut service.connect().await, car).await);
        }
        assert_eq!(made as u64, rounds, "one winner a round");
    }
    expires(&redis);
    for service in services {
        assert!(service.stop().success());
    }
}

/// All wishes of a round have one day in common. Some clients leave before they have a response, and come back.
async fn play(services: &[Service], round: u64) {
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
                    return response;
                }
                client = Client::connect(address).await;
            }
            answer(&mut client, &wish).await
        });
    }
    let responses = clients.join_all().await;
    let mut won = 0;
    for response in &responses {
        match response.status().as_u16() {
            201 => won += 1,
            409 => assert_eq!(title(response), "Already booked"),
            status => panic!("{status}: {:?}", json_of(response)),
        }
    }
    assert_eq!(won, 1, "in round {round}");
}

/// Returns the end of a wish, also of one whose client left and that is still running.
async fn answer(client: &mut Client, wish: &Wish) -> http::Response<bytes::Bytes> {
    for _ in 0..200 {
        let response = wish.send(client).await;
        if response.status() != 409 || !title(&response).contains("in progress") {
            return response;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{wish:?} is in progress for ever");
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

/// Returns the number of bookings, and checks that no two of them share a day.
fn disjoint(bookings: &[Value]) -> usize {
    let day = |booking: &Value, end: &str| booking[end].to_string();
    let mut stays: Vec<_> = bookings
        .iter()
        .map(|booking| (day(booking, "from"), day(booking, "to")))
        .collect();
    stays.sort_unstable();
    for pair in stays.windows(2) {
        assert!(pair[0].1 < pair[1].0, "{pair:?} overlap");
    }
    stays.len()
}

/// Checks that every key in Redis expires.
fn expires(redis: &RedisServer) {
    let keys: Vec<String> = redis.command(&["KEYS", "*"]);
    assert!(!keys.is_empty());
    for key in keys {
        let life: i64 = redis.command(&["PTTL", &key]);
        assert_ne!(life, -1, "{key} never expires");
    }
}

const WISHES: usize = 100;
const CARS: u32 = 8;
