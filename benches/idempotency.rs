//! The cost of an idempotent request, fresh and repeated, in memory and on Redis, compared with the bare handler, a hand-written
//! minimum and axum-idempotent (memory).
//!
//! `cargo bench -p benches --features peers --bench idempotency` starts a redis-server of its own. Without `peers`, axum-idempotent
//! is left out.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use contenders::{
    Contender, IdempotencyFloor, Keys, Page, RedisFloor, bare_connection, book, compare,
    drive_bookings, idempotent, retry_safe,
};
use http::{Request, Response};
use layer_store::{MemoryStore, connect};
use tests::RedisServer;
use tokio::runtime::Runtime;
use tower_service::Service;

const ROUNDS: usize = 21;
const KIB: usize = 1_024;

fn main() {
    // One thread for all: with two, the time is that of waking the other one, or not, by chance.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    in_memory(
        &runtime,
        "memory, fresh: over the handler, of the floor's",
        true,
    );
    in_memory(&runtime, "memory, replay: whole, of the floor's", false);
    let server = RedisServer::start();
    on_redis(&runtime, &server, "Redis, fresh: of the floor's", true);
    on_redis(&runtime, &server, "Redis, replay: of the floor's", false);
    println!("\ncommands: {:?}", server.commandstats());
}

fn in_memory(runtime: &Runtime, title: &str, fresh: bool) {
    let first = match fresh {
        true => sent(runtime, "handler", Page::of(KIB), fresh),
        false => Contender::timed("nothing", |_| Duration::ZERO),
    };
    let mut contenders = vec![
        first,
        sent(
            runtime,
            "floor",
            IdempotencyFloor::new(Page::of(KIB)),
            fresh,
        ),
        sent(runtime, "ours", idempotent(MemoryStore::new(), KIB), fresh),
    ];
    #[cfg(feature = "peers")]
    contenders.push(sent(
        runtime,
        "axum-idempotent",
        contenders::axum_idempotent(KIB),
        fresh,
    ));
    contenders.shrink_to_fit();
    compare(title, ROUNDS, 5_000, contenders);
}

fn on_redis(runtime: &Runtime, server: &RedisServer, title: &str, fresh: bool) {
    let store = runtime
        .block_on(connect(&server.url()))
        .expect("the server runs");
    let connection = runtime.block_on(bare_connection(server));
    let contenders = vec![
        Contender::timed("nothing", |_| Duration::ZERO),
        spawned(
            runtime,
            "floor",
            RedisFloor::new(Page::of(KIB), connection),
            fresh,
        ),
        spawned(runtime, "at_most_once", idempotent(&store, KIB), fresh),
        spawned(runtime, "retry_safe", retry_safe(&store, KIB), fresh),
    ];
    compare(title, ROUNDS, 1_000, contenders);
}

fn sent<'a, S, B>(
    runtime: &'a Runtime,
    name: &'static str,
    mut service: S,
    fresh: bool,
) -> Contender<'a>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + 'a,
    B: http_body::Body<Data = Bytes>,
{
    Contender::new(name, move |times| {
        drive_bookings(runtime, &mut service, times, keys(fresh, times), KIB);
    })
}

/// Sends in a task of the runtime. Outside of one, each wait would cost two wake-ups of a thread.
fn spawned<'a, S, B>(
    runtime: &'a Runtime,
    name: &'static str,
    service: S,
    fresh: bool,
) -> Contender<'a>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
{
    Contender::new(name, move |times| {
        let (mut service, keys) = (service.clone(), keys(fresh, times));
        let task = runtime.spawn(async move { book(&mut service, times, keys, KIB).await });
        runtime.block_on(task).expect("no task panics");
    })
}

/// Returns keys that nobody has sent so far, or one.
fn keys(fresh: bool, times: u32) -> Keys {
    static SENT: AtomicU64 = AtomicU64::new(0);
    match fresh {
        true => Keys::New(SENT.fetch_add(times.into(), Relaxed)),
        false => Keys::Repeated,
    }
}
