//! The cost of the limiter in memory: admitted, refused, and two threads on one key, compared with a bare service and a minimum.
//!
//! `cargo bench -p benches --features peers --bench limiter_memory`. Without `peers`, tower_governor is left out.

use std::{hint::black_box, sync::Barrier, thread, time::Duration};

use axum::body::Body;
use contenders::{Bare, Contender, FloorLayer, Setting, ask, compare, limited, request};
use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use http::{Request, Response};
use rate_limit_layer::Quota;
use tower_layer::Layer;
use tower_service::Service;

const ROUNDS: usize = 41;
const TIMES: u32 = 20_000;
/// A quota that no round uses up.
const UNSPENT: Quota = Quota::per_second(1_000_000).burst(1_000_000_000);
/// A quota that the first request uses up.
const SPENT: Quota = Quota::per_second(1);
/// A quota under which each of many keys keeps a debt for longer than a round.
const HOURLY: Quota = Quota::per_hour(1_000);
const PLAIN: Setting = Setting {
    quota: UNSPENT,
    headers: false,
    wrapped: false,
};
const WRAPPED: Setting = Setting {
    wrapped: true,
    ..PLAIN
};

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime needs nothing");
    let _entered = runtime.enter();
    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut group = criterion.benchmark_group("limiter_memory/passing");
    measure(&mut group, "bare", Bare);
    measure(
        &mut group,
        "floor",
        FloorLayer::new(UNSPENT, false).layer(Bare),
    );
    measure(&mut group, "ours", limited(PLAIN));
    measure(&mut group, "ours, wrapped", limited(WRAPPED));
    group.finish();
    // A filter on the command line leaves out tables, as it does criterion's benchmarks.
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let wanted = |title: &str| {
        filter
            .as_deref()
            .is_none_or(|filter| title.contains(filter))
    };
    for (title, quota, headers) in [
        ("passing", UNSPENT, false),
        ("passing, with headers", UNSPENT, true),
        ("refused", SPENT, false),
        ("refused, with headers", SPENT, true),
    ] {
        if wanted(title) {
            compare(title, ROUNDS, TIMES, contenders(quota, headers));
        }
    }
    if wanted("two threads on one key") {
        compare("two threads on one key", ROUNDS, 10 * TIMES, together());
    }
    if wanted("100,000 keys") {
        compare("100,000 keys", ROUNDS, 100_000, many_keys());
    }
}

fn measure<S, B>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut service: S)
where
    S: Service<Request<Body>, Response = Response<B>, Error = std::convert::Infallible>,
{
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            black_box(&ask(&mut service, request(0x0a00_0001)));
        });
    });
}

fn contenders(quota: Quota, headers: bool) -> Vec<Contender<'static>> {
    let ours = Setting {
        quota,
        headers,
        wrapped: false,
    };
    let floor = FloorLayer::new(quota, headers).layer(Bare);
    let mut contenders = vec![
        one_key("bare", Bare),
        one_key("floor", floor),
        one_key("ours", limited(ours)),
        one_key(
            "ours, wrapped",
            limited(Setting {
                wrapped: true,
                ..ours
            }),
        ),
    ];
    #[cfg(feature = "peers")]
    contenders.push(match headers {
        false => one_key("tower_governor", contenders::governor(quota)),
        true => one_key("tower_governor", contenders::governor_with_headers(quota)),
    });
    contenders.shrink_to_fit();
    contenders
}

fn one_key<S, B>(name: &'static str, mut service: S) -> Contender<'static>
where
    S: Service<Request<Body>, Response = Response<B>, Error = std::convert::Infallible> + 'static,
{
    Contender::new(name, move |times| {
        for _ in 0..times {
            black_box(&ask(&mut service, request(0x0a00_0001)));
        }
    })
}

fn together() -> Vec<Contender<'static>> {
    let floor = FloorLayer::new(UNSPENT, false).layer(Bare);
    let mut contenders = vec![
        two_threads("bare", Bare),
        two_threads("floor", floor),
        two_threads("ours", limited(PLAIN)),
        two_threads("ours, wrapped", limited(WRAPPED)),
    ];
    #[cfg(feature = "peers")]
    contenders.push(two_threads("tower_governor", contenders::governor(UNSPENT)));
    contenders.shrink_to_fit();
    contenders
}

fn two_threads<S, B>(name: &'static str, service: S) -> Contender<'static>
where
    S: Service<Request<Body>, Response = Response<B>, Error = std::convert::Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
{
    Contender::timed(name, move |times| {
        let barrier = Barrier::new(2);
        let run = |mut service: S| {
            barrier.wait();
            let clock = quanta::Instant::now();
            for _ in 0..times {
                black_box(&ask(&mut service, request(0x0a00_0001)));
            }
            clock.elapsed()
        };
        let (mine, other) = (service.clone(), service.clone());
        thread::scope(|scope| {
            let other = scope.spawn(|| run(other));
            let mine = run(mine);
            mine.max(other.join().expect("the other thread does not panic"))
        })
    })
}

fn many_keys() -> Vec<Contender<'static>> {
    let hourly = Setting {
        quota: HOURLY,
        ..PLAIN
    };
    let wrapped = Setting {
        wrapped: true,
        ..hourly
    };
    let floor = FloorLayer::new(HOURLY, false).layer(Bare);
    let mut contenders = vec![
        spread("bare", Bare),
        spread("floor", floor),
        spread("ours", limited(hourly)),
        spread("ours, wrapped", limited(wrapped)),
    ];
    #[cfg(feature = "peers")]
    contenders.push(spread("tower_governor", contenders::governor(HOURLY)));
    contenders.shrink_to_fit();
    contenders
}

fn spread<S, B>(name: &'static str, mut service: S) -> Contender<'static>
where
    S: Service<Request<Body>, Response = Response<B>, Error = std::convert::Infallible> + 'static,
{
    let mut peer = 0_u32;
    Contender::new(name, move |times| {
        for _ in 0..times {
            // Visits all 100,000 peers in an order that no prefetcher can follow.
            peer = (peer + 61_803) % 100_000;
            black_box(&ask(&mut service, request(0x0a00_0000 + peer)));
        }
    })
}
