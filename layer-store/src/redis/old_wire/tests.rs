use proptest::prelude::*;
use redis::parse_redis_value;

use super::*;
use crate::{Effect, IdentityRef, KeySpace, Program, Retention, Ttl};

static PROGRAM: Program = Program::new("p", "return {1}", Retention::Pinned, |_, _| {
    Output::ints(&[1])
});

const A: &str = "{a}:data:s";

/// The words of the command for an operation.
fn words(op: &Op<'_>, scripts: Scripts) -> Vec<String> {
    let Plan::Send(command, _) = plan(op, scripts).unwrap() else {
        panic!("nothing is sent for {op:?}");
    };
    command
        .args_iter()
        .map(|arg| match arg {
            redis::Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn key<'a>(space: &'a KeySpace, name: &'a str) -> Key<'a> {
    Key::new(space, IdentityRef::Text(name.as_bytes()))
}

fn space() -> KeySpace {
    KeySpace::new("data", "s")
}

fn wire(text: &str) -> Wire {
    parse_redis_value(text.as_bytes()).unwrap()
}

fn read(expected: Expected, text: &str) -> Result<Reply, StoreError> {
    Ok(expected.read(wire(text))?)
}

#[test]
fn operations_are_native_commands() {
    let space = space();
    let (a, b) = (key(&space, "a"), key(&space, "b"));
    let (value, old) = (Value::pair(7, 3), Value::from("old"));
    let ttl = Ttl::from_millis(1_500).unwrap();
    let keys = [a, b];
    let set = |expiry, condition| {
        let op = Op::Set {
            key: &a,
            value: &value,
            expiry,
            condition,
            retention: Retention::Pinned,
        };
        words(&op, Scripts::ByText)
    };
    assert_eq!(words(&Op::Get(&a), Scripts::BySha1), ["GET", A]);
    assert_eq!(
        words(&Op::GetMany(&keys), Scripts::BySha1),
        ["MGET", A, "{b}:data:s"]
    );
    assert_eq!(
        words(&Op::DeleteMany(&keys), Scripts::BySha1),
        ["DEL", A, "{b}:data:s"]
    );
    assert_eq!(words(&Op::Ping, Scripts::BySha1), ["PING"]);

    assert_eq!(
        set(ttl.into(), Condition::Always),
        ["SET", A, "7:3", "PX", "1500"]
    );
    assert_eq!(set(Expiry::NEVER, Condition::Always), ["SET", A, "7:3"]);
    assert_eq!(
        set(Expiry::KEEP, Condition::Always),
        ["SET", A, "7:3", "KEEPTTL"]
    );
    assert_eq!(
        set(ttl.into(), Condition::Absent),
        ["SET", A, "7:3", "PX", "1500", "NX", "GET"]
    );
    for (expiry, life) in [
        (ttl.into(), "1500"),
        (Expiry::NEVER, "never"),
        (Expiry::KEEP, "keep"),
    ] {
        let script = COMPARE_AND_SET.text;
        assert_eq!(
            set(expiry, Condition::Equals(&old)),
            ["EVAL", script, "1", A, "old", life, "7:3"]
        );
    }

    let delete = |if_equals| words(&Op::Delete { key: &a, if_equals }, Scripts::ByText);
    assert_eq!(delete(None), ["DEL", A]);
    assert_eq!(
        delete(Some(&old)),
        ["EVAL", COMPARE_AND_DELETE.text, "1", A, "old"]
    );

    let touch = |only_longer| {
        words(
            &Op::Touch {
                key: &a,
                ttl,
                only_longer,
            },
            Scripts::BySha1,
        )
    };
    assert_eq!(touch(false), ["PEXPIRE", A, "1500"]);
    assert_eq!(touch(true), ["PEXPIRE", A, "1500", "GT"]);
}

#[test]
fn a_script_goes_by_its_sha1_or_its_text() {
    let space = space();
    let keys = [key(&space, "a"), key(&space, "a").with_rest(b"x")];
    let args = [Arg::Int(-5), Arg::Bytes(b"x y")];
    let op = Op::Run {
        program: &PROGRAM,
        keys: &keys,
        args: &args,
    };
    let rest = ["2", A, "{a}:data:s:x", "-5", "x y"];
    let (by_sha1, by_text) = (words(&op, Scripts::BySha1), words(&op, Scripts::ByText));
    assert_eq!(by_sha1[2..], rest);
    assert_eq!(by_text[2..], rest);
    assert_eq!(by_sha1[0], "EVALSHA");
    assert_eq!(by_text[..2], ["EVAL", "return {1}"]);
    // FIPS 180-4, of "abc".
    assert_eq!(&*sha1("abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    assert_eq!(by_sha1[1], *sha1(PROGRAM.lua()));
}

#[test]
fn what_needs_no_command_is_answered_here() {
    for (op, reply) in [
        (Op::GetMany(&[]), Reply::Values(Vec::new())),
        (Op::DeleteMany(&[]), Reply::Count(0)),
    ] {
        match plan(&op, Scripts::BySha1) {
            Ok(Plan::Done(done)) => assert_eq!(format!("{done:?}"), format!("{reply:?}")),
            _ => panic!("{op:?} is sent"),
        }
    }
}

#[test]
fn impossible_operations_are_refused_before_anything_is_sent() {
    let space = space();
    let a = key(&space, "a");
    let (cross, twice) = ([a, key(&space, "b")], [a, a]);
    let many: Vec<_> = vec![a; 129];
    let run = |keys| Op::Run {
        program: &PROGRAM,
        keys,
        args: &[],
    };
    for (op, kind) in [
        (run(&cross), ErrorKind::CrossTag),
        (run(&twice), ErrorKind::Rejected),
        (run(&[]), ErrorKind::Rejected),
        (run(&many), ErrorKind::Rejected),
        (Op::Batch(&[]), ErrorKind::Rejected),
    ] {
        let Err(error) = plan(&op, Scripts::BySha1) else {
            panic!("{op:?} is sent");
        };
        assert_eq!((error.kind(), error.effect()), (kind, Effect::NotApplied));
    }
    assert!(check_size(MAX_VALUE).is_ok());
    assert_eq!(
        check_size(MAX_VALUE + 1).unwrap_err().kind(),
        ErrorKind::TooLarge
    );
}

#[test]
fn replies_of_both_protocols_are_read() {
    let some = |text: &str| Some(Value::from(text));
    for (expected, text, reply) in [
        (Expected::Value, "$2\r\nab\r\n", Reply::Value(some("ab"))),
        (Expected::Value, "$-1\r\n", Reply::Value(None)),
        (Expected::Value, "_\r\n", Reply::Value(None)),
        (
            Expected::Values(2),
            "*2\r\n$1\r\na\r\n$-1\r\n",
            Reply::Values(vec![some("a"), None]),
        ),
        (
            Expected::Values(2),
            "*2\r\n_\r\n$0\r\n\r\n",
            Reply::Values(vec![None, some("")]),
        ),
        (Expected::Stored, "+OK\r\n", stored()),
        (Expected::StoredIfAbsent, "$-1\r\n", stored()),
        (Expected::StoredIfAbsent, "_\r\n", stored()),
        (Expected::StoredIfAbsent, "$1\r\na\r\n", refused(some("a"))),
        (Expected::StoredIfEqual, "*1\r\n:1\r\n", stored()),
        (
            Expected::StoredIfEqual,
            "*2\r\n:0\r\n$1\r\na\r\n",
            refused(some("a")),
        ),
        (
            Expected::StoredIfEqual,
            "*2\r\n:0\r\n$-1\r\n",
            refused(None),
        ),
        (Expected::StoredIfEqual, "*2\r\n:0\r\n_\r\n", refused(None)),
        (Expected::Count, ":3\r\n", Reply::Count(3)),
        (Expected::Output, "*0\r\n", Reply::Output(Output::ints(&[]))),
        (
            Expected::Output,
            "*2\r\n:1\r\n:-2\r\n",
            Reply::Output(Output::ints(&[1, -2])),
        ),
        (Expected::Pong, "+PONG\r\n", Reply::Pong),
    ] {
        let read = read(expected, text).unwrap();
        assert_eq!(
            format!("{read:?}"),
            format!("{reply:?}"),
            "{expected:?} {text:?}"
        );
    }
    let Ok(Reply::Output(data)) = read(Expected::Output, "*3\r\n:1\r\n$1\r\na\r\n_\r\n") else {
        panic!("no data");
    };
    assert_eq!(data.int(0), Some(1));
    assert_eq!(data.value(1), Some(&Value::from("a")));
    let mut wanted = Output::ints(&[1]);
    wanted.push_value("a".into());
    wanted.push_nil();
    assert_eq!(data, wanted);
}

#[test]
fn a_reply_of_another_shape_is_corrupt_and_may_be_applied() {
    for (expected, text) in [
        (Expected::Value, ":1\r\n"),
        (Expected::Value, "+OK\r\n"),
        (Expected::Value, "*1\r\n$1\r\na\r\n"),
        (Expected::Values(2), "*1\r\n$1\r\na\r\n"),
        (Expected::Values(1), "*1\r\n:1\r\n"),
        (Expected::Values(1), "$-1\r\n"),
        (Expected::Stored, "$-1\r\n"),
        (Expected::Stored, "+QUEUED\r\n"),
        (Expected::StoredIfAbsent, "+OK\r\n"),
        (Expected::StoredIfEqual, "*0\r\n"),
        (Expected::StoredIfEqual, "*1\r\n:2\r\n"),
        (Expected::StoredIfEqual, "*2\r\n:0\r\n:0\r\n"),
        (Expected::Count, ":-1\r\n"),
        (Expected::Count, "$1\r\n1\r\n"),
        (Expected::Output, ":1\r\n"),
        (Expected::Output, "*1\r\n*0\r\n"),
        (Expected::Output, "*1\r\n-ERR inside\r\n"),
        (Expected::Output, "%1\r\n:1\r\n:1\r\n"),
        (Expected::Pong, "+OK\r\n"),
        (Expected::Pong, "$4\r\nPONG\r\n"),
    ] {
        let error = read(expected, text).unwrap_err();
        let what = (error.kind(), error.effect());
        assert_eq!(
            what,
            (ErrorKind::Corrupt, Effect::Unknown),
            "{expected:?} {text:?}"
        );
    }
}

#[test]
fn a_missing_script_and_a_replica_are_known() {
    assert!(is_missing_script(&wire(
        "-NOSCRIPT No matching script.\r\n"
    )));
    assert!(!is_missing_script(&wire("-ERR NOSCRIPT\r\n")));
    assert!(is_of_a_replica(&wire(
        "-READONLY You can't write against a read only replica.\r\n"
    )));
    assert!(is_of_a_replica(&wire(
        "-MASTERDOWN Link with MASTER is down\r\n"
    )));
    assert!(!is_of_a_replica(&wire("-ERR READONLY\r\n")));
}

proptest! {
    /// Whatever a server sends, no reader panics.
    #[test]
    fn no_reply_is_trusted(bytes in proptest::collection::vec(prop_oneof![
        Just(b'*'), Just(b'$'), Just(b':'), Just(b'+'), Just(b'-'), Just(b'_'), Just(b'%'),
        Just(b'0'), Just(b'1'), Just(b'2'), Just(b'a'), Just(b'\r'), Just(b'\n'),
    ], 0..40)) {
        if let Ok(value) = parse_redis_value(&bytes) {
            for expected in [
                Expected::Value, Expected::Values(1), Expected::Stored, Expected::StoredIfAbsent,
                Expected::StoredIfEqual, Expected::Count, Expected::Output, Expected::Pong,
            ] {
                let _ = expected.read(value.clone());
            }
        }
    }
}
