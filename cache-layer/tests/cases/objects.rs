//! Objects: what is kept under keys of the application's own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use cache_layer::{Codec, InsertError, ObjectCache, ResponseCache, store::SharedStore};
use futures_util::future::join_all;
use tokio::sync::Semaphore;

const MINUTE: Duration = Duration::from_secs(60);

fn objects(store: &SharedStore) -> ObjectCache {
    ResponseCache::new(store.clone()).objects()
}

/// Loads, and waits until the object is stored.
async fn load(objects: &ObjectCache, key: &str, tags: &[&str], object: &'static str) -> Bytes {
    let load = || async { Ok::<_, ()>(object.into()) };
    let loaded = objects.get_or_insert_with(key, MINUTE, tags, load).await;
    while !objects.contains(key).await {
        tokio::task::yield_now().await;
    }
    loaded.unwrap()
}

pub async fn what_is_inserted_is_there_until_it_is_removed(store: SharedStore) {
    let (here, there) = (objects(&store), objects(&store));
    assert_eq!(here.get("user:7").await, None);
    assert!(!here.contains("user:7").await);
    for name in ["Ada", "", "Bob"] {
        here.insert("user:7", &name.into(), MINUTE, &[])
            .await
            .unwrap();
        assert_eq!(there.get("user:7").await.unwrap(), name);
        assert!(here.contains("user:7").await);
    }
    assert_eq!(load(&there, "user:7", &[], "Cleo").await, "Bob");
    there.remove("user:*").await.unwrap();
    assert!(here.contains("user:7").await, "a key is no pattern");
    there.remove("user:7").await.unwrap();
    assert_eq!(here.get("user:7").await, None);
    here.insert("user:7", &"Ada".into(), MINUTE, &[])
        .await
        .unwrap();
    here.insert("user:7", &"Ada".into(), Duration::ZERO, &[])
        .await
        .unwrap();
    assert_eq!(here.get("user:7").await, None, "it lives for no time");
}

pub async fn objects_are_purged_by_pattern_and_tag(store: SharedStore) {
    let (here, there) = (objects(&store), objects(&store));
    for (pattern, gone) in [
        ("user:7", true),
        ("user:*", true),
        ("*", true),
        ("car:*", false),
    ] {
        here.insert("user:7", &"Ada".into(), MINUTE, &["t"])
            .await
            .unwrap();
        there.purge(pattern).await.unwrap();
        assert_eq!(here.contains("user:7").await, !gone, "{pattern}");
    }
    there.purge_tag("u").await.unwrap();
    assert!(here.contains("user:7").await);
    there.purge_tag("t").await.unwrap();
    assert!(!here.contains("user:7").await);
    assert!(here.purge("").await.is_err());
}

pub async fn namespaces_are_apart(store: SharedStore) {
    let all = objects(&store);
    let (a, b) = (all.clone().namespace("a"), all.clone().namespace("b"));
    let places = [&all, &a, &b];
    let fill = async || {
        for (place, name) in places.iter().zip(["all", "a", "b"]) {
            place
                .insert("user:7", &name.into(), MINUTE, &["t"])
                .await
                .unwrap();
        }
    };
    let held = async || {
        let mut held = Vec::new();
        for place in places {
            held.push(place.get("user:7").await.is_some());
        }
        held
    };
    fill().await;
    assert_eq!(a.get("user:7").await.unwrap(), "a");
    for pattern in ["user:7", "user:*", "*"] {
        fill().await;
        a.purge(pattern).await.unwrap();
        assert_eq!(held().await, [true, false, true], "{pattern}");
    }
    fill().await;
    all.purge("user:*").await.unwrap();
    b.remove("user:7").await.unwrap();
    assert_eq!(held().await, [false, true, false]);
    fill().await;
    all.purge("*").await.unwrap();
    assert_eq!(held().await, [false; 3]);
    fill().await;
    a.purge_tag("t").await.unwrap();
    assert_eq!(held().await, [false; 3]);
}

pub async fn an_insert_with_too_many_tags_changes_nothing(store: SharedStore) {
    let objects = objects(&store);
    objects.insert("a", &"1".into(), MINUTE, &[]).await.unwrap();
    let refused = objects.insert("a", &"2".into(), MINUTE, &["t"; 17]).await;
    assert!(matches!(refused, Err(InsertError::Tags)));
    assert_eq!(objects.get("a").await.unwrap(), "1");
}

