//! A connection over a pipe whose other end is the test.

use std::{convert::Infallible, io};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::yield_now,
    time::sleep,
};

use super::*;
use crate::redis::resp::Command;

/// The limit of a call in these tests.
const LIMIT: Duration = Duration::from_millis(100);

const ROUND_TRIP: Duration = Duration::from_millis(1);

/// The error of a call here: none of its own.
type Sent = Result<(Option<Replies>, ()), SendError>;

impl From<Infallible> for SendError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

struct Server(DuplexStream);

impl Server {
    async fn read(&mut self) -> String {
        let mut bytes = vec![0; 64 << 10];
        let len = self.0.read(&mut bytes).await.unwrap();
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }

    async fn reply(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }
}

fn connect(most: usize, pipe: usize) -> (Connection, Server) {
    let (ours, theirs) = duplex(pipe);
    let runtime = Handle::current();
    let connection = Connection::new(
        ours,
        BytesMut::new(),
        most,
        ROUND_TRIP,
        Box::new(|_| {}),
        &runtime,
    );
    (connection, Server(theirs))
}

fn terms(source: &'static str) -> Terms {
    Terms {
        source,
        begun: Instant::now(),
        deadline: Some(Instant::now() + LIMIT),
        is_check: false,
    }
}

async fn echo(connection: &Connection, text: &str) -> Sent {
    echo_for(connection, terms("test"), text).await
}

async fn echo_for(connection: &Connection, terms: Terms, text: &str) -> Sent {
    let write = |out: &mut Vec<u8>| {
        Command::new(out, "ECHO", 1).text(text);
        Ok::<_, SendError>((1, ()))
    };
    connection.send(terms, write).await
}

fn start(connection: &Connection, text: &str) -> tokio::task::JoinHandle<Sent> {
    let (connection, text) = (connection.clone(), text.to_owned());
    tokio::spawn(async move { echo(&connection, &text).await })
}

