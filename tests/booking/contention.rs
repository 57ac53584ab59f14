use tests::{RedisServer, Service};

use crate::{
    bookings::{DbFile, FLAGS},
    round::{CARS, doubles, play},
    wish::{bookings, json_of, title},
};

/// Without a constraint in the database only the locks keep two bookings apart.
#[tokio::test]
async fn of_100_overlapping_bookings_at_three_processes_one_is_made_a_round() {
    let (redis, file) = (RedisServer::start(), DbFile::new());
    let url = redis.url();
    let more = ["--store", &url, "--db", file.path(), "--no-constraint"];
    let flags = [&FLAGS[..], &more].concat();
    let services = [(); 3].map(|()| Box::new(Service::start("booking", &flags)));
    let rounds = tests::scale(1_000);
    for round in 0..rounds {
        let mut won = 0;
        for (_, response) in play(&services, round).await {
            match response.status().as_u16() {
                201 => won += 1,
                409 => assert_eq!(title(&response), "Already booked"),
                status => panic!("{status}: {:?}", json_of(&response)),
            }
        }
        assert_eq!(won, 1, "in round {round}");
    }
    for service in &services {
        let mut made = 0;
        for car in 1..=CARS {
            let bookings = bookings(&mut service.connect().await, car).await;
            assert_eq!(doubles(&bookings), 0, "{bookings:?}");
            made += bookings.len();
        }
        assert_eq!(made as u64, rounds, "one winner a round");
    }
    expires(&redis);
    for service in services {
        assert!(service.stop().success());
    }
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
