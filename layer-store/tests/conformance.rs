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

/// Each bug, and the case that is about it.
const CAUGHT_BY: &[(Bug, &str)] = &[
    (
        Bug::IgnoresEquals,
        "compare_and_set_replaces_the_right_value_alone",
    ),
    (Bug::RacesAbsent, "put_if_absent_has_one_winner_among_64"),
    (Bug::HidesExisting, "put_if_absent_keeps_the_first_value"),
    (Bug::RefusedMovesExpiry, "a_refused_write_changes_nothing"),
    (Bug::DeletesOthers, "compare_and_delete_is_for_the_owner"),
    (
        Bug::RacesDeletes,
        "compare_and_delete_deletes_nothing_newer",
    ),
    (Bug::DeletesFirstOnly, "delete_many_deletes_and_counts_all"),
    (Bug::TouchShortens, "touch_only_longer_never_shortens"),
    (Bug::TouchCreates, "touch_moves_the_expiry"),
    (Bug::ForgetsExpiry, "keep_leaves_the_expiry_alone"),
    (Bug::EqualsForgetsExpiry, "keep_leaves_the_expiry_alone"),
    (Bug::CountsSeconds, "a_time_to_live_is_kept_in_milliseconds"),
    (Bug::NeverExpires, "a_value_ends_to_the_millisecond"),
    (Bug::HidesEmpty, "an_empty_value_is_not_a_missing_one"),
    (Bug::KeepsText, "a_value_is_kept_byte_for_byte"),
    (Bug::CutsLong, "a_value_is_kept_byte_for_byte"),
    (Bug::CutsAtNul, "a_value_is_kept_byte_for_byte"),
    (Bug::RoundsNumbers, "a_number_is_its_decimal_text"),
    (Bug::SkipsMissing, "get_many_replies_in_order"),
    (Bug::MergesRepeated, "get_many_replies_in_order"),
    (Bug::BatchStops, "a_batch_goes_on_after_a_failure"),
    (Bug::BatchReadsFirst, "a_batch_replies_in_order"),
    (Bug::RacesPrograms, "a_program_never_exceeds_its_limit"),
    (Bug::TearsPrograms, "a_program_sees_no_other_half_done"),
    (Bug::RunsTwice, "a_program_never_exceeds_its_limit"),
    (Bug::IgnoresTags, "a_program_needs_one_tag"),
    (Bug::IgnoresPrefixes, "prefixes_are_apart"),
    (Bug::ShiftsReplies, "dropped_calls_shift_no_reply"),
    (Bug::ActsUnasked, "call_now_without_a_reply_did_nothing"),
];

#[tokio::test]
async fn each_bug_is_caught_by_the_case_that_is_about_it() {
    let named: Vec<Bug> = CAUGHT_BY.iter().map(|(bug, _)| *bug).collect();
    assert_eq!(named, Bug::ALL);
    for &(bug, about) in CAUGHT_BY {
        let mut caught = Vec::new();
        for case in CASES {
            let (store, clock) = memory();
            let trial = Trial::with_clock(BuggyStore::new(store, bug), clock);
            if !passes(*case, trial).await {
                caught.push(case.name());
            }
        }
        println!("{bug:?}: {}", caught.join(", "));
        assert!(caught.contains(&about), "{about} does not catch {bug:?}");
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
