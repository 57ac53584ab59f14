//! The limiter on a real Redis.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use cache_layer::CacheLayer;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use layer_store::{FindingKind, SharedStore, connect};
use rate_limit_layer::{
    KeyExtractor, Limiter, Quota, RateLimitLayer, RateLimitRefusal, Standing, ThrottleError,
    Unavailable, Verdict, header,
};
use tests::{Backend, RedisServer, unique};
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};

type Body = Empty<bytes::Bytes>;

async fn store(server: &RedisServer) -> SharedStore {
    connect(&server.url()).await.unwrap()
}

async fn ask(layer: &RateLimitLayer, key: &str) -> StatusCode {
    answer(layer, key).await.status()
}

async fn answer(layer: &RateLimitLayer, key: &str) -> Response<rate_limit_layer::Body<Body>> {
    let mut request = Request::new(Body::new());
    request
        .headers_mut()
        .insert("x-api-key", key.parse().unwrap());
    let hello =
        service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::new())) });
    layer.layer(hello).oneshot(request).await.unwrap()
}

#[tokio::test]
async fn a_check_is_one_script_command_once_its_script_is_loaded() {
    let server = RedisServer::start();
    let policy = Quota::per_hour(10).fail_closed();
    let limiter = Limiter::new(store(&server).await, policy).and(Quota::per_day(50).fail_closed());
    assert!(limiter.check("first").await.is_admitted());
    let mut monitor = server.monitor();
    for _ in 0..12 {
        let _ = limiter.check("ada").await;
    }
    let commands = monitor.names(&server);
    let clients: Vec<_> = commands.iter().filter(|name| *name != "ping").collect();
    // The tenth reply says that nothing is left: what is refused then costs no command.
    assert_eq!(clients, vec!["evalsha"; 10]);
    assert_eq!(server.clients().len(), 1, "one connection");
}

#[tokio::test]
async fn a_flushed_script_is_loaded_again_and_charged_once() {
    let server = RedisServer::start();
    let limiter = Limiter::new(store(&server).await, Quota::per_hour(10).fail_closed());
    for left in (4..10).rev() {
        let () = server.command(&["SCRIPT", "FLUSH"]);
        let Verdict::Admitted(Some(standing)) = limiter.check("ada").await else {
            panic!("not admitted");
        };
        assert_eq!(standing.remaining(), left);
    }
}

#[tokio::test]
async fn subjects_cost_a_command_each_and_a_refusal_is_given_back() {
    let server = RedisServer::start();
    let layer = RateLimitLayer::new(
        store(&server).await,
        Quota::per_hour(5)
            .fail_closed()
            .name("all")
            .by(header("x-all").or_skip()),
    )
    .and(Quota::per_hour(3).fail_closed().name("peer"))
    .and(
        Quota::per_hour(1)
            .fail_closed()
            .name("key")
            .by(header("x-api-key")),
    );
    assert_eq!(ask(&layer, "ada").await, StatusCode::OK);
    for _ in 0..10 {
        assert_eq!(ask(&layer, "ada").await, StatusCode::TOO_MANY_REQUESTS);
    }
    // The refunds are on their way, on the same connection, before these.
    assert_eq!(ask(&layer, "bob").await, StatusCode::OK);
    assert_eq!(ask(&layer, "eve").await, StatusCode::OK);
    assert_eq!(ask(&layer, "kim").await, StatusCode::TOO_MANY_REQUESTS);
}

/// The peer refuses for a moment, the key for longer: obeyed exactly, the longer time is enough for both.
#[tokio::test]
async fn a_request_that_comes_back_when_it_was_told_passes_all_subjects() {
    let server = RedisServer::start();
    let quota = |millis| Quota::try_new(1, Duration::from_millis(millis)).unwrap();
    let by_key = quota(400).by(header("x-api-key")).name("key").fail_closed();
    let by_peer = quota(100).fail_closed().name("peer");
    let layer = RateLimitLayer::new(store(&server).await, by_peer).and(by_key);
    assert_eq!(ask(&layer, "ada").await, StatusCode::OK);
    for _ in 0..5 {
        let refused = answer(&layer, "ada").await;
        let Some(RateLimitRefusal::QuotaExceeded(exceeded)) = refused.extensions().get() else {
            panic!("{refused:?}");
        };
        assert!(exceeded.violated().eq(["peer", "key"]), "{exceeded:?}");
        assert!(exceeded.retry_after() > Duration::from_millis(200));
        tokio::time::sleep(exceeded.retry_after()).await;
        assert_eq!(ask(&layer, "ada").await, StatusCode::OK);
    }
}

