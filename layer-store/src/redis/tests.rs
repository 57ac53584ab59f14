//! The store against a server that says what a test wants: what a real one does only in bad hours.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{self, Instant},
};

use super::*;
use crate::{Arg, Effect, ErrorKind, IdentityRef, KeySpace, Output, Program, Retention, StoreExt};

const CX: Context = Context::new("test");
const HELLO: &str = "%1\r\n$5\r\nproto\r\n:3\r\n";
const NO_HELLO: &str = "-ERR unknown command 'HELLO', with args beginning with: '3' \r\n";
const INFO: &str = "$11\r\nrun_id:abcd\r\n";
const READONLY: &str = "-READONLY You can't write against a read only replica.\r\n";
const NOSCRIPT: &str = "-NOSCRIPT No matching script. Please use EVAL.\r\n";

static PROGRAM: Program = Program::new("p", "return {1}", Retention::Pinned, |_, _| {
    Output::ints(&[1])
});

/// Answers each command by `answer`, and notes it. An empty answer is none; [`CLOSE`] ends the connection.
struct Server {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

const CLOSE: &str = "close";

type Answer = Arc<dyn Fn(&str) -> String + Send + Sync>;

impl Server {
    async fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("redis://{}", listener.local_addr().unwrap());
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let connections = Arc::<AtomicUsize>::default();
        let answer: Answer = Arc::new(answer);
        let mut tasks = JoinSet::new();
        let (seen2, connections2) = (seen.clone(), connections.clone());
        tasks.spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections2.fetch_add(1, Relaxed);
                served.spawn(serve(socket, answer.clone(), seen2.clone()));
            }
        });
        Self {
            address,
            seen,
            connections,
            _tasks: tasks,
        }
    }

    fn store(&self) -> RedisStore {
        RedisStore::new(&self.address).unwrap()
    }

    /// The commands since the last question, but for those of a new connection.
    fn seen(&self) -> Vec<String> {
        let mut seen = std::mem::take(&mut *self.seen.lock());
        seen.retain(|command| !command.starts_with("HELLO") && !command.starts_with("INFO"));
        seen
    }

    fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }
}

async fn serve(mut socket: TcpStream, answer: Answer, seen: Arc<Mutex<Vec<String>>>) {
    let mut buffer = Vec::new();
    loop {
        while let Some((command, len)) = parse(&buffer) {
            buffer.drain(..len);
            let reply = answer(&command);
            seen.lock().push(command);
            if reply == CLOSE || socket.write_all(reply.as_bytes()).await.is_err() {
                return;
            }
        }
        let mut chunk = [0; 4096];
        match socket.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(read) => buffer.extend_from_slice(&chunk[..read]),
        }
    }
}

/// One command, its words joined, and its length on the wire.
fn parse(bytes: &[u8]) -> Option<(String, usize)> {
    let text = std::str::from_utf8(bytes).unwrap();
    let mut lines = text
        .split_inclusive("\r\n")
        .filter(|line| line.ends_with("\r\n"));
    let head = lines.next()?;
    let count: usize = head.trim_end().strip_prefix('*').unwrap().parse().unwrap();
    let mut len = head.len();
    let mut words = Vec::new();
    for _ in 0..count {
        len += lines.next()?.len();
        let word = lines.next()?;
        len += word.len();
        words.push(word.trim_end());
    }
    Some((words.join(" "), len))
}

/// What a sound server says, but to the commands of the test.
fn sound(command: &str) -> String {
    match command.split(' ').next().unwrap() {
        "HELLO" => HELLO,
        "INFO" => INFO,
        "PING" => "+PONG\r\n",
        "GET" => "$1\r\n1\r\n",
        "SET" | "SELECT" => "+OK\r\n",
        _ => "-ERR syntax error\r\n",
    }
    .into()
}

/// Lets time pass that no test waits for.
async fn pass(time: Duration) {
    time::pause();
    time::advance(time).await;
    time::resume();
}

