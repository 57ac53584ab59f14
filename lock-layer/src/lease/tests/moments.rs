//! Releases at every moment of a renewal or a wait.

use std::time::Duration;

use layer_store::conformance::Random;
use tokio::time::timeout;

use crate::{
    Locks,
    testing::{World, settle, worlds},
};

/// A renewal outlives no release: a lock that was given back is never there again, and its next holder is left alone.
#[tokio::test(start_paused = true)]
async fn a_lock_that_is_released_at_any_moment_is_never_renewed_again() {
    let mut random = Random::new(22);
    for world in worlds() {
        let locks = Locks::new(world.store()).lease(LEASE);
        let car = locks.group("car:7");
        for round in 0..200 {
            let guard = car.try_acquire("1").await.unwrap();
            // The reply to a renewal may be on its way then.
            let slow = random.duration(LEASE / 6);
            world.fault_injector.delay(slow);
            world.pass(random.duration(2 * LEASE)).await;
            let releasing = tokio::spawn(guard.release());
            world.pass(random.duration(LEASE)).await;
            world.fault_injector.heal();
            // Everything that was sent has arrived.
            world.pass(LEASE).await;
            releasing.await.unwrap().unwrap();
            assert_eq!(car.held("1").await.unwrap(), 0, "in round {round}");

            let next = car.try_acquire("1").await.unwrap();
            world.pass(LEASE / 4).await;
            assert!(!next.is_lost(), "in round {round}");
            next.release().await.unwrap();
            settle().await;
        }
    }
}

/// A wake-up that is lost costs a look of a timer, 250 ms, and no more: a release may come between any two steps of a wait.
#[tokio::test(start_paused = true)]
async fn who_waits_is_woken_whenever_the_lock_is_released() {
    for network in [Duration::ZERO, Duration::from_millis(7)] {
        for moment in 0..60 {
            let world = World::far();
            let locks = Locks::new(world.store()).lease(Duration::from_secs(3_600));
            let car = locks.group("car:7");
            let held = car.try_acquire("1").await.unwrap();
            world.fault_injector.delay(network);
            let waits = tokio::spawn(car.acquire("1", Duration::from_secs(60)));
            // So many turns of the tasks, and so many milliseconds.
            for _ in 0..moment % 12 {
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(Duration::from_millis(moment / 12 * 3)).await;
            let released = held.release();
            let woken = timeout(Duration::from_millis(250) + 6 * network, waits);
            let (released, woken) = tokio::join!(released, woken);
            released.unwrap();
            let guard = woken.unwrap_or_else(|_| panic!("not woken at {moment} over {network:?}"));
            guard.unwrap().unwrap().release().await.unwrap();
        }
    }
}

const LEASE: Duration = Duration::from_millis(300);