fn one(sent: Sent) -> RespValue {
    match sent.unwrap().0 {
        Some(Replies::One(value)) => value,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn replies_go_to_the_calls_in_their_order() {
    let (connection, mut server) = connect(1_024, 1 << 20);
    let first = start(&connection, "a");
    let second = start(&connection, "b");
    yield_now().await;
    assert_eq!(
        server.read().await,
        "*2\r\n$4\r\nECHO\r\n$1\r\na\r\n*2\r\n$4\r\nECHO\r\n$1\r\nb\r\n"
    );
    server.reply("+a\r\n:2\r\n").await;
    assert!(one(first.await.unwrap()).is_status("a"));
    assert_eq!(one(second.await.unwrap()), RespValue::Int(2));
    assert_eq!((connection.in_flight(), connection.commands()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn several_commands_of_one_call_have_their_replies_together() {
    let (connection, mut server) = connect(1_024, 1 << 20);
    let two = |out: &mut Vec<u8>| {
        Command::new(out, "PING", 0);
        Command::new(out, "PING", 0);
        Ok::<_, SendError>((2, ()))
    };
    let (sent, ()) = tokio::join!(connection.send(terms("test"), two), async {
        server.read().await;
        server.reply(":1\r\n").await;
        yield_now().await;
        server.reply(":2\r\n").await;
    });
    let both = vec![RespValue::Int(1), RespValue::Int(2)];
    assert_eq!(sent.unwrap().0, Some(Replies::Many(both)));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_written_sends_nothing() {
    let (connection, mut server) = connect(1, 1 << 20);
    let nothing = |_: &mut Vec<u8>| Ok::<_, SendError>((0, "done"));
    let sent = connection.send(terms("test"), nothing).await.unwrap();
    assert_eq!(sent, (None, "done"));
    let wrong = |out: &mut Vec<u8>| {
        Command::new(out, "PING", 0);
        Err::<(u32, ()), _>(SendError::Overloaded { sent: false })
    };
    assert!(connection.send(terms("test"), wrong).await.is_err());
    // The room is free again, and nothing of it is on the wire.
    let call = start(&connection, "a");
    assert!(server.read().await.contains("ECHO"));
    server.reply("+a\r\n").await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_reply_ends_at_its_deadline_and_its_reply_is_nobody_s() {
    let (connection, mut server) = connect(1_024, 1 << 20);
    let begun = Instant::now();
    let call = start(&connection, "late");
    server.read().await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(begun.elapsed(), LIMIT);
    let silent = SendError::TimedOut {
        sent: true,
        receiving: false,
    };
    assert_eq!(format!("{error:?}"), format!("{silent:?}"));
    assert!(connection.is_silent());

    let call = start(&connection, "next");
    server.read().await;
    server.reply("+late\r\n+next\r\n").await;
    assert!(one(call.await.unwrap()).is_status("next"));
    assert!(!connection.is_silent());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_shifts_no_reply() {
    let (connection, mut server) = connect(2, 1 << 20);
    for _ in 0..200 {
        let call = start(&connection, "dropped");
        server.read().await;
        call.abort();
        let _ = call.await;
        server.reply("+dropped\r\n").await;
        yield_now().await;
    }
    let call = start(&connection, "kept");
    server.read().await;
    server.reply("+kept\r\n").await;
    assert!(one(call.await.unwrap()).is_status("kept"));
}

#[tokio::test(start_paused = true)]
async fn a_call_without_room_is_not_sent_and_no_failure_of_the_server() {
    let (connection, mut server) = connect(1, 1 << 20);
    let first = start(&connection, "first");
    server.read().await;
    let waits = start(&connection, "waits");
    // The server lives: it replies to the first, late.
    sleep(LIMIT * 3 / 4).await;
    server.reply("+first\r\n").await;
    first.await.unwrap().unwrap();
    assert!(server.read().await.contains("waits"));
    server.reply("+waits\r\n").await;
    waits.await.unwrap().unwrap();

    let busy = start(&connection, "busy");
    server.read().await;
    let waits = start(&connection, "waits");
    sleep(LIMIT * 3 / 4).await;
    server.reply("$4\r\nbu").await;
    let error = waits.await.unwrap().unwrap_err();
    assert!(
        matches!(error, SendError::Overloaded { sent: false }),
        "{error:?}"
    );
    let error = busy.await.unwrap().unwrap_err();
    assert!(
        matches!(error, SendError::Overloaded { sent: true }),
        "{error:?}"
    );
    assert!(!connection.is_silent());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_this_process_makes_late_is_no_failure_of_the_server() {
    let (connection, mut server) = connect(1, 1 << 20);
    // At the last moment: the server has a millisecond.
    let late = terms("test");
    sleep(LIMIT - Duration::from_millis(1)).await;
    let error = echo_for(&connection, late, "late").await.unwrap_err();
    assert!(
        matches!(error, SendError::Overloaded { sent: true }),
        "{error:?}"
    );
    assert!(!connection.is_silent());
    // After its deadline, and behind a call that the server leaves without a reply.
    let error = echo_for(&connection, late, "too late").await.unwrap_err();
    assert!(
        matches!(error, SendError::Overloaded { sent: false }),
        "{error:?}"
    );
    assert!(!server.read().await.contains("too late"));
}

#[tokio::test(start_paused = true)]
async fn calls_behind_a_stalled_server_are_its_failures() {
    let (connection, mut server) = connect(1, 1 << 20);
    let sent = start(&connection, "sent");
    server.read().await;
    let waits = start(&connection, "waits");
    let error = sent.await.unwrap().unwrap_err();
    assert!(
        matches!(error, SendError::TimedOut { sent: true, .. }),
        "{error:?}"
    );
    let error = waits.await.unwrap().unwrap_err();
    assert!(
        matches!(error, SendError::TimedOut { sent: false, .. }),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_that_still_goes_out_is_no_failure_of_the_server() {
    // The pipe takes 1 KiB at a time: a slow line.
    let (connection, mut server) = connect(1_024, 1 << 10);
    let large = start(&connection, &"x".repeat(200 << 10));
    yield_now().await;
    let small = start(&connection, "small");
    let reading = tokio::spawn(async move {
        loop {
            sleep(Duration::from_millis(5)).await;
            if server.read().await.is_empty() {
                return;
            }
        }
    });
    let error = large.await.unwrap().unwrap_err();
    assert!(
        matches!(error, SendError::Overloaded { sent: true }),
        "{error:?}"
    );
    let error = small.await.unwrap().unwrap_err();
    assert!(
        matches!(error, SendError::Overloaded { sent: false }),
        "{error:?}"
    );
    reading.abort();
}

#[tokio::test(start_paused = true)]
async fn replies_to_others_meanwhile_are_told() {
    let (connection, mut server) = connect(1_024, 1 << 20);
    let late = start(&connection, "late");
    server.read().await;
    let next = start(&connection, "next");
    server.read().await;
    sleep(LIMIT / 2).await;
    server.reply("+late\r\n").await;
    late.await.unwrap().unwrap();
    let error = next.await.unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            SendError::TimedOut {
                receiving: true,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn another_source_is_not_behind_a_flood() {
    let (connection, mut server) = connect(1, 1 << 20);
    let flood: Vec<_> = (0..50).map(|_| start(&connection, "flood")).collect();
    yield_now().await;
    let other = {
        let connection = connection.clone();
        tokio::spawn(async move { echo_for(&connection, terms("other"), "other").await })
    };
    let mut order = Vec::new();
    for _ in 0..4 {
        let text = server.read().await;
        order.push(text.contains("other"));
        server.reply("+x\r\n").await;
    }
    assert!(order.contains(&true), "{order:?}");
    other.await.unwrap().unwrap();
    drop(flood);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_ends_its_calls_and_says_what_may_have_arrived() {
    let (connection, mut server) = connect(1, 1 << 20);
    let sent = start(&connection, "sent");
    server.read().await;
    let waits = start(&connection, "waits");
    yield_now().await;
    drop(server);
    for (call, reached) in [(sent, true), (waits, false)] {
        match call.await.unwrap().unwrap_err() {
            SendError::Ended {
                why: Ended::Io(error),
                sent,
            } => {
                assert_eq!(
                    (error.kind(), sent),
                    (io::ErrorKind::UnexpectedEof, reached)
                );
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(!connection.is_open());
    let error = echo(&connection, "after").await.unwrap_err();
    assert!(matches!(error, SendError::Ended { sent: false, .. }));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_reply_ends_the_connection() {
    for text in ["HTTP/1.1 400 Bad Request\r\n", "+one\r\n+too many\r\n"] {
        let (connection, mut server) = connect(1, 1 << 20);
        let call = start(&connection, "a");
        server.read().await;
        server.reply(text).await;
        let _ = call.await.unwrap();
        for _ in 0..10 {
            yield_now().await;
        }
        assert!(!connection.is_open(), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_before_what_is_none_reaches_its_call() {
    let (connection, mut server) = connect(8, 1 << 20);
    let (first, second) = (start(&connection, "a"), start(&connection, "b"));
    yield_now().await;
    server.read().await;
    server.reply("+a\r\nHTTP/1.1 400 Bad Request\r\n").await;
    assert!(one(first.await.unwrap()).is_status("a"));
    let error = second.await.unwrap().unwrap_err();
    let malformed = matches!(
        error,
        SendError::Ended {
            why: Ended::Malformed(_),
            sent: true
        }
    );
    assert!(malformed, "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn pushes_are_no_replies() {
    let (ours, theirs) = duplex(1 << 20);
    let mut server = Server(theirs);
    let pushed = Arc::new(Mutex::new(Vec::new()));
    let kept = pushed.clone();
    let on_push: OnPush = Box::new(move |message| kept.lock().push(message));
    let connection = Connection::new(
        ours,
        BytesMut::new(),
        8,
        ROUND_TRIP,
        on_push,
        &Handle::current(),
    );
    let call = start(&connection, "a");
    server.read().await;
    server
        .reply(">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n+a\r\n")
        .await;
    assert!(one(call.await.unwrap()).is_status("a"));
    assert_eq!(pushed.lock().len(), 1);
}

/// The runtime of the driver stands still, as after a `block_on` that has returned. The call ends by a timer of its own.
#[test]
fn a_call_whose_driver_stands_still_ends_near_its_deadline() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    };
    let (first, second) = (runtime(), runtime());
    let (connection, server) = first.block_on(async { connect(8, 1 << 20) });
    let (error, took) = second.block_on(async {
        let begun = Instant::now();
        (echo(&connection, "a").await.unwrap_err(), begun.elapsed())
    });
    assert!(matches!(error, SendError::Overloaded { .. }), "{error:?}");
    assert!(took < LIMIT * 2, "{took:?}");
    let slots = connection.0.shared.session.lock().slots_in_use();
    assert_eq!(slots, 0, "its slot is free again");
    // And one whose runtime has ended is closed.
    drop(first);
    assert!(!connection.is_open());
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn after_a_long_silence_only_a_check_is_sent_until_something_comes() {
    let (connection, mut server) = connect(8, 1 << 20);
    sleep(Duration::from_secs(5)).await;
    let check = Terms {
        is_check: true,
        ..terms("test")
    };
    for _ in 0..2 {
        let error = echo(&connection, "a").await.unwrap_err();
        assert!(matches!(error, SendError::Unproven), "{error:?}");
    }
    let (checked, other, ()) = tokio::join!(
        echo_for(&connection, check, "check"),
        async {
            yield_now().await;
            echo(&connection, "b").await
        },
        async {
            assert!(server.read().await.contains("check"));
            sleep(Duration::from_millis(1)).await;
            server.reply("+check\r\n").await;
        }
    );
    checked.unwrap();
    assert!(matches!(other.unwrap_err(), SendError::Unproven));
    let (sent, ()) = tokio::join!(echo(&connection, "c"), async {
        server.read().await;
        server.reply("+c\r\n").await;
    });
    sent.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_its_deadline_behind_a_line_that_takes_nothing() {
    let (connection, server) = connect(1_024, 1 << 10);
    let large = {
        let connection = connection.clone();
        let forever = Terms {
            deadline: None,
            ..terms("test")
        };
        tokio::spawn(async move { echo_for(&connection, forever, &"x".repeat(4 << 10)).await })
    };
    for _ in 0..10 {
        yield_now().await;
    }
    let begun = Instant::now();
    let ended = tokio::time::timeout(LIMIT * 10, echo(&connection, "small")).await;
    ended.unwrap().unwrap_err();
    assert_eq!(begun.elapsed(), LIMIT);
    large.abort();
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_command_is_written_leaves_nothing_of_it() {
    let (connection, mut server) = connect(1, 1 << 20);
    let panics = {
        let connection = connection.clone();
        let write = |out: &mut Vec<u8>| -> Result<(u32, ()), SendError> {
            out.extend_from_slice(b"*1\r\n$4\r\nPI");
            panic!("an object cannot be encoded")
        };
        tokio::spawn(async move { connection.send(terms("test"), write).await.map(drop) })
    };
    assert!(panics.await.unwrap_err().is_panic());
    let call = start(&connection, "a");
    assert!(server.read().await.starts_with("*2\r\n$4\r\nECHO"));
    server.reply("+a\r\n").await;
    assert!(one(call.await.unwrap()).is_status("a"));
}
