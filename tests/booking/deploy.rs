//! A deploy in the middle of bookings: their clients have left, and the process is told to stop.

use std::time::Duration;

use tests::{Client, RedisServer, Service};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    bookings::{DbFile, FLAGS},
    wish::Wish,
};

#[tokio::test]
async fn a_hundred_bookings_whose_clients_have_left_are_made_before_the_process_ends() {
    let (redis, file) = (RedisServer::start(), DbFile::new());
    let (mut old, wishes) = booking_whose_clients_leave(&redis, &file, "2s").await;
    let told = Instant::now();
    old.terminate();
    assert!(old.wait().success());
    assert!(told.elapsed() < GRACE, "{:?}", told.elapsed());
    let left = old.log();
    assert!(left.is_empty(), "{left:?}");

    // The process that comes after it finds each of them under its key.
    let new = start(&redis, &file, "0s");
    let mut client = new.connect().await;
    for wish in &wishes {
        let response = wish.send(&mut client).await;
        assert_eq!(response.status(), 201);
        assert_eq!(response.headers()["idempotency-replayed"], "true");
    }
}

#[tokio::test]
async fn bookings_that_outlast_the_grace_are_told_and_do_not_hold_up_the_process() {
    let (redis, file) = (RedisServer::start(), DbFile::new());
    let (mut old, wishes) = booking_whose_clients_leave(&redis, &file, "60s").await;
    let told = Instant::now();
    old.terminate();
    assert!(old.wait().success());
    assert!(told.elapsed() < GRACE + SLACK, "{:?}", told.elapsed());
    let left = format!("left={}", wishes.len());
    let log = old.log();
    let line = log.iter().find(|line| line.contains("have not ended"));
    assert!(line.is_some_and(|line| line.contains(&left)), "{log:?}");

    // None of them was made, and none is made twice: at most once means that a person looks.
    let new = start(&redis, &file, "0s");
    let mut client = new.connect().await;
    for wish in &wishes {
        assert_eq!(wish.send(&mut client).await.status(), 409);
    }
}

/// A token is drawn by its process alone. Two that draw the same ones would take each other's claims for their own.
#[tokio::test]
async fn two_processes_draw_tokens_of_their_own() {
    let redis = RedisServer::start();
    let mut tokens = std::collections::BTreeSet::new();
    for number in 0..2 {
        let file = DbFile::new();
        let service = start(&redis, &file, "0s");
        // The first token of each process.
        let response = wish(number).send(&mut service.connect().await).await;
        assert_eq!(response.status(), 201);
        let records: Vec<String> = redis.command(&["KEYS", "*:record:*"]);
        assert_eq!(records.len(), 1);
        let token: String = redis.command(&["GETRANGE", &records[0], "24", "45"]);
        assert_eq!(token.len(), 22);
        tokens.insert(token);
        let () = redis.command(&["FLUSHALL"]);
    }
    assert_eq!(tokens.len(), 2, "{tokens:?}");
}

/// Starts a service in which bookings take the time `slow`, and leaves it with a hundred of them begun.
async fn booking_whose_clients_leave(
    redis: &RedisServer,
    file: &DbFile,
    slow: &str,
) -> (Service, Vec<Wish>) {
    let service = start(redis, file, slow);
    let wishes: Vec<_> = (0..100).map(wish).collect();
    let mut clients = JoinSet::new();
    for wish in wishes.clone() {
        let mut client = Client::connect(service.address()).await;
        clients.spawn(async move {
            let answered = timeout(Duration::from_secs(1), wish.send(&mut client)).await;
            assert!(answered.is_err(), "it is slow");
        });
    }
    clients.join_all().await;
    // Each has its claim by now: a run that has begun.
    let records: Vec<String> = redis.command(&["KEYS", "*:record:*"]);
    assert_eq!(records.len(), wishes.len());
    (service, wishes)
}

fn start(redis: &RedisServer, file: &DbFile, slow: &str) -> Service {
    let url = redis.url();
    let more = ["--store", &url, "--db", file.path(), "--slow", slow];
    let flags = [&FLAGS[..], &more].concat();
    Service::start("booking", &flags)
}

/// Returns a wish for days that no other has.
fn wish(number: u32) -> Wish {
    let (car, slot) = (number % 8 + 1, number / 8);
    let month = format!("{}-{:02}", 2030 + slot / 12, slot % 12 + 1);
    Wish::new(car, &format!("{month}-01"), &format!("{month}-02"))
}

/// The time that the service gives what has begun, and what a busy machine may add.
const GRACE: Duration = Duration::from_secs(10);
const SLACK: Duration = Duration::from_secs(3);