#[tokio::test]
async fn peek_and_reset_do_what_they_say_and_no_more() {
    let server = RedisServer::start();
    let store = store(&server).await;
    let daily = Limiter::new(store.clone(), Quota::per_day(3).fail_closed());
    let both = daily.clone().and(Quota::per_day(5).fail_closed());
    let left = async |limiter: &Limiter, subject: &str| {
        let standings = limiter.peek(subject).await.unwrap();
        standings
            .iter()
            .map(Standing::remaining)
            .collect::<Vec<_>>()
    };
    for subject in ["ada", "ada", "bob"] {
        assert!(both.check(subject).await.is_admitted());
    }
    for _ in 0..3 {
        assert_eq!(left(&both, "ada").await, [1, 3], "a look charges nothing");
    }
    assert_eq!(left(&both, "nobody").await, [3, 5]);

    daily.reset("ada").await.unwrap();
    assert_eq!(
        left(&both, "ada").await,
        [3, 3],
        "the other policy is not reset"
    );
    assert_eq!(left(&both, "bob").await, [2, 4], "as does everybody else");
    both.reset("ada").await.unwrap();
    assert_eq!(left(&both, "ada").await, left(&both, "nobody").await);
}

#[tokio::test]
async fn every_key_has_a_time_to_live_that_the_server_keeps() {
    let server = RedisServer::start();
    let limiter = Limiter::new(
        store(&server).await,
        Quota::try_new(10, Duration::from_secs(1))
            .unwrap()
            .fail_closed(),
    );
    for subject in ["a", "b", "c"] {
        assert!(limiter.check(subject).await.is_admitted());
        assert!(limiter.check(subject).await.is_admitted());
    }
    let mut connection = server.raw();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    assert_eq!(keys.len(), 3);
    for key in &keys {
        let ttl: i64 = redis::cmd("PTTL").arg(key).query(&mut connection).unwrap();
        assert!((1..=200).contains(&ttl), "{key}: {ttl}");
    }
    tokio::time::sleep(Duration::from_millis(250)).await;
    let left: i64 = redis::cmd("EXISTS")
        .arg(&keys)
        .query(&mut connection)
        .unwrap();
    assert_eq!(left, 0);
    assert_eq!(limiter.peek("a").await.unwrap()[0].remaining(), 10);
}

#[tokio::test]
async fn hostile_keys_touch_nobody_else_s() {
    let server = RedisServer::start();
    let () = server.command(&["SET", "foreign", "1"]);
    let limiter = Limiter::new(store(&server).await, Quota::per_hour(1).fail_closed());
    let long = vec![b'x'; 1 << 20];
    let keys: [&[u8]; 9] = [
        b"",
        b"{}*?[]\\",
        b"{a}",
        b"a",
        b"a\r\nSET foreign 2\r\n",
        b"a\0b",
        b"\xff\xfe",
        b"*",
        &long,
    ];
    for key in keys {
        assert!(limiter.check(key).await.is_admitted());
        assert!(matches!(limiter.check(key).await, Verdict::Refused(_)));
    }
    limiter.reset("*").await.unwrap();
    let mut connection = server.raw();
    let left: usize = redis::cmd("DBSIZE").query(&mut connection).unwrap();
    assert_eq!(left, keys.len() - 1 + 1, "one reset, one foreign");
    let foreign: String = redis::cmd("GET")
        .arg("foreign")
        .query(&mut connection)
        .unwrap();
    assert_eq!(foreign, "1");
}

