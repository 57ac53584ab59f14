//! A store that forgets a lock, and a holder that is told.

use std::time::Duration;

use layer_store::{Context, IdentityRef, Key, KeySpace, StoreExt, connect};
use lock_layer::Locks;
use tests::{Backend, RedisServer, unique};
use tokio::time::{Instant, sleep};

use crate::{eventually, locks};

#[tokio::test]
async fn a_lock_that_was_deleted_is_put_back_unless_somebody_was_let_in() {
    for backend in Backend::all() {
        for let_in in [false, true] {
            let store = backend.store().await;
            let name = unique();
            let car = locks(store.clone()).group(name.as_str());
            let guard = car.try_acquire(["1"]).await.unwrap();
            let space = KeySpace::new("lock", "unit");
            let key = Key::new(&space, IdentityRef::Text(name.as_bytes())).with_rest(b"1");
            let cx = Context::new("test");
            assert!(store.delete(&cx, &key).await.unwrap());
            if let_in {
                drop(car.try_acquire(["1"]).await.unwrap());
            }
            match let_in {
                true => guard.lost().await,
                false => eventually(|| async { store.get(&cx, &key).await.unwrap().ok_or(()) })
                    .await
                    .with_bytes(|lock| assert!(!lock.is_empty())),
            }
            assert_eq!(guard.is_lost(), let_in);
        }
    }
}

/// Makes a server forget the lock of a group.
type Forget = fn(&RedisServer, &str);

/// The lease is longer than this test, so no renewal tells it.
#[tokio::test]
async fn a_holder_is_told_within_100_ms_that_redis_forgot_its_lock() {
    let server = RedisServer::start();
    let locks = Locks::new(connect(&server.url()).await.unwrap()).lease(Duration::from_secs(3_600));
    let ways: [(&str, Forget); 4] = [
        ("FLUSHALL", |server, _| server.command(&["FLUSHALL"])),
        ("eviction", |server, _| server.evict_all()),
        ("another holder", |server, group| {
            // As after an eviction, when another is let in before the first looks.
            let lock = format!("{{{group}}}:lock:unit:1");
            let fence = format!("{{{group}}}:fence:unit:1");
            let () = server.command(&["MSET", &fence, "9999999999999999", &lock, "another"]);
        }),
        ("DEL", |server, group| {
            let lock = format!("{{{group}}}:lock:unit:1");
            let fence = format!("{{{group}}}:fence:unit:1");
            let _: u64 = server.command(&["DEL", &lock, &fence]);
        }),
    ];
    for (what, forget) in ways {
        let mut times = Vec::new();
        for _ in 0..5 {
            let group = unique();
            let guard = locks.group(group.as_str()).try_acquire("1").await.unwrap();
            sleep(Duration::from_millis(200)).await;
            assert!(!guard.is_lost());
            let lost = tokio::spawn(guard.lost());
            let forgot = Instant::now();
            forget(&server, &group);
            lost.await.unwrap();
            times.push(forgot.elapsed());
        }
        // The median: a busy machine may be late once.
        times.sort_unstable();
        assert!(times[2] < Duration::from_millis(100), "{what}: {times:?}");
    }
}

#[tokio::test]
async fn a_holder_is_told_that_its_lock_was_evicted_or_keeps_it() {
    let server = RedisServer::start();
    let locks = Locks::new(connect(&server.url()).await.unwrap()).lease(Duration::from_secs(3_600));
    let group = unique();
    let guard = locks.group(group.as_str()).try_acquire("1").await.unwrap();
    sleep(Duration::from_millis(200)).await;
    let lock = format!("{{{group}}}:lock:unit:1");
    // The fencing token is still there: nobody was let in, and the lock is put back.
    let gone: u64 = server.command(&["DEL", &lock]);
    assert_eq!(gone, 1);
    eventually(|| async {
        match server.command::<u64>(&["EXISTS", &lock]) {
            1 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    assert!(!guard.is_lost());

    server.evict_all();
    tokio::time::timeout(Duration::from_secs(5), guard.lost())
        .await
        .expect("its lock and its fencing token are evicted");
}
