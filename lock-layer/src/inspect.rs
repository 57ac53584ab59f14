//! What an operator sees of locks and records.

use std::time::Duration;

use layer_store::{
    Arg, Key, Op, Output, Program, Protocol, Reply, Retention, Scratch, StoreError, Transaction,
    Ttl, Value,
};

/// Looks at keys, and changes nothing. No arguments.
pub(crate) static INSPECT: Program = Program::new(
    "lock_inspect",
    include_str!("lua/inspect.lua"),
    Retention::Pinned,
    inspect,
)
// `GET` and `PTTL`.
.billed(0, 2);

fn inspect(transaction: &mut Transaction<'_>, _: &[Arg<'_>]) -> Output {
    let mut output = Output::new();
    for index in 0..transaction.len() {
        match transaction.get(index).cloned() {
            Some(value) => output.push_value(value),
            None => output.push_nil(),
        }
        let left = transaction.ttl(index).map(Ttl::as_millis);
        output.push_int(left.map_or(-2, |left| left as i64));
    }
    output
}

/// A value, and the time until it ends.
pub(crate) type Seen = Option<(Value, Duration)>;

/// Looks at some keys: one operation.
pub(crate) struct Inspect<'a>(pub(crate) &'a [Key<'a>]);

impl Protocol for Inspect<'_> {
    type Output = Result<Vec<Seen>, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        Op::Run {
            program: &INSPECT,
            keys: self.0,
            args: &[],
        }
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        let count = self.0.len();
        let output = reply.and_then(Reply::into_output);
        Some(output.and_then(|output| match output.len() == 2 * count {
            true => Ok((0..count).map(|index| seen(&output, index)).collect()),
            false => Err(Reply::unexpected()),
        }))
    }
}

fn seen(output: &Output, index: usize) -> Seen {
    let value = output.value(2 * index)?.clone();
    let left = output.int(2 * index + 1)?.max(0) as u64;
    Some((value, Duration::from_millis(left)))
}