async fn get(store: &RedisStore) -> Result<Option<crate::Value>, StoreError> {
    let space = KeySpace::new("data", "s");
    store.get(&CX, &Key::new(&space, IdentityRef::Int(1))).await
}

async fn run(store: &RedisStore) -> Result<Output, StoreError> {
    let space = KeySpace::new("data", "s");
    let keys = [Key::new(&space, IdentityRef::Int(1))];
    store.run(&CX, &PROGRAM, &keys, &[Arg::Int(7)]).await
}

fn what(error: &StoreError) -> (ErrorKind, Effect) {
    (error.kind(), error.effect())
}

const LOST: (ErrorKind, Effect) = (ErrorKind::Unavailable, Effect::Unknown);
const NOT_SENT: (ErrorKind, Effect) = (ErrorKind::Unavailable, Effect::NotApplied);

#[tokio::test]
async fn many_callers_share_one_attempt_and_one_connection() {
    let server = Server::start(sound).await;
    let store = server.store();
    let mut calls = JoinSet::new();
    for _ in 0..64 {
        let store = store.clone();
        calls.spawn(async move { get(&store).await });
    }
    while let Some(result) = calls.join_next().await {
        assert_eq!(result.unwrap().unwrap(), Some("1".into()));
    }
    assert_eq!(server.connections(), 1);
    assert!(store.info().incarnation.is_some());
    assert!(store.info().received > 0);
}

