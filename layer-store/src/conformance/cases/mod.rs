//! The cases. Each is a plain `async fn` about one behaviour and named after it.
//!
//! # Errors
//!
//! Each case returns the store's error if an operation fails that should have succeeded.
//!
//! # Panics
//!
//! Each case panics if the store does not behave as its name says.

mod batches;
mod calls;
mod conditions;
mod expiry;
mod keys;
mod programs;
mod values;

pub use self::{
    batches::{a_batch_goes_on_after_a_failure, a_batch_replies_in_order},
    calls::{
        call_now_without_a_reply_did_nothing, call_replies_without_call_now,
        dropped_calls_shift_no_reply,
    },
    conditions::{
        compare_and_delete_deletes_nothing_newer, compare_and_delete_is_for_the_owner,
        compare_and_set_has_one_winner_among_64, compare_and_set_replaces_the_right_value_alone,
        put_if_absent_has_one_winner_among_64, put_if_absent_keeps_the_first_value,
    },
    expiry::{
        a_refused_write_changes_nothing, a_time_to_live_is_kept_in_milliseconds,
        a_value_ends_to_the_millisecond, a_write_sets_the_expiry_anew,
        an_expired_value_is_absent_to_every_operation, keep_leaves_the_expiry_alone,
        touch_moves_the_expiry, touch_only_longer_never_shortens,
    },
    keys::{hostile_keys_are_apart, parts_of_a_key_do_not_run_together, prefixes_are_apart},
    programs::{
        a_program_needs_keys_and_none_twice, a_program_needs_one_tag,
        a_program_never_exceeds_its_limit, a_program_over_two_keys_keeps_their_sum,
        a_program_reads_and_writes_what_operations_do, a_program_sees_no_other_half_done,
        a_program_sees_time_pass, a_program_takes_and_gives_any_bytes,
    },
    values::{
        a_missing_key_is_absent, a_number_is_its_decimal_text, a_value_is_kept_byte_for_byte,
        an_empty_value_is_not_a_missing_one, delete_many_deletes_and_counts_all,
        delete_reports_whether_there_was_one, empty_lists_have_a_reply, get_many_replies_in_order,
        ping_has_a_reply,
    },
};

use super::{Trial, names::Names, programs::LOOK};
use crate::{
    Condition, Context, Expiry, Key, Op, Reply, Retention, Store, StoreError, StoreExt, Ttl, Value,
};

type CaseResult = Result<(), StoreError>;

const CX: Context = Context::new("conformance");
/// A time to live that is longer than any case runs.
const LONG: Ttl = ms(600_000);

const fn ms(millis: u64) -> Ttl {
    match Ttl::from_millis(millis) {
        Some(ttl) => ttl,
        None => panic!("a time to live is not zero"),
    }
}

/// Returns the rest of the time to live of a value, in milliseconds: -1 for ever, -2 if there is no value.
async fn life(store: &impl Store, key: &Key<'_>) -> Result<i64, StoreError> {
    let seen = store.run(&CX, &LOOK, &[*key], &[]).await?;
    Ok(seen.int(1).expect("the second element is the life left"))
}

/// Applies an [`Op::Set`]. Returns true if it was applied, and else the existing value.
async fn set(
    store: &impl Store,
    key: &Key<'_>,
    value: &str,
    expiry: impl Into<Expiry>,
    condition: Condition<'_>,
) -> Result<(bool, Option<Value>), StoreError> {
    let op = Op::Set {
        key,
        value: &value.into(),
        expiry: expiry.into(),
        condition,
        retention: Retention::Pinned,
    };
    match store.apply(&op, &CX).await? {
        Reply::Set { applied, existing } => Ok((applied, existing)),
        other => panic!("a set replied {other:?}"),
    }
}

fn text(value: Option<Value>) -> Option<String> {
    value.map(|value| String::from_utf8_lossy(&value.to_bytes()).into_owned())
}
