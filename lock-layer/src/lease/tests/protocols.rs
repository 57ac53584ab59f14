//! Each protocol without a store: the operation that it asks for, and its end for each reply.

use std::{fmt::Debug, time::Duration};

use layer_store::{
    Arg, ErrorKind, MemoryStore, Op, Output, Protocol, Reply, Scratch, SharedStore, StoreError,
    Value,
};

use crate::{
    Locks, ReleaseOutcome,
    lease::{
        acquire::{Acquire, Acquired},
        extend::{Extend, Extended},
        holder::Holder,
        operator::{CountHeld, Revoke},
        release::Release,
    },
};

fn holder(units: &[&str]) -> std::sync::Arc<Holder> {
    let locks = Locks::new(SharedStore::new(MemoryStore::new()));
    locks.group("car:7").holder(units).unwrap()
}

/// The operation that `protocol` asks for: the program, its keys and its arguments.
fn asks(protocol: &impl Protocol) -> (&'static str, Vec<String>, Vec<String>) {
    let mut scratch = Scratch::default();
    let (name, keys, args) = match protocol.ask(&mut scratch) {
        Op::Run {
            program,
            keys,
            args,
        } => (program.name(), keys, args),
        Op::GetMany(keys) => ("get_many", keys, &[][..]),
        op => panic!("{op:?}"),
    };
    let text = |key: &layer_store::Key<'_>| {
        let mut text = Vec::new();
        key.render(&mut text);
        String::from_utf8(text).unwrap()
    };
    let args = args.iter().map(|arg| match arg {
        Arg::Int(number) => number.to_string(),
        Arg::Bytes(bytes) => format!("{} bytes", bytes.len()),
        _ => panic!("an argument is a number or bytes"),
    });
    (name, keys.iter().map(text).collect(), args.collect())
}

fn take<T>(
    protocol: &mut impl Protocol<Output = Result<T, StoreError>>,
    numbers: &[i64],
) -> Result<T, ErrorKind> {
    let reply = Ok(Reply::Output(Output::ints(numbers)));
    protocol.take(reply).unwrap().map_err(|error| error.kind())
}

/// A reply of another operation and a lost one are errors, after which the protocol may be asked again.
fn check_errors<T: Debug>(protocol: &mut impl Protocol<Output = Result<T, StoreError>>) {
    let before = asks(protocol);
    let lost = StoreError::unknown(ErrorKind::Timeout);
    let error = protocol.take(Err(lost)).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let error = protocol.take(Ok(Reply::Pong)).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(asks(protocol), before);
}

const KEYS: [&str; 4] = [
    "{car%3A7}:lock:unit:a",
    "{car%3A7}:fence:unit:a",
    "{car%3A7}:lock:unit:b",
    "{car%3A7}:fence:unit:b",
];

#[test]
fn an_acquisition_is_granted_or_busy() {
    let holder = holder(&["b", "a"]);
    let mut acquire = Acquire::new(&holder);
    let (name, keys, args) = asks(&acquire);
    assert_eq!(
        (name, &keys[..]),
        ("lock_acquire", &KEYS.map(String::from)[..])
    );
    assert_eq!(args, ["22 bytes", "30000", "86400000"]);
    check_errors(&mut acquire);
    // A reply that was lost is followed by the grant, with the same token.
    assert_eq!(take(&mut acquire, &[7]), Ok(Acquired::Granted { fence: 7 }));
    let busy = |wait| {
        Ok(Acquired::Busy {
            wait: Duration::from_millis(wait),
        })
    };
    assert_eq!(take(&mut acquire, &[0, 7, 1]), busy(7));
    // A lock without an expiry, which Redis reports as -1.
    assert_eq!(take(&mut acquire, &[0, -1, 1]), busy(0));
    for wrong in [&[2, 7][..], &[-1], &[0], &[]] {
        assert_eq!(take(&mut acquire, wrong), Err(ErrorKind::Corrupt));
    }
}

#[test]
fn every_holder_has_a_token_of_its_own_and_keeps_it() {
    let token = |holder: &Holder| match holder.token_arg() {
        Arg::Bytes(token) => token.to_vec(),
        _ => panic!("a token is text"),
    };
    let (one, other) = (holder(&["a"]), holder(&["a"]));
    assert_eq!(token(&one), token(&one));
    assert_ne!(token(&one), token(&other));
}

#[test]
fn a_renewal_is_renewed_put_back_or_lost() {
    let holder = holder(&["a"]);
    let mut extend = Extend::new(&holder, 7);
    let (name, keys, args) = asks(&extend);
    assert_eq!((name, keys.len()), ("lock_extend", 2));
    assert_eq!(args, ["22 bytes", "7", "30000", "86400000"]);
    check_errors(&mut extend);
    assert_eq!(take(&mut extend, &[0]), Ok(Extended::Lost));
    assert_eq!(take(&mut extend, &[1]), Ok(Extended::Renewed));
    assert_eq!(take(&mut extend, &[2]), Ok(Extended::PutBack));
    for wrong in [&[3][..], &[-1], &[]] {
        assert_eq!(take(&mut extend, wrong), Err(ErrorKind::Corrupt));
    }
}

#[test]
fn a_release_finds_all_units_or_a_loss() {
    let holder = holder(&["a", "b"]);
    let mut release = Release::new(&holder, 7);
    let (name, keys, args) = asks(&release);
    assert_eq!((name, keys.len()), ("lock_release", 4));
    assert_eq!(args, ["22 bytes", "7"]);
    check_errors(&mut release);
    assert_eq!(take(&mut release, &[2]), Ok(ReleaseOutcome::StillHeld));
    for fewer in [0, 1] {
        assert_eq!(
            take(&mut release, &[fewer]),
            Ok(ReleaseOutcome::AlreadyLost)
        );
    }
    assert_eq!(take(&mut release, &[]), Err(ErrorKind::Corrupt));
    assert_eq!(asks(&Release::without_fence(&holder)).2[1], "0");
}

#[test]
fn operators_count_and_take_units() {
    let holder = holder(&["a", "b"]);
    let mut revoke = Revoke::new(&holder);
    let (name, keys, args) = asks(&revoke);
    assert_eq!((name, keys.len()), ("lock_revoke", 4));
    assert_eq!(args, ["86400000"]);
    check_errors(&mut revoke);
    assert_eq!(take(&mut revoke, &[2]), Ok(2));
    assert_eq!(take(&mut revoke, &[]), Err(ErrorKind::Corrupt));

    let mut count = CountHeld::new(&holder);
    let (name, keys, _) = asks(&count);
    assert_eq!(
        (name, &keys[..]),
        ("get_many", &[KEYS[0], KEYS[2]].map(String::from)[..])
    );
    check_errors(&mut count);
    let values = vec![None, Some(Value::from("token"))];
    assert_eq!(count.take(Ok(Reply::Values(values))).unwrap().unwrap(), 1);
    assert!(count.take(Ok(Reply::Values(vec![None]))).unwrap().is_err());
}
