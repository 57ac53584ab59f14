//! Locks in memory and on a real Redis: one holder at a time, fencing tokens that rise, and nothing left behind.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use layer_store::{
    Arg, Context, Effect, ErrorKind, IdentityRef, Key, KeySpace, Op, SharedStore, StoreExt,
    conformance::{Fault, FaultInjector, Random, twins::Twins},
    connect,
};
use lock_layer::{
    AcquireError, LockContext, LockGuard, LockLayer, Locks, PROGRAMS, ReleaseOutcome, header,
};
use tests::{Backend, RedisConnection, RedisServer, scale, unique};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn};

#[tokio::test]
async fn the_programs_are_their_twins() {
    let [
        acquire,
        _extend,
        _release,
        revoke,
        inspect,
        share,
        extend_shared,
        release_shared,
        ..,
    ] = PROGRAMS;
    let all = &PROGRAMS[..8];
    let server = RedisServer::start();
    let mut random = Random::new(4);
    let mut twins = Twins::new(RedisConnection::new(&server), acquire, 2 * UNITS);
    // What each holder was told last.
    let mut fences = [0; TOKENS.len()];
    // How often units were shared by so many, and how often a writer waited for them.
    let (mut shared, mut waited) = ([0; 2], 0);
    for step in 0..20_000 {
        let program = all[random.below(all.len() as u64) as usize];
        // An operator comes by less often than the others, who would otherwise hold nothing.
        let program = if program.name() == revoke.name() && !random.one_in(8) {
            [acquire, share][random.below(2) as usize]
        } else {
            program
        };
        let mut keys = units(&mut random);
        // What is shared has no fencing token of its own.
        if [extend_shared.name(), release_shared.name()].contains(&program.name()) {
            keys.retain(|key| key % 2 == 0);
        }
        let holder = random.below(TOKENS.len() as u64) as usize;
        let token = Arg::Bytes(TOKENS[holder].as_bytes());
        let fence = Arg::Int(if random.one_in(10) { 0 } else { fences[holder] });
        let lease = Arg::Int(1 + random.below(WINDOW) as i64);
        let life = Arg::Int(1 + random.below(3 * WINDOW) as i64);
        let args = match program.name() {
            "lock_acquire" if random.one_in(3) => vec![token, lease, life, lease],
            "lock_acquire" => vec![token, lease, life],
            "lock_share" => vec![token, lease, Arg::Int(2)],
            "lock_extend_shared" => vec![token, lease],
            "lock_release_shared" => vec![token],
            "lock_extend" => vec![token, fence, lease, life],
            "lock_release" => vec![token, fence],
            "lock_inspect" => vec![],
            _ => vec![life],
        };
        let longest = if random.one_in(4) { 3 * WINDOW } else { 100 };
        let time = random.duration(Duration::from_millis(longest));
        twins.turn_to(program);
        let reply = twins
            .step(time, &keys, &args)
            .await
            .unwrap_or_else(|difference| panic!("{difference}"));
        if let ("lock_acquire", Some(fence @ 1..)) = (program.name(), reply.int(0)) {
            fences[holder] = fence;
        }
        let looks = program.name() == inspect.name();
        assert!(looks || reply.int(0).is_some(), "step {step}");
        for lock in (0..reply.len()).filter_map(|index| reply.value(index)) {
            let lock = String::from_utf8(lock.to_bytes().to_vec()).unwrap();
            match lock.matches(',').count() {
                0 => {}
                holders => shared[holders - 1] += 1,
            }
            waited += usize::from(lock.starts_with('*') && !lock.starts_with("*0000000000000"));
        }
    }
    assert!(
        shared[0] > 100 && shared[1] > 100 && waited > 100,
        "{shared:?} {waited}"
    );
}

#[tokio::test]
async fn a_fence_rises_though_the_servers_clock_went_back() {
    let [acquire, _, release, ..] = PROGRAMS;
    let server = RedisServer::start();
    let mut twins = Twins::new(RedisConnection::new(&server), acquire, 2);
    let (lease, life) = (Arg::Int(30_000), Arg::Int(86_400_000));
    let mut last = 0;
    for token in TOKENS {
        let token = Arg::Bytes(token.as_bytes());
        twins.turn_to(acquire);
        let reply = twins
            .step(Duration::ZERO, &[0, 1], &[token, lease, life])
            .await;
        let fence = reply.unwrap().int(0).unwrap();
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        twins.turn_to(release);
        let args = [token, Arg::Int(0)];
        twins.step(Duration::ZERO, &[0, 1], &args).await.unwrap();
        // A failover, to a server whose clock lags.
        twins.set_now(twins.now() - 5_000_000);
    }
}

