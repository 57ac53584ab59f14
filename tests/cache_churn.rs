//! The memory of a cache whose pages come and go. It has a process of its own, so that what it measures is its own.

use std::{convert::Infallible, time::Duration};

use cache_layer::{
    CacheLayer, ResponseCache, Tags,
    store::{Clock, MemoryStore, SharedStore},
};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use layer_store::conformance::Random;
use tests::{resident, scale};
use tower::{Layer, Service, service_fn};

type Body = Full<bytes::Bytes>;

const BOUND: usize = 16 << 20;
const PAGES: u64 = 20_000;
const TAGS: u64 = 50;
const SEED: u64 = 7;
/// The test's hour begins at this time, in Unix microseconds.
const START: u64 = 1_800_000_000_000_000;

/// A request for each millisecond of an hour in `cargo xtask soak`. The hour is the test's own: it ends as soon as all are answered.
#[tokio::test]
async fn a_store_in_memory_stays_within_its_bytes_through_an_hour_of_churn() {
    let (clock, time) = Clock::manual(START);
    let store = MemoryStore::with_bounds_and_clock(1_000_000, BOUND, clock.clone());
    let cache = ResponseCache::new(SharedStore::new(store.clone()));
    let mut service = CacheLayer::with_cache(cache.clone())
        .clock(clock)
        .layer(service_fn(page));
    let mut random = Random::new(SEED);
    let (mut sent, mut full) = (0, None);
    for _ in 0..scale(3_600_000) {
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
        // From here on something goes for all that comes.
        if full.is_none() && store.bytes() > BOUND / 4 * 3 {
            full = Some(resident());
        }
        if let Some(full) = full {
            // What the allocator cannot give back, as it lies between what is in use, is as much again. All that is sent in 36 s is
            // three times this.
            let grown = resident().saturating_sub(full);
            assert!(
                grown < 2 * BOUND as u64,
                "{grown} bytes more in the process"
            );
        }
    }
    assert!(full.is_some(), "it was never full");
    assert!(sent > 6 * BOUND, "{sent} bytes were sent");
    let stats = cache.stats();
    assert!(stats.hits > 0 && stats.stored > 1_000, "{stats:?}");
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
