//! Replays from copies in the process.

use std::{convert::Infallible, time::Duration};

use http::{Method, StatusCode};
use layer_store::{Effect, ErrorKind};

use super::{Handler, both, is_replay, send};
use crate::{
    IdempotencyLayer, IdempotencyRefusal, Idempotent, RecordAddress, RunError,
    testing::{World, post, text, worlds},
};

const BELIEVED: Duration = Duration::from_secs(5);

fn copying(layer: IdempotencyLayer) -> IdempotencyLayer {
    layer.local_copies(1 << 20, BELIEVED)
}

#[tokio::test(start_paused = true)]
async fn the_second_replay_costs_no_command_and_the_next_one_after_its_time_does() {
    for world in worlds() {
        for layer in both(&world).map(copying) {
            let service = Handler::new().counting(&layer);
            let key = layer_store::conformance::unique();
            let calls = || world.fault_injector.calls().len();
            send(&service, post(&key, "")).await;
            for (replay, commands) in [(1, 1), (2, 0), (3, 0)] {
                let before = calls();
                let again = send(&service, post(&key, "")).await;
                assert!(is_replay(&again));
                assert_eq!(again.headers()["location"], "/bookings/1");
                assert_eq!(text(again).await, "run 1");
                assert_eq!(calls() - before, commands, "replay {replay}");
            }
            let other = send(&service, post(&key, "another body")).await;
            assert_eq!(other.status(), StatusCode::UNPROCESSABLE_ENTITY);
            world.pass(BELIEVED).await;
            let before = calls();
            assert!(is_replay(&send(&service, post(&key, "")).await));
            assert_eq!(calls() - before, 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_without_http_is_copied_too_and_forgotten_with_its_record() {
    for world in worlds() {
        for jobs in [
            Idempotent::at_most_once(world.store()),
            Idempotent::retry_safe(world.store()),
        ] {
            let jobs = jobs.local_copies(1 << 20, BELIEVED);
            let key = layer_store::conformance::unique();
            let run = async |number: u32| {
                let before = world.fault_injector.calls().len();
                let result = jobs
                    .run(&key, async || Ok::<_, Infallible>(number))
                    .await
                    .unwrap();
                (result, world.fault_injector.calls().len() - before)
            };
            assert_eq!(run(1).await.0, 1);
            assert_eq!(run(2).await, (1, 1));
            assert_eq!(run(3).await, (1, 0));
            // Another type is not what was kept, in a copy either.
            let text = jobs.run(&key, async || Ok::<_, Infallible>(String::new()));
            assert!(matches!(text.await, Err(RunError::ResultNotKept)));
            jobs.tracker().close();
            assert_eq!(run(4).await, (1, 0));
            world.pass(BELIEVED).await;
            let closed = jobs.run(&key, async || Ok::<_, Infallible>(5)).await;
            assert!(matches!(closed, Err(RunError::Closing)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_copied_result_is_forgotten_with_its_record() {
    let world = World::far();
    let jobs = Idempotent::retry_safe(world.store()).local_copies(1 << 20, BELIEVED);
    let mut runs = 0;
    for expected in [1, 1, 1] {
        let result = jobs.run("1", async || {
            runs += 1;
            Ok::<_, Infallible>(runs)
        });
        assert_eq!(result.await.unwrap(), expected);
    }
    let records = jobs.handle();
    let name = crate::idempotency::fingerprint::run_name("", b"1");
    let found = records.find_by_name(name.as_str()).await.unwrap().unwrap();
    assert!(records.forget(&found).await.unwrap());
    let again = jobs.run("1", async || Ok::<_, Infallible>(2)).await;
    assert_eq!(again.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_replay_from_a_copy_needs_no_store() {
    let world = World::far();
    let [layer, _] = both(&world).map(copying);
    let service = Handler::new().counting(&layer);
    send(&service, post("1", "")).await;
    send(&service, post("1", "")).await;
    world
        .fault_injector
        .fail(ErrorKind::Unavailable, Effect::NotApplied);
    assert!(is_replay(&send(&service, post("1", "")).await));
    layer.tracker().close();
    assert!(is_replay(&send(&service, post("1", "")).await));
}

/// An operator at this process is believed at once. Others hear of it when their copies end.
#[tokio::test(start_paused = true)]
async fn what_an_operator_forgets_runs_again() {
    for world in worlds() {
        for layer in both(&world).map(copying) {
            let [here, there] = [layer.clone(), layer.clone().local_copies(1 << 20, BELIEVED)];
            let handler = Handler::new();
            let [here_served, there_served] = [handler.counting(&here), handler.counting(&there)];
            let key = layer_store::conformance::unique();
            for service in [&here_served, &here_served, &there_served] {
                send(service, post(&key, "")).await;
            }
            let address = RecordAddress::new("", Method::POST, "/bookings", &key).by_path();
            let records = here.handle();
            let found = records.find(&address).await.unwrap().unwrap();
            assert!(records.forget(&found).await.unwrap());
            assert!(!is_replay(&send(&here_served, post(&key, "")).await));
            assert_eq!(handler.runs(), 2);
            assert_eq!(
                text(send(&there_served, post(&key, "")).await).await,
                "run 1"
            );
            world.pass(BELIEVED).await;
            assert_eq!(
                text(send(&there_served, post(&key, "")).await).await,
                "run 2"
            );
            assert_eq!(handler.runs(), 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_body_was_not_kept_is_known_without_a_command() {
    let world = World::far();
    let [layer, _] = both(&world).map(|layer| copying(layer).max_response_body(1));
    let service = Handler::new().counting(&layer);
    send(&service, post("1", "")).await;
    send(&service, post("1", "")).await;
    let before = world.fault_injector.calls().len();
    let again = send(&service, post("1", "")).await;
    let status = StatusCode::CREATED;
    let refusal = IdempotencyRefusal::BodyNotKept { status };
    assert_eq!(again.extensions().get(), Some(&refusal));
    assert_eq!(world.fault_injector.calls().len(), before);
}
