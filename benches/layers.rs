//! The cost of a cache hit, an idempotent request and a lock. In memory they are compared with a bare handler and a hand-written
//! minimum, on Redis with a single GET.
//!
//! `cargo bench -p benches --bench layers` starts a redis-server of its own.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cache_layer::CacheLayer;
use contenders::{Contender, compare};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use layer_store::{MemoryStore, SharedStore, connect};
use lock_layer::{ClientScope, IdempotencyLayer, Locks};
use parking_lot::Mutex;
use tests::RedisServer;
use tokio::runtime::Runtime;
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneService};

type Body = Full<Bytes>;
type Bare = BoxCloneService<Request<Body>, Response<Body>, Infallible>;

const KIB: usize = 1_024;

fn main() {
    let runtime = Runtime::new().expect("threads");
    let server = RedisServer::start();
    let memory = SharedStore::new(MemoryStore::new());
    let redis = runtime
        .block_on(connect(&server.url()))
        .expect("the server runs");
    for (name, store, rounds, times) in [("memory", memory, 21, 5_000), ("Redis", redis, 9, 1_000)]
    {
        let get = (name == "Redis").then(|| get(&runtime, &server));
        let hits = [(KIB, "1 KiB hit"), (64 * KIB, "64 KiB hit")]
            .map(|(size, title)| hit(&runtime, &store, size, title));
        let floor = floor_hit(&runtime, KIB);
        table(
            name,
            "a cache hit",
            rounds,
            times,
            [
                vec![bare(&runtime, KIB), floor],
                hits.into(),
                get.into_iter().collect(),
            ]
            .concat_all(),
        );
        let get = (name == "Redis").then(|| self::get(&runtime, &server));
        let requests = vec![
            bare(&runtime, KIB),
            floor_run(&runtime),
            first_run(&runtime, &store),
            replay(&runtime, &store),
        ];
        table(
            name,
            "an idempotent request",
            rounds,
            times,
            [requests, get.into_iter().collect()].concat_all(),
        );
        let get = (name == "Redis").then(|| self::get(&runtime, &server));
        let locks = vec![
            Contender::timed("nothing", |_| Duration::ZERO),
            floor_lock(),
            lock(&runtime, &store),
        ];
        table(
            name,
            "a lock taken and given back",
            rounds,
            times,
            [locks, get.into_iter().collect()].concat_all(),
        );
    }
}

fn table(store: &str, what: &str, rounds: usize, times: u32, contenders: Vec<Contender<'_>>) {
    compare(&format!("{what}, {store}"), rounds, times, contenders);
}

trait ConcatAll<T> {
    fn concat_all(self) -> Vec<T>;
}

impl<T, const N: usize> ConcatAll<T> for [Vec<T>; N] {
    fn concat_all(self) -> Vec<T> {
        self.into_iter().flatten().collect()
    }
}

fn handler(size: usize) -> Bare {
    let body = Bytes::from(vec![b'x'; size]);
    BoxCloneService::new(service_fn(move |_: Request<Body>| {
        let body = body.clone();
        async move { Ok(Response::new(Full::new(body))) }
    }))
}

/// Measures `work` inside a task of the runtime. Outside of one, each wait would cost two wake-ups of a thread.
fn timed<'a, W, F>(runtime: &'a Runtime, name: &'static str, work: W) -> Contender<'a>
where
    W: Fn(u32) -> F + 'a,
    F: Future<Output = ()> + Send + 'static,
{
    #[expect(clippy::disallowed_methods, reason = "a stop watch")]
    Contender::timed(name, move |times| {
        let work = work(times);
        let task = runtime.spawn(async move {
            let start = Instant::now();
            work.await;
            start.elapsed()
        });
        runtime.block_on(task).expect("no task panics")
    })
}

/// Sends the requests that `request` makes, a given number of times, and reads the responses.
fn asked<'a, S, B>(
    runtime: &'a Runtime,
    name: &'static str,
    service: S,
    request: impl Fn() -> Request<Body> + Clone + Send + 'static,
) -> Contender<'a>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: std::fmt::Debug,
{
    timed(runtime, name, move |times| {
        let (service, request) = (service.clone(), request.clone());
        async move {
            for _ in 0..times {
                let Ok(response) = service.clone().oneshot(request()).await;
                response.into_body().collect().await.expect("a whole body");
            }
        }
    })
}

