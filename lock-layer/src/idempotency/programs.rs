//! The atomic steps of a record, each a Lua body and its Rust twin. The record is their only key.

use layer_store::{Arg, Output, Program, Retention, Transaction, Value};

use super::record;
use crate::program_args::{bytes, ttl};

/// Writes the record of an execution. Arguments: the time to keep it, the record.
pub(crate) static WRITE: Program = Program::new(
    "record_write",
    include_str!("lua/write.lua"),
    Retention::Pinned,
    write,
);

/// Removes the claim of an execution. Argument: the first 46 characters of the claim.
pub(crate) static REMOVE: Program = Program::new(
    "record_remove",
    include_str!("lua/remove.lua"),
    Retention::Pinned,
    remove,
);

fn write(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let (life, new) = (ttl(args, 0), bytes(args, 1));
    let allowed = transaction.get(0).is_none_or(|old| {
        old.with_bytes(|old| {
            let own = || same_range(old, new, 2, record::PREFIX_LEN);
            let state = || old.starts_with(b"1P") || same_range(old, new, 0, 2);
            old.is_empty() || (own() && state())
        })
    });
    if !allowed {
        return Output::ints(&[0]);
    }
    transaction.set(0, Value::from(new), life);
    Output::ints(&[1])
}

fn remove(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let claim = bytes(args, 0);
    let is_claim =
        |old: &[u8]| !old.is_empty() && &old[..old.len().min(record::PREFIX_LEN)] == claim;
    let is_own = transaction
        .get(0)
        .is_some_and(|old| old.with_bytes(is_claim));
    if !is_own {
        return Output::ints(&[0]);
    }
    transaction.delete(0);
    Output::ints(&[1])
}

/// Returns true if both have the same bytes from `start` to `end`. A text that ends before `end` is compared up to its end.
fn same_range(a: &[u8], b: &[u8], start: usize, end: usize) -> bool {
    a.get(start..a.len().min(end)) == b.get(start..b.len().min(end))
}
