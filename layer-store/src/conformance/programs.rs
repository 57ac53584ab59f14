//! Small programs that the cases run, each a Lua body and its twin.

use crate::{Arg, Class, Data, Datum, Program, Ttl, Txn, Value};

/// Counts the key up to a limit. Arguments: the limit; the time to live in ms. Reply: 1 if it was counted; the count.
pub static LIMITED: Program = Program::new(
    "limited",
    include_str!("lua/limited.lua"),
    Class::Pinned,
    limited,
);

/// Moves an amount from the first key to the second, if it is there. Arguments: the amount; the time to live in ms.
/// Reply: 1 if it was moved; what is left; what the other has.
pub static TRANSFER: Program = Program::new(
    "transfer",
    include_str!("lua/transfer.lua"),
    Class::Pinned,
    transfer,
);

/// Changes nothing. Reply: for each key its value or nil, and its life left in ms (-1: for ever, -2: nothing there).
pub static LOOK: Program =
    Program::new("look", include_str!("lua/look.lua"), Class::Evictable, look);

/// Writes the time under the key. Argument: the time to live in ms. Reply: now; the stamp before or 0; in Unix µs.
pub static STAMP: Program =
    Program::new("stamp", include_str!("lua/stamp.lua"), Class::Pinned, stamp);

/// Writes any bytes under the key. Arguments: the time to live in ms; the bytes. Reply: the bytes; nil.
pub static WRITE: Program = Program::new(
    "write",
    include_str!("lua/write.lua"),
    Class::Evictable,
    write,
);

fn limited(txn: &mut Txn<'_>, args: &[Arg<'_>]) -> Data {
    let count = number(txn, 0);
    if count >= int(args, 0) {
        return Data::ints(&[0, count]);
    }
    put(txn, 0, count + 1, ttl(args, 1));
    Data::ints(&[1, count + 1])
}

fn transfer(txn: &mut Txn<'_>, args: &[Arg<'_>]) -> Data {
    let amount = int(args, 0);
    let (from, to) = (number(txn, 0), number(txn, 1));
    if from < amount {
        return Data::ints(&[0, from, to]);
    }
    let (from, to) = (from - amount, to + amount);
    match from {
        0 => txn.delete(0),
        _ => put(txn, 0, from, ttl(args, 1)),
    }
    put(txn, 1, to, ttl(args, 1));
    Data::ints(&[1, from, to])
}

fn look(txn: &mut Txn<'_>, _: &[Arg<'_>]) -> Data {
    let mut reply = Vec::with_capacity(2 * txn.len());
    for index in 0..txn.len() {
        let value = txn.get(index).cloned();
        let life = match (&value, txn.ttl(index)) {
            (None, _) => -2,
            (Some(_), None) => -1,
            (Some(_), Some(ttl)) => ttl.as_millis() as i64,
        };
        reply.push(value.map_or(Datum::Nil, Datum::Value));
        reply.push(Datum::Int(life));
    }
    reply.into()
}

fn stamp(txn: &mut Txn<'_>, args: &[Arg<'_>]) -> Data {
    let now = txn.now() as i64;
    let before = number(txn, 0);
    put(txn, 0, now, ttl(args, 0));
    Data::ints(&[now, before])
}

fn write(txn: &mut Txn<'_>, args: &[Arg<'_>]) -> Data {
    let bytes = Value::from(args[1].bytes().expect("the last argument is bytes"));
    txn.set(0, bytes.clone(), ttl(args, 0));
    vec![Datum::Value(bytes), Datum::Nil].into()
}

fn number(txn: &Txn<'_>, index: usize) -> i64 {
    txn.get(index)
        .and_then(Value::as_pair)
        .map_or(0, |(number, _)| number as i64)
}

fn put(txn: &mut Txn<'_>, index: usize, number: i64, ttl: Ttl) {
    txn.set(index, Value::pair(number as u64, 0), ttl);
}

fn int(args: &[Arg<'_>], index: usize) -> i64 {
    args[index].int().expect("a number")
}

fn ttl(args: &[Arg<'_>], index: usize) -> Ttl {
    Ttl::from_millis(int(args, index) as u64).expect("a time to live is not zero")
}
