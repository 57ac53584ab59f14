use bytes::BytesMut;

use super::*;
use crate::redis::resp::Parser;

const HELLO_REPLY: &str = "%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n";
const OK: &str = "+OK\r\n";
const NO_PASSWORD: [&str; 2] = [
    "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?\r\n",
    "-ERR Client sent AUTH, but no password is set\r\n",
];

/// The words of the commands that a dialog wants to send.
fn ask(greeting: &mut Greeting<'_>) -> Vec<String> {
    let mut out = Vec::new();
    let count = greeting.ask(&mut out);
    let (mut buffer, mut parser) = (BytesMut::from(out.as_slice()), Parser::default());
    let mut commands = Vec::new();
    while let Some(RespValue::Array(words)) = parser.next(&mut buffer).unwrap() {
        let words: Vec<_> = words.iter().filter_map(RespValue::to_text).collect();
        commands.push(words.join(" "));
    }
    assert_eq!(commands.len(), count);
    commands
}

fn take(greeting: &mut Greeting<'_>, replies: &[&str]) -> Result<(), GreetingError> {
    let mut parser = Parser::default();
    let mut read = |text: &&str| parser.next(&mut BytesMut::from(*text)).unwrap().unwrap();
    greeting.take(replies.iter().map(&mut read).collect())
}

fn three(credentials: Option<&Credentials>) -> Greeting<'_> {
    Greeting::new(RespVersion::Three, credentials, 0)
}

fn two(credentials: Option<&Credentials>) -> Greeting<'_> {
    Greeting::new(RespVersion::Two, credentials, 0)
}

/// The error if the server replies this to each command.
fn error(mut greeting: Greeting<'_>, reply: &str) -> GreetingError {
    let replies = vec![reply; ask(&mut greeting).len()];
    take(&mut greeting, &replies).unwrap_err()
}

#[test]
fn a_greeting_is_one_round_trip() {
    let password = Credentials::password("s@fe");
    let default = Credentials::user("default", "s@fe");
    let ada = Credentials::user("ada", "a b");
    for (version, credentials, db, commands, replies) in [
        (
            RespVersion::Three,
            None,
            0,
            &["HELLO 3"][..],
            &[HELLO_REPLY][..],
        ),
        (
            RespVersion::Three,
            Some(&password),
            0,
            &["HELLO 3 AUTH default s@fe"],
            &[HELLO_REPLY],
        ),
        (
            RespVersion::Three,
            Some(&ada),
            3,
            &["HELLO 3 AUTH ada a b", "SELECT 3"],
            &[HELLO_REPLY, OK],
        ),
        (RespVersion::Two, None, 0, &["PING"], &["+PONG\r\n"]),
        (RespVersion::Two, None, 3, &["SELECT 3"], &[OK]),
        (RespVersion::Two, Some(&password), 0, &["AUTH s@fe"], &[OK]),
        (RespVersion::Two, Some(&default), 0, &["AUTH s@fe"], &[OK]),
        (
            RespVersion::Two,
            Some(&ada),
            3,
            &["AUTH ada a b", "SELECT 3"],
            &[OK, OK],
        ),
    ] {
        let mut greeting = Greeting::new(version, credentials, db);
        assert_eq!(ask(&mut greeting), commands);
        take(&mut greeting, replies).unwrap();
        assert!(
            ask(&mut greeting).is_empty(),
            "it goes on after {commands:?}"
        );
        assert!(!greeting.password_is_unused());
    }
}

#[test]
fn each_way_to_refuse_hello_leads_to_resp2() {
    for reply in [
        // Redis before 6.0, a renamed command, and proxies.
        "-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n",
        "-ERR unknown command 'HELLO'\r\n",
        "-ERR Unknown command\r\n",
        // Envoy, and Envoy with a password of its own.
        "-ERR unsupported command 'HELLO'\r\n",
        "-NOAUTH Authentication required.\r\n",
        // Redis with a password, to those who have none: RESP2 will tell the same.
        "-NOAUTH HELLO must be called with the client already authenticated, otherwise ..\r\n",
        // redis-cluster-proxy.
        "-ERR unsupported command `hello`\r\n",
        "-NOPROTO unsupported protocol version\r\n",
        "-NOPROTO sorry, this protocol version is not supported.\r\n",
        "-NOPERM this user has no permissions to run the 'hello' command or its subcommand\r\n",
        "-NOPERM User ada has no permissions to run the 'hello' command\r\n",
        "-ERR syntax error\r\n",
        "-ERR Syntax error in HELLO option 'AUTH'\r\n",
        "-ERR wrong number of arguments for 'hello' command\r\n",
        "-ERR handle request, command 'HELLO' is not allowed\r\n",
        // No Redis command replies these to HELLO 3.
        "+OK\r\n",
        "*0\r\n",
        "*2\r\n$5\r\nproto\r\n:2\r\n",
    ] {
        assert!(error(three(None), reply).may_speak_resp2(), "{reply:?}");
    }
}