/// Returns the indexes of some units' keys, two a unit, in a random order of units.
fn units(random: &mut Random) -> Vec<usize> {
    let mut left: Vec<_> = (0..UNITS).collect();
    let count = 1 + random.below(UNITS as u64);
    let taken = (0..count).map(|_| left.swap_remove(random.below(left.len() as u64) as usize));
    taken.flat_map(|unit| [2 * unit, 2 * unit + 1]).collect()
}

const UNITS: usize = 3;
const TOKENS: [&str; 3] = [
    "aaaaaaaaaaaaaaaaaaaaaa",
    "bbbbbbbbbbbbbbbbbbbbbb",
    "-_bbbbbbbbbbbbbbbbbbbb",
];
/// In milliseconds.
const WINDOW: u64 = 1_000;

#[tokio::test]
async fn a_hundred_overlapping_lists_over_three_connections_have_one_winner_a_round() {
    for backend in Backend::all() {
        let stores = backend.stores(3).await;
        let locks: Vec<_> = stores.into_iter().map(locks).collect();
        for _ in 0..scale(1_000) {
            let car = unique();
            let mut racers = tokio::task::JoinSet::new();
            for racer in 0..100 {
                // Every list has day 50, and each is in another order.
                let mut days: Vec<_> = (racer % 50..51).map(|day| day.to_string()).collect();
                let turn = racer % days.len();
                days.rotate_left(turn);
                racers.spawn(locks[racer % 3].group(car.as_str()).try_acquire(days));
            }
            let results = racers.join_all().await;
            let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
            assert_eq!(won.len(), 1);
            assert!(lost.iter().all(is_busy));
            backend.every_key_ends();
        }
    }
}

#[tokio::test]
async fn whoever_holds_days_at_one_time_holds_others_than_everybody_else() {
    for backend in Backend::all() {
        let locks = locks(backend.store().await);
        let taken = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for seed in 0..20 {
            let (car, taken) = (locks.group("car:7"), taken.clone());
            tasks.spawn(async move {
                let mut random = Random::new(seed);
                let mut won = 0;
                for _ in 0..50 {
                    let days: BTreeSet<_> =
                        (0..1 + random.below(5)).map(|_| random.below(30)).collect();
                    let list = days.iter().map(u64::to_string);
                    let list: Vec<_> = if random.one_in(2) {
                        list.rev().collect()
                    } else {
                        list.collect()
                    };
                    match car.try_acquire(list).await {
                        Ok(guard) => {
                            won += 1;
                            for day in &days {
                                assert!(
                                    taken.lock().unwrap().insert(*day),
                                    "day {day} has two holders"
                                );
                            }
                            tokio::task::yield_now().await;
                            for day in &days {
                                taken.lock().unwrap().remove(day);
                            }
                            assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::StillHeld);
                        }
                        Err(AcquireError::Busy(_)) => tokio::task::yield_now().await,
                        Err(error) => panic!("{error}"),
                    }
                }
                won
            });
        }
        let won: usize = tasks.join_all().await.into_iter().sum();
        assert!(won > 20, "{won}");
    }
}

