//! Calls while the store is away, and when it is back.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::time::Instant;

use super::*;
use crate::conformance::Random;

/// A page is read every 10 ms, a limit is charged every 10 ms, and a page is deleted every 100 ms: for 2 s with the store, 10 s
/// without it, 5 s with it.
#[tokio::test(start_paused = true)]
async fn under_a_steady_load_no_call_fails_and_no_deleted_page_comes_back() {
    for fault in [REFUSED, Fault::Hang, Fault::LoseReply(ErrorKind::Timeout)] {
        let warnings = warnings();
        let (server, store) = stack();
        let spaces = Spaces::new();
        for number in 0..200 {
            put(&server.memory, &spaces.entry(number), "old").await;
        }
        let start = Instant::now();
        let running = || start.elapsed() < SECOND * 17;
        let deleted = AtomicUsize::new(0);
        let reads = async {
            while running() {
                let last = deleted.load(Relaxed) as u64;
                for number in 0..last {
                    assert_eq!(get(&store, &spaces.entry(number)).await, None, "{number}");
                }
                get(&store, &spaces.entry(last + 1)).await;
                sleep(MS * 10).await;
            }
        };
        let charges = async {
            while running() {
                charge(&store, spaces.limit(1)).await.unwrap();
                sleep(MS * 10).await;
            }
        };
        let deletes = async {
            while running() {
                let number = deleted.load(Relaxed);
                store
                    .delete(&CX, &spaces.entry(number as u64))
                    .await
                    .unwrap();
                deleted.store(number + 1, Relaxed);
                sleep(MS * 100).await;
            }
        };
        let outage = async {
            sleep(SECOND * 2).await;
            assert_eq!((store.info().degraded, warnings.count()), (false, 0));
            server.stop(fault);
            sleep(SECOND * 10).await;
            assert_eq!((store.info().degraded, warnings.count()), (true, 1));
            server.start();
            server.asked();
            sleep(SECOND * 3).await;
            assert_eq!((store.info().degraded, warnings.count()), (false, 2));
        };
        tokio::join!(reads, charges, deletes, outage);
        // All deletes of the outage before the first read of any page, and in their order.
        let asked = server.asked();
        let first_read = asked.iter().position(|op| op.starts_with("get")).unwrap();
        let before = asked[..first_read].join(" ");
        let places: Vec<_> = (21..119)
            .map(|number| before.find(&format!("{{int:{number}}}")).unwrap())
            .collect();
        assert!(places.is_sorted(), "{fault:?}");
        assert_eq!(warnings.count(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn kinds_that_are_not_named_fail_with_the_store() {
    let (server, store) = stack();
    let spaces = Spaces::new();
    put(&store, &spaces.lock(1), "holder").await;
    server.stop(REFUSED);
    assert_eq!(get(&store, &spaces.entry(1)).await, None);
    for _ in 0..10 {
        let error = store.get(&CX, &spaces.lock(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let (key, me) = (spaces.lock(2), Value::from("me"));
        let claim = store.put_if_absent(&CX, &key, &me, ttl()).await;
        assert_eq!(claim.unwrap_err().effect(), Effect::NotApplied);
        // All or nothing: a part of the answer is none.
        let both = [spaces.entry(1), spaces.lock(1)];
        store.get_many(&CX, &both).await.unwrap_err();
        let ops = [Op::Get(&both[0]), Op::Get(&both[1])];
        store.call(&Op::Batch(&ops), &CX).await.unwrap_err();
        store.ping(&CX).await.unwrap_err();
    }
    server.start();
    until_back(&store).await;
    assert_eq!(get(&store, &spaces.lock(1)).await, Some("holder".into()));
}

#[test]
fn kinds_of_which_one_process_must_hold_the_only_one_are_refused_with_the_reason() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for (kind, reason) in [
        ("lock", "both hold a lock"),
        ("fence", "both hold a lock"),
        ("record", "both run a request"),
    ] {
        let handle = runtime.handle().clone();
        let panic =
            std::panic::catch_unwind(|| Fallback::new(MemoryStore::new(), handle).kinds([kind]));
        let text = panic.unwrap_err().downcast::<String>().unwrap();
        assert!(
            text.contains(reason) && text.contains("allow_split_brain"),
            "{text}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn locks_fall_back_only_if_the_user_says_that_two_may_hold_one() {
    let (server, store) = bare();
    let store = store.allow_split_brain(["lock"]);
    let spaces = Spaces::new();
    let (key, mine) = (spaces.lock(1), Value::from("mine"));
    put(&server.memory, &key, "somebody's").await;
    server.stop(REFUSED);
    assert_eq!(
        store.put_if_absent(&CX, &key, &mine, ttl()).await.unwrap(),
        None
    );
    assert!(store.compare_and_delete(&CX, &key, &mine).await.unwrap());
    server.start();
    until_back(&store).await;
    // Mine was released. The other one is not mine to delete.
    assert_eq!(get(&store, &key).await, Some("somebody's".into()));
}

#[tokio::test(start_paused = true)]
async fn the_memory_answers_without_waiting_and_without_the_store() {
    let (server, store) = stack();
    let spaces = Spaces::new();
    let (key, value) = (spaces.entry(1), Value::from("new"));
    let set = Op::Set {
        key: &key,
        value: &value,
        expiry: ttl().into(),
        condition: crate::Condition::Always,
        retention: Retention::Evictable,
    };
    assert!(store.call_now(&set, &CX).is_none(), "the store has to wait");
    server.stop(Fault::Hang);
    let start = Instant::now();
    assert_eq!(get(&store, &key).await, None);
    assert_eq!(start.elapsed(), MS * 100, "the first call finds out");
    server.asked();
    store.call_now(&set, &CX).unwrap().unwrap();
    let reply = store.call_now(&Op::Get(&key), &CX).unwrap().unwrap();
    assert_eq!(reply.into_value().unwrap(), Some(value));
    let reply = store
        .call_now(&Op::DeleteMany(&[key]), &CX)
        .unwrap()
        .unwrap();
    assert_eq!(reply.into_count().unwrap(), 1);
    assert_eq!((start.elapsed(), server.asked()), (MS * 100, Vec::new()));
    let lock = spaces.lock(1);
    assert!(store.call_now(&Op::Get(&lock), &CX).is_none());
}

/// The breaker knows before the first call.
#[tokio::test(start_paused = true)]
async fn an_open_breaker_means_memory_at_once() {
    let server = Server::new();
    server.stop(Fault::Hang);
    let breaker = Breaker::new(Timeout::new(server.store(), MS * 100), Handle::current());
    let store = Fallback::new(breaker.opened("no answer"), Handle::current()).kinds(["entry"]);
    let (spaces, start) = (Spaces::new(), Instant::now());
    let reply = store.call_now(&Op::Get(&spaces.entry(1)), &CX);
    assert_eq!(reply.unwrap().unwrap().into_value().unwrap(), None);
    assert_eq!(
        (start.elapsed(), server.asked()),
        (Duration::ZERO, Vec::new())
    );
    assert!(store.info().degraded);
}

#[tokio::test(start_paused = true)]
async fn overload_and_a_callers_deadline_are_no_outage() {
    let (server, store) = stack();
    let spaces = Spaces::new();
    for kind in [ErrorKind::Overloaded, ErrorKind::Rejected, ErrorKind::Full] {
        server.stop(Fault::Fail(kind, Effect::NotApplied));
        let error = store.get(&CX, &spaces.entry(1)).await.unwrap_err();
        assert_eq!(error.kind(), kind);
    }
    server.stop(Fault::Hang);
    let cx = CX.within(MS * 10);
    let error = store.get(&cx, &spaces.entry(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert!(!store.info().degraded);
    for kind in [
        ErrorKind::Unavailable,
        ErrorKind::Timeout,
        ErrorKind::Throttled,
    ] {
        let (server, store) = stack();
        server.stop(Fault::Fail(kind, Effect::NotApplied));
        assert_eq!(get(&store, &spaces.entry(1)).await, None);
        assert!(store.info().degraded);
    }
}

/// Once by the store, whose reply was lost, and once by the memory.
#[tokio::test(start_paused = true)]
async fn a_charge_whose_reply_is_lost_is_counted_at_most_once_extra() {
    let (server, store) = stack();
    let spaces = Spaces::new();
    for expected in 1..=3 {
        assert_eq!(charge(&store, spaces.limit(1)).await.unwrap(), expected);
    }
    server.stop(Fault::LoseReply(ErrorKind::Timeout));
    assert_eq!(charge(&store, spaces.limit(1)).await.unwrap(), 1);
    server.stop(REFUSED);
    assert_eq!(charge(&store, spaces.limit(1)).await.unwrap(), 2);
    server.start();
    until_back(&store).await;
    // 4 of the store's were sent by us, the fourth without a reply; nothing was copied back.
    assert_eq!(charge(&store, spaces.limit(1)).await.unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_one_outage_is_left_in_the_next() {
    let (server, store) = stack();
    let spaces = Spaces::new();
    let key = spaces.entry(1);
    put(&store, &key, "of the store").await;
    server.stop(REFUSED);
    put(&store, &key, "of the memory").await;
    assert_eq!(get(&store, &key).await, Some("of the memory".into()));
    server.start();
    until_back(&store).await;
    assert_eq!(get(&store, &key).await, Some("of the store".into()));
    server.stop(REFUSED);
    assert_eq!(get(&store, &key).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_flaps_fails_no_call_and_does_not_fill_the_log() {
    let warnings = warnings();
    let (server, store) = bare();
    let spaces = Spaces::new();
    let (start, mut random) = (Instant::now(), Random::new(1));
    let mut number = 0;
    while start.elapsed() < SECOND * 20 {
        number += 1;
        match number % 2 {
            0 => server.start(),
            _ => server.stop(REFUSED),
        }
        for _ in 0..random.below(20) {
            let key = spaces.entry(number);
            put(&server.memory, &key, "old").await;
            get(&store, &key).await;
            charge(&store, spaces.limit(number)).await.unwrap();
            store.delete(&CX, &key).await.unwrap();
            assert_eq!(get(&store, &key).await, None);
            sleep(MS * 10).await;
        }
    }
    server.start();
    until_back(&store).await;
    for number in 1..=number {
        assert_eq!(get(&server.memory, &spaces.entry(number)).await, None);
    }
    // One outage each second at most, with two warnings.
    assert!((4..=46).contains(&warnings.count()), "{}", warnings.count());
    assert_eq!(warnings.count() % 2, 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_answered_where_the_store_failed() {
    let (server, store) = bare();
    let spaces = Spaces::new();
    let keys = [spaces.entry(1), spaces.entry(2), spaces.lock(1)];
    for key in &keys {
        put(&server.memory, key, "old").await;
    }
    // A server that fails in the middle of a batch replies to a part of it.
    let error = StoreError::not_applied(ErrorKind::Unavailable);
    let ops = [
        Op::Get(&keys[0]),
        Op::DeleteMany(&keys[1..2]),
        Op::Get(&keys[2]),
    ];
    let results = vec![
        Ok(Reply::Value(Some("old".into()))),
        Err(error.clone()),
        Err(error),
    ];
    let settled = store
        .settle(&Op::Batch(&ops), Ok(Reply::Batch(results)))
        .unwrap();
    let settled = settled.into_batch(3).unwrap();
    assert!(matches!(&settled[0], Ok(Reply::Value(Some(_)))));
    assert!(matches!(&settled[1], Ok(Reply::Count(0))));
    assert!(settled[2].is_err());
    until_back(&store).await;
    assert_eq!(get(&store, &keys[1]).await, None);
    assert_eq!(get(&store, &keys[2]).await, Some("old".into()));
}

/// Its keys of named kinds may be in the memory, too.
#[tokio::test(start_paused = true)]
async fn a_write_that_goes_past_the_memory_removes_what_is_there() {
    let (server, store) = bare();
    let spaces = Spaces::new();
    let both = [spaces.entry(1), spaces.lock(1)];
    server.stop(REFUSED);
    put(&store, &both[0], "of the memory").await;
    server.start();
    assert!(store.info().degraded);
    store.delete_many(&CX, &both).await.unwrap();
    assert_eq!(get(&store, &both[0]).await, None);
    assert!(store.info().degraded);
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_outage_and_with_the_store() {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let (server, store) = bare();
    let spaces = Spaces::new();
    let handle = store.handle();
    for drop_it in [false, true] {
        server.stop(Fault::Hang);
        assert_eq!(tasks(), 0);
        server.stop(REFUSED);
        get(&store, &spaces.entry(1)).await;
        assert_eq!((tasks(), handle.is_degraded()), (1, true));
        if !drop_it {
            server.start();
            until_back(&store).await;
            tokio::task::yield_now().await;
            assert_eq!((tasks(), handle.is_degraded()), (0, false));
        }
    }
    // Also while it waits for the store.
    server.stop(Fault::Hang);
    sleep(SECOND * 2).await;
    drop(store);
    tokio::task::yield_now().await;
    assert_eq!(tasks(), 0);
}

/// As a store in a `static` does.
#[test]
fn it_comes_back_on_another_runtime_than_it_went_away_on() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    };
    let (server, spaces, first) = (Server::new(), Spaces::new(), runtime());
    let store = Fallback::new(server.store(), first.handle().clone()).kinds(["entry"]);
    first.block_on(async {
        server.stop(REFUSED);
        store.delete(&CX, &spaces.entry(1)).await.unwrap();
    });
    drop(first);
    runtime().block_on(async {
        put(&server.memory, &spaces.entry(1), "old").await;
        server.start();
        assert_eq!(get(&store, &spaces.entry(1)).await, None);
        until_back(&store).await;
        assert_eq!(get(&store, &spaces.entry(1)).await, None);
    });
}
