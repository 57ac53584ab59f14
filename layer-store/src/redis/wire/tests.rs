use bytes::BytesMut;
use proptest::prelude::*;

use super::{
    expected::{refused, stored},
    lua::sha1,
    *,
};
use crate::{
    Cursor, Effect, IdentityRef, KeySpace, Output, Program, Retention, Scan, Ttl,
    redis::resp::Parser,
};

static PROGRAM: Program = Program::new("p", "return {1}", Retention::Pinned, |_, _| {
    Output::ints(&[1])
});

const A: &str = "{a}:data:s";

/// The words of the command for an operation, on a server that has everything.
fn words(op: &Op<'_>, scripts: Scripts<'_>) -> Vec<String> {
    words_with(op, scripts, Features::default())
}

fn words_with(op: &Op<'_>, scripts: Scripts<'_>, features: Features) -> Vec<String> {
    let mut out = Vec::new();
    let Plan::Send(_) = plan(op, scripts, features, &mut out).unwrap() else {
        panic!("nothing is sent for {op:?}");
    };
    let RespValue::Array(words) = wire_bytes(&out) else {
        panic!("{out:?} is no command");
    };
    words.iter().map(|word| word.to_text().unwrap()).collect()
}

fn key<'a>(space: &'a KeySpace, name: &'a str) -> Key<'a> {
    Key::new(space, IdentityRef::Text(name.as_bytes()))
}

fn space() -> KeySpace {
    KeySpace::new("data", "s")
}

fn wire(text: &str) -> RespValue {
    wire_bytes(text.as_bytes())
}

fn wire_bytes(bytes: &[u8]) -> RespValue {
    let mut buffer = BytesMut::from(bytes);
    let value = Parser::default().next(&mut buffer).unwrap().unwrap();
    assert!(buffer.is_empty(), "more than one value");
    value
}

const fn added(applied: bool, value: i64) -> Reply {
    Reply::Added { applied, value }
}

fn read(expected: Expected<'_>, text: &str) -> Result<Reply, StoreError> {
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
        words(&op, Scripts::Text)
    };
    assert_eq!(words(&Op::Get(&a), Scripts::Text), ["GET", A]);
    assert_eq!(
        words(&Op::GetMany(&keys), Scripts::Text),
        ["MGET", A, "{b}:data:s"]
    );
    assert_eq!(
        words(&Op::DeleteMany(&keys), Scripts::Text),
        ["DEL", A, "{b}:data:s"]
    );
    assert_eq!(words(&Op::Ping, Scripts::Text), ["PING"]);

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
        let script = lua::COMPARE_AND_SET.text();
        assert_eq!(
            set(expiry, Condition::Equals(&old)),
            ["EVAL", script, "1", A, "old", life, "7:3"]
        );
    }

    let delete = |if_equals| words(&Op::Delete { key: &a, if_equals }, Scripts::Text);
    assert_eq!(delete(None), ["DEL", A]);
    assert_eq!(
        delete(Some(&old)),
        ["EVAL", lua::COMPARE_AND_DELETE.text(), "1", A, "old"]
    );

    let touch = |only_longer| {
        words(
            &Op::Touch {
                key: &a,
                ttl,
                only_longer,
            },
            Scripts::Text,
        )
    };
    assert_eq!(touch(false), ["PEXPIRE", A, "1500"]);
    assert_eq!(touch(true), ["PEXPIRE", A, "1500", "GT"]);
}

