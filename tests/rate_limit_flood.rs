//! One client floods a service over a real Redis that is well: its limit holds, and nobody else's route is refused.
//!
//! `cargo xtask soak` floods for 10 s with up to 8,000 connections, `cargo xtask test` for 2 s with fewer. Each flood prints its numbers,
//! which `--nocapture` shows.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client, server};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use layer_store::{
    BreakerState, Context, ErrorKind, Key, Op, Reply, SharedStore, Store, StoreError, StoreInfo,
    Watch, connect,
};
use rate_limit_layer::{Limiter, Quota, RateLimitLayer, header};
use tests::{RedisServer, outage::now, resident, scale};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::Mutex,
    time::Instant,
};
use tower::{Layer, ServiceExt, service_fn};

/// One at a time: a flood takes all of the machine.
static TURN: Mutex<()> = Mutex::const_new(());

/// The requests a minute.
const LIMIT: u64 = 100;

#[derive(Clone, Copy, Debug)]
enum Version {
    Http1,
    /// With so many requests at once on each connection.
    Http2(usize),
}

/// The name that a flooding client gives itself.
#[derive(Clone, Copy, Debug)]
enum Name {
    Same,
    /// Another one in each request.
    Fresh,
}

/// The answers of a flood.
#[derive(Debug, Default)]
struct Answers {
    passed: AtomicU64,
    /// Those that passed without a balance: the store was not asked.
    uncounted: AtomicU64,
    refused: AtomicU64,
    other: AtomicU64,
}

#[test]
fn a_flood_of_keep_alive_connections_passes_no_more_than_its_limit() {
    for connections in [4_000, 8_000] {
        holds(Version::Http1, scaled(connections));
    }
}

#[test]
fn a_flood_of_streams_passes_no_more_than_its_limit() {
    holds(Version::Http2(scaled(200)), 20);
}

#[test]
fn a_flood_of_fresh_keys_is_answered_and_opens_no_breaker() {
    for (version, connections) in [
        (Version::Http1, scaled(4_000)),
        (Version::Http1, scaled(8_000)),
        (Version::Http2(scaled(200)), 20),
    ] {
        is_answered(version, connections);
    }
}

/// Floods with another key in each request. Each is a caller's first, and passes; those that this process could not ask for in time are
/// a part of them.
fn is_answered(version: Version, connections: usize) {
    let flood = Flood::start();
    let answers = flood.run(version, connections, Name::Fresh);
    let in_flight = flood.calls.most_in_flight.load(Relaxed);
    let told = format!("{version:?} {connections}: {answers:?}, {in_flight} in flight");
    assert_eq!(flood.turns(), 0, "{told}");
    assert_eq!(answers.other.load(Relaxed), 0, "{told}");
    assert_eq!(answers.refused.load(Relaxed), 0, "{told}");
    assert!(in_flight <= MOST_IN_FLIGHT, "{told}");
    let (passed, uncounted) = (
        answers.passed.load(Relaxed),
        answers.uncounted.load(Relaxed),
    );
    assert!(passed >= 1_000, "{told}");
    assert!(uncounted < passed, "{told}");
    // Nobody else's fault.
    let calls = &flood.calls;
    let (overloaded, failed) = (calls.overloaded.load(Relaxed), calls.failed.load(Relaxed));
    assert_eq!(failed, 0, "{told}");
    // The neighbour's calls are among them.
    assert!(overloaded >= uncounted, "{told}: {overloaded}");
    let share = 100 * uncounted / passed;
    println!("{told}: {share} % not counted, all overloaded");
}

