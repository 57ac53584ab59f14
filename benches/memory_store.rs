//! The memory that entries take, the slowest call while they arrive, and how fast the store adds, beside other crates.
//!
//! `cargo bench -p benches --features peers --bench memory_store -- [keys] [entries] [adds]`. Without `peers`, tower_governor
//! and moka are left out. Without a word everything runs; `keys` needs a gigabyte of memory for some seconds.
//!
//! - `keys`: what a limiter needs for each key, at up to 10,000,000 keys.
//! - `entries`: what an entry takes that has 64 bytes of value and a key of 34 bytes.
//! - `adds`: an atomic add with a time to live that is set once, by two threads, on one key and on many.

use std::{
    convert::Infallible,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::body::Body;
use contenders::{Bare, FloorLayer, ask, request};
use http::{Request, Response};
use layer_store::{
    Condition, Context, IdentityRef, Key, KeySpace, MemoryStore, Op, Reply, Retention, SharedStore,
    Store, Ttl, Value,
};
use rate_limit_layer::{Quota, RateLimitLayer};
use tower_layer::Layer;
use tower_service::Service;

/// Long enough that no key expires before the last one comes.
const DAILY: Quota = Quota::per_day(100);
const KEYS: [u32; 2] = [1_000_000, 10_000_000];
/// The slowest call of one run is often caused by the machine. The minimum over several runs is caused by the program.
const RUNS: usize = 3;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` adds a flag of its own.
    let all = words.iter().all(|word| word.starts_with("--"));
    let wanted = |name: &str| all || words.iter().any(|word| word == name);
    if wanted("keys") {
        keys();
    }
    if wanted("entries") {
        entries();
    }
    if wanted("adds") {
        adds();
    }
}

fn keys() {
    println!(
        "{:<16}{:>12}{:>14}{:>14}",
        "", "keys", "bytes a key", "worst call"
    );
    for keys in KEYS {
        hold("ours", keys, || {
            let store = SharedStore::new(MemoryStore::with_capacity(keys as usize));
            let layer = RateLimitLayer::new(store, DAILY.fail_closed());
            layer.headers(false).layer(Bare)
        });
        hold("floor", keys, || FloorLayer::new(DAILY, false).layer(Bare));
        #[cfg(feature = "peers")]
        hold("tower_governor", keys, || contenders::governor(DAILY));
    }
}

fn hold<S, B>(name: &str, keys: u32, make: impl Fn() -> S)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    let mut bytes = 0;
    let mut worst = Duration::MAX;
    for _ in 0..RUNS {
        let mut held = None;
        let mut slowest = Duration::ZERO;
        let allocated = allocation_counter::measure(|| {
            let service = held.insert(make());
            for key in 0..keys {
                let clock = quanta::Instant::now();
                let response = ask(service, request(key));
                slowest = slowest.max(clock.elapsed());
                assert_eq!(response.status(), 200);
            }
        });
        bytes = allocated.bytes_current;
        worst = worst.min(slowest);
    }
    let each = bytes as f64 / f64::from(keys);
    println!(
        "{name:<16}{keys:>12}{each:>14.1}{:>14}",
        format!("{worst:.1?}")
    );
}

/// Prints the bytes of an entry.
fn entries() {
    println!("{:<16}{:>12}{:>14}", "", "entries", "bytes each");
    for count in [100_000, 1_000_000] {
        let texts = texts(count);
        print_bytes("ours, listed", &texts, |texts| {
            let store = MemoryStore::with_capacity(texts.len());
            for text in texts {
                put(&store, text);
            }
            store
        });
        #[cfg(feature = "peers")]
        print_bytes("moka", &texts, |texts| {
            let cache = peer::cache(texts.len());
            for text in texts {
                cache.insert(text.clone(), [7; 64].to_vec());
            }
            cache.run_pending_tasks();
            cache
        });
    }
}

fn print_bytes<T>(name: &str, texts: &[String], fill: impl FnOnce(&[String]) -> T) {
    let mut held = None;
    let allocated = allocation_counter::measure(|| held = Some(fill(texts)));
    let each = allocated.bytes_current as f64 / texts.len() as f64;
    println!("{name:<16}{:>12}{each:>14.1}", texts.len());
}

fn put(store: &MemoryStore, text: &str) {
    let space = space();
    let op = Op::Set {
        key: &Key::new(space, IdentityRef::Text(text.as_bytes())),
        value: &Value::from(&[7; 64][..]),
        expiry: DAY.into(),
        condition: Condition::Always,
        retention: Retention::Evictable,
    };
    let reply = store.call_now(&op, &CX);
    assert!(matches!(reply, Some(Ok(Reply::Set { applied: true, .. }))));
}

/// Prints the adds of two threads in a second, in millions: the median of some rounds in which all take turns.
fn adds() {
    println!(
        "{:<16}{:>12}{:>14}{:>14}",
        "adds, M/s", "keys", "median", "ours / it"
    );
    for keys in [1, 1_000, 200_000] {
        let texts = texts(keys);
        let store = MemoryStore::with_capacity(400_000);
        let add = |text: &str| {
            let op = Op::Add {
                key: &Key::new(space(), IdentityRef::Text(text.as_bytes())),
                delta: 1,
                ttl: Some(DAY),
                max: None,
            };
            let reply = store.call_now(&op, &CX);
            assert!(matches!(
                reply,
                Some(Ok(Reply::Added { applied: true, .. }))
            ));
        };
        #[cfg(feature = "peers")]
        let counters = peer::counters(400_000);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(rate(&texts, add));
            #[cfg(feature = "peers")]
            theirs.push(rate(&texts, |text| peer::add(&counters, text)));
            #[cfg(not(feature = "peers"))]
            theirs.push(f64::NAN);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        println!("{:<16}{keys:>12}{ours:>14.2}", "ours");
        println!(
            "{:<16}{keys:>12}{theirs:>14.2}{:>14.1}",
            "moka",
            ours / theirs
        );
    }
}

/// Adds for a while on two threads, each beginning at another key. Returns the millions in a second.
#[expect(clippy::disallowed_methods, reason = "a stop watch")]
fn rate(texts: &[String], add: impl Fn(&str) + Sync) -> f64 {
    let adds = AtomicU64::new(0);
    let begin = std::time::Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (adds, add) = (&adds, &add);
            scope.spawn(move || {
                let mut own = 0;
                let mut texts = texts.iter().cycle().skip(thread * texts.len() / 2);
                while begin.elapsed() < ROUND {
                    for text in texts.by_ref().take(256) {
                        add(text);
                    }
                    own += 256;
                }
                adds.fetch_add(own, Relaxed);
            });
        }
    });
    adds.load(Relaxed) as f64 / begin.elapsed().as_secs_f64() / 1e6
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Texts of 34 bytes, in an order that is not theirs.
fn texts(count: usize) -> Vec<String> {
    let spread = |number: usize| number.wrapping_mul(0x9e37_79b1) % count.next_power_of_two();
    (0..count.next_power_of_two())
        .map(spread)
        .filter(|number| *number < count)
        .map(|number| format!("client:{number:027}"))
        .collect()
}

fn space() -> &'static KeySpace {
    static SPACE: OnceLock<KeySpace> = OnceLock::new();
    SPACE.get_or_init(|| KeySpace::new("data", ""))
}

const CX: Context = Context::new("bench");
const DAY: Ttl = Ttl::from_millis(86_400_000).expect("a day is not zero");
const ROUND: Duration = Duration::from_millis(500);
const ROUNDS: usize = 7;

/// The other crate's way to do the same.
#[cfg(feature = "peers")]
mod peer {
    use std::time::{Duration, Instant};

    use moka::{Expiry, ops::compute::Op, sync::Cache};

    struct Day;

    /// The time to live is set when an entry is made; an update keeps it.
    impl<V> Expiry<String, V> for Day {
        fn expire_after_create(&self, _: &String, _: &V, _: Instant) -> Option<Duration> {
            Some(super::DAY.as_duration())
        }
    }

    pub(super) fn cache(entries: usize) -> Cache<String, Vec<u8>> {
        let cache = Cache::builder().max_capacity(entries as u64);
        cache.expire_after(Day).build()
    }

    pub(super) fn counters(entries: u64) -> Cache<String, i64> {
        let cache = Cache::builder().max_capacity(entries);
        cache.expire_after(Day).build()
    }

    pub(super) fn add(counters: &Cache<String, i64>, text: &str) {
        let entry = counters.entry_by_ref(text);
        entry.and_compute_with(|entry| Op::Put(entry.map_or(0, |entry| entry.into_value()) + 1));
    }
}
