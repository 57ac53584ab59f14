//! Work without HTTP: job workers, consumers of queues, CLIs.

use std::{
    cell::Cell,
    convert::Infallible,
    io,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use layer_store::{Effect, ErrorKind, Op, conformance::Fault};
use serde::{Deserialize, Serialize};

use super::fail_program;
use crate::{
    Idempotent, RunError, RunTracker,
    testing::{World, settle, worlds},
};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Invoice {
    number: u32,
    to: String,
}

fn both(world: &World) -> [Idempotent; 2] {
    [
        Idempotent::at_most_once(world.store()),
        Idempotent::retry_safe(world.store()),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_key_is_worked_on_once_and_its_result_is_typed() {
    for world in worlds() {
        for jobs in both(&world) {
            let (key, runs) = (layer_store::conformance::unique(), Cell::new(0));
            for _ in 0..3 {
                let invoice = jobs.run(&key, async || {
                    runs.set(runs.get() + 1);
                    let to = "ada".into();
                    Ok::<_, Infallible>(Invoice { number: 7, to })
                });
                let to = "ada".into();
                assert_eq!(invoice.await.unwrap(), Invoice { number: 7, to });
            }
            assert_eq!(runs.get(), 1);
            // Another name is another key, and another type is not what was kept.
            let other = jobs.clone().name("other");
            other
                .run(&key, async || Ok::<_, Infallible>(1))
                .await
                .unwrap();
            let number: Result<u32, _> = jobs.run(&key, async || Ok::<_, Infallible>(1)).await;
            assert!(matches!(number, Err(RunError::ResultNotKept)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_failed_or_panicked_follows_the_retry_policy() {
    for world in worlds() {
        for (jobs, repeats) in both(&world).into_iter().zip([false, true]) {
            let key = layer_store::conformance::unique();
            let failed = jobs.run::<u32, _, _>(&key, async || Err(io::Error::other("no")));
            let error = failed.await.unwrap_err();
            assert!(matches!(&error, RunError::Failed(_)) && error.to_string() == "no");
            let next = jobs.run(&key, async || Ok::<_, Infallible>(1)).await;
            match repeats {
                true => assert_eq!(next.unwrap(), 1),
                false => assert!(matches!(next, Err(RunError::OutcomeUnknown))),
            }

            let key = layer_store::conformance::unique();
            let (panics, asked) = (jobs.clone(), key.clone());
            let first = tokio::spawn(async move {
                let work = async || panic!("as it was asked to");
                panics.run::<u32, Infallible, _>(asked, work).await.is_ok()
            });
            let panic = first.await.unwrap_err().into_panic();
            assert_eq!(panic.downcast_ref(), Some(&"as it was asked to"));
            let next = jobs.run(&key, async || Ok::<_, Infallible>(1)).await;
            assert_eq!(next.is_ok(), repeats);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_workers_with_one_key_do_not_both_work_and_a_long_run_is_renewed() {
    for world in worlds() {
        for jobs in both(&world) {
            let jobs = jobs.expected_run(Duration::from_secs(1));
            let key = layer_store::conformance::unique();
            let (first, asked) = (jobs.clone(), key.clone());
            let first = tokio::spawn(async move {
                let work = async || {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    Ok::<_, Infallible>(1)
                };
                first.run(asked, work).await.unwrap()
            });
            settle().await;
            for _ in 0..4 {
                let second = jobs.run(&key, async || Ok::<_, Infallible>(2)).await;
                assert!(matches!(
                    second,
                    Err(RunError::InProgress | RunError::OutcomeUnknown)
                ));
                world.pass(Duration::from_secs(1)).await;
            }
            world.pass(Duration::from_secs(2)).await;
            assert_eq!(first.await.unwrap(), 1);
            let again = jobs.run(&key, async || Ok::<_, Infallible>(2)).await;
            assert_eq!(again.unwrap(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_store_nothing_is_done_and_a_closed_tracker_begins_nothing() {
    let world = World::far();
    for jobs in both(&world) {
        let work = async || -> Result<u32, Infallible> { panic!("it must not run") };
        world
            .fault_injector
            .fail(ErrorKind::Unavailable, Effect::NotApplied);
        let refused = jobs.run("1", work).await;
        assert!(matches!(refused, Err(RunError::Unavailable(_))));
        assert!(jobs.once("1", Duration::from_secs(9)).await.is_err());
        world.fault_injector.heal();
        let tracker = RunTracker::new();
        tracker.close();
        let refused = jobs.tracked_by(&tracker).run("1", work).await;
        assert!(matches!(refused, Err(RunError::Closing)));
    }
}

/// A worker that is dropped while it claims leaves no claim; one that is dropped while it works leaves what its policy says.
#[tokio::test(start_paused = true)]
async fn a_worker_that_is_dropped_at_any_moment_leaves_what_its_policy_says() {
    let world = World::far();
    for (jobs, repeats) in both(&world).into_iter().zip([false, true]) {
        for millis in 0..40 {
            let key = layer_store::conformance::unique();
            let begun = AtomicUsize::new(0);
            world.fault_injector.delay(Duration::from_millis(10));
            let first = jobs.run(&key, async || {
                begun.fetch_add(1, SeqCst);
                tokio::time::sleep(Duration::from_secs(60)).await;
                Ok::<_, Infallible>(1)
            });
            let dropped = tokio::time::timeout(Duration::from_millis(millis), first).await;
            assert!(dropped.is_err());
            world.pass(Duration::from_millis(100)).await;
            world.fault_injector.heal();
            // The next call of any kind settles what was interrupted.
            let other = layer_store::conformance::unique();
            jobs.run(&other, async || Ok::<_, Infallible>(0))
                .await
                .unwrap();
            settle().await;
            let next = jobs.run(&key, async || Ok::<_, Infallible>(2)).await;
            match begun.load(SeqCst) == 0 || repeats {
                true => assert_eq!(next.unwrap(), 2, "dropped after {millis} ms"),
                false => assert!(matches!(next, Err(RunError::OutcomeUnknown))),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_is_kept_later_if_the_store_is_away_and_its_tracker_waits() {
    let world = World::far();
    for jobs in both(&world) {
        let tracker = RunTracker::new();
        let jobs = jobs.tracked_by(&tracker);
        let key = layer_store::conformance::unique();
        fail_program(&world, "record_write", Effect::NotApplied);
        assert_eq!(
            jobs.run(&key, async || Ok::<_, Infallible>(1))
                .await
                .unwrap(),
            1
        );
        assert_eq!(tracker.running(), 1);
        world.fault_injector.heal();
        tracker.wait().await;
        let again = jobs.run(&key, async || Ok::<_, Infallible>(2)).await;
        assert_eq!(again.unwrap(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn once_is_true_for_the_first_and_again_after_its_time() {
    for world in worlds() {
        let jobs = Idempotent::retry_safe(world.store());
        let second = Duration::from_secs(1);
        assert!(jobs.once("1", second).await.unwrap());
        assert!(!jobs.once("1", second).await.unwrap());
        assert!(jobs.once("2", second).await.unwrap());
        assert!(jobs.clone().name("other").once("1", second).await.unwrap());
        for (key, longest) in [("3", Duration::ZERO), ("4", Duration::MAX)] {
            assert!(jobs.once(key, longest).await.unwrap());
            assert!(!jobs.once(key, longest).await.unwrap());
        }
        // It is apart from the keys of runs.
        assert_eq!(
            jobs.run("1", async || Ok::<_, Infallible>(1))
                .await
                .unwrap(),
            1
        );
        world.pass(second).await;
        assert!(jobs.once("1", second).await.unwrap());
    }
    // A key that was taken though the reply was lost is known as its own.
    let world = World::far();
    let jobs = Idempotent::retry_safe(world.store());
    let mut calls = 0;
    world.fault_injector.inject_by(move |op| {
        calls += usize::from(matches!(op, Op::Set { .. }));
        (calls == 1).then_some(Fault::LoseReply(ErrorKind::Timeout))
    });
    assert!(jobs.once("1", Duration::from_secs(9)).await.unwrap());
    assert!(!jobs.once("1", Duration::from_secs(9)).await.unwrap());
}