#[tokio::test]
async fn two_services_on_one_redis_share_their_buckets_unless_a_prefix_parts_them() {
    let server = RedisServer::start();
    let one = Limiter::new(store(&server).await, Quota::per_hour(2).fail_closed());
    let two = Limiter::new(store(&server).await, Quota::per_hour(2).fail_closed());
    let options = layer_store::Options::new().prefix(unique());
    let apart = layer_store::connect_with(&server.url(), options)
        .await
        .unwrap();
    let apart = Limiter::new(apart, Quota::per_hour(2).fail_closed());
    assert!(one.check("ada").await.is_admitted());
    assert!(two.check("ada").await.is_admitted());
    assert!(!one.check("ada").await.is_admitted());
    assert!(!two.check("ada").await.is_admitted());
    assert!(apart.check("ada").await.is_admitted());
}

/// A server of 2 MB under a flood of fresh keys. One that evicts forgets what ada owes, and says so when a store connects to it. One that
/// does not keeps ada out, and newcomers are told that it is full.
#[tokio::test]
async fn a_server_that_evicts_forgets_what_a_client_owes_and_one_that_is_full_does_not() {
    for (eviction, forgets) in [("allkeys-lru", true), ("noeviction", false)] {
        let server = RedisServer::start_with(&["--appendonly", "yes"]);
        let used: String = server.command(&["INFO", "memory"]);
        let used = used
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:"));
        let used: u64 = used.unwrap().trim().parse().unwrap();
        let set = |name, value: &str| server.command::<()>(&["CONFIG", "SET", name, value]);
        set("maxmemory-policy", eviction);
        set("maxmemory", &(used + 2_000_000).to_string());
        let store = layer_store::connect(&server.url()).await.unwrap();
        let findings = store.doctor();
        let found = findings
            .iter()
            .find(|finding| finding.kind == FindingKind::Eviction);
        assert_eq!(found.is_some(), forgets, "{findings:?}");
        let limiter = Limiter::new(store, Quota::per_day(1).fail_closed());
        assert!(limiter.check("ada").await.is_admitted());
        assert!(!limiter.check("ada").await.is_admitted());
        let is_kept = || server.command::<u64>(&["EXISTS", "{ada}:limit:1/day"]) == 1;
        let (mut fresh, mut full) = (0_u64, 0);
        while is_kept() && full == 0 {
            assert!(fresh < 400_000, "{fresh} keys fit into 2 MB");
            let flood = (0..500).map(|number| limiter.check(fresh + number));
            for verdict in futures_util::future::join_all(flood).await {
                match verdict {
                    Verdict::Admitted(_) => {}
                    Verdict::Unavailable(Unavailable::StoreFull) => full += 1,
                    verdict => panic!("{verdict:?}"),
                }
            }
            fresh += 500;
        }
        assert_eq!((is_kept(), full > 0), (!forgets, !forgets), "{eviction}");
        // What this process was told a second ago is not believed any more.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(
            limiter.check("ada").await.is_admitted(),
            forgets,
            "{eviction}"
        );
    }
}

/// A limit inside of a cache: its refusal is for one client and one moment, and so is what it tells of a balance.
#[tokio::test]
async fn a_cache_outside_of_a_limit_stores_no_refusal_and_no_balance() {
    Backend::on_each(async |store| {
        let hello = service_fn(|_: Request<Body>| async {
            Ok::<_, Infallible>(Response::new(Full::from("hello")))
        });
        let policy = Quota::per_hour(2).by(header("x-client")).fail_closed();
        let limited = RateLimitLayer::new(store.clone(), policy)
            .legacy_headers(true)
            .layer(hello);
        let app = CacheLayer::new(store)
            .ttl(Duration::from_secs(60))
            .layer(limited);
        let ask = async |user: &str, path: &str| {
            let request = Request::get(path)
                .header("host", "a")
                .header("x-client", user);
            let request = request.body(Body::new()).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            let (parts, body) = response.into_parts();
            body.collect().await.unwrap();
            let told = ["ratelimit", "ratelimit-policy", "x-ratelimit-remaining"];
            let told = told
                .iter()
                .filter(|name| parts.headers.contains_key(**name));
            let status = parts.headers["cache-status"].to_str().unwrap();
            (parts.status.as_u16(), told.count(), status.contains("hit"))
        };
        assert_eq!(ask("ada", "/1").await, (200, 3, false));
        for _ in 0..5 {
            assert_eq!(ask("bob", "/1").await, (200, 0, true));
        }
        assert_eq!(ask("ada", "/2").await, (200, 3, false));
        for _ in 0..2 {
            assert_eq!(ask("ada", "/3").await, (429, 3, false));
        }
        assert_eq!(ask("bob", "/3").await, (200, 3, false));
        assert_eq!(ask("ada", "/3").await, (200, 0, true));
    })
    .await;
}

