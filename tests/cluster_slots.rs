//! The keys of each program lie in one slot of a Redis Cluster, whatever a client sends: a node of a Cluster says so. And no two identities
//! share a key.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use cache_layer::ResponseCache;
use layer_http::joined;
use layer_store::{
    Context, Identity, Key, KeySpace, MemoryStore, Op, Reply, SharedStore, Store, StoreError,
    StoreInfo, Watch,
};
use lock_layer::{Idempotent, Locks};
use rate_limit_layer::{Block, InFlightLimiter, Limiter, MaxInFlight, Quota};
use tests::{Backend, RedisServer};
use tokio::time::sleep;

/// The texts of the keys of one run, with the name of its program.
type Runs = Arc<Mutex<Vec<(&'static str, Vec<String>)>>>;

/// A store in memory that notes the keys of all programs.
#[derive(Debug)]
struct Noted {
    memory: MemoryStore,
    is_networked: bool,
    runs: Runs,
}

impl Store for Noted {
    async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
        self.note(op);
        self.memory.call(op, cx).await
    }

    fn call_now(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        if self.is_networked {
            return None;
        }
        self.note(op);
        self.memory.call_now(op, cx)
    }

    fn watch(&self, key: &Key<'_>) -> Watch {
        self.memory.watch(key)
    }

    fn info(&self) -> StoreInfo {
        let mut info = self.memory.info();
        // As a server's: a cache then looks if it is the one whose pages it knows.
        info.incarnation = Some(7);
        info.answers_now = !self.is_networked;
        info
    }
}

impl Noted {
    fn note(&self, op: &Op<'_>) {
        if let Op::Run { program, keys, .. } = op {
            let texts = keys.iter().map(text).collect();
            self.runs.lock().unwrap().push((program.name(), texts));
        }
    }
}

fn text(key: &Key<'_>) -> String {
    let mut out = Vec::new();
    key.render(&mut out);
    String::from_utf8(out).unwrap()
}

