//! The store when its Redis is paused, dies, comes back empty, becomes a replica, or was never there.

use std::time::{Duration, Instant};

use layer_store::{
    BreakerState, Effect, ErrorKind, Identity, Key, KeySpace, Options, StoreExt, connect,
    connect_with,
};
use tests::{
    Logs, RedisServer,
    outage::{AFTER, CX, LIMIT, TTL, breaker, count, now, recovers, within},
};

#[tokio::test]
async fn a_paused_server_costs_each_call_its_limit_and_no_more() {
    let server = RedisServer::start();
    let store = connect(&server.url()).await.unwrap();
    count(&store).await.unwrap();
    let mut monitor = server.monitor();
    server.pause();
    for failed in 0..5 {
        let error = within(LIMIT, count(&store)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "call {failed}");
        // After the first no other is sent: the connection is silent, and a new one does not come up.
        let effect = match failed {
            0 => Effect::Unknown,
            _ => Effect::NotApplied,
        };
        assert_eq!(error.effect(), effect);
    }
    assert_eq!(breaker(&store), BreakerState::Open);

    // From here on nobody waits, and nothing is sent.
    let mut waits = Vec::new();
    for _ in 0..1_000 {
        let start = now();
        let error = count(&store).await.unwrap_err();
        waits.push(now() - start);
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.effect(), Effect::NotApplied);
    }
    waits.sort_unstable();
    assert!(waits[990] < Duration::from_millis(5), "{:?}", waits[990]);
    tokio::time::sleep(Duration::from_millis(1_500)).await;

    server.resume();
    recovers(&store).await;
    let mut sent = monitor.commands(&server);
    // Without what a new connection begins with: this one went silent, so another was tried.
    let is_ours = |command: &String| {
        let own = ["visits", "\"PING\"", ":probe:"];
        own.iter().any(|own| command.contains(own))
    };
    sent.retain(is_ours);
    let name = |command: &String| command.split('"').nth(1).map(str::to_lowercase);
    let sent: Vec<_> = sent.iter().filter_map(name).collect();
    let (failed, rest) = sent.split_at(1);
    let (probes, through) = rest.split_at(rest.len() - AFTER as usize);
    assert!(failed.iter().all(|name| name == "evalsha"), "{sent:?}");
    // Pings until one is answered; then each is followed by a write, because it was writes that failed.
    assert!(
        probes.ends_with(&["ping", "set", "ping", "set"].map(String::from)),
        "{sent:?}"
    );
    let pings = &probes[..probes.len() - 4];
    assert!(pings.iter().all(|name| name == "ping"), "{sent:?}");
    // The connection is a new one, so the script goes along as text once.
    let (first, others) = through.split_first().unwrap();
    assert_eq!(first, "eval", "{sent:?}");
    assert!(others.iter().all(|name| name == "evalsha"), "{sent:?}");
}

