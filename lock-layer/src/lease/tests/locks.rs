use std::{collections::BTreeSet, time::Duration};

use layer_store::{
    Effect, ErrorKind, IdentityRef, Key, KeySpace, MemoryStore, SharedStore, StoreExt,
    conformance::{Fault, FaultInjector},
};
use proptest::prelude::*;
use tokio::time::Instant;

use crate::{
    AcquireError, LockGroup, LockGuard, LockMode, Locks, ReleaseOutcome,
    lease::{
        acquire::{Acquire, Acquired},
        extend::{Extend, Extended},
        release::Release,
    },
    testing::{CX, World, settle, worlds},
};

const LEASE: Duration = Duration::from_millis(300);

fn locks(world: &World) -> Locks {
    Locks::new(world.store()).lease(LEASE)
}

fn is_busy(result: Result<LockGuard, AcquireError>) -> bool {
    matches!(result, Err(AcquireError::Busy(_)))
}

#[tokio::test(start_paused = true)]
async fn a_unit_has_one_holder_until_it_is_released_or_dropped() {
    for world in worlds() {
        let car = locks(&world).group("car:7");
        let guard = car.try_acquire(["1"]).await.unwrap();
        assert!(is_busy(car.try_acquire(["1"]).await));
        assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::StillHeld);

        drop(car.try_acquire(["1"]).await.unwrap());
        settle().await;
        drop(car.try_acquire(["1"]).await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_is_part_of_what_a_unit_is() {
    let world = World::near();
    let locks = locks(&world);
    let _seven = locks.group("car:7").try_acquire(["1"]).await.unwrap();
    let _eight = locks.group("car:8").try_acquire(["1"]).await.unwrap();
    assert!(is_busy(locks.group("car:7").try_acquire(["1"]).await));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_when_the_lease_ends_and_takes_nothing() {
    for world in worlds() {
        let car = locks(&world).group("car:7");
        let _guard = car.try_acquire(["2"]).await.unwrap();
        world.pass(Duration::from_millis(50)).await;
        let Err(AcquireError::Busy(busy)) = car.try_acquire(["1", "2", "3"]).await else {
            panic!("day 2 is taken");
        };
        assert_eq!(busy.lease_left(), LEASE - Duration::from_millis(50));
        assert_eq!(busy.retry_after(), busy.lease_left());
        let _others = car.try_acquire(["3", "1"]).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_told_to_come_again_after_a_typical_hold_and_not_after_a_lease() {
    for world in worlds() {
        let car = locks(&world).group("car:7");
        let busy = async || match car.try_acquire(["1"]).await {
            Err(AcquireError::Busy(busy)) => busy,
            other => panic!("{other:?}"),
        };
        let hold = Duration::from_millis(40);
        let guard = car.try_acquire(["1"]).await.unwrap();
        world.pass(hold).await;
        guard.release().await.unwrap();

        let guard = car.try_acquire(["1"]).await.unwrap();
        assert_eq!(busy().await.retry_after(), hold);
        assert_eq!(busy().await.lease_left(), LEASE);
        // Nobody gives back what is kept, and it says nothing of those who hold.
        guard.keep(3 * LEASE).await.unwrap();
        assert_eq!(busy().await.retry_after(), 3 * LEASE);
        world.pass(3 * LEASE).await;
        let _guard = car.try_acquire(["1"]).await.unwrap();
        assert_eq!(busy().await.retry_after(), hold);
        // Not after the lease, however long locks are held here.
        world.pass(LEASE / 10).await;
        let typical = busy().await;
        assert!(typical.retry_after() <= typical.lease_left());
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_a_hundred_racers_wins() {
    let world = World::far();
    let car = locks(&world).group("car:7");
    let mut racers = tokio::task::JoinSet::new();
    for first in 0..100 {
        let days: Vec<_> = (first..first + 100)
            .map(|day| (day % 60).to_string())
            .collect();
        racers.spawn(car.try_acquire(days));
    }
    let results = racers.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_guard_keeps_its_lock_over_many_leases() {
    for world in worlds() {
        let car = locks(&world).group("car:7");
        let guard = car.try_acquire(["1"]).await.unwrap();
        for _ in 0..10 {
            world.pass(LEASE / 2).await;
            assert!(!guard.is_lost());
            assert!(is_busy(car.try_acquire(["1"]).await));
        }
        assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::StillHeld);
        // Nothing renews it any more: what was put back by a late renewal would be seen here.
        world.pass(LEASE / 2).await;
        assert_eq!(car.held(["1"]).await.unwrap(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_knows_of_its_loss_before_anybody_else_is_let_in() {
    for world in worlds() {
        let car = locks(&world).group("car:7");
        let guard = car.try_acquire(["1"]).await.unwrap();
        let began = Instant::now();
        let lost = tokio::spawn({
            let lost = guard.lost();
            async move {
                lost.await;
                began.elapsed()
            }
        });
        world.fault_injector.inject_by(|op| match op {
            layer_store::Op::Run { program, .. } if program.name() == "lock_extend" => {
                Some(Fault::Fail(ErrorKind::Unavailable, Effect::NotApplied))
            }
            _ => None,
        });
        let mut regained = None;
        while regained.is_none() {
            world.pass(Duration::from_millis(1)).await;
            match car.try_acquire(["1"]).await {
                Ok(_) => regained = Some(began.elapsed()),
                Err(AcquireError::Busy(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
        let lost = lost.await.unwrap();
        assert!(guard.is_lost());
        assert!(lost < LEASE - LEASE / 100, "{lost:?}");
        assert!(lost > LEASE / 2, "{lost:?}");
        assert!(regained.unwrap() >= lost);
    }
}

#[tokio::test(start_paused = true)]
async fn a_loss_is_known_even_while_a_renewal_hangs() {
    let world = World::far();
    let car = locks(&world).group("car:7");
    let guard = car.try_acquire(["1"]).await.unwrap();
    world.fault_injector.hang();
    world.pass(LEASE).await;
    assert!(guard.is_lost());
    guard.lost().await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_shorter_than_the_lease_loses_nothing() {
    let world = World::far();
    let car = locks(&world).group("car:7");
    let guard = car.try_acquire(["1"]).await.unwrap();
    world
        .fault_injector
        .fail(ErrorKind::Unavailable, Effect::NotApplied);
    world.pass(LEASE * 2 / 3).await;
    world.fault_injector.heal();
    world.pass(LEASE * 3).await;
    assert!(!guard.is_lost());
}

#[tokio::test(start_paused = true)]
async fn fences_rise_over_release_expiry_and_a_store_that_forgot() {
    for world in worlds() {
        let car = locks(&world).group("car:7");
        let first = car.try_acquire(["1", "2"]).await.unwrap();
        let mut last = first.fence();
        drop(first);
        settle().await;
        // No time has passed, so the time alone would not do.
        for _ in 0..3 {
            let guard = car.try_acquire(["2"]).await.unwrap();
            assert!(guard.fence() > last);
            last = guard.fence();
            guard.release().await.unwrap();
        }
        world.pass(Duration::from_millis(1)).await;
        for kind in ["lock", "fence"] {
            let space = KeySpace::new(kind, "unit");
            let key = Key::new(&space, IdentityRef::Text(b"car:7")).with_rest(b"2");
            world.store().delete(&CX, &key).await.unwrap();
        }
        assert!(car.try_acquire(["2"]).await.unwrap().fence() > last);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_was_evicted_is_put_back_unless_somebody_was_let_in() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Other {
        Nobody,
        CameAndWent,
        Stays,
    }
    for world in worlds() {
        for other in [Other::Nobody, Other::CameAndWent, Other::Stays] {
            let name = layer_store::conformance::unique();
            let car = locks(&world).group(name.as_str());
            let guard = car.try_acquire(["1"]).await.unwrap();
            let space = space_of("lock");
            let key = Key::new(&space, IdentityRef::Text(name.as_bytes()));
            let store = world.store();
            assert!(store.delete(&CX, &key.with_rest(b"1")).await.unwrap());
            let let_in = match other {
                Other::Nobody => None,
                _ => Some(car.try_acquire(["1"]).await.unwrap()),
            };
            let stays = let_in.filter(|_| other == Other::Stays);
            world.pass(LEASE / 2).await;
            assert_eq!(guard.is_lost(), other != Other::Nobody, "{other:?}");
            let is_free = car.held(["1"]).await.unwrap() == 0;
            assert_eq!(is_free, other == Other::CameAndWent, "{other:?}");
            if let Some(stays) = stays {
                assert_eq!(stays.release().await.unwrap(), ReleaseOutcome::StillHeld);
            }
        }
    }
}

fn space_of(kind: &'static str) -> KeySpace {
    KeySpace::new(kind, "unit")
}

#[tokio::test(start_paused = true)]
async fn a_fence_is_above_the_last_one_whatever_the_time() {
    for world in worlds() {
        let car = locks(&world).group("car:7");
        let ahead = car.try_acquire(["1"]).await.unwrap().fence() + 3_600_000_000;
        settle().await;
        // What a server whose clock was an hour ahead has left.
        let space = space_of("fence");
        let key = Key::new(&space, IdentityRef::Text(b"car:7")).with_rest(b"1");
        let ttl = layer_store::Ttl::from_millis(60_000).unwrap();
        let value = layer_store::Value::pair(ahead, 0);
        world.store().put(&CX, &key, &value, ttl).await.unwrap();
        assert_eq!(
            car.try_acquire(["1", "2"]).await.unwrap().fence(),
            ahead + 1
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_arrives_after_the_release_puts_nothing_back() {
    for world in worlds() {
        let car = locks(&world).group("car:7");
        let holder = car.holder("1").unwrap();
        let caller = &holder.config().caller;
        let Acquired::Granted { fence } = caller.run(&mut Acquire::new(&holder)).await.unwrap()
        else {
            panic!("nobody else holds it");
        };
        let mut release = Release::new(&holder, fence);
        let released = caller.run(&mut release).await.unwrap();
        assert_eq!(released, ReleaseOutcome::StillHeld);
        let late = caller.run(&mut Extend::new(&holder, fence)).await.unwrap();
        assert_eq!(late, Extended::Lost);
        assert_eq!(car.held(["1"]).await.unwrap(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_seen_too_late_revives_no_lock_that_was_told_lost() {
    let world = World::far();
    let guard = locks(&world)
        .group("car:7")
        .try_acquire(["1"])
        .await
        .unwrap();
    world.fault_injector.delay(Duration::from_millis(10));
    world.pass(LEASE / 3 + Duration::from_millis(5)).await;
    assert_eq!(world.fault_injector.in_flight(), 1);
    // A runtime that does nothing for so long.
    world.jump(LEASE * 9 / 10).await;
    assert!(guard.is_lost());
    world.pass(LEASE).await;
    assert!(guard.is_lost());
}

#[tokio::test(start_paused = true)]
async fn a_release_after_the_lease_leaves_the_next_holder_alone() {
    for world in worlds() {
        let car = locks(&world).group("car:7");
        let late = car.try_acquire(["1"]).await.unwrap();
        // Its renewals fail, as those of a process that was stopped do.
        world.fault_injector.inject_by(|op| match op {
            layer_store::Op::Run { program, .. } if program.name() != "lock_acquire" => {
                Some(Fault::Fail(ErrorKind::Unavailable, Effect::NotApplied))
            }
            _ => None,
        });
        world.pass(LEASE).await;
        let next = car.try_acquire(["1"]).await.unwrap();
        world.fault_injector.heal();
        assert_eq!(late.release().await.unwrap(), ReleaseOutcome::AlreadyLost);
        settle().await;
        assert!(is_busy(car.try_acquire(["1"]).await));
        assert_eq!(next.release().await.unwrap(), ReleaseOutcome::StillHeld);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_asked_for_again_and_is_no_refusal() {
    let world = World::far();
    let mut lost = 0;
    world.fault_injector.inject_by(move |_| {
        lost += 1;
        (lost <= 2).then_some(Fault::LoseReply(ErrorKind::Timeout))
    });
    let guard = locks(&world)
        .group("car:7")
        .try_acquire(["1"])
        .await
        .unwrap();
    assert_eq!(world.fault_injector.calls(), ["run"; 3]);
    assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::StillHeld);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_given_up_leaves_no_lock_once_the_store_is_back() {
    let world = World::far();
    let car = locks(&world).group("car:7");
    world.fault_injector.lose_replies(ErrorKind::Timeout);
    let result = car.try_acquire(["1"]).await;
    assert!(
        matches!(result, Err(AcquireError::Unavailable(_))),
        "{result:?}"
    );
    world.fault_injector.heal();
    world.pass(LEASE / 2).await;
    assert_eq!(car.held(["1"]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_while_it_waits_leaves_nothing_locked() {
    let world = World::far();
    let car = locks(&world).group("car:7");
    for millis in [0, 1, 99, 100, 101] {
        world.fault_injector.delay(Duration::from_millis(100));
        let acquire = tokio::spawn(car.try_acquire(["1"]));
        world.pass(Duration::from_millis(millis)).await;
        acquire.abort();
        drop(acquire);
        world.pass(Duration::from_millis(250)).await;
        world.fault_injector.heal();
        assert_eq!(car.held(["1"]).await.unwrap(), 0, "left after {millis} ms");
        assert_eq!(world.fault_injector.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn taken_and_broken_are_told_apart_and_a_store_that_hangs_is_not_waited_for() {
    let world = World::far();
    let car = locks(&world).group("car:7");
    let _guard = car.try_acquire(["1"]).await.unwrap();
    assert!(is_busy(car.try_acquire(["1"]).await));

    world
        .fault_injector
        .fail(ErrorKind::Unavailable, Effect::NotApplied);
    let error = car.try_acquire(["1"]).await.unwrap_err();
    assert!(matches!(error, AcquireError::Unavailable(_)), "{error}");

    world.fault_injector.hang();
    let began = Instant::now();
    let error = car.try_acquire(["2"]).await.unwrap_err();
    assert!(matches!(error, AcquireError::Unavailable(_)), "{error}");
    assert_eq!(began.elapsed(), Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn units_taken_by_an_operator_are_lost_to_their_holder() {
    for world in worlds() {
        let car = locks(&world).group("car:7");
        let guard = car.try_acquire(["1", "2"]).await.unwrap();
        assert_eq!(car.held(["1", "2", "3"]).await.unwrap(), 2);
        assert_eq!(car.force_release(["1", "2", "3"]).await.unwrap(), 2);
        world.pass(LEASE / 2).await;
        assert!(guard.is_lost());
        assert_eq!(car.held(["1", "2"]).await.unwrap(), 0);
        assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::AlreadyLost);
    }
}

/// A store that refuses at once is asked again after a pause, a twentieth of the lease.
#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_no_hot_loop() {
    let world = World::far();
    let locks = Locks::new(world.store()).lease(Duration::from_secs(20));
    let guard = locks.group("car:7").try_acquire(["1"]).await.unwrap();
    world
        .fault_injector
        .fail(ErrorKind::Unavailable, Effect::NotApplied);
    world.fault_injector.take_calls();
    world.pass(Duration::from_secs(19)).await;
    let calls = world.fault_injector.take_calls();
    let renewals = calls.iter().filter(|call| **call == "run").count();
    // From 6.7 s on, one a second.
    assert!((11..=13).contains(&renewals), "{calls:?}");
    drop(guard);
}

/// The lease is longer than this test: nothing here comes from a renewal.
#[tokio::test(start_paused = true)]
async fn a_holder_is_told_at_once_where_the_store_pushes() {
    for world in worlds() {
        for millis in [0, 49, 51, 5_000] {
            let locks = Locks::new(world.store()).lease(Duration::from_secs(3_600));
            let car = locks.group(layer_store::conformance::unique());
            let guard = car.try_acquire(["1", "2"]).await.unwrap();
            world.pass(Duration::from_millis(millis)).await;
            assert!(!guard.is_lost());
            let forced = Instant::now();
            assert_eq!(car.force_release("2").await.unwrap(), 1);
            let lost = tokio::spawn(guard.lost());
            world.pass(Duration::from_millis(100)).await;
            assert!(lost.is_finished(), "{millis} ms after the grant");
            assert!(forced.elapsed() <= Duration::from_millis(100));
            // What was left is given back.
            assert_eq!(car.held(["1", "2"]).await.unwrap(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_was_evicted_is_put_back_at_once_where_the_store_pushes() {
    for world in worlds() {
        let locks = Locks::new(world.store()).lease(Duration::from_secs(3_600));
        let guard = locks.group("car:7").try_acquire(["1"]).await.unwrap();
        world.pass(Duration::from_millis(100)).await;
        let space = KeySpace::new("lock", "unit");
        let key = Key::new(&space, IdentityRef::Text(b"car:7")).with_rest(b"1");
        assert!(world.store().delete(&CX, &key).await.unwrap());
        world.pass(Duration::from_millis(10)).await;
        assert!(!guard.is_lost());
        assert!(world.store().get(&CX, &key).await.unwrap().is_some());
        guard.release().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_held_for_a_moment_is_not_watched_and_a_longer_one_asks_little() {
    let world = World::far();
    let locks = Locks::new(world.store()).lease(Duration::from_secs(3_600));
    let guard = locks.group("car:7").try_acquire(["1"]).await.unwrap();
    world.pass(Duration::from_millis(40)).await;
    guard.release().await.unwrap();
    assert_eq!(world.fault_injector.take_calls(), ["run", "run"]);

    let guard = locks.group("car:7").try_acquire(["1"]).await.unwrap();
    world.pass(Duration::from_secs(60)).await;
    guard.release().await.unwrap();
    assert_eq!(
        world.fault_injector.take_calls(),
        ["run", "get_many", "run"]
    );
}

/// Nothing is known of a store that fails when a hint comes: the lock is held until its deadline.
#[tokio::test(start_paused = true)]
async fn a_hint_that_cannot_be_followed_loses_nothing() {
    let world = World::far();
    let car = locks(&world).group("car:7");
    let guard = car.try_acquire(["1"]).await.unwrap();
    world.fault_injector.inject_by(|op| {
        let looks = op.name() == "get_many";
        looks.then_some(Fault::Fail(ErrorKind::Unavailable, Effect::NotApplied))
    });
    world.pass(5 * LEASE).await;
    assert!(!guard.is_lost());
}

#[tokio::test(start_paused = true)]
async fn who_waits_gets_the_lock_when_it_is_given_back_in_the_order_in_which_they_came() {
    for world in worlds() {
        let locks = Locks::new(world.store()).lease(Duration::from_secs(3_600));
        let car = locks.group("car:7");
        let first = car.try_acquire(["1", "2"]).await.unwrap();
        let (told, mut order) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..16 {
            let (waits, told) = (car.acquire("1", Duration::from_secs(60)), told.clone());
            tokio::spawn(async move {
                let guard = waits.await.unwrap();
                told.send((number, Instant::now())).unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
                guard.release().await.unwrap();
            });
            settle().await;
        }
        // Another unit of the group is no matter of theirs.
        drop(car.acquire("3", Duration::ZERO).await.unwrap());
        world.pass(Duration::from_secs(1)).await;
        let begun = Instant::now();
        first.release().await.unwrap();
        for expected in 0..16 {
            let (number, at) = order.recv().await.unwrap();
            assert_eq!(number, expected);
            assert_eq!(at - begun, Duration::from_millis(5 * expected));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_bounded_and_one_that_leaves_lets_the_next_have_its_turn() {
    for world in worlds() {
        let locks = Locks::new(world.store()).lease(Duration::from_secs(3_600));
        let car = locks.group("car:7");
        let held = car.try_acquire("1").await.unwrap();
        let begun = Instant::now();
        let late = car.acquire("1", Duration::from_secs(2)).await;
        assert!(is_busy(late));
        assert_eq!(begun.elapsed(), Duration::from_secs(2));

        let leaves = tokio::spawn(car.acquire("1", Duration::from_secs(60)));
        settle().await;
        let next = tokio::spawn(car.acquire("1", Duration::from_secs(60)));
        settle().await;
        leaves.abort();
        settle().await;
        held.release().await.unwrap();
        world.pass(Duration::from_millis(50)).await;
        assert!(next.is_finished());
        next.await.unwrap().unwrap().release().await.unwrap();
        assert_eq!(car.held("1").await.unwrap(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_may_be_without_end() {
    for world in worlds() {
        let car = locks(&world).group("car:7");
        let held = car.try_acquire("1").await.unwrap();
        let waits = tokio::spawn(car.acquire("1", Duration::MAX));
        world.pass(LEASE).await;
        held.release().await.unwrap();
        world.pass(LEASE).await;
        waits.await.unwrap().unwrap().release().await.unwrap();
    }
}

/// A holder whose process died gives nothing back: its lease ends, and who waits sees that without a hint.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_dead_holder_gets_the_lock_at_the_end_of_its_lease() {
    for world in worlds() {
        let store = world.store();
        let locks = Locks::new(store).lease(LEASE);
        let car = locks.group("car:7");
        let dead = car.holder("1").unwrap();
        let caller = &dead.config().caller;
        let granted = caller.run(&mut Acquire::new(&dead)).await.unwrap();
        assert!(matches!(granted, Acquired::Granted { .. }));
        let waits = tokio::spawn(car.acquire("1", Duration::from_secs(60)));
        world.pass(LEASE - Duration::from_millis(10)).await;
        assert!(!waits.is_finished());
        world.pass(Duration::from_millis(40)).await;
        assert!(waits.is_finished());
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_ends_the_wait() {
    let world = World::far();
    let car = locks(&world).group("car:7");
    let _held = car.try_acquire("1").await.unwrap();
    let waits = tokio::spawn(car.acquire("1", Duration::from_secs(60)));
    settle().await;
    world
        .fault_injector
        .fail(ErrorKind::Unavailable, Effect::NotApplied);
    world.pass(Duration::from_millis(300)).await;
    let error = waits.await.unwrap().unwrap_err();
    assert!(matches!(error, AcquireError::Unavailable(_)));
}

#[tokio::test(start_paused = true)]
async fn an_operator_sees_who_holds_what_and_for_how_long() {
    for world in worlds() {
        let car = locks(&world).group("car:7");
        let guard = car.try_acquire(["2", "1"]).await.unwrap();
        world.pass(Duration::from_millis(20)).await;
        let held = car.inspect(["1", "2", "3"]).await.unwrap();
        assert_eq!(held.len(), 2);
        for (held, unit) in held.iter().zip([b"1", b"2"]) {
            assert_eq!((held.unit(), held.fence()), (&unit[..], guard.fence()));
            assert_eq!((held.mode(), held.holders()), (LockMode::Exclusive, 1));
            assert_eq!(held.ends_in(), LEASE - Duration::from_millis(20));
            let since = held.since().unwrap().duration_since(std::time::UNIX_EPOCH);
            assert_eq!(since.unwrap().as_micros() as u64, guard.fence());
        }
        guard.release().await.unwrap();
        assert!(car.inspect(["1", "2"]).await.unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_has_the_status_of_choice() {
    let world = World::near();
    let locked = locks(&world).busy_status(http::StatusCode::LOCKED);
    let _held = locked.group("car:7").try_acquire("1").await.unwrap();
    let error = locked.group("car:7").try_acquire("1").await.unwrap_err();
    assert_eq!(error.problem().status(), 423);
}

#[tokio::test(start_paused = true)]
async fn a_released_lock_is_nothing_to_rely_on() {
    for world in worlds() {
        let guard = locks(&world)
            .group("car:7")
            .try_acquire(["1"])
            .await
            .unwrap();
        let context = guard.context();
        assert!(!context.is_lost());
        assert_eq!(context.fence(), guard.fence());
        guard.release().await.unwrap();
        settle().await;
        assert!(context.is_lost());
        context.lost().await;
    }
}

#[tokio::test]
async fn units_are_counted_once_and_at_most_64() {
    let world = World::near();
    let car = locks(&world).group("car:7");
    let none: [&str; 0] = [];
    assert!(matches!(
        car.try_acquire(none).await,
        Err(AcquireError::NoUnits)
    ));
    let days = |count: usize| (0..count).map(|day| day.to_string());
    let error = car.try_acquire(days(65)).await.unwrap_err();
    assert!(error.to_string().contains("name at most 64"), "{error}");
    let guard = car.try_acquire(days(64).chain(days(64))).await.unwrap();
    assert_eq!(car.held(days(64)).await.unwrap(), 64);
    guard.release().await.unwrap();
}

#[test]
#[should_panic(expected = "a lease of 1ms cannot work: write 10 ms to 12 h")]
fn a_lease_that_cannot_work_is_refused_where_it_is_written() {
    let _ = Locks::new(SharedStore::new(MemoryStore::new())).lease(Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn debug_texts_show_the_fencing_token_and_never_the_holders() {
    let world = World::near();
    let locks = locks(&world);
    let car = locks.group("car:7");
    let guard = car.try_acquire("1").await.unwrap();
    let fence = guard.fence();
    let state = format!("fence: {fence}, is_lost: false, ..");
    assert_eq!(format!("{guard:?}"), format!("LockGuard {{ {state} }}"));
    let context = guard.context();
    assert_eq!(format!("{context:?}"), format!("LockContext {{ {state} }}"));
    let holder = format!("{:?}", car.holder("1").unwrap());
    assert!(holder.contains("token: HolderToken"), "{holder}");
    assert!(format!("{locks:?}").contains("lease: Lease(300ms)"));
}

#[test]
fn guards_and_locks_go_anywhere() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Locks>();
    check::<LockGroup>();
    check::<LockGuard>();
    check::<crate::LockContext>();
    check::<AcquireError>();
    fn is_send(_: impl Send + 'static) {}
    let locks = Locks::new(SharedStore::new(FaultInjector::new(MemoryStore::new())));
    is_send(locks.group("g").try_acquire(["1"]));
}

proptest! {
    #[test]
    fn overlapping_lists_never_both_win(
        lists in proptest::collection::vec(proptest::collection::vec(0_u8..12, 1..6), 1..40),
        releases in proptest::collection::vec(any::<proptest::sample::Index>(), 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let world = World::near();
            let car = locks(&world).group("car:7");
            let mut held: Vec<(BTreeSet<u8>, LockGuard)> = Vec::new();
            let mut releases = releases.iter();
            for list in &lists {
                let units: BTreeSet<u8> = list.iter().copied().collect();
                let free = held.iter().all(|(others, _)| others.is_disjoint(&units));
                let result = car.try_acquire(list.iter().map(|unit| [*unit])).await;
                prop_assert_eq!(result.is_ok(), free);
                if let Ok(guard) = result {
                    held.push((units, guard));
                } else if let Some(index) = releases.next() {
                    let (_, guard) = held.swap_remove(index.index(held.len()));
                    prop_assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::StillHeld);
                }
            }
            Ok(())
        })?;
    }
}
