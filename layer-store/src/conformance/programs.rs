//! Small programs that the cases run, each a Lua body and its twin.

use crate::{Arg, Output, Program, Retention, Transaction, Ttl, Value};

/// Counts up to a limit. Arguments: the limit; the time to live in ms. Output: 1 if it was counted; the count.
pub static LIMITED: Program = Program::new(
    "limited",
    include_str!("lua/limited.lua"),
    Retention::Pinned,
    limited,
);

/// Moves an amount from the first key to the second, if it is there. Arguments: the amount; the time to live in ms.
/// Output: 1 if it was moved; the rest of the first; the amount of the second.
pub static TRANSFER: Program = Program::new(
    "transfer",
    include_str!("lua/transfer.lua"),
    Retention::Pinned,
    transfer,
);

/// Changes nothing. Output: for each key its value or nil, and the rest of its time to live in ms (-1: for ever, -2: no value).
pub static LOOK: Program = Program::new(
    "look",
    include_str!("lua/look.lua"),
    Retention::Evictable,
    look,
);

/// Writes the time under the key. Argument: the time to live in ms. Output: now; the time that was there before, or 0; in Unix µs.
pub static STAMP: Program = Program::new(
    "stamp",
    include_str!("lua/stamp.lua"),
    Retention::Pinned,
    stamp,
);

/// Writes any bytes under the key. Arguments: the time to live in ms; the bytes. Output: the bytes; nil.
pub static WRITE: Program = Program::new(
    "write",
    include_str!("lua/write.lua"),
    Retention::Evictable,
    write,
);

fn limited(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let count = number(transaction, 0);
    if count >= int(args, 0) {
        return Output::ints(&[0, count]);
    }
    put(transaction, 0, count + 1, ttl(args, 1));
    Output::ints(&[1, count + 1])
}

fn transfer(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let amount = int(args, 0);
    let (from, to) = (number(transaction, 0), number(transaction, 1));
    if from < amount {
        return Output::ints(&[0, from, to]);
    }
    let (from, to) = (from - amount, to + amount);
    match from {
        0 => transaction.delete(0),
        _ => put(transaction, 0, from, ttl(args, 1)),
    }
    put(transaction, 1, to, ttl(args, 1));
    Output::ints(&[1, from, to])
}

fn look(transaction: &mut Transaction<'_>, _: &[Arg<'_>]) -> Output {
    let mut output = Output::new();
    for index in 0..transaction.len() {
        let value = transaction.get(index).cloned();
        let life = match (&value, transaction.ttl(index)) {
            (None, _) => -2,
            (Some(_), None) => -1,
            (Some(_), Some(ttl)) => ttl.as_millis() as i64,
        };
        match value {
            Some(value) => output.push_value(value),
            None => output.push_nil(),
        }
        output.push_int(life);
    }
    output
}

fn stamp(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let now = transaction.now() as i64;
    let before = number(transaction, 0);
    put(transaction, 0, now, ttl(args, 0));
    Output::ints(&[now, before])
}

fn write(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let bytes = Value::from(args[1].bytes().expect("the last argument is bytes"));
    transaction.set(0, bytes.clone(), ttl(args, 0));
    let mut output = Output::new();
    output.push_value(bytes);
    output.push_nil();
    output
}

fn number(transaction: &Transaction<'_>, index: usize) -> i64 {
    transaction
        .get(index)
        .and_then(Value::as_pair)
        .map_or(0, |(number, _)| number as i64)
}

fn put(transaction: &mut Transaction<'_>, index: usize, number: i64, ttl: Ttl) {
    transaction.set(index, Value::pair(number as u64, 0), ttl);
}

fn int(args: &[Arg<'_>], index: usize) -> i64 {
    args[index].int().expect("a number")
}

fn ttl(args: &[Arg<'_>], index: usize) -> Ttl {
    Ttl::from_millis(int(args, index) as u64).expect("a time to live is not zero")
}
