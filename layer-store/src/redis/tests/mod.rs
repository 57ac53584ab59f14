//! The store against a server that replies what a test wants, which a real one does only when something is wrong.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{self, Instant},
};

mod connect;
mod connection;
mod dial;
mod handshake;
mod replies;

use super::{dial::Dialer, *};
use crate::{Arg, Effect, ErrorKind, IdentityRef, KeySpace, Output, Program, Retention, StoreExt};

const CX: Context = Context::new("test");
const HELLO: &str = "%1\r\n$5\r\nproto\r\n:3\r\n";
const NO_HELLO: &str = "-ERR unknown command 'HELLO', with args beginning with: '3' \r\n";
const INFO: &str = "$33\r\nrun_id:abcd\r\nredis_version:7.0.15\r\n";
const READONLY: &str = "-READONLY You can't write against a read only replica.\r\n";
const NOSCRIPT: &str = "-NOSCRIPT No matching script. Please use EVAL.\r\n";

static PROGRAM: Program = Program::new("p", "return {1}", Retention::Pinned, |_, _| {
    Output::ints(&[1])
});

/// Replies to each command with `answer`, and notes the command. An empty text is no reply; [`CLOSE`] ends the connection.
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
        Self::slow(answer, Duration::ZERO).await
    }

    /// Takes this time for each read of a connection.
    async fn slow(
        answer: impl Fn(&str) -> String + Send + Sync + 'static,
        delay: Duration,
    ) -> Self {
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
                served.spawn(serve(socket, answer.clone(), seen2.clone(), delay));
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

    /// Takes the commands since the last time, without those of a new connection.
    fn seen(&self) -> Vec<String> {
        let mut seen = std::mem::take(&mut *self.seen.lock());
        seen.retain(|command| !is_of_a_new_connection(command));
        seen
    }

    fn at(&self) -> SocketAddr {
        self.address["redis://".len()..].parse().unwrap()
    }

    fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }
}

async fn serve(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    answer: Answer,
    seen: Arc<Mutex<Vec<String>>>,
    delay: Duration,
) {
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
            Ok(read) => {
                buffer.extend_from_slice(&chunk[..read]);
                if !delay.is_zero() {
                    time::sleep(delay).await;
                }
            }
        }
    }
}

/// Reads one command: its words joined, and its length on the wire.
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

/// Returns true for a command of the greeting or the inspection.
fn is_of_a_new_connection(command: &str) -> bool {
    const NOTHING: &str = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0";
    match command.split_once(' ') {
        None => command == "INFO",
        Some(("HELLO" | "CONFIG" | "COMMAND" | "CLIENT", _)) => true,
        Some(("EVAL", script)) => script == "return 1 0",
        Some(("EVALSHA", script)) => script == NOTHING,
        Some(_) => false,
    }
}

/// The replies of a sound server.
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
