//! Tests that every store must pass, and stores with faults for the tests of layers.
//!
//! Each of [`cases`] is a plain `async fn` about one behaviour. [`conformance_tests!`](crate::conformance_tests) makes a named
//! test of one backend from each. [`Store`](crate::Store) shows a whole backend that passes them.
//!
//! ```
//! # #[cfg(test)]
//! mod memory {
//!     use layer_store::{MemoryStore, conformance_tests};
//!
//!     conformance_tests!(async { MemoryStore::new() });
//! }
//! ```
//!
//! The expression is evaluated once for each test. It gives a [`Store`](crate::Store), or a [`Trial`] with a clock that the
//! cases move instead of waiting. Every case makes its own keys, so all of them can run at once on one server.
//!
//! # As a command
//!
//! [`main`] runs all cases in a program, prints a line for each, and returns the status: a whole `main` function is
//! `conformance::main(async { MyStore::new() })`. The example `custom-store` does that with an argument:
//!
//! ```text
//! cargo run --example custom-store -- --conformance
//! ```
//!
//! # The test of the kit
//!
//! [`BuggyStore`] puts one [`Bug`] at a time into a sound store. A test of this crate shows that some case catches each.
//!
//! # For tests of layers
//!
//! - [`FaultInjector`] records its operations and, when a test wants it, fails, hangs, delays or loses replies.
//! - [`schedules`] plays seeded schedules of several actors over one store that fails in every way.
//! - [`twins`] compares the Lua body of a [`Program`](crate::Program) with its Rust twin.

pub mod cases;
pub mod programs;
pub mod schedules;
pub mod twins;

mod buggy;
mod fault_injector;
mod golden;
mod logs;
mod names;
mod random;
mod report;
mod trial;

use std::{fmt, future::Future, pin::Pin};

use crate::StoreError;

pub use self::{
    buggy::{Bug, BuggyStore},
    fault_injector::{Fault, FaultInjector},
    names::unique,
    random::Random,
    report::{Report, main, run_all},
    trial::Trial,
};
#[doc(hidden)]
pub use self::{golden::Golden, logs::Logs};

/// Makes a named test of every conformance case, on the store or [`Trial`] that the future gives.
///
/// See [`conformance`](crate::conformance).
#[macro_export]
macro_rules! conformance_tests {
    ($make:expr) => {
        $crate::__conformance_cases! { __conformance_tests ($make) }
    };
}

/// One behaviour that every store must have.
#[derive(Clone, Copy)]
pub struct Case {
    name: &'static str,
    run: for<'a> fn(&'a Trial) -> CaseFuture<'a>,
}

impl Case {
    /// Returns the behaviour, as a sentence in snake case.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Tests a store for the behaviour.
    ///
    /// # Errors
    ///
    /// An operation failed that should have succeeded.
    ///
    /// # Panics
    ///
    /// If the store does not have the behaviour.
    pub async fn run(&self, trial: &Trial) -> Result<(), StoreError> {
        (self.run)(trial).await
    }

    /// Tests a store for the behaviour, on a new runtime with several threads, so that calls do race.
    ///
    /// # Panics
    ///
    /// If the store does not have the behaviour, or if this is called in a runtime.
    pub fn test<T: Into<Trial>>(&self, make: impl Future<Output = T>) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build()
            .expect("a runtime needs threads and nothing else");
        let result = runtime.block_on(async { self.run(&make.await.into()).await });
        if let Err(error) = result {
            panic!("an operation failed: {error:?}");
        }
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

type CaseFuture<'a> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

/// All cases, for a test runner of your own.
pub const CASES: &[Case] = crate::__conformance_cases! { __conformance_list () };

/// The list of cases, as the argument of another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cases {
    ($callback:ident $args:tt) => {
        $crate::$callback! { $args
            a_missing_key_is_absent
            a_value_is_kept_byte_for_byte
            an_empty_value_is_not_a_missing_one
            a_number_is_its_decimal_text
            an_object_is_its_bytes
            get_many_replies_in_order
            empty_lists_have_a_reply
            ping_has_a_reply
            delete_reports_whether_there_was_one
            delete_many_deletes_and_counts_all

            put_if_absent_keeps_the_first_value
            put_if_absent_has_one_winner_among_64
            compare_and_set_replaces_the_right_value_alone
            compare_and_set_has_one_winner_among_64
            compare_and_delete_is_for_the_owner
            compare_and_delete_deletes_nothing_newer

            a_value_ends_to_the_millisecond
            an_expired_value_is_absent_to_every_operation
            a_time_to_live_is_kept_in_milliseconds
            a_write_sets_the_expiry_anew
            keep_leaves_the_expiry_alone
            a_refused_write_changes_nothing
            touch_moves_the_expiry
            touch_only_longer_never_shortens

            add_sets_the_time_to_live_once
            add_begins_anew_after_the_expiry
            add_up_to_a_maximum_tells_the_integer
            add_beyond_64_bits_changes_nothing
            add_to_a_text_changes_nothing
            add_and_other_operations_see_one_integer
            adds_of_64_tasks_are_exact

            a_batch_replies_in_order
            a_batch_goes_on_after_a_failure

            a_program_never_exceeds_its_limit
            a_program_over_two_keys_keeps_their_sum
            a_program_sees_no_other_half_done
            a_program_reads_and_writes_what_operations_do
            a_program_takes_and_gives_any_bytes
            a_program_sees_time_pass
            a_program_needs_one_tag
            a_program_needs_keys_and_none_twice

            hostile_keys_are_apart
            parts_of_a_key_do_not_run_together
            prefixes_are_apart

            a_scan_lists_the_keys_of_its_space
            a_scan_misses_no_key_that_stays
            a_scan_stays_within_its_prefixes
            a_scan_lists_hostile_keys
            a_scan_lists_what_is_there_alone

            a_watch_hints_at_every_change
            every_watch_of_a_key_gets_the_hint
            a_watch_goes_through_a_prefix

            call_replies_without_call_now
            call_now_without_a_reply_did_nothing
            dropped_calls_shift_no_reply
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_list {
    (() $($case:ident)*) => {
        &[$($crate::conformance::Case {
            name: stringify!($case),
            run: |trial| Box::pin($crate::conformance::cases::$case(trial)),
        }),*]
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    (($make:expr) $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::conformance::case(stringify!($case)).test($make);
            }
        )*
    };
}

/// Returns the case with this name.
#[doc(hidden)]
pub fn case(name: &str) -> Case {
    *CASES
        .iter()
        .find(|case| case.name == name)
        .expect("both lists come from one macro")
}
