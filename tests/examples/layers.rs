//! The examples that show one layer, and the two that show all of them.

use http::{HeaderMap, Request, Response};
use tests::{Client, RedisServer, Service};

use crate::{ANY_PORT, NOBODYS_URL};

#[tokio::test]
async fn quickstart_hits_replays_and_refuses_as_the_readme_says() {
    let service = Service::start("quickstart", &[ANY_PORT]);
    let mut client = service.connect().await;
    let miss = client.get("/report").await;
    assert_eq!(
        miss.headers()["cache-status"],
        "cache; fwd=uri-miss; stored"
    );
    let hit = client.get("/report").await;
    assert!(has(hit.headers(), "cache-status", "cache; hit; ttl="));
    assert_eq!(hit.body(), "report 1\n");

    let order = || request("POST", "/orders", &[("idempotency-key", "1")], "");
    assert_eq!(client.send(order()).await.body(), "order 1\n");
    let replay = client.send(order()).await;
    assert_eq!(replay.body(), "order 1\n");
    assert_eq!(replay.headers()["idempotency-replayed"], "true");

    assert_eq!(client.get("/report").await.status(), 200);
    let refused = client.get("/report").await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "6");
}

#[tokio::test]
async fn idempotent_payments_pays_once_at_two_processes_and_stops() {
    let (redis, file) = (RedisServer::start(), tests::unique());
    let path = std::env::temp_dir().join(format!("payments-{file}.db"));
    let path = path.to_str().expect("it is UTF-8");
    let variables = [("REDIS_URL", &*redis.url()), ("PAYMENTS", path)];
    let services: Vec<_> = (0..2)
        .map(|_| Service::start_with("idempotent-payments", &[ANY_PORT], &variables))
        .collect();
    let pay = |key: &str, amount: &str| {
        let headers = [("idempotency-key", key), ("x-user", "ada")];
        request("POST", "/accounts/7/payments", &headers, amount)
    };
    let (mut one, mut other) = (services[0].connect().await, services[1].connect().await);
    let first = one.send(pay("1", "50")).await;
    assert_eq!(
        (first.status().as_u16(), &first.body()[..]),
        (201, &b"balance 50\n"[..])
    );
    let again = other.send(pay("1", "50")).await;
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(other.send(pay("1", "60")).await.status(), 422);
    assert_eq!(other.send(pay("2", "much")).await.status(), 400);
    assert_eq!(other.send(pay("2", "60")).await.body(), "balance 110\n");
    // Redis forgets everything: the database knows the payment by its record.
    let () = redis.command(&["FLUSHALL"]);
    assert_eq!(one.send(pay("1", "50")).await.body(), "balance 110\n");
    assert_eq!(one.get("/accounts/7").await.body(), "balance 110\n");
    drop((one, other));
    for service in services {
        assert!(service.stop().success());
    }
    std::fs::remove_file(path).expect("it was made here");
}

#[tokio::test]
async fn rate_limit_axum_admits_refuses_and_stops() {
    let service = Service::start("rate-limit-axum", &[ANY_PORT]);
    let mut client = service.connect().await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.status(), 200);
    }
    let refused = client.get("/").await;
    assert_eq!(refused.status(), 429);
    for header in ["retry-after", "ratelimit", "ratelimit-policy"] {
        assert!(refused.headers().contains_key(header), "{header}");
    }
    drop(client);
    assert!(service.stop().success());
}

#[tokio::test]
async fn rate_limit_axum_fails_open_and_closed_as_written() {
    let service = Service::start_with(
        "rate-limit-axum",
        &[ANY_PORT],
        &[("REDIS_URL", NOBODYS_URL)],
    );
    let mut client = service.connect().await;
    let closed = client.get("/report").await;
    assert_eq!(closed.status(), 503);
    assert_eq!(closed.headers()["retry-after"], "1");
    // The quota of this process: 20 at once, with the one before.
    for _ in 0..19 {
        assert_eq!(client.get("/").await.status(), 200);
    }
    let mut refused = 0;
    for _ in 0..10 {
        refused += usize::from(client.get("/").await.status() == 429);
    }
    assert!(refused > 0, "it counts what passes without its store");
    drop(client);
    assert!(service.stop().success());
}

#[tokio::test]
async fn cache_axum_forgets_the_list_when_a_price_changes() {
    let service = Service::start("cache-axum", &[ANY_PORT]);
    let mut client = service.connect().await;
    let first = client.get("/cars").await;
    assert_eq!(first.body(), "car 7: 90 a day\n");
    let second = client.get("/cars").await;
    assert!(has(second.headers(), "cache-status", "cache; hit"));
    let mine = request("GET", "/cars", &[("cookie", "id=ada")], "");
    let mine = client.send(mine).await;
    assert!(has(mine.headers(), "cache-status", "cache; fwd=bypass"));

    let changed = client.send(request("PUT", "/cars/7", &[], "95")).await;
    assert_eq!(changed.status(), 200);
    let third = client.get("/cars").await;
    assert_eq!(third.body(), "car 7: 95 a day\n");
    drop(client);
    assert!(service.stop().success());
}

