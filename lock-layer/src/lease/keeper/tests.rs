use std::{
    sync::{
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use layer_store::{
    Effect, ErrorKind, MemoryStore, Op, SharedStore,
    conformance::{Fault, unique},
};
use tokio::{runtime::Runtime, time::advance};

use super::{rounds::rounds, *};
use crate::{
    LockGuard, Locks,
    testing::{World, settle, worlds},
};

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

fn memory() -> Locks {
    Locks::new(SharedStore::new(MemoryStore::new()))
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn pass(time: Duration) {
    advance(time).await;
    settle().await;
}

/// Takes locks of many groups, one unit each.
async fn hold(locks: &Locks, count: usize) -> Vec<LockGuard> {
    let mut guards = Vec::new();
    for _ in 0..count {
        guards.push(locks.group(unique()).try_acquire("1").await.unwrap());
    }
    guards
}

fn lost(guards: &[LockGuard]) -> usize {
    guards.iter().filter(|guard| guard.is_lost()).count()
}

#[tokio::test(start_paused = true)]
async fn all_locks_of_a_runtime_have_one_task_which_ends_after_the_last() {
    let locks = memory();
    let car = locks.group("car:7");
    for _ in 0..100 {
        let guard = car.try_acquire("1").await.unwrap();
        guard.release().await.unwrap();
        drop(car.try_acquire("1").await.unwrap());
        settle().await;
    }
    assert_eq!(tasks(), 1);
    let held = hold(&locks, 100).await;
    pass(millis(60)).await;
    assert_eq!(tasks(), 1);
    // Young, while others are not.
    let young = car.try_acquire("1").await.unwrap();
    pass(millis(200)).await;
    drop(young);
    pass(millis(200)).await;
    assert_eq!(tasks(), 1);
    for _ in 0..10 {
        pass(Duration::from_secs(10)).await;
        assert_eq!((lost(&held), tasks()), (0, 1));
    }
    drop(held);
    pass(millis(100)).await;
    pass(millis(100)).await;
    assert_eq!(tasks(), 0);
    assert!(locks.group("car:7").try_acquire("1").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_lock_of_a_short_lease_grows_up_in_time_to_be_renewed() {
    let car = memory().lease(millis(30)).group("car:7");
    // The task is about to end when the lock comes.
    drop(car.try_acquire("1").await.unwrap());
    pass(millis(9)).await;
    let guard = car.try_acquire("1").await.unwrap();
    for _ in 0..100 {
        pass(millis(1)).await;
        assert!(!guard.is_lost());
    }
}

/// A lock that comes while the task sleeps for the renewal of another one is watched all the same.
#[tokio::test(start_paused = true)]
async fn a_lock_that_comes_while_others_are_held_is_told_of_its_loss() {
    for world in worlds() {
        let locks = Locks::new(world.store()).lease(Duration::from_secs(3_600));
        let held = hold(&locks, 3).await;
        world.pass(Duration::from_secs(10)).await;
        let car = locks.group(unique());
        let guard = car.try_acquire("1").await.unwrap();
        world.pass(millis(60)).await;
        assert_eq!(car.force_release("1").await.unwrap(), 1);
        world.pass(millis(10)).await;
        assert!(guard.is_lost());
        assert_eq!(lost(&held), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_due_together_is_one_round_trip_of_a_bounded_size() {
    let world = World::far();
    let lease = Duration::from_secs(30);
    let locks = Locks::new(world.store()).lease(lease);
    let mut held = hold(&locks, 50).await;
    world.pass(millis(900)).await;
    // Due 0.9 s later, and with the others.
    held.extend(hold(&locks, 50).await);
    world.pass(millis(100)).await;
    world.fault_injector.take_calls();
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let seen = sizes.clone();
    world.fault_injector.inject_by(move |op| {
        if let Op::Batch(ops) = op
            && ops.iter().all(|op| op.name() == "run")
        {
            seen.lock().unwrap().push(ops.len());
        }
        None
    });
    world.pass(lease / 3).await;
    assert_eq!(*sizes.lock().unwrap(), [64, 36]);
    assert_eq!(lost(&held), 0);
    // So they stay together.
    world.pass(lease).await;
    assert_eq!(*sizes.lock().unwrap(), [64, 36].repeat(4));
    assert_eq!(lost(&held), 0);
}

#[test]
fn a_round_trip_has_at_most_64_locks_and_256_units_unless_one_has_more() {
    let sizes = |units: &[usize]| {
        let rounds = rounds(units.to_vec(), |units| *units);
        rounds.iter().map(Vec::len).collect::<Vec<_>>()
    };
    assert_eq!(sizes(&[]), [0_usize; 0]);
    assert_eq!(sizes(&[1; 64]), [64]);
    assert_eq!(sizes(&[1; 130]), [64, 64, 2]);
    assert_eq!(sizes(&[64; 9]), [4, 4, 1]);
    assert_eq!(sizes(&[300, 1, 1]), [1, 2]);
}

/// A renewal that hangs delays neither the renewals of others nor the word that another lock is gone.
#[tokio::test(start_paused = true)]
async fn one_slow_renewal_delays_nobody_else() {
    let world = World::far();
    let lease = Duration::from_secs(3);
    let locks = Locks::new(world.store()).lease(lease);
    let slow = hold(&locks, 1).await;
    world.pass(millis(500)).await;
    let others = hold(&locks, 100).await;
    let first = AtomicUsize::new(0);
    world.fault_injector.inject_by(move |op| {
        let renews = matches!(op, Op::Run { program, .. } if program.name() == "lock_extend");
        (renews && first.fetch_add(1, SeqCst) == 0).then_some(Fault::Hang)
    });
    // The first renewal hangs for the limit of a call, 500 ms. Meanwhile the others are due.
    world.pass(millis(510)).await;
    assert_eq!(world.fault_injector.in_flight(), 1);
    let gone = locks.group("car:7");
    let guard = gone.try_acquire("1").await.unwrap();
    world.pass(millis(60)).await;
    gone.force_release("1").await.unwrap();
    world.pass(millis(10)).await;
    assert!(guard.is_lost());
    assert_eq!(world.fault_injector.in_flight(), 1);
    world.pass(lease).await;
    assert_eq!((lost(&slow), lost(&others)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn of_many_locks_the_one_that_is_gone_is_lost_and_the_others_are_kept() {
    for world in worlds() {
        let locks = Locks::new(world.store()).lease(Duration::from_secs(6));
        let held = hold(&locks, 200).await;
        let car = locks.group("car:7");
        let guard = car.try_acquire(["1", "2"]).await.unwrap();
        world.pass(millis(100)).await;
        car.force_release("2").await.unwrap();
        world.pass(millis(20)).await;
        assert!(guard.is_lost());
        assert_eq!(car.held(["1", "2"]).await.unwrap(), 0);
        // A store that forgets everything.
        world.forget_everything();
        world.pass(Duration::from_secs(2)).await;
        assert_eq!(lost(&held), 200);
    }
}

/// One of a batch that fails is tried again; the others have their new deadlines.
#[tokio::test(start_paused = true)]
async fn a_round_trip_that_fails_is_tried_again() {
    let world = World::far();
    let lease = Duration::from_secs(3);
    let locks = Locks::new(world.store()).lease(lease);
    let held = hold(&locks, 100).await;
    world
        .fault_injector
        .fail(ErrorKind::Unavailable, Effect::NotApplied);
    world.pass(millis(2_500)).await;
    world.fault_injector.heal();
    world.pass(2 * lease).await;
    assert_eq!(lost(&held), 0);
    world.fault_injector.lose_replies(ErrorKind::Timeout);
    world.pass(lease).await;
    assert_eq!(lost(&held), 100);
}

/// A guard that ends while its lock is being renewed leaves word, which stands although nobody waits for the result.
#[tokio::test(start_paused = true)]
async fn what_a_guard_says_during_a_renewal_is_done_after_it() {
    let world = World::far();
    let lease = Duration::from_secs(3);
    let locks = Locks::new(world.store()).lease(lease);
    for keeps in [true, false] {
        let car = locks.group(unique());
        let guard = car.try_acquire("1").await.unwrap();
        world.pass(millis(900)).await;
        world.fault_injector.delay(millis(200));
        world.pass(millis(120)).await;
        assert_eq!(world.fault_injector.in_flight(), 1);
        let ending = match keeps {
            true => tokio::spawn(guard.keep(2 * lease)),
            false => tokio::spawn(guard.release()),
        };
        settle().await;
        ending.abort();
        world.pass(millis(600)).await;
        world.fault_injector.heal();
        assert_eq!(car.held("1").await.unwrap(), usize::from(keeps));
        world.pass(lease).await;
        assert_eq!(car.held("1").await.unwrap(), usize::from(keeps));
        world.pass(2 * lease).await;
        assert_eq!(car.held("1").await.unwrap(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_lock_that_has_ended() {
    for world in worlds() {
        let locks = Locks::new(world.store()).lease(Duration::from_secs(3_600));
        let _other = hold(&locks, 1).await;
        for wait in [0, 60] {
            let guard = locks.group("car:7").try_acquire("1").await.unwrap();
            world.pass(millis(wait)).await;
            let keeping = Arc::downgrade(&guard.keeping);
            guard.release().await.unwrap();
            settle().await;
            assert_eq!(keeping.strong_count(), 0, "after {wait} ms");
        }
    }
}

/// Each runtime renews its own locks: another one may stand still, or end.
#[test]
fn locks_outlive_runtimes_that_end_and_keep_none_alive() {
    let locks = memory().lease(millis(300));
    let runtime = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().build().unwrap()
    };
    let count = |locks: &Locks| {
        let group = locks.group("any").holder("1").unwrap();
        group.config().keepers.lock().len()
    };
    let first: Runtime = runtime();
    let orphan = first.block_on(async {
        let guard = locks.group("car:1").try_acquire("1").await.unwrap();
        tokio::time::sleep(millis(120)).await;
        guard
    });
    assert_eq!(count(&locks), 1);
    // It stands still now. Another one runs meanwhile, in which each lock is kept.
    let (tell, told) = mpsc::channel();
    let other = locks.clone();
    thread::spawn(move || {
        runtime().block_on(async {
            let guard = other.group("car:2").try_acquire("1").await.unwrap();
            tokio::time::sleep(millis(700)).await;
            tell.send((guard.is_lost(), tasks())).unwrap();
        });
    });
    assert_eq!(told.recv().unwrap(), (false, 1));
    // Nobody has renewed that of the runtime that stood still.
    assert!(orphan.is_lost());
    first.block_on(async { tokio::time::sleep(millis(10)).await });
    drop(first);
    let third = runtime();
    third.block_on(async {
        assert!(orphan.is_lost());
        orphan.release().await.ok();
        let guard = locks.group("car:1").try_acquire("1").await.unwrap();
        assert_eq!(count(&locks), 1);
        guard.release().await.unwrap();
    });
    drop(third);
    assert_eq!(count(&locks), 0);
}

/// The runtime of a lock ends while it is held elsewhere: it is not renewed, and lost at its own deadline.
#[test]
fn a_lock_whose_runtime_has_ended_is_lost_at_its_deadline_and_can_be_released_before() {
    let locks = memory().lease(Duration::from_secs(600));
    let runtime = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap()
    };
    let first = runtime();
    let [kept, released] = [0, 1].map(|number: u64| {
        first.block_on(async {
            let guard = locks.group(number).try_acquire("1").await.unwrap();
            tokio::time::sleep(millis(60)).await;
            guard
        })
    });
    drop(first);
    runtime().block_on(async {
        assert!(!kept.is_lost());
        let outcome = released.release().await.unwrap();
        assert_eq!(outcome, crate::ReleaseOutcome::StillHeld);
        kept.lost().await;
        assert!(kept.is_lost());
        drop(kept);
    });
}
