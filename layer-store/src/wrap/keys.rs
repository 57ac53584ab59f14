//! The keys of an operation, for wrappers that look at them.

use std::slice;

use crate::{Key, Op};

/// Returns the operations of a batch, or the operation itself.
pub(super) fn parts<'a>(op: &'a Op<'a>) -> &'a [Op<'a>] {
    match op {
        Op::Batch(ops) => ops,
        op => slice::from_ref(op),
    }
}

/// Returns the keys of an operation that is no batch. A scan has none.
pub(super) fn of<'a>(op: &Op<'a>) -> &'a [Key<'a>] {
    match op {
        Op::Get(key)
        | Op::Set { key, .. }
        | Op::Delete { key, .. }
        | Op::Touch { key, .. }
        | Op::Add { key, .. } => slice::from_ref(key),
        Op::GetMany(keys) | Op::DeleteMany(keys) | Op::Run { keys, .. } => keys,
        Op::Scan(_) | Op::Batch(_) | Op::Ping => &[],
    }
}

/// Returns the keys that an operation may write, if it is no batch.
pub(super) fn written_by<'a>(op: &Op<'a>) -> &'a [Key<'a>] {
    match op {
        Op::Get(_) | Op::GetMany(_) => &[],
        op => of(op),
    }
}