/// A replica may be behind, so it never lets a request pass: a check writes.
#[tokio::test]
async fn a_replica_decides_nothing() {
    let primary = RedisServer::start();
    let replica = RedisServer::start_replica_of(&primary);
    let policy = || Quota::per_hour(2);
    let at_primary = Limiter::new(store(&primary).await, policy().fail_closed());
    let closed = Limiter::new(store(&replica).await, policy().fail_closed());
    let open = Limiter::new(store(&replica).await, policy().fail_open());
    for _ in 0..2 {
        let verdict = closed.check("ada").await;
        assert!(
            matches!(verdict, Verdict::Unavailable(Unavailable::StoreDown)),
            "{verdict:?}"
        );
        // As far as this process has quota left, and without a standing.
        let verdict = open.check("ada").await;
        assert!(matches!(verdict, Verdict::Admitted(None)), "{verdict:?}");
        assert!(at_primary.check("ada").await.is_admitted());
    }
    for limiter in [&at_primary, &open] {
        assert!(matches!(limiter.check("ada").await, Verdict::Refused(_)));
    }
}

/// Of several policies the one with the least left is reported, in whatever order they were written.
#[tokio::test]
async fn the_tightest_policy_is_reported() {
    let server = RedisServer::start();
    let store = store(&server).await;
    let wide = || Quota::per_hour(100).fail_closed().name("wide");
    let tight = || Quota::per_hour(3).fail_closed().name("tight");
    let (one, other) = (
        Limiter::new(store.clone(), wide()),
        Limiter::new(store, tight()),
    );
    for limiter in [one.and(tight()), other.and(wide())] {
        let key = unique();
        for remaining in [2, 1, 0] {
            let Verdict::Admitted(Some(standing)) = limiter.check(&*key).await else {
                panic!("three are admitted");
            };
            assert_eq!(standing.remaining(), remaining);
        }
        assert!(matches!(limiter.check(&*key).await, Verdict::Refused(_)));
    }
}

/// The units of time in a quota, on a real server: what is left of a day is not what is left of an hour.
#[tokio::test]
async fn each_unit_of_time_of_a_quota_has_its_length() {
    let server = RedisServer::start();
    let store = store(&server).await;
    for (quota, seconds) in [
        (Quota::per_second(1), 1),
        (Quota::per_minute(1), 60),
        (Quota::per_hour(1), 3_600),
        (Quota::per_day(1), 86_400),
        (Quota::per_year(1), 31_536_000),
        ("1/day".parse().unwrap(), 86_400),
    ] {
        let limiter = Limiter::new(store.clone(), quota.fail_closed().name(&unique()));
        assert!(matches!(limiter.check("ada").await, Verdict::Admitted(_)));
        let Verdict::Refused(refused) = limiter.check("ada").await else {
            panic!("{quota}: one was admitted already");
        };
        let wait = refused.retry_after();
        let window = Duration::from_secs(seconds);
        assert!(wait <= window && wait + SLACK > window, "{quota}: {wait:?}");
    }
}

/// The time that a busy machine may take between two checks.
const SLACK: Duration = Duration::from_millis(900);

