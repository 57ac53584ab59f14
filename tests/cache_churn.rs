//! The memory of a cache whose pages come and go.
//!
//! What is in use is measured, and not what the process has: an allocator may keep more, because what lies between the values that stay
//! cannot be given back.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::{convert::Infallible, time::Duration};

use allocation_counter::measure;
use cache_layer::{
    CacheLayer, ResponseCache, Tags,
    store::{Clock, MemoryStore, SharedStore},
};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use layer_store::conformance::Random;
use tests::scale;
use tower::{Layer, Service, service_fn};

type Body = Full<bytes::Bytes>;

const BOUND: usize = 16 << 20;
const TABLES: usize = 8 << 20;
const PAGES: u64 = 20_000;
const TAGS: u64 = 50;
const SEED: u64 = 7;
/// The test's hour begins at this time, in Unix microseconds.
const START: u64 = 1_800_000_000_000_000;

/// A request for each millisecond of an hour in `cargo xtask soak`. The hour is the test's own: it ends as soon as all are answered.
#[test]
fn a_store_in_memory_stays_within_its_bytes_through_an_hour_of_churn() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let mut full = false;
    let live = measure(|| full = runtime.block_on(churn(scale(3_600_000))));
    println!("{} bytes were in use at most", live.bytes_max);
    assert!(full, "it was never full");
    // What the store counts is an estimate: the tables of its 1,024 shards have more room than their share.
    let most = (BOUND + TABLES) as u64;
    assert!(
        live.bytes_max <= most,
        "{} bytes were in use",
        live.bytes_max
    );
}

/// Sends so many requests. Returns true if the store was nearly full once: from then on something goes for all that comes.
async fn churn(requests: u64) -> bool {
    let (clock, time) = Clock::manual(START);
    let store = MemoryStore::with_bounds_and_clock(1_000_000, BOUND, clock.clone());
    let cache = ResponseCache::new(SharedStore::new(store.clone()));
    let mut service = CacheLayer::with_cache(cache.clone())
        .clock(clock)
        .layer(service_fn(page));
    let mut random = Random::new(SEED);
    let (mut sent, mut full) = (0, false);
    for _ in 0..requests {
        time.advance(Duration::from_millis(1));
        let page = random.below(PAGES);
        let request = Request::get(format!("/{page}"))
            .header(
                "accept-language",
                ["de", "en", "fr"][random.below(3) as usize],
            )
            .body(Body::default())
            .unwrap();
        let Ok(response) = service.call(request).await;
        sent += response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .len();
        match random.below(100) {
            0 => cache.purge_path(&format!("/{page}")).await.unwrap(),
            1 => cache
                .purge_tag(&format!("tag-{}", page % TAGS))
                .await
                .unwrap(),
            _ => {}
        }
        assert!(
            store.bytes() <= BOUND,
            "{} bytes in the store",
            store.bytes()
        );
        full |= store.bytes() > BOUND / 4 * 3;
    }
    assert!(sent > 6 * BOUND, "{sent} bytes were sent");
    let stats = cache.stats();
    assert!(stats.hits > 0 && stats.stored > 1_000, "{stats:?}");
    full
}

/// A page of up to 64 KiB. Some live for a second, some for minutes, and one in eight is another one in each language.
async fn page(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let number: u64 = request.uri().path()[1..].parse().expect("a number");
    let mut random = Random::new(number);
    let longest = 64 << random.below(11);
    let length = random.below(longest);
    let mut response =
        Response::builder().header("cache-control", format!("max-age={}", 1 << random.below(8)));
    if random.below(8) == 0 {
        response = response.header("vary", "accept-language");
    }
    let body = Body::from(vec![b'x'; length as usize]);
    let mut response = response.body(body).expect("a response");
    let tags = Tags::new([format!("tag-{}", number % TAGS)]);
    response.extensions_mut().insert(tags);
    Ok(response)
}
