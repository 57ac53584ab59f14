//! The kit on the memory store, with and without waiting, and the test of the kit itself.
//!
//! On a clock that the cases move it runs in `src/memory/tests.rs`.

use layer_store::{
    Clock, ManualClock, MemoryStore,
    conformance::{Bug, BuggyStore, CASES, Case, FaultInjector, Trial},
};

/// It never waits, on the system's clock.
mod memory {
    use super::*;

    layer_store::conformance_tests!(async { MemoryStore::new() });
}

/// Every call waits.
mod memory_behind_a_network {
    use super::*;

    layer_store::conformance_tests!(async { FaultInjector::new(MemoryStore::new()).networked() });
}

/// Spans and metrics round a store change nothing.
mod memory_observed {
    use super::*;

    #[cfg(feature = "metrics")]
    layer_store::conformance_tests!(async {
        let waits = FaultInjector::new(MemoryStore::new()).networked();
        layer_store::wrap::Traced::new(layer_store::wrap::Metrics::new(waits))
    });
    #[cfg(not(feature = "metrics"))]
    layer_store::conformance_tests!(async { layer_store::wrap::Traced::new(MemoryStore::new()) });
}

#[tokio::test]
async fn each_bug_is_caught() {
    for &bug in Bug::ALL {
        let mut caught = Vec::new();
        for case in CASES {
            let (store, clock) = memory();
            let trial = Trial::with_clock(BuggyStore::new(store, bug), clock);
            if !passes(*case, trial).await {
                caught.push(case.name());
            }
        }
        println!("{bug:?}: {}", caught.join(", "));
        assert!(!caught.is_empty(), "no case catches {bug:?}");
        assert!(
            caught.len() * 3 <= CASES.len() * 2,
            "{bug:?} breaks everything, which shows nothing: {caught:?}"
        );
    }
}

#[test]
fn every_case_is_there_once() {
    let mut names: Vec<_> = CASES.iter().map(Case::name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), CASES.len());
}

fn memory() -> (MemoryStore, ManualClock) {
    let (clock, hand) = Clock::manual(1_767_225_600_000_000);
    (MemoryStore::with_clock(100_000, clock), hand)
}

/// Returns true if the case neither fails nor panics.
async fn passes(case: Case, trial: Trial) -> bool {
    let run = tokio::spawn(async move { case.run(&trial).await });
    matches!(run.await, Ok(Ok(())))
}