#[tokio::test]
async fn an_attempt_outlives_the_caller_that_began_it() {
    let server = Server::start(sound).await;
    let store = server.store();
    {
        let call = get(&store);
        tokio::pin!(call);
        // Polled once, so that the attempt begins, and dropped.
        std::future::poll_fn(|cx| {
            let _ = call.as_mut().poll(cx);
            std::task::Poll::Ready(())
        })
        .await;
    }
    get(&store).await.unwrap();
    assert_eq!(server.connections(), 1);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_lost_connection_is_made_again_by_the_next_call() {
    let closing = Arc::new(Mutex::new(true));
    let server = Server::start({
        let closing = closing.clone();
        move |command| match command.starts_with("GET") && std::mem::take(&mut closing.lock()) {
            true => CLOSE.into(),
            false => sound(command),
        }
    })
    .await;
    let store = server.store();
    assert_eq!(what(&get(&store).await.unwrap_err()), LOST);
    for _ in 0..3 {
        assert!(get(&store).await.is_ok());
    }
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn while_no_attempt_is_due_calls_fail_at_once() {
    let server = Server::start(|_| CLOSE.into()).await;
    let store = server.store();
    for attempt in 1..=6 {
        assert_eq!(what(&get(&store).await.unwrap_err()), NOT_SENT);
        assert_eq!(server.connections(), attempt);
        pass(Duration::from_millis(600)).await;
    }
    // The delay is at its longest.
    for _ in 0..10 {
        assert_eq!(what(&get(&store).await.unwrap_err()), NOT_SENT);
        assert_eq!(server.connections(), 7);
    }
}

#[tokio::test]
async fn a_server_without_hello_is_spoken_to_in_resp2() {
    let server = Server::start(|command| match command.split(' ').next() {
        Some("HELLO") => NO_HELLO.into(),
        Some("SET") => CLOSE.into(),
        _ => sound(command),
    })
    .await;
    let store = server.store();
    get(&store).await.unwrap();
    assert_eq!(server.connections(), 2);

    // It is asked once, and not again by the next connection.
    let space = KeySpace::new("data", "s");
    let key = Key::new(&space, IdentityRef::Int(1));
    let minute = crate::Ttl::from_millis(60_000).unwrap();
    let _ = store.put(&CX, &key, &"1".into(), minute).await;
    get(&store).await.unwrap();
    assert_eq!(server.connections(), 3);
    let seen = server.seen.lock();
    assert_eq!(seen.iter().filter(|c| c.starts_with("HELLO")).count(), 1);
}

#[tokio::test]
async fn it_says_who_it_is_and_takes_its_database() {
    let server = Server::start(sound).await;
    let url = server.address.replace("redis://", "redis://ada:s%40fe@") + "/3";
    get(&RedisStore::new(&url).unwrap()).await.unwrap();
    let seen = server.seen.lock();
    assert_eq!(seen[..2], ["HELLO 3 AUTH ada s@fe", "SELECT 3"]);
}

#[tokio::test]
async fn a_server_that_tells_no_run_id_is_used_all_the_same() {
    let server = Server::start(|command| match command.starts_with("INFO") {
        true => "-NOPERM this user has no permissions to run the 'info' command\r\n".into(),
        false => sound(command),
    })
    .await;
    let store = server.store();
    get(&store).await.unwrap();
    assert_eq!(store.info().incarnation, None);
}

#[tokio::test]
async fn a_script_that_the_server_lacks_is_sent_once_with_its_text() {
    let loaded = Arc::new(Mutex::new(false));
    let server = Server::start(move |command| {
        let mut loaded = loaded.lock();
        match command.split(' ').next() {
            Some("EVALSHA") if *loaded => "*1\r\n:1\r\n".into(),
            Some("EVALSHA") => NOSCRIPT.into(),
            Some("EVAL") => {
                *loaded = true;
                "*1\r\n:1\r\n".into()
            }
            _ => sound(command),
        }
    })
    .await;
    let store = server.store();
    let names = |seen: Vec<String>| -> Vec<String> {
        seen.iter()
            .map(|c| c.split(' ').next().unwrap().into())
            .collect()
    };
    assert_eq!(run(&store).await.unwrap().int(0), Some(1));
    assert_eq!(names(server.seen()), ["EVALSHA", "EVAL"]);
    assert_eq!(run(&store).await.unwrap().int(0), Some(1));
    assert_eq!(names(server.seen()), ["EVALSHA"]);
}

#[tokio::test]
async fn a_batch_is_one_trip_with_an_answer_for_each() {
    let server = Server::start(|command| match command.split(' ').next() {
        Some("EVAL") => "*1\r\n:1\r\n".into(),
        Some("GET") => "-WRONGTYPE Operation against a key\r\n".into(),
        _ => sound(command),
    })
    .await;
    let store = server.store();
    let space = KeySpace::new("data", "s");
    let keys = [1, 2].map(|i| Key::new(&space, IdentityRef::Int(i)));
    let run = |keys| Op::Run {
        program: &PROGRAM,
        keys,
        args: &[],
    };
    let ops = [
        Op::Get(&keys[0]),
        run(&keys[..1]),
        run(&keys),
        Op::GetMany(&[]),
        Op::Ping,
    ];
    let replies = store.batch(&CX, &ops).await.unwrap();
    assert_eq!(replies[0].as_ref().unwrap_err().kind(), ErrorKind::Rejected);
    assert!(matches!(&replies[1], Ok(Reply::Output(data)) if data.int(0) == Some(1)));
    assert_eq!(replies[2].as_ref().unwrap_err().kind(), ErrorKind::CrossTag);
    assert!(matches!(&replies[3], Ok(Reply::Values(values)) if values.is_empty()));
    assert!(matches!(&replies[4], Ok(Reply::Pong)));
    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen[1].starts_with("EVAL return"), "{seen:?}");

    // Nothing to send, nothing is sent.
    assert!(store.batch(&CX, &[]).await.unwrap().is_empty());
    let nested = [Op::Ping, Op::Batch(&ops)];
    assert_eq!(
        store.batch(&CX, &nested).await.unwrap_err().kind(),
        ErrorKind::Rejected
    );
    assert_eq!(server.seen().len(), 0);
}

#[tokio::test]
async fn a_replica_is_left_but_not_for_each_refused_write() {
    let server = Server::start(|command| match command.split(' ').next() {
        Some("EVALSHA") => READONLY.into(),
        _ => sound(command),
    })
    .await;
    let store = server.store();
    for _ in 0..5 {
        assert_eq!(what(&run(&store).await.unwrap_err()), NOT_SENT);
    }
    assert_eq!(server.connections(), 1, "it is young");
    pass(Duration::from_millis(600)).await;
    for _ in 0..5 {
        assert_eq!(what(&run(&store).await.unwrap_err()), NOT_SENT);
    }
    assert_eq!(server.connections(), 2);
    pass(Duration::from_millis(600)).await;
    let space = KeySpace::new("data", "s");
    let keys = [Key::new(&space, IdentityRef::Int(1))];
    let old = crate::Value::from("1");
    let delete = Op::Delete {
        key: &keys[0],
        if_equals: Some(&old),
    };
    let _ = store.batch(&CX, &[delete]).await;
    get(&store).await.unwrap();
    assert_eq!(server.connections(), 2, "only an EVALSHA is refused here");
    let _ = run(&store).await;
    get(&store).await.unwrap();
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn a_ping_after_an_unanswered_one_replaces_the_connection() {
    let mute = Arc::new(Mutex::new(false));
    let server = Server::start({
        let mute = mute.clone();
        move |command| match *mute.lock() && !command.starts_with("HELLO") {
            // The first connection goes dead; a new one wakes it.
            true => String::new(),
            false => {
                *mute.lock() = false;
                sound(command)
            }
        }
    })
    .await;
    let store = server.store();
    store.ping(&CX).await.unwrap();
    store.ping(&CX).await.unwrap();
    assert_eq!(server.connections(), 1, "answered pings say that it lives");

    *mute.lock() = true;
    assert!(unanswered(&store).await);
    assert!(unanswered(&store).await);
    assert_eq!(
        server.connections(),
        1,
        "two at about the same time are none the wiser"
    );
    pass(Duration::from_millis(600)).await;
    let call = tokio::spawn({
        let store = store.clone();
        async move { get(&store).await }
    });
    tokio::task::yield_now().await;
    let ping = time::timeout(Duration::from_secs(5), store.ping(&CX));
    ping.await.unwrap().unwrap();
    assert_eq!(server.connections(), 2);
    assert_eq!(what(&call.await.unwrap().unwrap_err()), LOST);
    get(&store).await.unwrap();
}

/// Whether a ping that is given up at once was not answered.
async fn unanswered(store: &RedisStore) -> bool {
    let limit = Instant::now() + Duration::from_millis(20);
    time::timeout_at(limit, store.ping(&CX)).await.is_err()
}

#[tokio::test]
async fn dropped_calls_shift_no_reply() {
    let server = Server::start(|command| match command.strip_prefix("GET {int:") {
        Some(rest) => {
            let name = rest.split('}').next().unwrap();
            format!("${}\r\n{name}\r\n", name.len())
        }
        None => sound(command),
    })
    .await;
    let store = server.store();
    let space = KeySpace::new("data", "s");
    for i in 0..200_u64 {
        let key = Key::new(&space, IdentityRef::Int(i));
        let call = store.get(&CX, &key);
        match i % 3 {
            0 => assert_eq!(call.await.unwrap(), Some(i.to_string().into())),
            _ => drop(time::timeout(Duration::ZERO, call).await),
        }
    }
}

#[tokio::test]
async fn garbage_is_an_error_and_ends_the_connection() {
    let garbage = [
        "HTTP/1.1 400 Bad Request\r\n",
        "$-5\r\n",
        "*-9\r\n",
        "*99999999999999\r\n",
        "$99999999999999999999\r\n",
        ":1e9\r\n",
        "?\r\n",
    ];
    let left = Arc::new(Mutex::new(VecDeque::from(garbage)));
    let server = Server::start({
        let left = left.clone();
        move |command| match command.starts_with("GET") {
            true => left
                .lock()
                .pop_front()
                .map_or_else(|| sound(command), Into::into),
            false => sound(command),
        }
    })
    .await;
    let store = server.store();
    for text in garbage {
        let limit = Duration::from_millis(200);
        match time::timeout(limit, get(&store)).await {
            Ok(Err(error)) => assert_eq!(error.effect(), Effect::Unknown, "{text:?}"),
            // Read as nothing, or as the beginning of more.
            Ok(Ok(None)) | Err(_) => {}
            Ok(Ok(Some(value))) => panic!("{text:?} is read as {value:?}"),
        }
        // Whatever is left on that connection, another one is sound.
        let store = server.store();
        left.lock().clear();
        get(&store).await.unwrap();
        let at = garbage.iter().position(|other| *other == text).unwrap();
        left.lock().extend(&garbage[at + 1..]);
    }
}

#[tokio::test]
async fn a_dropped_store_closes_its_connection_and_leaves_no_task() {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let server = Server::start(sound).await;
    tokio::task::yield_now().await;
    let store = server.store();
    get(&store).await.unwrap();
    // Ours, and the server's for it.
    let before = tasks();
    drop(store);
    down_to(before - 2).await;

    // Nor does an attempt under way outlive it.
    let server = Server::start(|_| String::new()).await;
    tokio::task::yield_now().await;
    let before = tasks();
    let store = server.store();
    assert!(
        time::timeout(Duration::from_millis(20), get(&store))
            .await
            .is_err()
    );
    drop(store);
    down_to(before).await;
}

async fn down_to(tasks: usize) {
    let fewer = async {
        while Handle::current().metrics().num_alive_tasks() > tasks {
            tokio::task::yield_now().await;
        }
    };
    time::timeout(Duration::from_secs(5), fewer).await.unwrap();
}

/// The whole, as `connect` builds it.
#[tokio::test]
async fn connect_tells_an_outage_from_a_refusal() {
    let refused = Server::start(|_| {
        "-WRONGPASS invalid username-password pair or user is disabled.\r\n".into()
    })
    .await;
    let url = refused.address.replace("redis://", "redis://:hunter2@");
    let patient = crate::Options::new().deadline(Duration::from_secs(2));
    let error = crate::connect_with(&url, patient.clone())
        .await
        .unwrap_err();
    let message = error.report().to_string();
    assert!(
        message.contains("WRONGPASS") && !message.contains("hunter2"),
        "{message}"
    );

    // It answers with a web page: no Redis.
    let other = Server::start(|_| "HTTP/1.1 400 Bad Request\r\n\r\n".into()).await;
    let error = crate::connect_with(&other.address, patient.clone()).await;
    assert!(error.is_err());

    let hanging = Server::start(|_| String::new()).await;
    let loading =
        Server::start(|_| "-LOADING Redis is loading the dataset in memory\r\n".into()).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone_address = format!("redis://{}", gone.local_addr().unwrap());
    drop(gone);
    for url in [&hanging.address, &loading.address, &gone_address] {
        let start = Instant::now();
        let store = crate::connect(url).await.unwrap();
        assert!(start.elapsed() < Duration::from_millis(500), "{url}");
        let breaker = store.info().health.breaker.unwrap();
        assert_eq!(breaker.state(), crate::BreakerState::Open);
        assert!(store.call_now(&Op::Ping, &CX).is_some());
    }

    let sound = Server::start(sound).await;
    let options = patient.prefix("shop");
    let store = crate::connect_with(&sound.address, options).await.unwrap();
    let space = KeySpace::new("data", "s");
    store
        .get(&CX, &Key::new(&space, IdentityRef::Int(1)))
        .await
        .unwrap();
    assert_eq!(sound.seen(), ["GET shop:{int:1}:data:s"]);
    let info = store.info();
    assert_eq!(info.call_limit, Some(Duration::from_secs(2)));
    assert!(info.shared && info.health.last_latency.is_some());
}