/// Fresh keys without a service before them: they free no blocked key, neither while the store works nor while it is silent, and the
/// memory of this process is bounded.
#[test]
fn a_million_fresh_keys_free_no_blocked_key_and_fit_into_a_bounded_table() {
    let flood = Flood::start();
    let limiter = Limiter::new(
        flood.store.clone(),
        Quota::per_day(2).fail_open().name("fresh"),
    );
    let check = |name: String| {
        let limiter = limiter.clone();
        async move { limiter.check(&*name).await.is_admitted() }
    };
    let flood_of = |from: u64, count: u64| {
        let asking = (0..ASKING).map(|task| {
            let limiter = limiter.clone();
            flood.flooding.spawn(async move {
                for number in (from + task..from + count).step_by(ASKING as usize) {
                    assert!(limiter.check(number).await.is_admitted(), "{number}");
                }
            })
        });
        for task in asking.collect::<Vec<_>>() {
            flood.flooding.block_on(task).unwrap();
        }
    };
    for _ in 0..2 {
        assert!(flood.flooding.block_on(check("ada".into())));
    }
    assert!(!flood.flooding.block_on(check("ada".into())));
    let before = resident();
    let keys = scale(1_000_000);
    flood_of(0, keys);
    let grown = resident().saturating_sub(before);
    assert!(!flood.flooding.block_on(check("ada".into())));
    // A silent store: what the ledger knows is all there is.
    flood.redis.pause();
    flood_of(keys, keys.min(20_000));
    let refused = !flood.flooding.block_on(check("ada".into()));
    flood.redis.resume();
    assert!(refused);
    assert!(grown < 64 << 20, "{grown}");
    println!("{keys} fresh keys: {} KiB more", grown >> 10);
}

/// A server that is stopped, then killed, and comes back empty, all under load. Each time it has forgotten, the quota is there anew.
#[test]
fn a_flood_over_an_outage_passes_what_one_process_may_let_through() {
    let mut flood = Flood::start();
    let begun = now();
    let answers = flood.run_with(Version::Http2(scaled(200)), 20, Name::Same, |redis| {
        let wait = |millis| std::thread::sleep(Duration::from_millis(millis));
        wait(500);
        redis.pause();
        wait(500);
        redis.resume();
        wait(500);
        redis.kill();
        wait(500);
        redis.restart();
    });
    let took = flood
        .serving
        .block_on(flood.is_back(Duration::from_secs(3)));
    assert!(took.is_some(), "{answers:?}");
    println!("over an outage: {answers:?}, back {took:?} after the flood");
    let earned = begun.elapsed().as_secs() * LIMIT / 60 + 1;
    let passed = answers.passed.load(Relaxed);
    assert!(
        (LIMIT..=2 * LIMIT + earned).contains(&passed),
        "{answers:?}"
    );
    assert_eq!(answers.other.load(Relaxed), 0, "{answers:?}");
}

/// Floods as one client for a while, while another one asks a route that fails closed.
fn holds(version: Version, connections: usize) {
    let flood = Flood::start();
    let begun = now();
    let answers = flood.run(version, connections, Name::Same);
    let earned = begun.elapsed().as_secs() * LIMIT / 60 + 1;
    assert_eq!(flood.turns(), 0, "{version:?} {connections}: {answers:?}");
    let passed = answers.passed.load(Relaxed);
    assert!(passed >= LIMIT, "{version:?} {connections}: {answers:?}");
    assert!(
        passed <= LIMIT + earned,
        "{version:?} {connections}: {answers:?}"
    );
    assert_eq!(
        answers.other.load(Relaxed),
        0,
        "{version:?} {connections}: {answers:?}"
    );
    assert!(
        answers.refused.load(Relaxed) > 0,
        "{version:?} {connections}: {answers:?}"
    );
    println!("{version:?} {connections}: {answers:?}");
}

/// A service with a limit that fails open, and one that fails closed, on one Redis.
struct Flood {
    _turn: tokio::sync::MutexGuard<'static, ()>,
    redis: RedisServer,
    store: SharedStore,
    calls: Arc<Calls>,
    address: SocketAddr,
    serving: Runtime,
    flooding: Runtime,
}

impl Flood {
    fn start() -> Self {
        let turn = TURN.blocking_lock();
        let redis = RedisServer::start();
        let (serving, flooding) = (runtime(), runtime());
        let calls = Arc::<Calls>::default();
        let (address, store) = serving.block_on(async {
            let inner = connect(&redis.url()).await.unwrap();
            let store = SharedStore::new(Counted {
                inner,
                calls: calls.clone(),
            });
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(serve(listener, store.clone()));
            (address, store)
        });
        Self {
            _turn: turn,
            redis,
            store,
            calls,
            address,
            serving,
            flooding,
        }
    }

