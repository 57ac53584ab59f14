use std::panic::{AssertUnwindSafe, catch_unwind};

use layer_store::MemoryStore;

use super::*;

fn layer() -> IdempotencyLayer {
    let store = SharedStore::new(MemoryStore::new());
    IdempotencyLayer::at_most_once(store, ClientScope::global())
}

#[test]
fn an_impossible_setting_says_what_to_write() {
    type Setter = fn(IdempotencyLayer) -> IdempotencyLayer;
    let settings: [(Setter, &str); 10] = [
        (|layer| layer.methods([]), "such as Method::POST"),
        (
            |layer| layer.grpc_methods([]),
            "such as \"/cars.Cars/Book\"",
        ),
        (
            |layer| layer.grpc_methods(["Book"]),
            "\"Book\" is no method of gRPC: write its path",
        ),
        (|layer| layer.max_request_body(0), "such as 1 << 20"),
        (|layer| layer.max_response_body(0), "such as 1 << 20"),
        (
            |layer| layer.keep_for(Duration::from_millis(999)),
            "999ms is too short for records: write at least Duration::from_secs(1)",
        ),
        (
            |layer| layer.expected_run(Duration::ZERO),
            "0ns is too short for a run: write at least Duration::from_secs(1)",
        ),
        (
            |layer| layer.keep_for(Duration::MAX),
            "too long for records: write at most ten years",
        ),
        (
            |layer| {
                layer
                    .expected_run(Duration::from_secs(60))
                    .keep_for(Duration::from_secs(59))
            },
            "a run of 60s outlives a record that is kept for 59s",
        ),
        (
            |layer| layer.expected_run(Duration::from_secs(86_401)),
            "a run of 86401s outlives a record that is kept for 86400s",
        ),
    ];
    for (set, text) in settings {
        let panic = catch_unwind(AssertUnwindSafe(|| set(layer()))).unwrap_err();
        let message = match panic.downcast_ref::<String>() {
            Some(message) => message.as_str(),
            None => panic.downcast_ref::<&str>().unwrap(),
        };
        assert!(message.contains(text), "{message}");
    }
}

#[test]
fn the_smallest_settings_are_possible() {
    let layer = layer()
        .max_request_body(1)
        .max_response_body(1)
        .keep_for(Duration::from_secs(1));
    // The run that is expected is no longer than its record is kept, in any order.
    let layer = layer.expected_run(Duration::from_secs(1));
    assert_eq!(layer.config.max_request_body, 1);
    assert_eq!(layer.config.max_response_body, 1);
    assert_eq!(layer.config.keep_for().as_millis(), 1_000);
    assert_eq!(layer.config.expected_run().as_millis(), 1_000);
    let text = format!("{layer:?}");
    assert!(
        text.contains("AtMostOnce") && text.contains("enabled: true"),
        "{text}"
    );
}
