//! The cost of a cache hit on Redis, compared with a GET of a value of its size: the median time of one after the other.
//!
//! `cargo bench -p benches --bench cache_redis` starts a redis-server of its own.

use std::{future::Future, sync::Arc, time::Duration};

use cache_layer::{Cache, CacheLayer};
use contenders::{Contender, Page, Requests, bare_connection, cached_by, compare};
use criterion::Criterion;
use http_body_util::BodyExt;
use layer_store::connect;
use redis::aio::MultiplexedConnection;
use tests::RedisServer;
use tokio::{runtime::Runtime, sync::Mutex};
use tower_service::Service;

const ROUNDS: usize = 15;
const TIMES: u32 = 2_000;
const KIB: usize = 1_024;
/// About what the head and the fields of the page take in the store.
const HEAD: usize = 300;

fn main() {
    let server = RedisServer::start();
    // One thread for the caller and the drivers of the connections, so that no call waits for another thread to wake up.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let runtime = &runtime;
    let bare = runtime.block_on(bare_connection(&server));
    let store = runtime
        .block_on(connect(&server.url()))
        .expect("the server runs");
    let ours = |length| {
        // Pages of other lengths on the store have other names.
        let layer = CacheLayer::new(store.clone()).name(&format!("page-{length}"));
        let service = runtime.block_on(cached_by(layer, length));
        Arc::new(Mutex::new(service))
    };
    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut group = criterion.benchmark_group("cache_redis/1 KiB");
    let (get, hit) = (Get::of(runtime, &bare, KIB), ours(KIB));
    group.bench_function("GET", |bencher| {
        bencher.iter_custom(|times| median(runtime, times as u32, || get.clone().send()));
    });
    group.bench_function("hit", |bencher| {
        bencher.iter_custom(|times| median(runtime, times as u32, || hits(hit.clone(), KIB)));
    });
    group.finish();
    for (title, length) in [("a hit of 1 KiB", KIB), ("a hit of 64 KiB", 64 * KIB)] {
        let (get, hit) = (Get::of(runtime, &bare, length), ours(length));
        let many = get.with_more(["a", "b", "c", "d"]);
        let contenders = vec![
            Contender::timed("nothing", |_| Duration::ZERO),
            Contender::timed("GET", |times| median(runtime, times, || get.clone().send())),
            Contender::timed("MGET of it and 4 more", |times| {
                median(runtime, times, || many.clone().send())
            }),
            Contender::timed("hit", |times| {
                median(runtime, times, || hits(hit.clone(), length))
            }),
        ];
        compare(title, ROUNDS, TIMES, contenders);
    }
    println!("\ncommands: {:?}", server.commandstats());
}

/// Does something again and again, and returns its median time, as often as it was done.
#[expect(clippy::disallowed_methods, reason = "a stop watch")]
fn median<F: Future<Output = ()>>(runtime: &Runtime, times: u32, work: impl Fn() -> F) -> Duration {
    let taken = runtime.block_on(async {
        let mut taken = Vec::with_capacity(times as usize);
        for _ in 0..times {
            let work = work();
            let start = std::time::Instant::now();
            work.await;
            taken.push(start.elapsed());
        }
        taken.sort_unstable();
        taken
    });
    taken[taken.len() / 2] * times
}

async fn hits(service: Arc<Mutex<Cache<Page>>>, length: usize) {
    let request = Requests::default().next();
    let Ok(response) = service.lock().await.call(request).await;
    assert!(response.headers().contains_key("age"), "a hit");
    let body = response.into_body().collect().await.expect("a whole body");
    assert_eq!(body.to_bytes().len(), length);
}

/// A GET of a value of a stored page's size, on a bare connection.
#[derive(Clone)]
struct Get {
    connection: MultiplexedConnection,
    key: String,
    command: redis::Cmd,
}

impl Get {
    fn of(runtime: &Runtime, connection: &MultiplexedConnection, length: usize) -> Self {
        let mut connection = connection.clone();
        let key = format!("value:{length}");
        let value = vec![b'x'; length + HEAD];
        let set = redis::cmd("SET").arg(&key).arg(value).to_owned();
        let set = runtime.block_on(connection.send_packed_command(&set));
        set.expect("the server runs");
        Self {
            connection,
            command: redis::cmd("GET").arg(&key).to_owned(),
            key,
        }
    }

    /// Asks for more keys in the same command. None of them exists.
    fn with_more(&self, keys: [&str; 4]) -> Self {
        let command = redis::cmd("MGET").arg(&self.key).arg(&keys).to_owned();
        Self {
            command,
            ..self.clone()
        }
    }

    async fn send(mut self) {
        let reply = self.connection.send_packed_command(&self.command).await;
        reply.expect("the server runs");
    }
}