/// Readers come without end, and the writers have their turns all the same.
#[tokio::test]
async fn readers_share_over_three_connections_and_writers_are_alone_and_do_not_starve() {
    for backend in Backend::all() {
        let stores = backend.stores(3).await;
        let car = unique();
        let cars: Vec<_> = stores
            .into_iter()
            .map(|store| locks(store).group(car.as_str()))
            .collect();
        // Those who read and write now, and the most who read at once.
        let inside = Arc::new(std::sync::Mutex::new((0, 0, 0)));
        let wait = Duration::from_secs(30);
        let mut readers = tokio::task::JoinSet::new();
        for reader in 0..9 {
            let (car, inside) = (cars[reader % 3].clone(), inside.clone());
            readers.spawn(async move {
                loop {
                    let guard = car.acquire_shared("1", wait).await.unwrap();
                    {
                        let mut inside = inside.lock().unwrap();
                        inside.0 += 1;
                        inside.2 = inside.0.max(inside.2);
                        assert_eq!(inside.1, 0, "a writer is there");
                    }
                    sleep(Duration::from_millis(5)).await;
                    inside.lock().unwrap().0 -= 1;
                    guard.release().await.unwrap();
                }
            });
        }
        let mut writers = tokio::task::JoinSet::new();
        for car in &cars {
            let (car, inside) = (car.clone(), inside.clone());
            writers.spawn(async move {
                let mut last = 0;
                for _ in 0..10 {
                    let guard = car.acquire("1", wait).await.unwrap();
                    assert!(guard.fence() > last);
                    last = guard.fence();
                    {
                        let mut inside = inside.lock().unwrap();
                        inside.1 += 1;
                        assert_eq!((inside.0, inside.1), (0, 1), "readers and writers");
                    }
                    sleep(Duration::from_millis(1)).await;
                    inside.lock().unwrap().1 -= 1;
                    guard.release().await.unwrap();
                }
            });
        }
        while let Some(writer) = writers.join_next().await {
            writer.expect("no writer starves or overlaps");
        }
        assert!(inside.lock().unwrap().2 > 1, "nobody shared");
        readers.abort_all();
        while let Some(reader) = readers.join_next().await {
            assert!(
                reader.unwrap_err().is_cancelled(),
                "a reader found a writer"
            );
        }
        backend.every_key_ends();
    }
}

/// A lock that is held for longer is renewed on the server, and another process is told by the server when it ends.
#[tokio::test]
async fn a_shared_lock_is_renewed_and_its_loss_is_told() {
    for backend in Backend::all() {
        let car = locks(backend.store().await).group(unique());
        let readers = [
            car.try_acquire_shared(["1", "2"]).await.unwrap(),
            car.try_acquire_shared("1").await.unwrap(),
        ];
        sleep(3 * LEASE).await;
        assert!(readers.iter().all(|reader| !reader.is_lost()));
        assert!(is_busy(&car.try_acquire("1").await));
        assert_eq!(car.inspect("1").await.unwrap()[0].holders(), 2);
        assert_eq!(car.force_release("1").await.unwrap(), 1);
        for reader in &readers {
            let told = tokio::time::timeout(LEASE, reader.lost()).await;
            told.expect("within the lease");
        }
        assert!(car.try_acquire("1").await.is_ok());
    }
}

#[tokio::test]
async fn a_lock_costs_two_commands_and_a_refusal_one() {
    let server = RedisServer::start();
    let car = locks(connect(&server.url()).await.unwrap()).group("car:7");
    // The scripts are loaded.
    car.try_acquire(["1"])
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    let mut monitor = server.monitor();
    let guard = car.try_acquire(["1", "2", "3"]).await.unwrap();
    assert_eq!(monitor.names(&server), ["evalsha"]);
    assert!(is_busy(&car.try_acquire(["2"]).await));
    assert_eq!(monitor.names(&server), ["evalsha"]);
    guard.release().await.unwrap();
    assert_eq!(monitor.names(&server), ["evalsha"]);
    assert_eq!(server.clients().len(), 1);
}

#[tokio::test]
async fn a_handler_of_three_leases_keeps_its_lock() {
    for backend in Backend::all() {
        let store = backend.store().await;
        let layer = LockLayer::new(store, header("x-car")).lease(LEASE);
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = runs.clone();
        let service = layer.layer(service_fn(move |request: Request<()>| {
            let counted = counted.clone();
            async move {
                let lock: LockContext = request.extensions().get().cloned().unwrap();
                counted.fetch_add(1, SeqCst);
                sleep(3 * LEASE).await;
                assert!(!lock.is_lost());
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            }
        }));
        let put = || Request::put("/").header("x-car", "7").body(()).unwrap();
        let long = tokio::spawn(service.clone().oneshot(put()));
        sleep(LEASE / 4).await;
        for _ in 0..8 {
            sleep(LEASE / 4).await;
            let refused = service.clone().oneshot(put()).await.unwrap();
            assert_eq!(refused.status(), StatusCode::CONFLICT);
            assert_eq!(refused.headers()["retry-after"], "1");
        }
        assert_eq!(long.await.unwrap().unwrap().status(), StatusCode::OK);
        assert_eq!(runs.load(SeqCst), 1);
        assert_eq!(
            service.oneshot(put()).await.unwrap().status(),
            StatusCode::OK
        );
    }
}