/// Numbers, as text.
#[derive(Clone)]
struct Number;

impl Codec<u32> for Number {
    type Error = String;

    fn encode(&self, value: &u32) -> Result<Bytes, String> {
        match value {
            13 => Err("13 is not written".into()),
            value => Ok(value.to_string().into()),
        }
    }

    fn decode(&self, object: &Bytes) -> Result<u32, String> {
        let text = std::str::from_utf8(object).map_err(|error| error.to_string())?;
        text.parse()
            .map_err(|_error| format!("{text} is no number"))
    }
}

pub async fn what_the_codec_cannot_read_is_missing(store: SharedStore) {
    let bytes = objects(&store);
    let numbers = bytes.clone().typed::<u32, _>(Number);
    numbers.insert("a", &7, MINUTE, &[]).await.unwrap();
    assert_eq!(numbers.get("a").await, Some(7));
    assert_eq!(bytes.get("a").await.unwrap(), "7");
    bytes
        .insert("a", &"seven".into(), MINUTE, &[])
        .await
        .unwrap();
    assert_eq!(numbers.get("a").await, None);
    assert!(!numbers.contains("a").await && bytes.contains("a").await);
    // It is replaced by what is loaded.
    let load = || async { Ok::<_, ()>(8) };
    let loaded = numbers.get_or_insert_with("a", MINUTE, &[], load).await;
    assert_eq!(loaded, Ok(8));
    while bytes.get("a").await.as_deref() != Some(b"8") {
        tokio::task::yield_now().await;
    }
}

pub async fn what_the_codec_cannot_write_is_not_stored(store: SharedStore) {
    let numbers = objects(&store).typed::<u32, _>(Number);
    numbers.insert("a", &7, MINUTE, &[]).await.unwrap();
    let refused = numbers.insert("a", &13, MINUTE, &[]).await;
    assert!(matches!(refused, Err(InsertError::Codec(_))));
    assert_eq!(numbers.get("a").await, Some(7));
    let load = || async { Ok::<_, ()>(13) };
    let loaded = numbers.get_or_insert_with("b", MINUTE, &[], load).await;
    assert_eq!((loaded, numbers.get("b").await), (Ok(13), None));
}

pub async fn a_load_that_began_before_an_insert_is_not_kept_over_it(store: SharedStore) {
    let objects = objects(&store);
    let gate = Arc::new(Semaphore::new(0));
    let (loading, inside) = (objects.clone(), gate.clone());
    let old = tokio::spawn(async move {
        let load = || async {
            inside.add_permits(1);
            inside.acquire_many(2).await.unwrap().forget();
            Ok::<_, ()>("old".into())
        };
        loading.get_or_insert_with("a", MINUTE, &[], load).await
    });
    gate.acquire().await.unwrap().forget();
    objects
        .insert("a", &"new".into(), MINUTE, &[])
        .await
        .unwrap();
    gate.add_permits(2);
    assert_eq!(old.await.unwrap().unwrap(), "old", "its own caller has it");
    for _ in 0..100 {
        assert_ne!(objects.get("a").await.unwrap_or_default(), "old");
        tokio::task::yield_now().await;
    }
}

pub async fn a_purge_after_an_insert_reaches_it(store: SharedStore) {
    let (here, there) = (objects(&store), objects(&store));
    let value = Bytes::from("old");
    for _ in 0..20 {
        // Whichever of the two comes first, the second purge comes after both.
        let (inserted, purged) = tokio::join!(
            here.insert("a", &value, MINUTE, &["t"]),
            there.purge_tag("t")
        );
        inserted.unwrap();
        purged.unwrap();
        there.purge_tag("t").await.unwrap();
        assert_eq!(here.get("a").await, None);
    }
}

pub async fn a_load_of_its_own_key_loads_at_once(store: SharedStore) {
    let objects = objects(&store);
    let loaded = objects.get_or_insert_with("a", MINUTE, &[], || async {
        let inner = || async { Ok::<_, ()>("inner".into()) };
        let inner = objects.get_or_insert_with("a", MINUTE, &[], inner).await?;
        Ok::<Bytes, ()>([&inner[..], b" outer"].concat().into())
    });
    let loaded = tokio::time::timeout(Duration::from_secs(5), loaded).await;
    assert_eq!(loaded.unwrap().unwrap(), "inner outer");
}

