use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;
use tokio::time::sleep;

use super::*;
use crate::{
    Arg, Condition, IdentityRef, KeyPrefix, KeySpace, ManualClock, MemoryStore, Output, Program,
    Retention, StoreExt, Ttl, Watchers,
    conformance::{CASES, FaultInjector, Trial},
    wrap::{Prefix, fake::describe},
};

const CX: Context = Context::new("test");
const MS: Duration = Duration::from_millis(1);

/// A store that is reached over a network: it applies an operation, and replies after a while.
#[derive(Clone)]
struct Far {
    memory: MemoryStore,
    late: Arc<Mutex<Duration>>,
    asked: Arc<Mutex<Vec<String>>>,
    watchers: Watchers<Vec<u8>>,
}

impl Far {
    fn new() -> Self {
        Self {
            memory: MemoryStore::new(),
            late: Arc::default(),
            asked: Arc::default(),
            watchers: Watchers::new(),
        }
    }

    /// Replies to calls from now on after `time`.
    fn reply_after(&self, time: Duration) {
        *self.late.lock() = time;
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock())
    }

    /// Writes as another process does.
    async fn put(&self, key: &Key<'_>, value: &str) {
        put(&self.memory, key, value).await;
        self.watchers.hint(&text(key));
    }
}

impl Store for Far {
    async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
        self.asked.lock().push(describe(op));
        let late = *self.late.lock();
        let reply = self.memory.call(op, cx).await;
        sleep(late).await;
        reply
    }

    fn watch(&self, key: &Key<'_>) -> Watch {
        self.watchers.watch(text(key))
    }

    fn info(&self) -> StoreInfo {
        StoreInfo::new("far")
    }
}

fn text(key: &Key<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    key.render(&mut text);
    text
}

struct Spaces {
    entry: KeySpace,
    stamp: KeySpace,
}

impl Spaces {
    fn new() -> Self {
        Self {
            entry: KeySpace::new("entry", "s"),
            stamp: KeySpace::new("stamp", "s"),
        }
    }

    fn entry(&self, number: u64) -> Key<'_> {
        Key::new(&self.entry, IdentityRef::Int(number))
    }

    fn stamp(&self, number: u64) -> Key<'_> {
        Key::new(&self.stamp, IdentityRef::Int(number))
    }
}

/// Returns a store that keeps copies of entries, the store behind it, and the clock of the copies.
fn tiered() -> (Far, Tiered<Far>, ManualClock) {
    let (clock, time) = Clock::manual(1_767_225_600_000_000);
    let far = Far::new();
    let store = Tiered::new(far.clone()).kinds(["entry"]).clock(clock);
    (far, store, time)
}

fn ttl() -> Ttl {
    Ttl::from_millis(3_600_000).unwrap()
}

async fn put(store: &impl Store, key: &Key<'_>, value: &str) {
    store.put(&CX, key, &value.into(), ttl()).await.unwrap();
}

async fn get(store: &impl Store, key: &Key<'_>) -> Option<Value> {
    store.get(&CX, key).await.unwrap()
}

