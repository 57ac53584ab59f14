//! Many who want one lock at a time.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use layer_store::{conformance::Random, connect};
use lock_layer::{AcquireError, ReleaseOutcome};
use tests::{Backend, RedisServer, scale, unique};
use tokio::time::sleep;

use crate::{is_busy, locks};

#[tokio::test]
async fn a_hundred_overlapping_lists_over_three_connections_have_one_winner_a_round() {
    for backend in Backend::all() {
        let stores = backend.stores(3).await;
        let locks: Vec<_> = stores.into_iter().map(locks).collect();
        for _ in 0..scale(1_000) {
            let car = unique();
            let mut racers = tokio::task::JoinSet::new();
            for racer in 0..100 {
                // Every list has day 50, and each is in another order.
                let mut days: Vec<_> = (racer % 50..51).map(|day| day.to_string()).collect();
                let turn = racer % days.len();
                days.rotate_left(turn);
                racers.spawn(locks[racer % 3].group(car.as_str()).try_acquire(days));
            }
            let results = racers.join_all().await;
            let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
            assert_eq!(won.len(), 1);
            assert!(lost.iter().all(is_busy));
        }
        // A key that does not end is still there.
        backend.every_key_ends();
    }
}

#[tokio::test]
async fn whoever_holds_days_at_one_time_holds_others_than_everybody_else() {
    for backend in Backend::all() {
        let locks = locks(backend.store().await);
        let taken = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for seed in 0..20 {
            let (car, taken) = (locks.group("car:7"), taken.clone());
            tasks.spawn(async move {
                let mut random = Random::new(seed);
                let mut won = 0;
                for _ in 0..50 {
                    let days: BTreeSet<_> =
                        (0..1 + random.below(5)).map(|_| random.below(30)).collect();
                    let list = days.iter().map(u64::to_string);
                    let list: Vec<_> = if random.one_in(2) {
                        list.rev().collect()
                    } else {
                        list.collect()
                    };
                    match car.try_acquire(list).await {
                        Ok(guard) => {
                            won += 1;
                            for day in &days {
                                assert!(
                                    taken.lock().unwrap().insert(*day),
                                    "day {day} has two holders"
                                );
                            }
                            tokio::task::yield_now().await;
                            for day in &days {
                                taken.lock().unwrap().remove(day);
                            }
                            assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::StillHeld);
                        }
                        Err(AcquireError::Busy(_)) => tokio::task::yield_now().await,
                        Err(error) => panic!("{error}"),
                    }
                }
                won
            });
        }
        let won: usize = tasks.join_all().await.into_iter().sum();
        assert!(won > 20, "{won}");
    }
}

/// Readers come without end, and the writers have their turns all the same.
#[tokio::test]
async fn readers_share_over_three_connections_and_writers_are_alone_and_do_not_starve() {
    for backend in Backend::all() {
        let stores = backend.stores(3).await;
        let car = unique();
        let cars: Vec<_> = stores
            .into_iter()
            .map(|store| locks(store).group(car.as_str()))
            .collect();
        // Those who read and write now, and the most who read at once.
        let inside = Arc::new(std::sync::Mutex::new((0, 0, 0)));
        let wait = Duration::from_secs(30);
        let mut readers = tokio::task::JoinSet::new();
        for reader in 0..9 {
            let (car, inside) = (cars[reader % 3].clone(), inside.clone());
            readers.spawn(async move {
                loop {
                    let guard = car.acquire_shared("1", wait).await.unwrap();
                    {
                        let mut inside = inside.lock().unwrap();
                        inside.0 += 1;
                        inside.2 = inside.0.max(inside.2);
                        assert_eq!(inside.1, 0, "a writer is there");
                    }
                    sleep(Duration::from_millis(5)).await;
                    inside.lock().unwrap().0 -= 1;
                    guard.release().await.unwrap();
                }
            });
        }
        let mut writers = tokio::task::JoinSet::new();
        for car in &cars {
            let (car, inside) = (car.clone(), inside.clone());
            writers.spawn(async move {
                let mut last = 0;
                for _ in 0..10 {
                    let guard = car.acquire("1", wait).await.unwrap();
                    assert!(guard.fence() > last);
                    last = guard.fence();
                    {
                        let mut inside = inside.lock().unwrap();
                        inside.1 += 1;
                        assert_eq!((inside.0, inside.1), (0, 1), "readers and writers");
                    }
                    sleep(Duration::from_millis(1)).await;
                    inside.lock().unwrap().1 -= 1;
                    guard.release().await.unwrap();
                }
            });
        }
        while let Some(writer) = writers.join_next().await {
            writer.expect("no writer starves or overlaps");
        }
        assert!(inside.lock().unwrap().2 > 1, "nobody shared");
        readers.abort_all();
        while let Some(reader) = readers.join_next().await {
            assert!(
                reader.unwrap_err().is_cancelled(),
                "a reader found a writer"
            );
        }
        backend.every_key_ends();
    }
}

#[tokio::test]
async fn a_lock_costs_two_commands_and_a_refusal_one() {
    let server = RedisServer::start();
    let car = locks(connect(&server.url()).await.unwrap()).group("car:7");
    // The scripts are loaded.
    car.try_acquire(["1"])
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    let mut monitor = server.monitor();
    let guard = car.try_acquire(["1", "2", "3"]).await.unwrap();
    assert_eq!(monitor.names(&server), ["evalsha"]);
    assert!(is_busy(&car.try_acquire(["2"]).await));
    assert_eq!(monitor.names(&server), ["evalsha"]);
    guard.release().await.unwrap();
    assert_eq!(monitor.names(&server), ["evalsha"]);
    assert_eq!(server.clients().len(), 1);
}