#[test]
fn a_script_goes_as_text_once_or_each_time() {
    let space = space();
    let keys = [key(&space, "a"), key(&space, "a").with_rest(b"x")];
    let args = [Arg::Int(-5), Arg::Bytes(b"x y")];
    let op = Op::Run {
        program: &PROGRAM,
        keys: &keys,
        args: &args,
    };
    let rest = ["2", A, "{a}:data:s:x", "-5", "x y"];
    let sent = SentScripts::new();
    let once = Scripts::TextOnce(&sent);
    for scripts in [Scripts::Text, Scripts::Text, once] {
        let by_text = words(&op, scripts);
        assert_eq!(by_text[..2], ["EVAL", "return {1}"]);
        assert_eq!(by_text[2..], rest);
    }
    let by_sha1 = words(&op, once);
    assert_eq!(by_sha1[0], "EVALSHA");
    assert_eq!(by_sha1[2..], rest);
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
        match plan(&op, Scripts::Text, Features::default(), &mut Vec::new()) {
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
        let mut out = b"before".to_vec();
        let Err(error) = plan(&op, Scripts::Text, Features::default(), &mut out) else {
            panic!("{op:?} is sent");
        };
        assert_eq!((error.kind(), error.effect()), (kind, Effect::NotApplied));
        assert_eq!(out, b"before");
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
        (Expected::StoredIfEqual, ":1\r\n", stored()),
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
        (
            Expected::Output,
            ":7\r\n",
            Reply::Output(Output::ints(&[7])),
        ),
        (Expected::Added, ":-7\r\n", added(true, -7)),
        (
            Expected::Added,
            "$19\r\n9223372036854775807\r\n",
            added(true, i64::MAX),
        ),
        (Expected::Added, "*1\r\n$2\r\n-3\r\n", added(false, -3)),
        (Expected::Pong, "+PONG\r\n", Reply::Pong),
    ] {
        let read = read(expected, text).unwrap();
        assert_eq!(
            format!("{read:?}"),
            format!("{reply:?}"),
            "{expected:?} {text:?}"
        );
    }
    let Ok(Reply::Output(data)) = read(Expected::Output, "$1\r\na\r\n") else {
        panic!("no data");
    };
    assert_eq!((data.len(), data.value(0)), (1, Some(&Value::from("a"))));
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
        (Expected::StoredIfEqual, ":2\r\n"),
        (Expected::StoredIfEqual, "*1\r\n:1\r\n"),
        (Expected::StoredIfEqual, "*2\r\n:0\r\n:0\r\n"),
        (Expected::Count, ":-1\r\n"),
        (Expected::Count, "$1\r\n1\r\n"),
        (Expected::Output, "+OK\r\n"),
        (Expected::Output, "_\r\n"),
        (Expected::Added, "+OK\r\n"),
        (Expected::Added, "$1\r\na\r\n"),
        (Expected::Added, "$20\r\n99999999999999999999\r\n"),
        (Expected::Added, "*0\r\n"),
        (Expected::Added, "*2\r\n:1\r\n:1\r\n"),
        (Expected::Added, "_\r\n"),
        (Expected::Output, "*1\r\n*0\r\n"),
        (Expected::Output, "*1\r\n-ERR inside\r\n"),
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
    assert!(is_unauthenticated(&wire(
        "-NOAUTH Authentication required.\r\n"
    )));
    assert!(!is_unauthenticated(&wire("+NOAUTH\r\n")));
    // Redis 6 wraps what ends a script.
    assert!(is_of_a_replica(&wire(
        "-ERR Error running script (call to f_1f): @user_script:1: @user_script: 1: -READONLY no\r\n"
    )));
}

#[test]
fn an_addition_is_one_command_unless_it_has_conditions() {
    let space = space();
    let key = key(&space, "a");
    let ttl = Ttl::from_millis(1_500);
    let add = |delta, ttl, max| {
        let key = &key;
        words(
            &Op::Add {
                key,
                delta,
                ttl,
                max,
            },
            Scripts::Text,
        )
    };
    let script = lua::ADD.text();
    assert_eq!(add(-5, None, None), ["INCRBY", A, "-5"]);
    assert_eq!(add(5, ttl, None), ["EVAL", script, "1", A, "5", "1500"]);
    assert_eq!(
        add(i64::MIN, None, Some(-7)),
        [
            "EVAL",
            script,
            "1",
            A,
            "-9223372036854775808",
            "never",
            "-7"
        ]
    );
    assert_eq!(
        add(1, ttl, Some(0)),
        ["EVAL", script, "1", A, "1", "1500", "0"]
    );
}