#[test]
fn what_is_not_about_hello_ends_the_greeting() {
    let ada = Credentials::user("ada", "wrong");
    for (reply, permanent) in [
        (
            "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
            true,
        ),
        (
            "-DENIED Redis is running in protected mode because ..\r\n",
            true,
        ),
        ("-LOADING Redis is loading the dataset in memory\r\n", false),
        ("-ERR max number of clients reached\r\n", false),
        ("-BUSY Redis is busy running a script.\r\n", false),
    ] {
        let error = error(three(Some(&ada)), reply);
        assert!(!error.may_speak_resp2(), "{reply:?}");
        assert_eq!(error.is_permanent(), permanent, "{reply:?}");
    }
    // HELLO was good, SELECT was not.
    let mut greeting = Greeting::new(RespVersion::Three, None, 99);
    assert_eq!(ask(&mut greeting).len(), 2);
    let error = take(
        &mut greeting,
        &[HELLO_REPLY, "-ERR DB index is out of range\r\n"],
    );
    let error = error.unwrap_err();
    assert!(error.is_permanent() && !error.may_speak_resp2());
    assert_eq!(
        error.to_string(),
        "the server refused SELECT: ERR DB index is out of range"
    );
}

#[test]
fn resp2_has_the_last_word() {
    let ada = Credentials::user("ada", "wrong");
    for (greeting, reply, permanent) in [
        (two(None), "-NOAUTH Authentication required.\r\n", true),
        (
            two(Some(&ada)),
            "-WRONGPASS invalid username-password pair\r\n",
            true,
        ),
        (two(Some(&ada)), "-ERR invalid password\r\n", true),
        (
            two(Some(&ada)),
            "-ERR wrong number of arguments for 'auth' command\r\n",
            true,
        ),
        (
            two(None),
            "-LOADING Redis is loading the dataset in memory\r\n",
            false,
        ),
        (two(None), "+OK\r\n", true),
        (two(None), ":1\r\n", true),
        (two(Some(&ada)), "$-1\r\n", true),
    ] {
        let error = error(greeting, reply);
        assert!(!error.may_speak_resp2(), "{reply:?}");
        assert_eq!(error.is_permanent(), permanent, "{reply:?}");
    }
    let mut greeting = two(None);
    ask(&mut greeting);
    take(&mut greeting, &["$4\r\nPONG\r\n"]).unwrap();
}

#[test]
fn a_password_that_the_server_has_no_use_for_is_left_out() {
    let password = Credentials::password("s@fe");
    for reply in NO_PASSWORD {
        // RESP3: HELLO has to be said again.
        let mut greeting = Greeting::new(RespVersion::Three, Some(&password), 1);
        assert_eq!(
            ask(&mut greeting),
            ["HELLO 3 AUTH default s@fe", "SELECT 1"]
        );
        take(&mut greeting, &[reply, OK]).unwrap();
        assert_eq!(ask(&mut greeting), ["HELLO 3", "SELECT 1"]);
        take(&mut greeting, &[HELLO_REPLY, OK]).unwrap();
        assert!(ask(&mut greeting).is_empty());
        assert!(greeting.password_is_unused());
        // RESP2: nothing has.
        let mut greeting = Greeting::new(RespVersion::Two, Some(&password), 1);
        ask(&mut greeting);
        take(&mut greeting, &[reply, OK]).unwrap();
        assert!(ask(&mut greeting).is_empty());
        assert!(greeting.password_is_unused());
    }
    // A server that says so for ever is not asked for ever.
    let mut greeting = three(Some(&password));
    ask(&mut greeting);
    take(&mut greeting, &[NO_PASSWORD[0]]).unwrap();
    ask(&mut greeting);
    assert!(take(&mut greeting, &[NO_PASSWORD[0]]).is_err());
}
