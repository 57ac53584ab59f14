//! Replays from copies in the process.

use std::time::Duration;

use http::{Method, StatusCode};
use layer_store::{Effect, ErrorKind};

use super::{Handler, both, is_replay, send};
use crate::{
    IdempotencyLayer, IdempotencyRefusal, RecordAddress,
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