#[tokio::test]
async fn idempotency_axum_pays_once_for_each_user_and_key() {
    let service = Service::start("idempotency-axum", &[ANY_PORT]);
    let mut client = service.connect().await;
    for (user, amount, status, body) in [
        ("ada", "50", 201, Some("payment 1: 50\n")),
        ("ada", "50", 201, Some("payment 1: 50\n")),
        ("ada", "60", 422, None),
        ("bob", "50", 201, Some("payment 2: 50\n")),
    ] {
        let headers = [("idempotency-key", "1"), ("x-user", user)];
        let request = request("POST", "/payments", &headers, amount);
        let response = client.send(request).await;
        assert_eq!(response.status(), status, "{user} {amount}");
        if let Some(body) = body {
            assert_eq!(response.body(), body, "{user} {amount}");
        }
    }
    let without_key = client.post("/payments", "50").await;
    assert_eq!(without_key.status(), 400);
    drop(client);
    assert!(service.stop().success());
}

#[tokio::test]
async fn lock_axum_refuses_the_second_change_of_one_car() {
    let service = Service::start("lock-axum", &[ANY_PORT]);
    let [mut first, mut second, mut other] = [
        service.connect().await,
        service.connect().await,
        service.connect().await,
    ];
    // Each is refused at once, or holds the lock for 2 s: of two at the same time, one is refused.
    let (first, second, other) = tokio::join!(
        change(&mut first, "/cars/7"),
        change(&mut second, "/cars/7"),
        change(&mut other, "/cars/8"),
    );
    let mut statuses = [first.status().as_u16(), second.status().as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    assert_eq!(other.status(), 200);
    assert!(service.stop().success());
}

#[tokio::test]
async fn stack_redis_shares_pages_keys_and_limits_between_two_processes() {
    let redis = RedisServer::start();
    let url = redis.url();
    let variables = [("REDIS_URL", url.as_str())];
    let start = || Service::start_with("stack-redis", &[ANY_PORT], &variables);
    let services = [start(), start()];
    let [mut first, mut second] = [services[0].connect().await, services[1].connect().await];
    // As behind a proxy, the host is the same for both.
    first.set_host("cars.example");
    second.set_host("cars.example");

    assert_eq!(first.get("/cars/7").await.body(), "car 7\n");
    let hit = second.get("/cars/7").await;
    assert!(has(hit.headers(), "cache-status", "cache; hit"));
    assert_eq!(change(&mut second, "/cars/7").await.status(), 200);
    let purged = first.get("/cars/7").await;
    assert!(has(purged.headers(), "cache-status", "cache; fwd=miss"));

    let headers = [("idempotency-key", "1"), ("x-api-key", "ada")];
    let book = || request("POST", "/cars/7/bookings", &headers, "mon");
    let booked = first.send(book()).await;
    assert_eq!(booked.status(), 201);
    assert!(has(booked.headers(), "ratelimit", "\"writes\";r=99"));
    let replay = second.send(book()).await;
    assert_eq!(replay.headers()["idempotency-replayed"], "true");
    assert!(has(replay.headers(), "ratelimit", "\"writes\";r=98"));

    drop(redis);
    assert_eq!(first.get("/cars/7").await.status(), 200);
    assert_eq!(change(&mut first, "/cars/7").await.status(), 503);
    assert_eq!(first.get("/healthz").await.status(), 200);
    drop((first, second));
    for service in services {
        assert!(service.stop().success());
    }
}

#[test]
fn custom_store_counts_its_client() {
    let output = Service::run("custom-store", &[]);
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    let verdicts: Vec<_> = said.lines().map(|line| &line[..5]).collect();
    assert_eq!(verdicts, ["1: Ad", "2: Ad", "3: Re"], "{said}");
}

#[test]
fn custom_store_passes_the_kit_as_one_command() {
    let output = Service::run("custom-store", &["--conformance"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.ends_with(" passed, 0 failed\n"), "{said}");
}

async fn change(client: &mut Client, path: &str) -> Response<bytes::Bytes> {
    client.send(request("PUT", path, &[], "95")).await
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request<String> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request
        .body(body.into())
        .expect("tests write good requests")
}

/// Returns true if the first field of this name begins so.
fn has(headers: &HeaderMap, name: &str, beginning: &str) -> bool {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.starts_with(beginning))
}