/// The purge makes the flight of the load one that the inner call may not join. The lease of the load is its own, too.
pub async fn a_load_that_purges_its_own_key_loads_at_once(store: SharedStore) {
    let objects = objects(&store);
    let loaded = objects.get_or_insert_with("a", MINUTE, &[], || async {
        objects.remove("a").await.unwrap();
        let inner = || async { Ok::<_, ()>("inner".into()) };
        objects.get_or_insert_with("a", MINUTE, &[], inner).await
    });
    let loaded = tokio::time::timeout(Duration::from_secs(4), loaded).await;
    assert_eq!(loaded.unwrap().unwrap(), "inner");
}

pub async fn a_ring_of_two_keys_loads_at_once(store: SharedStore) {
    let objects = objects(&store);
    let loaded = objects.get_or_insert_with("a", MINUTE, &[], || async {
        let b = objects.get_or_insert_with("b", MINUTE, &[], || async {
            let a = || async { Ok::<_, ()>("a".into()) };
            objects.get_or_insert_with("a", MINUTE, &[], a).await
        });
        b.await
    });
    let loaded = tokio::time::timeout(Duration::from_secs(5), loaded).await;
    assert_eq!(loaded.unwrap().unwrap(), "a");
}

/// Each of two tasks loads one key, and then asks for the other's.
pub async fn a_ring_of_two_tasks_loads_at_once(store: SharedStore) {
    let objects = objects(&store);
    let both = Arc::new(tokio::sync::Barrier::new(2));
    let task = |mine: &'static str, other: &'static str| {
        let (objects, both) = (objects.clone(), both.clone());
        tokio::spawn(async move {
            let load = || async {
                both.wait().await;
                let load = || async { Ok::<_, ()>(other.into()) };
                objects.get_or_insert_with(other, MINUTE, &[], load).await
            };
            objects.get_or_insert_with(mine, MINUTE, &[], load).await
        })
    };
    let tasks = join_all([task("a", "b"), task("b", "a")]);
    let loaded = tokio::time::timeout(Duration::from_secs(4), tasks).await;
    for loaded in loaded.expect("neither waits for itself") {
        loaded.unwrap().unwrap();
    }
}

pub async fn an_error_is_shared_with_those_who_wait(store: SharedStore) {
    let objects = objects(&store);
    let loads = AtomicUsize::new(0);
    let second = Duration::from_secs(1);
    let fails = || async {
        loads.fetch_add(1, SeqCst);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        Err("the database is down")
    };
    let calls =
        (0..100).map(|_| objects.get_or_insert_sharing_errors("a", MINUTE, &[], second, fails));
    for failed in join_all(calls).await {
        assert_eq!(failed, Err("the database is down"));
    }
    assert_eq!(loads.load(SeqCst), 1);
    // A call with errors of another type, one that shares none, and one after a purge load for themselves.
    let other = || async { Err(7) };
    let failed = objects.get_or_insert_sharing_errors("a", MINUTE, &[], second, other);
    assert_eq!(failed.await, Err(7));
    let failed = objects.get_or_insert_with("a", MINUTE, &[], fails).await;
    assert!(failed.is_err());
    assert_eq!(loads.load(SeqCst), 2);
    let _ = objects
        .get_or_insert_sharing_errors("a", MINUTE, &[], second, fails)
        .await;
    assert_eq!(loads.load(SeqCst), 3, "the last error was of another type");
    objects.purge("a").await.unwrap();
    let works = || async { Ok::<_, &str>("Ada".into()) };
    let object = objects
        .get_or_insert_sharing_errors("a", MINUTE, &[], second, works)
        .await;
    assert_eq!(object.unwrap(), "Ada");
}

pub async fn what_is_inserted_is_what_all_read(store: SharedStore) {
    let cache = ResponseCache::new(store.clone());
    let objects = cache.objects();
    for n in 0..50_u8 {
        objects
            .insert("n", &vec![n].into(), MINUTE, &[])
            .await
            .unwrap();
        let reads = join_all((0..20).map(|_| objects.get("n"))).await;
        assert!(reads.iter().all(|read| read.as_deref() == Some(&[n][..])));
    }
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.stored), (1_000, 0, 50));
}