/// Subjects that spell what keys are made of.
fn subjects() -> Vec<Vec<u8>> {
    let long = vec![b'}'; 300];
    [
        &b""[..],
        b"ada",
        b"{",
        b"}",
        b"{}",
        b"}{",
        b"{ada}",
        b"{ada}:limit:x",
        b"a:b",
        b":",
        b"a\0b",
        b"\0",
        b"%00",
        b"a%3Ab",
        b"#",
        b"*?[]\\",
        b"a\r\nb",
        b"\xff\xfe",
        &long,
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}

async fn use_all_programs(store: &SharedStore, subject: &[u8]) {
    let quota = Quota::per_hour(1_000);
    let hour = Duration::from_secs(3_600);
    let limiter = Limiter::new(store.clone(), quota.name("a:{b}").fail_closed())
        .and(quota.sliding_window().fail_closed())
        .and(quota.fixed_window().fail_closed())
        .and(Quota::exact(20, hour).fail_closed())
        .and(Quota::per_calendar_month(1_000, "Europe/Berlin").fail_closed())
        .and(Quota::per_day(1_000).fail_closed().name("trial").shadow());
    assert!(limiter.check(subject).await.is_admitted());
    limiter.peek(subject).await.unwrap();
    limiter.penalize(subject, 2).await.unwrap();
    let reserved = limiter.reserve(subject, 3).await.unwrap().unwrap();
    reserved.commit(1);
    limiter.reset(subject).await.unwrap();
    for quota in [quota, quota.sliding_window(), quota.fixed_window()] {
        let one = Limiter::new(store.clone(), quota.name("one").fail_closed());
        assert!(one.check(subject).await.is_admitted());
    }

    let both = Limiter::new(store.clone(), quota.name("both").fail_closed());
    let both = both.and(Quota::per_day(9).fail_closed());
    assert!(both.check(subject).await.is_admitted());
    let minute = Duration::from_secs(60);
    let blocks = quota.name("blocks").block(Block::after(3, minute));
    let blocks = Limiter::new(store.clone(), blocks.fail_closed());
    assert!(blocks.check(subject).await.is_admitted());

    let in_flight = MaxInFlight::new(10).lease(2 * LEASE).fail_closed();
    let in_flight = InFlightLimiter::new(store.clone(), in_flight);
    let permit = in_flight.try_acquire(subject).await.unwrap();

    let locks = Locks::new(store.clone()).lease(LEASE);
    let group = locks.group(subject);
    // The units spell as much.
    let units = || subjects().into_iter().filter(|unit| !unit.is_empty());
    let guard = group.try_acquire(units()).await.unwrap();
    assert!(group.try_acquire(units()).await.is_err());
    group.inspect(units()).await.unwrap();
    sleep(LEASE * 2 / 3).await;
    guard.release().await.unwrap();
    let shared = group.try_acquire_shared(units()).await.unwrap();
    sleep(LEASE * 2 / 3).await;
    shared.release().await.unwrap();
    let guard = group.try_acquire(units()).await.unwrap();
    group.force_release(units()).await.unwrap();
    drop(guard);

    let jobs = Idempotent::retry_safe(store.clone());
    let work = async || Ok::<_, std::convert::Infallible>(7_u32);
    assert_eq!(jobs.run(subject, work).await.unwrap(), 7);
    let fails = async || Err::<u32, _>("no");
    assert!(jobs.run([subject, b"2"].concat(), fails).await.is_err());
    assert!(jobs.once(subject, hour).await.unwrap());

    drop(permit);
    let objects = ResponseCache::new(store.clone()).objects();
    let seven = bytes::Bytes::from_static(b"7");
    objects.insert("car:7", &seven, hour, &[]).await.unwrap();
    assert_eq!(objects.get("car:7").await, Some(seven));
}

#[tokio::test]
async fn the_keys_of_each_program_lie_in_one_slot() {
    let node = RedisServer::start_with(&["--cluster-enabled", "yes"]);
    let runs = Runs::default();
    let subjects = subjects();
    for is_networked in [false, true] {
        let store = SharedStore::new(Noted {
            memory: MemoryStore::new(),
            is_networked,
            runs: runs.clone(),
        });
        let used = subjects
            .iter()
            .map(|subject| use_all_programs(&store, subject));
        futures_util::future::join_all(used).await;
    }
    let runs = std::mem::take(&mut *runs.lock().unwrap());

    let mut connection = node.raw();
    let mut known = HashMap::<String, u64>::new();
    let mut slot = |text: &str| {
        *known.entry(text.to_owned()).or_insert_with(|| {
            let mut ask = redis::cmd("CLUSTER");
            ask.arg("KEYSLOT").arg(text).query(&mut connection).unwrap()
        })
    };
    let mut most = BTreeMap::<&str, usize>::new();
    let mut slots = BTreeSet::new();
    for (program, keys) in &runs {
        let count = most.entry(program).or_default();
        *count = keys.len().max(*count);
        let first = slot(&keys[0]);
        slots.insert(first);
        for key in keys {
            assert_eq!(slot(key), first, "{program}: {keys:?}");
            // The part in braces is the first there is, and alone decides.
            let (_, rest) = key.split_once('{').unwrap();
            let (tag, _) = rest.split_once('}').unwrap();
            assert!(!tag.is_empty(), "{key}");
            assert_eq!(slot(tag), first, "{key}");
        }
    }
    // Many clients are many slots.
    assert!(slots.len() > subjects.len() / 2, "{slots:?}");
    // Each program was seen, and those of several keys with several.
    let programs: Vec<_> = [
        &rate_limit_layer::PROGRAMS[..],
        &rate_limit_layer::PERMIT_PROGRAMS,
        &lock_layer::PROGRAMS,
        &[cache_layer::PROGRAM],
    ]
    .concat();
    for program in &programs {
        let name = program.name();
        assert!(most.contains_key(name), "{name} did not run: {most:?}");
    }
    most.retain(|_, keys| *keys > 1);
    assert!(most.len() >= 10, "{most:?}");
    for name in ["charge", "charge_or_block", "lock_acquire"] {
        assert!(most.contains_key(name), "{name}: {most:?}");
    }
}

/// `a` and `b/c` are not `a/b` and `c`, whatever stands between the parts.
#[tokio::test]
async fn no_two_pairs_of_identities_share_a_key() {
    let mut pairs = Vec::new();
    let parts: Vec<_> = subjects()
        .into_iter()
        .chain(
            [
                b"a/b",
                &b"b/c"[..],
                b"c",
                b"a",
                b"t1-a",
                b"a/t1-b",
                b"1:a",
                b"a|b",
                b"b|c",
            ]
            .map(Vec::from),
        )
        .collect();
    for first in &parts {
        for second in &parts {
            pairs.push((first, second));
        }
    }
    let space = KeySpace::new("limit", "x");
    let mut texts = BTreeSet::new();
    for (first, second) in &pairs {
        let both = joined([Identity::from(&first[..]), Identity::from(&second[..])]);
        let both = text(&Key::new(&space, both.as_ref()));
        assert!(texts.insert(both), "{first:?} {second:?}");
    }
    // And an address is none of these texts.
    let address = Identity::V4(0x0a00_0001);
    let both = text(&Key::new(
        &space,
        joined([address.clone(), "a".into()]).as_ref(),
    ));
    assert!(texts.insert(both));
    let spelled = joined(["10.0.0.1".into(), "a".into()]);
    assert!(texts.insert(text(&Key::new(&space, spelled.as_ref()))));

    Backend::on_each(async |store| {
        let limiter = Limiter::new(store, Quota::per_hour(1).fail_closed());
        for (first, second) in &pairs {
            let both = joined([Identity::from(&first[..]), Identity::from(&second[..])]);
            let passes = limiter.check(both).await.is_admitted();
            assert!(passes, "{first:?} {second:?}");
        }
    })
    .await;
}

const LEASE: Duration = Duration::from_millis(500);