/// Two limiters stand for two processes: each lets its own pass in order, and both together keep the rate.
#[tokio::test]
async fn those_who_wait_keep_the_rate_over_all_instances_and_their_order_in_each() {
    let server = RedisServer::start();
    let quota = Quota::per_second(50).burst(1).fail_closed();
    let order = Arc::new(Mutex::new(Vec::new()));
    let start = Instant::now();
    let mut tasks = Vec::new();
    for instance in 0..2 {
        let limiter = Limiter::new(store(&server).await, quota.clone());
        for number in 0..15 {
            let (limiter, order) = (limiter.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                let deadline = start + Duration::from_secs(30);
                limiter.until_ready("ada", deadline).await.unwrap();
                order.lock().unwrap().push((instance, number));
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    // The first passes at once, and then one each 20 ms.
    assert!(start.elapsed() >= Duration::from_millis(29 * 20));
    let order = order.lock().unwrap();
    for instance in 0..2 {
        let own = order.iter().filter(|(other, _)| *other == instance);
        let numbers: Vec<_> = own.map(|(_, number)| *number).collect();
        assert_eq!(numbers, (0..15).collect::<Vec<_>>());
    }
}

/// An outage does what the policy says, and at once: nobody waits for a store that is gone.
#[tokio::test]
async fn who_waits_does_not_wait_for_a_store_that_is_gone() {
    let server = RedisServer::start();
    let store = store(&server).await;
    let closed = Limiter::new(store.clone(), Quota::per_hour(9).fail_closed());
    let open = Limiter::new(store, Quota::per_hour(9).fail_open().name("open"));
    let soon = || Instant::now() + Duration::from_secs(20);
    assert!(closed.until_ready("ada", soon()).await.is_ok());
    drop(server);
    let start = Instant::now();
    assert!(matches!(
        closed.until_ready("ada", soon()).await,
        Err(ThrottleError::Unavailable(_))
    ));
    assert!(open.until_ready("ada", soon()).await.is_ok());
    assert!(start.elapsed() < Duration::from_secs(2));
}

/// A trial beside the policy of its name: neither sees the other's count, and no response tells of it.
#[tokio::test]
async fn a_shadow_has_keys_of_its_own_and_refuses_nothing() {
    let server = RedisServer::start();
    let real = || Quota::per_hour(5).by(header("x-api-key")).fail_closed();
    let trial = || Quota::per_hour(2).by(header("x-api-key")).fail_closed();
    let layer = RateLimitLayer::new(store(&server).await, real().name("api"));
    let on_trial = layer.clone().and(trial().name("api").shadow());
    for left in (0..5).rev() {
        let passed = answer(&on_trial, "ada").await;
        assert_eq!(passed.status(), StatusCode::OK);
        let told = passed.headers()["ratelimit"].to_str().unwrap();
        let expected = format!("\"api\";r={left};t=");
        assert!(told.starts_with(&expected), "{told}");
    }
    assert_eq!(ask(&on_trial, "ada").await, StatusCode::TOO_MANY_REQUESTS);
    // What nobody waits for is on its way.
    let mut keys: Vec<String> = Vec::new();
    while keys.len() < 2 {
        keys = server.command(&["KEYS", "*"]);
    }
    keys.sort();
    assert_eq!(keys, ["{ada}:limit:api", "{ada}:limit:api/shadow"]);
    let () = server.command(&["DEL", "{ada}:limit:api"]);
    on_trial.handle().reset("ada").await.unwrap();
    assert_eq!(ask(&layer, "ada").await, StatusCode::OK);
    let keys: Vec<String> = server.command(&["KEYS", "*"]);
    assert_eq!(keys, ["{ada}:limit:api"], "switched off, it leaves nothing");
}

/// Of attempts at once no more run than may be charged, and those that succeed are charged nothing in the end.
#[tokio::test]
async fn a_charge_by_the_response_is_given_back_once() {
    let server = RedisServer::start();
    let login = Quota::per_hour(20).by(header("x-api-key")).fail_closed();
    let login = login.charge_on(|response| response.status == StatusCode::UNAUTHORIZED);
    let layer = RateLimitLayer::new(store(&server).await, login);
    let attempt = |status: StatusCode| {
        let answer = service_fn(move |_: Request<Body>| async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let response = Response::builder().status(status).body(Body::new());
            Ok::<_, Infallible>(response.unwrap())
        });
        let mut request = Request::new(Body::new());
        let fields = request.headers_mut();
        fields.insert("x-api-key", "ada".parse().unwrap());
        tokio::spawn(layer.layer(answer).oneshot(request))
    };
    let limiter = layer.handle();
    let remaining = async || limiter.peek("ada").await.unwrap()[0].remaining();
    let at_once: Vec<_> = (0..60).map(|_| attempt(StatusCode::OK)).collect();
    let mut passed = 0;
    for attempt in at_once {
        passed += u32::from(attempt.await.unwrap().unwrap().status() == StatusCode::OK);
    }
    assert_eq!(passed, 20);
    // The refunds are on their way, on the same connection, before this.
    assert_eq!(remaining().await, 20);
    for failures in 1..=20 {
        let denied = attempt(StatusCode::UNAUTHORIZED).await.unwrap().unwrap();
        assert_eq!(denied.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(remaining().await, 20 - failures);
    }
    let refused = attempt(StatusCode::OK).await.unwrap().unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
}

/// 60 requests and 100,000 tokens in one check; what costs nothing is looked at and leaves no key.
#[tokio::test]
async fn each_policy_has_a_cost_of_its_own_in_one_command() {
    let server = RedisServer::start();
    let by_key = |quota: Quota| quota.by(header("x-api-key"));
    let requests = by_key(Quota::per_hour(60)).name("requests").fail_closed();
    let tokens = by_key(Quota::per_hour(100_000))
        .name("tokens")
        .fail_closed();
    let tokens = tokens.cost(|head| match head.headers["x-api-key"].as_bytes() {
        b"free" => 0,
        b"vast" => 100_001,
        _ => 40_000,
    });
    let layer = RateLimitLayer::new(store(&server).await, requests).and(tokens);
    assert_eq!(ask(&layer, "first").await, StatusCode::OK);
    let mut monitor = server.monitor();
    assert_eq!(ask(&layer, "ada").await, StatusCode::OK);
    assert_eq!(ask(&layer, "ada").await, StatusCode::OK);
    let refused = answer(&layer, "ada").await;
    let Some(RateLimitRefusal::QuotaExceeded(exceeded)) = refused.extensions().get() else {
        panic!("{refused:?}");
    };
    assert!(exceeded.violated().eq(["tokens"]));
    let vast = answer(&layer, "vast").await;
    assert_eq!(vast.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(!vast.headers().contains_key("retry-after"));
    assert_eq!(ask(&layer, "free").await, StatusCode::OK);
    let names = monitor.names(&server);
    let commands = names.iter().filter(|name| *name == "evalsha").count();
    // The ledger refused the third, and the vast one needs no look.
    assert_eq!(commands, 3, "{names:?}");
    let standings = layer.handle().peek("ada").await.unwrap();
    assert_eq!(standings[0].remaining(), 58);
    let keys: Vec<String> = server.command(&["KEYS", "{free}:*"]);
    assert_eq!(keys, ["{free}:limit:requests"]);
}

/// Another process sees a penalty with its next command.
#[tokio::test]
async fn a_penalty_is_taken_for_all_processes_and_once() {
    let server = RedisServer::start();
    let limiter = async || {
        let hourly = Quota::per_hour(1_000).fail_closed();
        let log = Quota::exact(50, Duration::from_secs(3_600)).fail_closed();
        Limiter::new(store(&server).await, hourly).and(log)
    };
    let (one, other) = (limiter().await, limiter().await);
    let penalties: Vec<_> = (0..40)
        .map(|at| {
            let limiter = if at % 2 == 0 { &one } else { &other }.clone();
            tokio::spawn(async move { limiter.penalize("ada", 10).await.map(drop) })
        })
        .collect();
    for penalty in penalties {
        penalty.await.unwrap().unwrap();
    }
    let standings = one.peek("ada").await.unwrap();
    let left: Vec<_> = standings.iter().map(Standing::remaining).collect();
    assert_eq!(left, [600, 0]);
    assert!(!other.check("ada").await.is_admitted());
    assert!(other.check("bob").await.is_admitted());
}