#[tokio::test]
async fn fences_rise_over_release_expiry_flushall_and_an_empty_restart() {
    let mut server = RedisServer::start();
    let store = connect(&server.url()).await.unwrap();
    let car = locks(store).group("car:7");
    let mut last = 0;
    let mut higher = |guard: &LockGuard| {
        assert!(guard.fence() > last, "{} after {last}", guard.fence());
        last = guard.fence();
    };
    for _ in 0..3 {
        let guard = car.try_acquire(["1", "2"]).await.unwrap();
        higher(&guard);
        guard.release().await.unwrap();
    }

    // One whose holder died: here a store that renews and releases nothing.
    let dying = FaultInjector::new(connect(&server.url()).await.unwrap());
    let guard = locks(dying.clone())
        .group("car:7")
        .try_acquire(["1"])
        .await
        .unwrap();
    dying.fail(ErrorKind::Unavailable, Effect::NotApplied);
    higher(&guard);
    drop(guard);
    let guard = eventually(|| car.try_acquire(["1"])).await;
    higher(&guard);

    let _: () = server.command(&["FLUSHALL"]);
    higher(&eventually(|| car.try_acquire(["2"])).await);
    server.restart();
    higher(&eventually(|| car.try_acquire(["2"])).await);
}

#[tokio::test]
async fn a_release_after_the_lease_leaves_the_next_holder_alone() {
    for backend in Backend::all() {
        let dying = FaultInjector::new(backend.store().await);
        let car = locks(dying.clone()).group("car:7");
        let late = car.try_acquire(["1"]).await.unwrap();
        dying.inject_by(|op| match op {
            Op::Run { program, .. } if program.name() != "lock_acquire" => {
                Some(Fault::Fail(ErrorKind::Unavailable, Effect::NotApplied))
            }
            _ => None,
        });
        let next = eventually(|| car.try_acquire(["1"])).await;
        assert!(late.is_lost());
        assert!(next.fence() > late.fence());
        dying.heal();
        assert_eq!(late.release().await.unwrap(), ReleaseOutcome::AlreadyLost);
        assert!(is_busy(&car.try_acquire(["1"]).await));
        assert_eq!(next.release().await.unwrap(), ReleaseOutcome::StillHeld);
    }
}

#[tokio::test]
async fn a_server_that_stands_still_is_a_loss_told_in_time() {
    let server = RedisServer::start();
    let car = locks(connect(&server.url()).await.unwrap()).group("car:7");
    let asked = Instant::now();
    let guard = car.try_acquire(["1"]).await.unwrap();
    server.pause();
    guard.lost().await;
    assert!(asked.elapsed() < 2 * LEASE, "{:?}", asked.elapsed());
    let error = car.try_acquire(["2"]).await.unwrap_err();
    assert!(matches!(error, AcquireError::Unavailable(_)), "{error}");
    server.resume();
    let next = eventually(|| car.try_acquire(["1"])).await;
    assert!(next.fence() > guard.fence());
}

#[tokio::test]
async fn a_reply_that_comes_late_is_no_refusal_and_leaves_no_lock() {
    for backend in Backend::all() {
        let slow = FaultInjector::new(backend.store().await);
        let car = locks(slow.clone()).group("car:7");
        // Applied each time; the reply of the first is lost, as one is that comes after its deadline.
        let mut calls = 0;
        slow.inject_by(move |_| {
            calls += 1;
            (calls == 1).then_some(Fault::LoseReply(ErrorKind::Timeout))
        });
        let guard = car.try_acquire(["1", "2"]).await.unwrap();
        assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::StillHeld);

        // The caller goes at any moment.
        for millis in [0, 10, 49, 50, 51, 70] {
            slow.delay(Duration::from_millis(50));
            let acquire = tokio::spawn(car.try_acquire(["1", "2"]));
            sleep(Duration::from_millis(millis)).await;
            acquire.abort();
            drop(acquire);
            slow.heal();
            eventually(|| async {
                match car.held(["1", "2"]).await.unwrap() {
                    0 if slow.in_flight() == 0 => Ok(()),
                    held => Err(held),
                }
            })
            .await;
        }
        backend.every_key_ends();
    }
}