    /// Floods, while another client's route is asked. That one is never answered 503.
    fn run(&self, version: Version, connections: usize, name: Name) -> Arc<Answers> {
        let done = Arc::new(AtomicBool::new(false));
        let neighbour = self.flooding.spawn(ask_closed(self.address, done.clone()));
        let flood = Duration::from_millis(scale(10_000)).max(SHORTEST);
        let answers = self
            .flooding
            .block_on(self.flood(version, connections, name, flood));
        done.store(true, Relaxed);
        let (statuses, mut took): (Vec<_>, Vec<_>) = self
            .flooding
            .block_on(neighbour)
            .unwrap()
            .into_iter()
            .unzip();
        assert!(statuses.len() >= 3, "{statuses:?}");
        if let Name::Same = name {
            assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
        }
        took.sort_unstable();
        let (count, p99) = (statuses.len(), took[took.len() * 99 / 100]);
        let served = statuses.iter().filter(|status| **status == 200).count();
        println!("another client: {served} of {count} answers are 200, p99 {p99:?}");
        answers
    }

    /// Floods for as long as `meanwhile` does something with the server, and a second longer.
    fn run_with(
        &mut self,
        version: Version,
        connections: usize,
        name: Name,
        meanwhile: impl FnOnce(&mut RedisServer),
    ) -> Arc<Answers> {
        let flooding = self.flooding.handle().clone();
        let flood = flooding.spawn(self.flood(version, connections, name, 2 * SHORTEST));
        meanwhile(&mut self.redis);
        flooding.block_on(flood).unwrap()
    }

    fn flood(
        &self,
        version: Version,
        connections: usize,
        name: Name,
        time: Duration,
    ) -> impl Future<Output = Arc<Answers>> + Send + 'static {
        let (answers, address) = (Arc::<Answers>::default(), self.address);
        async move {
            let until = Instant::now() + time;
            let clients = (0..connections).map(|number| {
                let client = Client {
                    address,
                    answers: answers.clone(),
                    until,
                    name,
                    number: number as u64,
                };
                tokio::spawn(client.flood(version))
            });
            for client in join_all(clients).await {
                client.unwrap();
            }
            answers
        }
    }

    /// Waits until the store counts again, and returns how long that took. `None`: longer than `time`.
    async fn is_back(&self, time: Duration) -> Option<Duration> {
        let quota = Quota::per_minute(LIMIT).name("back").fail_closed();
        let limiter = Limiter::new(self.store.clone(), quota);
        let begun = Instant::now();
        while begun.elapsed() < time {
            if limiter.check("eve").await.is_admitted() {
                return Some(begun.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    /// Returns how often the breaker has opened.
    fn turns(&self) -> u64 {
        let breaker = self.store.info().health.breaker.unwrap();
        breaker.entered(BreakerState::Open)
    }
}

/// The calls of a flood to its store.
#[derive(Debug, Default)]
struct Calls {
    all: AtomicU64,
    /// Those that this process was too busy to make.
    overloaded: AtomicU64,
    /// Those that failed for another reason.
    failed: AtomicU64,
    most_in_flight: AtomicU64,
}

/// A store whose calls are counted.
#[derive(Debug)]
struct Counted {
    inner: SharedStore,
    calls: Arc<Calls>,
}

impl Store for Counted {
    async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
        if self.calls.all.fetch_add(1, Relaxed).is_multiple_of(64) {
            let in_flight = self.inner.info().traffic.in_flight;
            self.calls
                .most_in_flight
                .fetch_max(in_flight.into(), Relaxed);
        }
        let result = self.inner.call(op, cx).await;
        if let Err(error) = &result {
            let count = match error.kind() {
                ErrorKind::Overloaded => &self.calls.overloaded,
                _ => &self.calls.failed,
            };
            count.fetch_add(1, Relaxed);
        }
        result
    }

    fn call_now(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        self.inner.call_now(op, cx)
    }

    fn watch(&self, key: &Key<'_>) -> Watch {
        self.inner.watch(key)
    }

    fn info(&self) -> StoreInfo {
        self.inner.info()
    }
}

async fn serve(listener: TcpListener, store: SharedStore) {
    let per_client = Quota::per_minute(LIMIT).by(header("x-client"));
    let open = RateLimitLayer::new(store.clone(), per_client.name("open").fail_open());
    let closed = RateLimitLayer::new(
        store,
        Quota::per_minute(1_000_000)
            .by(header("x-client"))
            .name("closed")
            .fail_closed(),
    );
    let hello = service_fn(|_| async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) });
    let (open, closed) = (open.layer(hello), closed.layer(hello));
    let app = service_fn(move |request: Request<Incoming>| {
        let route = match request.uri().path() {
            "/closed" => closed.clone(),
            _ => open.clone(),
        };
        route.oneshot(request)
    });
    while let Ok((stream, _)) = listener.accept().await {
        let service = TowerToHyperService::new(app.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            // The first bytes of HTTP/2 are known.
            let mut first = [0; 3];
            let peeked = stream.peek(&mut first).await;
            let io = TokioIo::new(stream);
            let _ = match (peeked, &first) {
                (Ok(_), b"PRI") => {
                    let connection = server::conn::http2::Builder::new(TokioExecutor::new());
                    connection.serve_connection(io, service).await
                }
                _ => {
                    server::conn::http1::Builder::new()
                        .serve_connection(io, service)
                        .await
                }
            };
        });
    }
}