/// A primary with too few replicas answers pings and reads, and refuses writes.
#[tokio::test]
async fn an_outage_of_writes_opens_the_breaker_once() {
    let server = RedisServer::start();
    let store = connect(&server.url()).await.unwrap();
    // Not a script, whose writes Redis 6.0 does not refuse.
    let space = KeySpace::new("data", "written");
    let ada = Identity::from("ada");
    let key = Key::new(&space, ada.as_ref());
    let value = "x".into();
    let write = || store.put(&CX, &key, &value, TTL);
    write().await.unwrap();
    server.command::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    let start = now();
    let mut failures = 0;
    while now() - start < Duration::from_secs(3) {
        write().await.unwrap_err();
        failures += 1;
        let expected = match failures {
            ..5 => BreakerState::Closed,
            _ => BreakerState::Open,
        };
        assert_eq!(breaker(&store), expected, "after {failures} calls");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.command::<()>(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    recovers(&store).await;
}

#[tokio::test]
async fn a_killed_server_comes_back_empty_and_is_found_again() {
    let mut server = RedisServer::start();
    let store = connect(&server.url()).await.unwrap();
    for _ in 0..=AFTER {
        count(&store).await.unwrap();
    }
    server.kill();
    for _ in 0..20 {
        within(LIMIT, count(&store)).await.unwrap_err();
    }
    assert_eq!(breaker(&store), BreakerState::Open);
    server.restart();
    recovers(&store).await;
    let counted = count(&store).await.unwrap();
    assert!(counted <= AFTER + 1, "{counted}: it did not begin anew");
    assert_eq!(server.clients().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_load_no_call_outlives_its_limit() {
    let mut server = RedisServer::start();
    let store = connect(&server.url()).await.unwrap();
    let stop = Instant::from(tokio::time::Instant::now()) + Duration::from_secs(4);
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut worst = Duration::ZERO;
                while now() < stop {
                    let start = now();
                    let _ = count(&store).await;
                    worst = worst.max(now() - start);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                worst
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.pause();
    tokio::time::sleep(Duration::from_millis(400)).await;
    server.resume();
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.kill();
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.restart();
    for task in tasks {
        let worst = task.await.unwrap();
        assert!(worst <= LIMIT, "a call took {worst:?}");
    }
    recovers(&store).await;
    assert_eq!(server.clients().len(), 1);
}

#[tokio::test]
async fn a_primary_that_became_a_replica_is_left_until_it_is_one_again() {
    let server = RedisServer::start();
    let store = connect(&server.url()).await.unwrap();
    count(&store).await.unwrap();
    // Nobody listens on port 1.
    let () = server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let error = within(LIMIT, count(&store)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.effect(), Effect::NotApplied);
    let () = server.command(&["REPLICAOF", "NO", "ONE"]);
    recovers(&store).await;
    assert_eq!(server.clients().len(), 1);
}

#[tokio::test]
async fn a_start_during_the_outage_gives_a_store_that_comes_up_later() {
    let mut server = RedisServer::start();
    server.kill();
    let store = within(LIMIT, connect(&server.url())).await.unwrap();
    assert_eq!(breaker(&store), BreakerState::Open);
    within(Duration::from_millis(5), count(&store))
        .await
        .unwrap_err();
    server.restart();
    recovers(&store).await;
}

#[tokio::test]
async fn a_start_at_a_paused_server_takes_its_own_limit_and_no_more() {
    let server = RedisServer::start();
    server.pause();
    let hasty = Options::new().connect_timeout(Duration::from_millis(100));
    let store = within(LIMIT, connect_with(&server.url(), hasty)).await;
    let store = store.unwrap();
    assert_eq!(breaker(&store), BreakerState::Open);
    server.resume();
    recovers(&store).await;
}

#[tokio::test]
async fn a_start_at_a_paused_server_takes_a_second_by_default() {
    let server = RedisServer::start();
    server.pause();
    let second = Duration::from_millis(1_100);
    let store = within(second, connect(&server.url())).await.unwrap();
    assert_eq!(breaker(&store), BreakerState::Open);
    server.resume();
    recovers(&store).await;
}

#[tokio::test]
async fn a_connection_closed_while_idle_fails_nobody() {
    let server = RedisServer::start();
    let store = connect(&server.url()).await.unwrap();
    for _ in 0..10 {
        count(&store).await.unwrap();
        let _: u32 = server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(count(&store).await.unwrap(), 11);
}

#[tokio::test]
async fn an_outage_is_one_warning_out_and_one_back() {
    let logs = Logs::capture();
    let server = RedisServer::start();
    let store = connect(&server.url()).await.unwrap();
    count(&store).await.unwrap();
    assert_eq!(logs.lines(), [""; 0]);
    server.pause();
    for _ in 0..100 {
        count(&store).await.unwrap_err();
    }
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(logs.lines().len(), 1, "{logs:#?}");
    server.resume();
    recovers(&store).await;
    assert_eq!(logs.lines().len(), 2, "{logs:#?}");
}

#[tokio::test]
async fn a_wrong_password_is_an_error_that_does_not_repeat_it() {
    let server = RedisServer::start_with(&["--requirepass", "right"]);
    connect(&server.url()).await.unwrap();
    let wrong = server.url().replace("right", "wr0ng");
    let error = connect(&wrong).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(!text.contains("wr0ng") && !text.contains("right"), "{text}");
}