#[tokio::test]
async fn connections_cut_and_scripts_forgotten_are_no_refusal_and_no_second_holder() {
    let server = RedisServer::start();
    let car = locks(connect(&server.url()).await.unwrap()).group("car:7");
    let holders = Arc::new(AtomicUsize::new(0));
    let mut held = 0;
    for round in 0..60 {
        match round % 3 {
            0 => server.command::<()>(&["SCRIPT", "FLUSH"]),
            1 => drop(server.command::<u64>(&["CLIENT", "KILL", "TYPE", "normal"])),
            _ => {}
        }
        let guard = match car.try_acquire(["1"]).await {
            Ok(guard) => guard,
            Err(AcquireError::Unavailable(_)) => continue,
            Err(error) => panic!("nobody else is there: {error}"),
        };
        held += 1;
        assert_eq!(holders.fetch_add(1, SeqCst), 0);
        holders.fetch_sub(1, SeqCst);
        let _ = guard.release().await;
        eventually(|| async {
            match car.held(["1"]).await {
                Ok(0) => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }
    assert!(held > 30, "{held}");
}

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

/// 16 tasks of one process take one lock five times each. One of them asks Redis at a time, when it is told to.
#[tokio::test]
async fn sixteen_waiters_ask_redis_at_most_three_times_a_hold() {
    let server = RedisServer::start();
    let locks = Locks::new(connect(&server.url()).await.unwrap());
    // The scripts are loaded.
    locks
        .group("car:7")
        .try_acquire("1")
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    let mut monitor = server.monitor();
    let held = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (car, held) = (locks.group("car:7"), held.clone());
        tasks.spawn(async move {
            for _ in 0..5 {
                let guard = car.acquire("1", Duration::from_secs(60)).await.unwrap();
                assert_eq!(held.fetch_add(1, SeqCst), 0, "it has one holder");
                sleep(Duration::from_millis(5)).await;
                held.fetch_sub(1, SeqCst);
                guard.release().await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let commands = monitor.names(&server);
    assert!(
        commands.len() <= 80 * 3,
        "{} commands for 80 holds",
        commands.len()
    );
}

/// Two processes, in turn: the one that waits is woken by the server's push and not by its timer.
#[tokio::test]
async fn who_waits_in_another_process_is_told_that_the_lock_is_free() {
    for backend in Backend::all() {
        let [one, other] = [backend.store().await, backend.store().await].map(Locks::new);
        let mut times = Vec::new();
        for _ in 0..9 {
            let group = unique();
            let guard = one.group(&*group).try_acquire("1").await.unwrap();
            let waits = tokio::spawn(other.group(&*group).acquire("1", Duration::from_secs(60)));
            sleep(Duration::from_millis(120)).await;
            let freed = Instant::now();
            guard.release().await.unwrap();
            waits.await.unwrap().unwrap().release().await.unwrap();
            times.push(freed.elapsed());
        }
        times.sort_unstable();
        assert!(times[4] < Duration::from_millis(50), "{times:?}");
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

#[tokio::test]
async fn without_redis_a_locked_route_is_unavailable_before_its_handler() {
    let server = RedisServer::start();
    let store = connect(&server.url()).await.unwrap();
    let layer = LockLayer::new(store, header("x-car")).lease(LEASE);
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let service = layer.layer(service_fn(move |_: Request<()>| {
        counted.fetch_add(1, SeqCst);
        async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) }
    }));
    let put = || Request::put("/").header("x-car", "7").body(()).unwrap();
    server.kill();
    for _ in 0..20 {
        let asked = Instant::now();
        let response = service.clone().oneshot(put()).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(asked.elapsed() < Duration::from_secs(1));
    }
    assert_eq!(runs.load(SeqCst), 0);
}

fn locks(store: impl layer_store::Store) -> Locks {
    Locks::new(SharedStore::new(store)).lease(LEASE)
}

fn is_busy(result: &Result<LockGuard, AcquireError>) -> bool {
    matches!(result, Err(AcquireError::Busy(_)))
}

/// Tries until it works, for at most 5 s.
async fn eventually<T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(
    mut attempt: impl FnMut() -> F,
) -> T {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) if Instant::now() > until => panic!("not within 5 s: {error:?}"),
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

const LEASE: Duration = Duration::from_millis(400);