/// One connection of the flood.
struct Client {
    address: SocketAddr,
    answers: Arc<Answers>,
    until: Instant,
    name: Name,
    number: u64,
}

impl Client {
    async fn flood(self, version: Version) {
        let Ok(stream) = TcpStream::connect(self.address).await else {
            return;
        };
        let io = TokioIo::new(stream);
        match version {
            Version::Http1 => {
                let (sender, connection) = client::conn::http1::handshake(io).await.unwrap();
                tokio::spawn(connection);
                self.ask(Sender::Http1(sender), 0).await;
            }
            Version::Http2(streams) => {
                let handshake = client::conn::http2::handshake(TokioExecutor::new(), io);
                let (sender, connection) = handshake.await.unwrap();
                tokio::spawn(connection);
                let asking = (0..streams)
                    .map(|stream| self.ask(Sender::Http2(sender.clone()), stream as u64));
                join_all(asking).await;
            }
        }
    }

    /// Asks again and again, one request after the other.
    async fn ask(&self, mut sender: Sender, stream: u64) {
        let mut asked = 0;
        while Instant::now() < self.until {
            let name = match self.name {
                Name::Same => "ada".to_owned(),
                Name::Fresh => format!("{}-{stream}-{asked}", self.number),
            };
            let request = Request::get("http://localhost/").header("x-client", name);
            let request = request.body(Empty::new()).unwrap();
            asked += 1;
            let Ok(response) = sender.send(request).await else {
                return;
            };
            self.count(&response);
            let _ = response.into_body().collect().await;
        }
    }

    fn count<B>(&self, response: &Response<B>) {
        let counter = match response.status().as_u16() {
            200 => &self.answers.passed,
            429 => &self.answers.refused,
            _ => &self.answers.other,
        };
        counter.fetch_add(1, Relaxed);
        if response.status() == 200 && !response.headers().contains_key("ratelimit") {
            self.answers.uncounted.fetch_add(1, Relaxed);
        }
    }
}

enum Sender {
    Http1(client::conn::http1::SendRequest<Empty<Bytes>>),
    Http2(client::conn::http2::SendRequest<Empty<Bytes>>),
}

impl Sender {
    async fn send(&mut self, request: Request<Empty<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

/// Asks the route that fails closed, as another client, and returns the statuses and how long each took.
async fn ask_closed(address: SocketAddr, done: Arc<AtomicBool>) -> Vec<(u16, Duration)> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut answers = Vec::new();
    while !done.load(Relaxed) {
        let request = Request::get("/closed").header("x-client", "bob");
        sender.ready().await.unwrap();
        let begun = Instant::now();
        let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap());
        let response = response.await.unwrap();
        answers.push((response.status().as_u16(), begun.elapsed()));
        let _ = response.into_body().collect().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    answers
}

/// Returns the number of connections or streams: all of them in `cargo xtask soak`, else a tenth. Some machines let a process open
/// a thousand files, and a debug build takes ten times as long for each request.
fn scaled(number: usize) -> usize {
    match scale(100) {
        100 => number,
        _ => number / 10,
    }
}

fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.expect("a runtime needs threads and nothing else")
}

/// The most calls at once that a connection has in flight, as the docs of `Options` say.
const MOST_IN_FLIGHT: u64 = 1_024;
/// The tasks that ask for fresh keys.
const ASKING: u64 = 256;
/// The flood of `cargo xtask test`.
const SHORTEST: Duration = Duration::from_secs(2);
