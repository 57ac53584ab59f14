//! Units that several holders share, and those who want them alone.

use std::time::Duration;

use layer_store::{
    Effect, ErrorKind, IdentityRef, Key, KeySpace, Op, StoreExt,
    conformance::{Fault, unique},
};
use tokio::time::Instant;

use crate::{
    AcquireError, LockGroup, LockGuard, LockMode, Locks, ReleaseOutcome,
    testing::{CX, World, settle, worlds},
};

const LEASE: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(60);

fn car(world: &World) -> LockGroup {
    Locks::new(world.store()).lease(LEASE).group(unique())
}

fn is_busy(result: Result<LockGuard, AcquireError>) -> bool {
    matches!(result, Err(AcquireError::Busy(_)))
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test(start_paused = true)]
async fn readers_share_and_a_writer_is_alone() {
    for world in worlds() {
        let car = car(&world);
        let readers = [
            car.try_acquire_shared(["1", "2"]).await.unwrap(),
            car.try_acquire_shared(["2", "3"]).await.unwrap(),
        ];
        assert!(is_busy(car.try_acquire("2").await));
        assert!(is_busy(car.try_acquire(["3", "4"]).await));
        let writer = car.try_acquire("4").await.unwrap();
        assert_eq!(writer.mode(), LockMode::Exclusive);
        assert!(is_busy(car.try_acquire_shared(["4", "1"]).await));
        for reader in readers {
            assert_eq!(reader.mode(), LockMode::Shared);
            assert_eq!(reader.release().await.unwrap(), ReleaseOutcome::StillHeld);
        }
        assert!(car.try_acquire(["1", "2", "3"]).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn readers_are_renewed_one_by_one_over_many_leases() {
    for world in worlds() {
        let car = car(&world);
        let readers = [
            car.try_acquire_shared("1").await.unwrap(),
            car.try_acquire_shared(["1", "2"]).await.unwrap(),
        ];
        for _ in 0..10 {
            world.pass(LEASE / 2).await;
            assert!(readers.iter().all(|reader| !reader.is_lost()));
            assert!(is_busy(car.try_acquire("1").await));
        }
        let [first, second] = readers;
        drop(first);
        settle().await;
        assert!(is_busy(car.try_acquire("1").await));
        world.pass(2 * LEASE).await;
        assert_eq!(second.release().await.unwrap(), ReleaseOutcome::StillHeld);
        // Nothing renews them any more.
        assert_eq!(car.held(["1", "2"]).await.unwrap(), 0);
        world.pass(LEASE).await;
        assert_eq!(car.held(["1", "2"]).await.unwrap(), 0);
    }
}

/// Those who died leave, although others keep the lock alive.
#[tokio::test(start_paused = true)]
async fn a_reader_that_is_not_renewed_is_lost_before_a_writer_is_let_in() {
    for world in worlds() {
        let car = car(&world);
        let reader = car.try_acquire_shared("1").await.unwrap();
        world.fault_injector.inject_by(|op| match op {
            Op::Run { program, .. } if program.name() == "lock_extend_shared" => {
                Some(Fault::Fail(ErrorKind::Unavailable, Effect::NotApplied))
            }
            _ => None,
        });
        let begun = Instant::now();
        loop {
            world.pass(millis(1)).await;
            match car.try_acquire("1").await {
                Ok(writer) => {
                    assert!(reader.is_lost());
                    // A late release leaves the writer alone.
                    assert_eq!(reader.release().await.unwrap(), ReleaseOutcome::AlreadyLost);
                    assert_eq!(writer.release().await.unwrap(), ReleaseOutcome::StillHeld);
                    break;
                }
                Err(AcquireError::Busy(_)) => assert!(begun.elapsed() < 2 * LEASE),
                Err(error) => panic!("{error}"),
            }
        }
        assert!(begun.elapsed() >= LEASE - LEASE / 50);
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_waits_goes_before_new_readers_and_does_not_starve() {
    for world in worlds() {
        let name = unique();
        // Two processes: neither knows who waits in the other.
        let [here, there] =
            [0, 1].map(|_| Locks::new(world.store()).lease(LEASE).group(name.as_str()));
        let mut readers = vec![
            there.try_acquire_shared("1").await.unwrap(),
            there.try_acquire_shared("1").await.unwrap(),
        ];
        let waits = tokio::spawn(here.acquire("1", LONG));
        settle().await;
        for _ in 0..20 {
            // The readers that are there may stay as long as they like. New ones are refused.
            world.pass(millis(100)).await;
            assert!(is_busy(there.try_acquire_shared("1").await));
        }
        assert!(readers.iter().all(|reader| !reader.is_lost()));
        readers.pop().unwrap().release().await.unwrap();
        assert!(is_busy(there.try_acquire_shared("1").await));
        readers.pop().unwrap().release().await.unwrap();
        // Nor does one slip in between the last reader and the writer.
        assert!(is_busy(there.try_acquire_shared("1").await));
        world.pass(millis(20)).await;
        let writer = waits.await.unwrap().unwrap();
        assert!(is_busy(there.try_acquire_shared("1").await));
        writer.release().await.unwrap();
        assert!(there.try_acquire_shared("1").await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_gives_up_keeps_readers_out_for_half_a_second_at_most() {
    for world in worlds() {
        let car = car(&world);
        let reader = car.try_acquire_shared("1").await.unwrap();
        assert!(is_busy(car.try_acquire("1").await));
        // It does not wait, so nobody waits for it.
        drop(car.try_acquire_shared("1").await.unwrap());
        settle().await;
        let late = tokio::spawn(car.acquire("1", millis(10)));
        world.pass(millis(20)).await;
        assert!(is_busy(late.await.unwrap()));
        reader.release().await.unwrap();
        let Err(AcquireError::Busy(busy)) = car.try_acquire_shared("1").await else {
            panic!("a writer has just waited");
        };
        assert!(busy.lease_left() <= millis(500));
        let seen = car.inspect("1").await.unwrap();
        assert_eq!((seen[0].mode(), seen[0].holders()), (LockMode::Shared, 0));
        // Another writer need not wait.
        drop(car.try_acquire("1").await.unwrap());
        settle().await;
        let waits = tokio::spawn(car.acquire_shared("1", LONG));
        world.pass(millis(500)).await;
        assert!(waits.await.unwrap().is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_to_share_is_served_after_a_writer_that_came_before_and_with_the_others() {
    for world in worlds() {
        let car = Locks::new(world.store()).lease(LONG).group(unique());
        let first = car.try_acquire("1").await.unwrap();
        let second = tokio::spawn(car.acquire("1", LONG));
        settle().await;
        let readers: Vec<_> = (0..5)
            .map(|_| tokio::spawn(car.acquire_shared("1", LONG)))
            .collect();
        settle().await;
        first.release().await.unwrap();
        world.pass(millis(20)).await;
        assert!(second.is_finished() && readers.iter().all(|reader| !reader.is_finished()));
        second.await.unwrap().unwrap().release().await.unwrap();
        world.pass(millis(20)).await;
        let mut held = Vec::new();
        for reader in readers {
            assert!(reader.is_finished());
            held.push(reader.await.unwrap().unwrap());
        }
        assert!(held.iter().all(|reader| !reader.is_lost()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_has_the_fencing_token_of_the_last_writer_and_the_next_has_a_higher_one() {
    for world in worlds() {
        let car = car(&world);
        let reader = car.try_acquire_shared(["1", "2"]).await.unwrap();
        assert_eq!(reader.fence(), 0);
        drop(reader);
        settle().await;
        let writer = car.try_acquire("2").await.unwrap();
        let written = writer.fence();
        writer.release().await.unwrap();
        let reader = car.try_acquire_shared(["1", "2"]).await.unwrap();
        assert!(reader.fence() >= written);
        let read = reader.fence();
        drop(reader);
        settle().await;
        assert!(car.try_acquire("2").await.unwrap().fence() > read);
    }
}

#[tokio::test(start_paused = true)]
async fn readers_are_told_at_once_where_the_store_pushes() {
    for world in worlds() {
        for age in [0, 51, 5_000] {
            let locks = Locks::new(world.store()).lease(Duration::from_secs(3_600));
            let car = locks.group(unique());
            let readers = [
                car.try_acquire_shared(["1", "2"]).await.unwrap(),
                car.try_acquire_shared("2").await.unwrap(),
            ];
            world.pass(millis(age)).await;
            assert_eq!(car.force_release("2").await.unwrap(), 1);
            world.pass(millis(100)).await;
            assert!(readers.iter().all(LockGuard::is_lost), "at {age} ms");
            // What was left is given back.
            assert_eq!(car.held(["1", "2"]).await.unwrap(), 0);
        }
    }
}

/// Nothing shows that no writer was let in, so a lock that was evicted is not put back.
#[tokio::test(start_paused = true)]
async fn a_shared_lock_that_was_evicted_is_lost() {
    for world in worlds() {
        let locks = Locks::new(world.store()).lease(Duration::from_secs(3_600));
        let reader = locks.group("car:7").try_acquire_shared("1").await.unwrap();
        world.pass(millis(100)).await;
        let space = KeySpace::new("lock", "unit");
        let key = Key::new(&space, IdentityRef::Text(b"car:7")).with_rest(b"1");
        assert!(world.store().delete(&CX, &key).await.unwrap());
        world.pass(millis(60)).await;
        assert!(reader.is_lost());
    }
}

/// Each who comes or goes changes the lock of all who share it: they look at it 20 times a second at most.
#[tokio::test(start_paused = true)]
async fn readers_look_seldom_at_a_lock_that_changes_often() {
    let world = World::far();
    let locks = Locks::new(world.store()).lease(Duration::from_secs(3_600));
    let car = locks.group("car:7");
    let reader = car.try_acquire_shared("1").await.unwrap();
    world.pass(millis(100)).await;
    world.fault_injector.take_calls();
    for _ in 0..200 {
        drop(car.try_acquire_shared("1").await.unwrap());
        world.pass(millis(5)).await;
    }
    let calls = world.fault_injector.take_calls();
    let looks = calls.iter().filter(|call| **call == "get_many").count();
    assert!((10..=21).contains(&looks), "{looks}");
    assert!(!reader.is_lost());
}

#[tokio::test(start_paused = true)]
async fn an_operator_sees_who_shares_and_takes_it_from_all() {
    for world in worlds() {
        let car = car(&world);
        let written = car.try_acquire("1").await.unwrap();
        let fence = written.fence();
        written.release().await.unwrap();
        let readers = [
            car.try_acquire_shared("1").await.unwrap(),
            car.try_acquire_shared("1").await.unwrap(),
        ];
        let held = car.inspect(["1", "2"]).await.unwrap();
        let [held] = &held[..] else {
            panic!("{held:?}");
        };
        assert_eq!((held.mode(), held.holders()), (LockMode::Shared, 2));
        assert_eq!((held.fence(), held.since()), (fence + 1, None));
        assert_eq!(held.ends_in(), LEASE);
        assert_eq!(car.force_release("1").await.unwrap(), 1);
        world.pass(LEASE).await;
        assert!(readers.iter().all(LockGuard::is_lost));
        assert!(car.try_acquire("1").await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_whose_reply_was_lost_is_there_once() {
    let world = World::far();
    let car = car(&world);
    let mut lost = 0;
    world.fault_injector.inject_by(move |_| {
        lost += 1;
        (lost <= 2).then_some(Fault::LoseReply(ErrorKind::Timeout))
    });
    let reader = car.try_acquire_shared("1").await.unwrap();
    assert_eq!(car.inspect("1").await.unwrap()[0].holders(), 1);
    reader.release().await.unwrap();
    assert_eq!(car.held("1").await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_shared_lock_that_is_kept_stays_for_its_time() {
    for world in worlds() {
        let car = car(&world);
        let reader = car.try_acquire_shared("1").await.unwrap();
        reader.keep(2 * LEASE).await.unwrap();
        world.pass(2 * LEASE - millis(10)).await;
        assert!(is_busy(car.try_acquire("1").await));
        drop(car.try_acquire_shared("1").await.unwrap());
        world.pass(millis(20)).await;
        assert!(car.try_acquire("1").await.is_ok());
    }
}