fn page() -> Request<Body> {
    Request::get("http://a/cars/7")
        .body(Body::default())
        .expect("a request")
}

fn booking(key: &str) -> Request<Body> {
    let request = Request::post("http://a/bookings").header("idempotency-key", key);
    request.body(Body::from("{}")).expect("a request")
}

fn bare(runtime: &Runtime, size: usize) -> Contender<'_> {
    asked(runtime, "bare", handler(size), page)
}

fn hit<'a>(
    runtime: &'a Runtime,
    store: &SharedStore,
    size: usize,
    title: &'static str,
) -> Contender<'a> {
    let layer = CacheLayer::new(store.clone())
        .ttl(Duration::from_secs(3_600))
        .name(title);
    asked(runtime, title, layer.layer(handler(size)), page)
}

fn first_run<'a>(runtime: &'a Runtime, store: &SharedStore) -> Contender<'a> {
    let layer = IdempotencyLayer::at_most_once(store.clone(), ClientScope::global());
    let run = layer_store::conformance::unique();
    let next = Arc::new(std::sync::atomic::AtomicU64::new(0));
    asked(runtime, "first run", layer.layer(handler(KIB)), move || {
        let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        booking(&format!("{run}-{number}"))
    })
}

fn replay<'a>(runtime: &'a Runtime, store: &SharedStore) -> Contender<'a> {
    let layer = IdempotencyLayer::at_most_once(store.clone(), ClientScope::global());
    asked(runtime, "replay", layer.layer(handler(KIB)), || {
        booking("again")
    })
}

fn lock<'a>(runtime: &'a Runtime, store: &SharedStore) -> Contender<'a> {
    let locks = Locks::new(store.clone());
    timed(runtime, "lock cycle", move |times| {
        let locks = locks.clone();
        async move {
            for _ in 0..times {
                let guard = locks.group("car:7").try_acquire(["2026-12-01"]).await;
                guard
                    .expect("nobody else")
                    .release()
                    .await
                    .expect("the store runs");
            }
        }
    })
}

/// The minimum for a cache hit: a map behind a lock, by path.
fn floor_hit(runtime: &Runtime, size: usize) -> Contender<'_> {
    let map = Arc::new(Mutex::new(HashMap::from([(
        "/cars/7".to_owned(),
        Bytes::from(vec![b'x'; size]),
    )])));
    let floor = service_fn(move |request: Request<Body>| {
        let body = map.lock().get(request.uri().path()).cloned();
        async move { Ok::<_, Infallible>(Response::new(Full::new(body.expect("it is there")))) }
    });
    asked(runtime, "floor", floor, page)
}

/// The minimum for a replay: a map behind a lock, by key, filled by the handler.
fn floor_run(runtime: &Runtime) -> Contender<'_> {
    let map: Arc<Mutex<HashMap<String, Bytes>>> = Arc::default();
    let (inner, floor) = (handler(KIB), map);
    let floor = service_fn(move |request: Request<Body>| {
        let (map, inner) = (floor.clone(), inner.clone());
        async move {
            let key = request.headers()["idempotency-key"]
                .to_str()
                .expect("ASCII")
                .to_owned();
            let Ok(response) = inner.oneshot(request).await;
            let body = response
                .into_body()
                .collect()
                .await
                .expect("a whole body")
                .to_bytes();
            map.lock().insert(key, body.clone());
            Ok::<_, Infallible>(Response::new(Full::new(body)))
        }
    });
    asked(runtime, "floor", floor, || booking("again"))
}

fn floor_lock() -> Contender<'static> {
    let held: Mutex<HashSet<&str>> = Mutex::default();
    Contender::new("floor", move |times| {
        for _ in 0..times {
            assert!(held.lock().insert("2026-12-01"));
            held.lock().remove("2026-12-01");
        }
    })
}

fn get<'a>(runtime: &'a Runtime, server: &RedisServer) -> Contender<'a> {
    let client = redis::Client::open(server.url()).expect("a URL");
    let connection = runtime.block_on(client.get_multiplexed_async_connection());
    let connection = connection.expect("the server runs");
    timed(runtime, "GET", move |times| {
        let mut connection = connection.clone();
        async move {
            let command = redis::cmd("GET").arg("key").to_owned();
            for _ in 0..times {
                connection
                    .send_packed_command(&command)
                    .await
                    .expect("the server runs");
            }
        }
    })
}
