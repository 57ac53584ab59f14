//! The cost of a cache hit in memory, compared with an empty request, a hand-written minimum and other caches.
//!
//! `cargo bench -p benches --features peers --bench cache_memory`. Without `peers`, the other caches are left out.

use std::{convert::Infallible, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use contenders::{Bare, Contender, Page, PageFloor, cached, compare, drive_pages};
use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use http::{Request, Response};
use tower_service::Service;

const ROUNDS: usize = 41;
const TIMES: u32 = 20_000;
const KIB: usize = 1_024;

fn main() {
    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut group = criterion.benchmark_group("cache_memory/hit of 1 KiB");
    measure(&mut group, "floor", PageFloor::of(KIB));
    measure(&mut group, "ours", cached(KIB));
    #[cfg(feature = "peers")]
    {
        measure(
            &mut group,
            "axum-response-cache",
            contenders::response_cache(KIB),
        );
        measure(
            &mut group,
            "tower-resilience",
            contenders::resilience_cache(KIB),
        );
    }
    group.finish();
    for (title, length) in [("a hit of 1 KiB", KIB), ("a hit of 64 KiB", 64 * KIB)] {
        let mut contenders = vec![
            sent("empty request", Bare, 0),
            sent("floor", PageFloor::of(length), length),
            sent("handler", Page::of(length), length),
            sent("ours", cached(length), length),
        ];
        #[cfg(feature = "peers")]
        contenders.extend([
            sent(
                "axum-response-cache",
                contenders::response_cache(length),
                length,
            ),
            sent(
                "tower-resilience",
                contenders::resilience_cache(length),
                length,
            ),
        ]);
        contenders.shrink_to_fit();
        compare(title, ROUNDS, TIMES, contenders);
    }
    let sizes = [(KIB, "1 KiB"), (64 * KIB, "64 KiB")];
    let ours = sizes.map(|(length, name)| sent(name, cached(length), length));
    let nothing = Contender::timed("nothing", |_| Duration::ZERO);
    let contenders = [nothing].into_iter().chain(ours).collect();
    compare("ours, by size", ROUNDS, TIMES, contenders);
}

fn measure<S, B>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut service: S)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = Bytes>,
{
    group.bench_function(name, |bencher| {
        bencher.iter(|| drive_pages(&mut service, 1, KIB));
    });
}

fn sent<S, B>(name: &'static str, mut service: S, length: usize) -> Contender<'static>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + 'static,
    B: http_body::Body<Data = Bytes>,
{
    Contender::new(name, move |times| drive_pages(&mut service, times, length))
}
