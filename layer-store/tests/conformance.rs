//! The kit on the memory store, in the ways that a store answers; and the kit's own test.

use layer_store::{
    Clock, ManualClock, MemoryStore,
    conformance::{Bug, BuggyStore, CASES, Case, FaultInjector, Trial},
};

/// It answers at once, on the system's clock.
mod memory {
    use super::*;

    layer_store::conformance_tests!(async { MemoryStore::new() });
}

/// It answers at once, on a clock that the cases move: expiry to the microsecond.
mod memory_on_a_manual_clock {
    use super::*;

    layer_store::conformance_tests!(async {
        let (store, clock) = memory();
        Trial::with_clock(store, clock)
    });
}

/// It makes its callers wait.
mod memory_behind_a_network {
    use super::*;

    layer_store::conformance_tests!(async { FaultInjector::new(MemoryStore::new()).networked() });
}

#[tokio::test]
async fn each_seeded_fault_is_caught() {
    for &fault in Bug::ALL {
        let mut caught = Vec::new();
        for case in CASES {
            let (store, clock) = memory();
            let trial = Trial::with_clock(BuggyStore::new(store, fault), clock);
            if !passes(*case, trial).await {
                caught.push(case.name());
            }
        }
        println!("{fault:?}: {}", caught.join(", "));
        assert!(!caught.is_empty(), "no case catches {fault:?}");
        assert!(
            caught.len() * 3 <= CASES.len() * 2,
            "{fault:?} breaks everything, which shows nothing: {caught:?}"
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

/// Neither fails nor panics.
async fn passes(case: Case, trial: Trial) -> bool {
    let run = tokio::spawn(async move { case.run(&trial).await });
    matches!(run.await, Ok(Ok(())))
}
