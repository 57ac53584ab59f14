//! The booking service when its Redis is paused, dies, comes back empty, or was never there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use http::StatusCode;
use serde_json::Value;
use tests::{Client, RedisServer, Service};
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep},
};

#[tokio::test]
async fn open_serves_through_pauses_and_deaths_of_its_redis() {
    let _turn = TURN.lock().await;
    let statuses = survive("open").await;
    assert_eq!(statuses, [StatusCode::OK]);
}

#[tokio::test]
async fn closed_answers_503_through_pauses_and_deaths_of_its_redis() {
    let _turn = TURN.lock().await;
    let statuses = survive("closed").await;
    assert_eq!(statuses, [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE]);
}

#[tokio::test]
async fn a_start_during_the_outage_does_as_it_is_told_and_finds_redis_later() {
    let _turn = TURN.lock().await;
    let mut redis = RedisServer::start();
    redis.kill();
    let (open, closed) = (booking(&redis, "open"), booking(&redis, "closed"));
    for (service, status) in [(&open, 200), (&closed, 503)] {
        let mut client = service.connect().await;
        for _ in 0..20 {
            assert_eq!(timed(&mut client).await, status);
        }
    }
    redis.restart();
    for service in [&open, &closed] {
        is_back(service).await;
        let warnings = warnings(service);
        assert_eq!(warnings.len(), 2, "one out, one back: {warnings:#?}");
    }
    assert_eq!(redis.clients().len(), 2);
}

#[tokio::test]
async fn an_open_breaker_costs_no_time_and_sends_redis_nothing_but_pings() {
    let _turn = TURN.lock().await;
    let redis = RedisServer::start();
    let service = booking(&redis, "open");
    let on_memory = Service::start("booking", &["--listen", "127.0.0.1:0", "--limit", PLENTY]);
    let mut client = service.connect().await;
    let mut unharmed = on_memory.connect().await;
    assert_eq!(timed(&mut client).await, 200);
    let mut monitor = redis.monitor();
    redis.pause();
    for _ in 0..FAILURES {
        assert_eq!(timed(&mut client).await, 200);
    }
    assert_eq!(breaker(&mut client).await["state"], "open");

    // Turn and turn about, so that what else the machine does falls on both.
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..1_000 {
        with.push(took(client.get("/")).await);
        without.push(took(unharmed.get("/")).await);
    }
    let added = p99(with).saturating_sub(p99(without));
    assert!(added < Duration::from_millis(5), "adds {added:?}");

    // What was sent lies in its sockets until it goes on: time for a few pings.
    sleep(Duration::from_millis(1_500)).await;
    redis.resume();
    is_back(&service).await;
    let commands = monitor.commands(&redis);
    let checks = commands.iter().filter(|line| line.contains(":limit:"));
    assert_eq!(
        checks.count(),
        2,
        "the first that failed, after which the connection was silent, and the one when it was back: {commands:#?}"
    );
    let name = |command: &String| command.split('"').nth(1).map(str::to_lowercase);
    let sent: Vec<_> = commands.iter().filter_map(name).collect();
    assert!(
        sent.iter().filter(|name| *name == "ping").count() >= 2,
        "{sent:?}"
    );
    for name in &sent {
        let of_a_connection = [
            "hello", "info", "config", "command", "client", "eval", "evalsha", "ping", "set",
        ];
        assert!(of_a_connection.contains(&&**name), "{name} in {sent:?}");
    }
}

/// Pauses, kills and restarts the Redis of a service under load. Returns the statuses that its clients got, sorted.
async fn survive(on_store_error: &str) -> Vec<StatusCode> {
    let mut redis = RedisServer::start();
    let service = booking(&redis, on_store_error);
    let load = Load::on(&service).await;
    sleep(MOMENT).await;

    redis.pause();
    is_out(&service).await;
    sleep(MOMENT).await;
    redis.resume();
    is_back(&service).await;
    sleep(MOMENT).await;

    redis.kill();
    is_out(&service).await;
    sleep(MOMENT).await;
    redis.restart();
    is_back(&service).await;
    sleep(MOMENT).await;

    let statuses = load.end().await;
    let warnings = warnings(&service);
    assert_eq!(
        warnings.len(),
        4,
        "two outages, each one out and one back: {warnings:#?}"
    );
    assert_eq!(redis.clients().len(), 1, "one connection a process");
    assert!(service.stop().success());
    statuses
}

/// Clients that send a request, wait for its response, and pause before the next.
struct Load {
    clients: JoinSet<Vec<StatusCode>>,
    over: Arc<AtomicBool>,
}

impl Load {
    async fn on(service: &Service) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (mut client, over) = (service.connect().await, over.clone());
            clients.spawn(async move {
                let mut statuses = Vec::new();
                while !over.load(Relaxed) {
                    statuses.push(timed(&mut client).await);
                    sleep(Duration::from_millis(20)).await;
                }
                statuses
            });
        }
        Self { clients, over }
    }

    async fn end(self) -> Vec<StatusCode> {
        self.over.store(true, Relaxed);
        let mut statuses = self.clients.join_all().await.concat();
        statuses.sort_unstable();
        statuses.dedup();
        statuses
    }
}

fn booking(redis: &RedisServer, on_store_error: &str) -> Service {
    let url = redis.url();
    let flags = [
        "--listen",
        "127.0.0.1:0",
        "--store",
        &url,
        "--limit",
        PLENTY,
    ];
    Service::start(
        "booking",
        &[&flags[..], &["--on-store-error", on_store_error]].concat(),
    )
}

/// Returns the status of a response, and checks that it came in time.
async fn timed(client: &mut Client) -> StatusCode {
    let start = Instant::now();
    let status = client.get("/").await.status();
    let took = start.elapsed();
    assert!(took <= LIMIT, "a request took {took:?}, may take {LIMIT:?}");
    status
}

async fn is_out(service: &Service) {
    let mut client = service.connect().await;
    let start = Instant::now();
    while breaker(&mut client).await["state"] != "open" {
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "nobody has noticed"
        );
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the service uses its store again: by itself, and soon after the server's return.
async fn is_back(service: &Service) {
    let mut client = service.connect().await;
    let start = Instant::now();
    while breaker(&mut client).await["state"] != "closed" {
        assert!(
            start.elapsed() < Duration::from_secs(3),
            "{:#?}",
            service.log()
        );
        sleep(Duration::from_millis(10)).await;
    }
    let response = client.get("/").await;
    assert_eq!(response.status(), 200);
    assert!(
        response.headers().contains_key("ratelimit"),
        "it counts again"
    );
}

async fn breaker(client: &mut Client) -> Value {
    let health = client.get("/healthz").await;
    assert_eq!(health.status(), 200);
    let health: Value = serde_json::from_slice(health.body()).expect("the service speaks JSON");
    health["store"]["circuit_breaker"].clone()
}

fn warnings(service: &Service) -> Vec<String> {
    let mut log = service.log();
    log.retain(|line| line.contains("WARN"));
    log
}

async fn took<T>(work: impl Future<Output = T>) -> Duration {
    let start = Instant::now();
    work.await;
    start.elapsed()
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// Held by one test at a time, since all of them measure time.
static TURN: Mutex<()> = Mutex::const_new(());

/// The limit of a check, 100 ms, and the same again for a busy machine.
const LIMIT: Duration = Duration::from_millis(200);
const MOMENT: Duration = Duration::from_millis(500);
const CLIENTS: usize = 8;
/// The number of failures in a row that open the breaker.
const FAILURES: usize = 5;
/// A limit that these tests do not reach.
const PLENTY: &str = "1000000/s";