#[test]
fn a_scan_is_one_page_of_its_space() {
    let space = space();
    let scan = Scan::new(&space).from(Cursor::new(7)).limit(50);
    assert_eq!(
        words(&Op::Scan(&scan), Scripts::Text),
        ["SCAN", "7", "MATCH", "{*}:data:s*", "COUNT", "50"]
    );
    let page = |text| match read(Expected::Page(&scan), text) {
        Ok(Reply::Page(page)) => {
            let keys = page.keys.iter().map(|key| key.as_str().to_owned());
            (keys.collect::<Vec<_>>(), page.next)
        }
        other => panic!("{other:?}"),
    };
    // The pattern also matches a space whose name begins alike.
    let some = "*2\r\n$2\r\n42\r\n*2\r\n$10\r\n{a}:data:s\r\n$11\r\n{a}:data:st\r\n";
    assert_eq!(page(some), (vec![A.to_owned()], Some(Cursor::new(42))));
    assert_eq!(page("*2\r\n$1\r\n0\r\n*0\r\n"), (vec![], None));
    for text in [
        "*0\r\n",
        "*1\r\n$1\r\n0\r\n",
        "*2\r\n$1\r\nx\r\n*0\r\n",
        "*2\r\n$1\r\n0\r\n$1\r\na\r\n",
        "*2\r\n$1\r\n0\r\n*1\r\n:1\r\n",
        "_\r\n",
    ] {
        let error = read(Expected::Page(&scan), text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{text:?}");
    }
}

#[test]
fn a_script_stands_in_for_each_missing_feature() {
    let space = space();
    let key = key(&space, "a");
    let (value, old) = (Value::from("v"), Value::from("old"));
    let ttl = Ttl::from_millis(1_500).unwrap();
    let old_server = Features::of_version((5, 0));
    let set = |expiry, condition| {
        let op = Op::Set {
            key: &key,
            value: &value,
            expiry,
            condition,
            retention: Retention::Pinned,
        };
        words_with(&op, Scripts::Text, old_server)
    };
    let script = lua::SET_IF_ABSENT.text();
    for (expiry, life) in [
        (ttl.into(), "1500"),
        (Expiry::NEVER, "never"),
        (Expiry::KEEP, "never"),
    ] {
        assert_eq!(
            set(expiry, Condition::Absent),
            ["EVAL", script, "1", A, life, "v"]
        );
    }
    assert_eq!(
        set(Expiry::KEEP, Condition::Always),
        ["EVAL", lua::SET_KEEPING.text(), "1", A, "v"]
    );
    assert_eq!(
        set(ttl.into(), Condition::Always),
        ["SET", A, "v", "PX", "1500"]
    );
    assert_eq!(
        set(Expiry::KEEP, Condition::Equals(&old)),
        [
            "EVAL",
            lua::COMPARE_AND_SET.text(),
            "1",
            A,
            "old",
            "left",
            "v"
        ]
    );
    let touch = |only_longer| {
        let key = &key;
        let op = Op::Touch {
            key,
            ttl,
            only_longer,
        };
        words_with(&op, Scripts::Text, old_server)
    };
    assert_eq!(touch(false), ["PEXPIRE", A, "1500"]);
    assert_eq!(
        touch(true),
        ["EVAL", lua::TOUCH_LONGER.text(), "1", A, "1500"]
    );
}

#[test]
fn the_error_of_an_unknown_option_names_the_missing_feature() {
    let space = space();
    let key = key(&space, "a");
    let (value, old) = (Value::from("v"), Value::from("old"));
    let ttl = Ttl::from_millis(1_500).unwrap();
    let set = |expiry, condition| Op::Set {
        key: &key,
        value: &value,
        expiry,
        condition,
        retention: Retention::Pinned,
    };
    let touch = |only_longer| Op::Touch {
        key: &key,
        ttl,
        only_longer,
    };
    let all = Features::default();
    for (op, feature) in [
        (set(ttl.into(), Condition::Absent), Some(Feature::SetNxGet)),
        (set(ttl.into(), Condition::Always), None),
        (set(Expiry::KEEP, Condition::Always), Some(Feature::KeepTtl)),
        (
            set(Expiry::KEEP, Condition::Equals(&old)),
            Some(Feature::KeepTtl),
        ),
        (touch(true), Some(Feature::PexpireGt)),
        (touch(false), None),
        (Op::Get(&key), None),
    ] {
        for text in [
            "-ERR syntax error\r\n",
            "-ERR Unsupported option GT\r\n",
            "-ERR wrong number of arguments for 'pexpire' command\r\n",
            "-ERR Error running script (call to f_1f): @user_script:15: ERR syntax error\r\n",
        ] {
            assert_eq!(missing_feature(&op, all, &wire(text)), feature, "{text}");
        }
        for text in ["-WRONGTYPE no\r\n", "-ERR value is not\r\n", "+OK\r\n"] {
            assert_eq!(missing_feature(&op, all, &wire(text)), None, "{text}");
        }
        if let Some(feature) = feature {
            // It is not taken away twice, so that no call is repeated for ever.
            let without = all.without(feature);
            let error = wire("-ERR syntax error\r\n");
            assert_eq!(missing_feature(&op, without, &error), None);
        }
    }
}

proptest! {
    /// Whatever a server sends, no reader panics.
    #[test]
    fn no_reply_is_trusted(bytes in proptest::collection::vec(prop_oneof![
        Just(b'*'), Just(b'$'), Just(b':'), Just(b'+'), Just(b'-'), Just(b'_'), Just(b'%'),
        Just(b'0'), Just(b'1'), Just(b'2'), Just(b'a'), Just(b'\r'), Just(b'\n'),
    ], 0..40)) {
        let mut buffer = BytesMut::from(bytes.as_slice());
        if let Ok(Some(value)) = Parser::default().next(&mut buffer) {
            for expected in [
                Expected::Value, Expected::Values(1), Expected::Stored, Expected::StoredIfAbsent,
                Expected::StoredIfEqual, Expected::Count, Expected::Added, Expected::Output, Expected::Pong,
            ] {
                let _ = expected.read(value.clone());
            }
        }
    }
}