fn get_now(store: &impl Store, key: &Key<'_>) -> Option<Value> {
    let reply = store.call_now(&Op::Get(key), &CX)?;
    reply.unwrap().into_value().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_copy_answers_at_once_until_its_time_is_over() {
    let (far, store, time) = tiered();
    let spaces = Spaces::new();
    let key = spaces.entry(1);
    put(&far, &key, "old").await;
    assert_eq!(get_now(&store, &key), None);
    assert_eq!(get(&store, &key).await, Some("old".into()));
    far.put(&key, "new").await;
    far.asked();
    time.advance(MS * 999);
    assert_eq!(get_now(&store, &key), Some("old".into()));
    assert_eq!(get(&store, &key).await, Some("old".into()));
    let reply = store.call(&Op::Get(&key), &CX).await.unwrap();
    assert_eq!(reply.into_value().unwrap(), Some("old".into()));
    assert_eq!(far.asked(), [""; 0]);
    time.advance(MS);
    assert_eq!(get_now(&store, &key), None);
    assert_eq!(get(&store, &key).await, Some("new".into()));
}

/// Its value may be as old as the read is long.
#[tokio::test(start_paused = true)]
async fn the_time_of_a_copy_counts_from_the_sending_of_the_read() {
    for (took, lives) in [(600, 400), (999, 1), (1_000, 0), (2_000, 0)] {
        let (far, store, time) = tiered();
        let spaces = Spaces::new();
        let key = spaces.entry(1);
        put(&far, &key, "old").await;
        far.reply_after(MS);
        let read = async {
            sleep(MS / 2).await;
            time.advance(MS * took);
        };
        tokio::join!(get(&store, &key), read);
        if lives > 0 {
            time.advance(MS * (lives - 1));
            assert_eq!(get_now(&store, &key), Some("old".into()), "{took}");
            time.advance(MS);
        }
        assert_eq!(get_now(&store, &key), None, "{took}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_values_of_named_kinds_have_copies_and_absent_ones_have_none() {
    let (far, store, _) = tiered();
    let spaces = Spaces::new();
    put(&far, &spaces.stamp(1), "stamp").await;
    for key in [spaces.stamp(1), spaces.entry(1)] {
        get(&store, &key).await;
        assert_eq!(get_now(&store, &key), None);
        store.get_many(&CX, &[key]).await.unwrap();
        assert_eq!(get_now(&store, &key), None);
        assert_eq!(store.copies.get(&key), None);
    }
    far.put(&spaces.entry(1), "there").await;
    assert_eq!(get(&store, &spaces.entry(1)).await, Some("there".into()));
    assert!(store.info().reads_may_lag);
    assert!(!Tiered::new(Far::new()).info().reads_may_lag);
}

#[tokio::test(start_paused = true)]
async fn many_are_asked_for_without_those_that_have_copies() {
    let (far, store, _) = tiered();
    let spaces = Spaces::new();
    let keys = [
        spaces.entry(1),
        spaces.stamp(2),
        spaces.entry(3),
        spaces.entry(4),
        spaces.entry(5),
    ];
    for (key, value) in keys.iter().zip(["1", "2", "3", "4"]) {
        put(&far, key, value).await;
    }
    get(&store, &keys[0]).await;
    get(&store, &keys[3]).await;
    far.asked();
    let expected = ["1", "2", "3", "4"].map(|value| Some(Value::from(value)));
    let expected = [&expected[..], &[None]].concat();
    assert_eq!(store.get_many(&CX, &keys).await.unwrap(), expected);
    assert_eq!(
        far.asked(),
        ["get many {int:2}:stamp:s, {int:3}:entry:s, {int:5}:entry:s"]
    );
    // They have copies now: of entries that are there.
    let copied = [keys[0], keys[2], keys[3]];
    let reply = store.call_now(&Op::GetMany(&copied), &CX).unwrap().unwrap();
    let values = reply.into_values(3).unwrap();
    assert_eq!(values, [0, 2, 3].map(|i: usize| expected[i].clone()));
    assert!(store.call_now(&Op::GetMany(&keys), &CX).is_none());
    assert_eq!(store.get_many(&CX, &[]).await.unwrap(), []);
}

static CHARGE: Program = Program::new("charge", "", Retention::Pinned, |transaction, _| {
    transaction.set(0, "7".into(), ttl());
    Output::ints(&[])
});

/// All operations that may write `key`. The value that is there is `7`.
fn writes<'a>(key: &'a Key<'a>, value: &'a Value, old: &'a Value) -> Vec<Op<'a>> {
    let set = |condition| Op::Set {
        key,
        value,
        expiry: ttl().into(),
        condition,
        retention: Retention::Evictable,
    };
    let delete = |if_equals| Op::Delete { key, if_equals };
    let keys = std::slice::from_ref(key);
    vec![
        set(Condition::Always),
        set(Condition::Absent),
        set(Condition::Equals(old)),
        delete(None),
        delete(Some(old)),
        Op::DeleteMany(keys),
        Op::Touch {
            key,
            ttl: ttl(),
            only_longer: true,
        },
        Op::Add {
            key,
            delta: 1,
            ttl: None,
            max: None,
        },
        Op::Run {
            program: &CHARGE,
            keys,
            args: &[Arg::Int(1)],
        },
    ]
}

#[tokio::test(start_paused = true)]
async fn every_write_of_this_process_drops_the_copy() {
    let spaces = Spaces::new();
    let (key, other) = (spaces.entry(1), spaces.entry(2));
    let (value, old) = (Value::from("8"), Value::from("7"));
    for op in writes(&key, &value, &old) {
        let batch = [Op::Get(&other), op];
        for op in [op, Op::Batch(&batch)] {
            let (far, store, _) = tiered();
            for key in [&key, &other] {
                put(&far, key, "7").await;
                get(&store, key).await;
            }
            assert!(get_now(&store, &key).is_some());
            store.call(&op, &CX).await.unwrap();
            assert!(get_now(&store, &key).is_none(), "{op:?}");
            assert!(get_now(&store, &other).is_some(), "{op:?}");
        }
    }
}

/// A store that answers at once sometimes, as a fallback does.
#[tokio::test]
async fn a_write_that_needs_no_waiting_drops_the_copy_too() {
    let inner = FaultInjector::new(MemoryStore::new());
    let store = Tiered::new(inner.clone()).kinds(["entry"]);
    let spaces = Spaces::new();
    let key = spaces.entry(1);
    put(&inner, &key, "old").await;
    store.call(&Op::Get(&key), &CX).await.unwrap();
    inner.take_calls();
    assert_eq!(get_now(&store, &key), Some("old".into()));
    assert_eq!(inner.take_calls(), [""; 0]);
    put(&store, &key, "new").await;
    assert_eq!(get_now(&store, &key), Some("new".into()));
    assert_eq!(inner.take_calls(), ["set", "get"]);
}

/// The read is sent, then the write, and the reply of the read comes after that of the write: it has the old value.
#[tokio::test(start_paused = true)]
async fn a_read_that_is_under_way_during_a_write_leaves_no_copy() {
    for many in [false, true] {
        let (far, store, _) = tiered();
        let spaces = Spaces::new();
        let key = spaces.entry(1);
        put(&far, &key, "old").await;
        far.reply_after(MS * 100);
        let read = async {
            match many {
                false => get(&store, &key).await,
                true => store.get_many(&CX, &[key]).await.unwrap()[0].clone(),
            }
        };
        let write = async {
            sleep(MS * 10).await;
            far.reply_after(MS);
            put(&store, &key, "new").await;
            assert_eq!(get(&store, &key).await, Some("new".into()));
        };
        let (read, ()) = tokio::join!(read, write);
        assert_eq!(read, Some("old".into()));
        assert_eq!(get(&store, &key).await, Some("new".into()));
    }
}

/// The write has been applied, and its reply is on the way.
#[tokio::test(start_paused = true)]
async fn a_write_under_way_drops_the_copy_before_and_after_it() {
    let (far, store, _) = tiered();
    let spaces = Spaces::new();
    let key = spaces.entry(1);
    put(&far, &key, "old").await;
    get(&store, &key).await;
    far.reply_after(MS * 100);
    let read = async {
        sleep(MS * 10).await;
        far.reply_after(MS);
        assert_eq!(get_now(&store, &key), None, "before");
        assert_eq!(get(&store, &key).await, Some("new".into()));
        assert_eq!(get_now(&store, &key), Some("new".into()));
    };
    tokio::join!(put(&store, &key, "new"), read);
    assert_eq!(get_now(&store, &key), None, "after");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_dropped_drops_the_copy() {
    let (far, store, _) = tiered();
    let spaces = Spaces::new();
    let key = spaces.entry(1);
    put(&far, &key, "old").await;
    far.reply_after(MS * 100);
    let read = get(&store, &key);
    let write = async {
        sleep(MS * 10).await;
        let write = put(&store, &key, "new");
        assert!(tokio::time::timeout(MS * 10, write).await.is_err());
    };
    tokio::join!(read, write);
    assert_eq!(get_now(&store, &key), None);
    assert_eq!(get(&store, &key).await, Some("new".into()));
}

#[tokio::test(start_paused = true)]
async fn a_watched_key_shows_the_write_of_another_process_at_once() {
    for watched in [true, false] {
        let (far, store, _) = tiered();
        let store = store.watched(watched);
        let spaces = Spaces::new();
        let keys = [spaces.entry(1), spaces.entry(2)];
        for key in &keys {
            put(&far, key, "old").await;
            get(&store, key).await;
        }
        assert_eq!(far.watchers.len(), if watched { 2 } else { 0 });
        for value in ["new", "newer"] {
            far.put(&keys[0], value).await;
            let seen = get(&store, &keys[0]).await.unwrap();
            assert_eq!(seen == Value::from(value), watched);
            let seen = store.get_many(&CX, &keys[..1]).await.unwrap();
            assert_eq!(seen[0] == Some(value.into()), watched);
        }
        assert_eq!(get_now(&store, &keys[1]), Some("old".into()), "no hint");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_under_way_when_the_hint_comes_leaves_no_copy() {
    for asked_meanwhile in [false, true] {
        let (far, store, _) = tiered();
        let store = store.watched(true);
        let spaces = Spaces::new();
        let key = spaces.entry(1);
        put(&far, &key, "old").await;
        far.reply_after(MS * 100);
        let write = async {
            sleep(MS * 10).await;
            far.put(&key, "new").await;
            if asked_meanwhile {
                // Another read, which is not outdated, uses the hint up.
                far.reply_after(MS);
                assert_eq!(get(&store, &key).await, Some("new".into()));
            }
        };
        tokio::join!(get(&store, &key), write);
        assert_ne!(get_now(&store, &key), Some("old".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_of_before_a_read_does_not_drop_its_copy() {
    let (far, store, time) = tiered();
    let store = store.watched(true);
    let spaces = Spaces::new();
    let key = spaces.entry(1);
    put(&far, &key, "old").await;
    get(&store, &key).await;
    time.advance(MS * 1_000);
    far.put(&key, "new").await;
    get(&store, &key).await;
    assert_eq!(get_now(&store, &key), Some("new".into()));
}

#[tokio::test(start_paused = true)]
async fn a_bounded_number_of_keys_is_watched_those_that_have_copies_first() {
    let (far, store, time) = tiered();
    let store = store.watched(true);
    let spaces = Spaces::new();
    for number in 0..5_000 {
        get(&store, &spaces.entry(number)).await;
    }
    assert_eq!(far.watchers.len(), 1_024);
    let new = spaces.entry(9_000);
    get(&store, &new).await;
    assert!(!far.watchers.has(&text(&new)));
    time.advance(MS * 1_001);
    get(&store, &new).await;
    assert!(far.watchers.has(&text(&new)));
    assert!(far.watchers.len() <= 1_024);
    drop(store);
    assert!(far.watchers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn copies_are_bounded_in_number_and_in_bytes() {
    let (far, store, _) = tiered();
    let store = store.capacity(10).bytes(100_000);
    let spaces = Spaces::new();
    for number in 0..100 {
        put(&far, &spaces.entry(number), "1").await;
        get(&store, &spaces.entry(number)).await;
    }
    let copies = (0..100).filter(|number| get_now(&store, &spaces.entry(*number)).is_some());
    assert_eq!(copies.count(), 10);
    put(&far, &spaces.entry(1), &"x".repeat(50_000)).await;
    let large = get(&store, &spaces.entry(1)).await.unwrap();
    assert_eq!(large.len(), 50_000);
    assert_eq!(get_now(&store, &spaces.entry(1)), None);
}

#[tokio::test(start_paused = true)]
async fn keys_behind_two_prefixes_have_two_copies() {
    let (far, store, _) = tiered();
    let (shared, spaces) = (SharedStore::new(store), Spaces::new());
    let shops = ["a", "b"].map(|name| Prefix::new(shared.clone(), KeyPrefix::new(name)));
    let key = spaces.entry(1);
    for (shop, value) in shops.iter().zip(["1", "2"]) {
        put(shop, &key, value).await;
        get(shop, &key).await;
    }
    far.asked();
    assert_eq!(get_now(&shops[0], &key), Some("1".into()));
    assert_eq!(get_now(&shops[1], &key), Some("2".into()));
    put(&shops[0], &key, "3").await;
    assert_eq!(get_now(&shops[0], &key), None);
    assert_eq!(get_now(&shops[1], &key), Some("2".into()));
}

#[test]
fn kinds_that_must_be_read_from_the_store_are_refused_with_the_reason() {
    for (kind, reason) in [
        ("stamp", "purged responses"),
        ("lock", "released"),
        ("fence", "released"),
        ("record", "its request is done"),
        ("limit", "have admitted"),
        ("sliding", "admitted"),
        ("window", "admitted"),
        ("log", "admitted"),
        ("block", "admitted"),
        ("permit", "in flight"),
    ] {
        let panic = std::panic::catch_unwind(|| Tiered::new(MemoryStore::new()).kinds([kind]));
        let text = panic.unwrap_err().downcast::<String>().unwrap();
        assert!(text.contains(reason), "{text}");
    }
}

#[test]
#[should_panic(expected = "of no use")]
fn a_bound_of_nothing_is_a_mistake() {
    let _ = Tiered::new(MemoryStore::new()).bound(MS / 2);
}

/// Readers leave copies as fast as they can while one task writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_reads_its_own_writes() {
    let inner = FaultInjector::new(MemoryStore::new()).networked();
    let store = Arc::new(Tiered::new(inner).kinds(["entry"]).watched(true));
    let (spaces, written) = (Arc::new(Spaces::new()), Arc::new(AtomicU64::new(0)));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (store, spaces, written) = (store.clone(), spaces.clone(), written.clone());
            tokio::spawn(async move {
                loop {
                    let at_least = written.load(Relaxed);
                    if at_least == u64::MAX {
                        return;
                    }
                    let value = get(&*store, &spaces.entry(1)).await;
                    let (seen, _) = value.unwrap_or(Value::pair(0, 0)).as_pair().unwrap();
                    assert!(seen >= at_least, "{seen} after {at_least}");
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for number in 1..20_000 {
        let value = Value::pair(number, 0);
        store
            .put(&CX, &spaces.entry(1), &value, ttl())
            .await
            .unwrap();
        written.store(number, Relaxed);
        assert_eq!(get(&*store, &spaces.entry(1)).await, Some(value));
    }
    written.store(u64::MAX, Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
}

/// But for the one case that looks within the bound after a value has expired. The bound is as short as it can be, on a clock
/// that stands still until a case moves it.
#[test]
fn but_for_the_bound_it_answers_as_every_store_must() {
    for case in CASES {
        if case.name() == "a_value_ends_to_the_millisecond" {
            continue;
        }
        case.test(async {
            let (clock, time) = Clock::manual(1_767_225_600_000_000);
            let inner = MemoryStore::with_clock(100_000, clock.clone());
            let store = Tiered::new(FaultInjector::new(inner).networked());
            Trial::with_clock(store.kinds(["data"]).bound(MS).clock(clock), time)
        });
    }
}
