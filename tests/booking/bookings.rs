use std::{fs, path::PathBuf};

use http::Request;
use serde_json::json;
use tests::{Client, RedisServer, Service};

use crate::wish::{Wish, bookings, delete, json_of, location_of, title};

#[tokio::test]
async fn a_booking_happens_once_however_often_it_is_sent() {
    let service = Service::start("booking", &FLAGS);
    let mut client = service.connect().await;
    let wish = Wish::new(7, "2026-12-01", "2026-12-05");
    let first = wish.send(&mut client).await;
    assert_eq!(first.status(), 201);
    let location = location_of(&first);
    let again = wish.send(&mut client).await;
    assert_eq!(
        (again.status(), again.body()),
        (first.status(), first.body())
    );
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(again.headers()["location"], location);
    assert_eq!(client.get(location).await.body(), first.body());
    assert_eq!(bookings(&mut client, 7).await, [json_of(&first)]);

    let mut longer = wish.clone();
    longer.to = "2026-12-06".into();
    assert_eq!(longer.send(&mut client).await.status(), 422);
    // Another user's key is another key, and the days are taken.
    let mut other = wish.clone();
    other.user = "grace".into();
    let other = other.send(&mut client).await;
    assert_eq!(
        (other.status().as_u16(), &*title(&other)),
        (409, "Already booked")
    );
}

#[tokio::test]
async fn a_repetition_at_another_process_finds_the_first_response() {
    let (redis, file) = (RedisServer::start(), DbFile::new());
    let url = redis.url();
    let flags = [&FLAGS[..], &["--store", &url, "--db", file.path()]].concat();
    let services: Vec<_> = (0..2).map(|_| Service::start("booking", &flags)).collect();
    let wish = Wish::new(7, "2026-12-01", "2026-12-05");
    let first = wish.send(&mut services[0].connect().await).await;
    assert_eq!(first.status(), 201);
    // Another port, and then another name of the service.
    let mut client = services[1].connect().await;
    for host in [None, Some("booking.example")] {
        if let Some(host) = host {
            client.set_host(host);
        }
        let again = wish.send(&mut client).await;
        assert_eq!(
            (again.status(), again.body()),
            (first.status(), first.body())
        );
        assert_eq!(again.headers()["idempotency-replayed"], "true");
    }
}

#[tokio::test]
async fn a_day_is_booked_once_until_it_is_cancelled() {
    let service = Service::start("booking", &FLAGS);
    let mut client = service.connect().await;
    let first = Wish::new(7, "2026-12-01", "2026-12-05")
        .send(&mut client)
        .await;
    let location = location_of(&first);
    let refused = Wish::new(7, "2026-12-05", "2026-12-09");
    assert_eq!(title(&refused.send(&mut client).await), "Already booked");
    for (car, from, to) in [
        (7, "2026-12-06", "2026-12-09"),
        (8, "2026-12-01", "2026-12-05"),
    ] {
        let free = Wish::new(car, from, to).send(&mut client).await;
        assert_eq!(free.status(), 201, "{car} {from}");
    }
    assert_eq!(delete(&mut client, location).await, 204);
    assert_eq!(delete(&mut client, location).await, 404);
    assert_eq!(client.get(location).await.status(), 404);
    // A refusal is not kept under its key: the same wish may come true later.
    let mut shorter = refused.clone();
    shorter.to = "2026-12-05".into();
    shorter.key = tests::unique();
    assert_eq!(shorter.send(&mut client).await.status(), 201);
    assert_eq!(bookings(&mut client, 7).await.len(), 2);
}

#[tokio::test]
async fn a_refused_wish_may_come_true_later_under_its_key() {
    let service = Service::start("booking", &FLAGS);
    let mut client = service.connect().await;
    let first = Wish::new(7, "2026-12-01", "2026-12-05")
        .send(&mut client)
        .await;
    let wish = Wish::new(7, "2026-12-05", "2026-12-09");
    assert_eq!(wish.send(&mut client).await.status(), 409);
    let location = location_of(&first);
    assert_eq!(delete(&mut client, location).await, 204);
    assert_eq!(wish.send(&mut client).await.status(), 201);
}

#[tokio::test]
async fn a_wrong_wish_is_told_what_to_write() {
    let service = Service::start("booking", &FLAGS);
    let mut client = service.connect().await;
    for (from, to, hint) in [
        ("2026-12-05", "2026-12-01", "first day and then the last"),
        ("2026-12-01", "2027-01-30", "at most 60 days"),
        ("2026-02-30", "2026-03-01", "2026-12-01"),
    ] {
        let refused = Wish::new(7, from, to).send(&mut client).await;
        let detail = json_of(&refused)["detail"].to_string();
        assert_eq!(refused.status(), 400, "{from} {to}");
        assert!(detail.contains(hint), "{detail}");
    }
    let longest = Wish::new(7, "2026-12-01", "2027-01-29");
    assert_eq!(longest.send(&mut client).await.status(), 201);
    let unknown = Wish::new(77, "2026-12-01", "2026-12-05");
    assert_eq!(unknown.send(&mut client).await.status(), 404);
    let mut request = Wish::new(8, "2026-12-01", "2026-12-05").request();
    request.headers_mut().remove("idempotency-key");
    let keyless = client.send(request).await;
    assert_eq!(keyless.status(), 400);
    assert!(title(&keyless).contains("Idempotency-Key"));
}

#[tokio::test]
async fn a_page_is_cached_until_any_process_changes_what_it_shows() {
    let (redis, file) = (RedisServer::start(), DbFile::new());
    let url = redis.url();
    let flags = [&FLAGS[..], &["--store", &url, "--db", file.path()]].concat();
    let (one, other) = (
        Service::start("booking", &flags),
        Service::start("booking", &flags),
    );
    let (mut one, mut other) = (one.connect().await, other.connect().await);
    for page in ["/cars", "/cars/7", "/cars/7/bookings", "/cars/8/bookings"] {
        let first = one.get(page).await;
        assert_eq!(first.status(), 200);
        await_stored(&mut other, page).await;
        assert_eq!(other.get(page).await.body(), first.body());
    }
    let wish = Wish::new(7, "2026-12-01", "2026-12-05");
    assert_eq!(wish.send(&mut one).await.status(), 201);
    assert_eq!(bookings(&mut other, 7).await.len(), 1);
    assert!(
        is_hit(&other.get("/cars/8/bookings").await),
        "of another car"
    );
    assert_eq!(delete(&mut one, "/bookings/1").await, 204);
    assert_eq!(bookings(&mut other, 7).await.len(), 0);

    let request = Request::put("/cars/7").header("content-type", "application/json");
    let request = request.body(json!({"price_per_day": 9_000}).to_string());
    let changed = one.send(request.unwrap()).await;
    assert_eq!(json_of(&changed)["price_per_day"], 9_000);
    assert_eq!(json_of(&other.get("/cars/7").await), json_of(&changed));
    assert_eq!(json_of(&other.get("/cars").await)[6], json_of(&changed));

    let cache = &json_of(&other.get("/healthz").await)["cache"];
    assert_eq!(
        (&cache["status"], &cache["provider"]),
        (&json!("up"), &json!("redis"))
    );
    assert_eq!(cache["circuit_breaker"]["state"], "closed");
    let number = |name: &str| cache[name].as_f64().unwrap();
    assert!(number("hits") >= 5.0 && number("misses") >= 2.0, "{cache}");
    let rate = number("hits") / (number("hits") + number("misses"));
    assert!((number("hit_rate") - rate).abs() < 1e-9, "{cache}");
}

#[tokio::test]
async fn without_its_store_it_shows_cars_and_books_none() {
    let flags = [&FLAGS[..], &["--store", "redis://127.0.0.1:1"]].concat();
    let service = Service::start("booking", &flags);
    let mut client = service.connect().await;
    assert_eq!(client.get("/cars/7").await.status(), 200);
    let wish = Wish::new(7, "2026-12-01", "2026-12-05");
    assert_eq!(wish.send(&mut client).await.status(), 503);
    let request = Request::put("/cars/7").header("content-type", "application/json");
    let request = request.body(json!({"price_per_day": 1}).to_string());
    assert_eq!(client.send(request.unwrap()).await.status(), 503);
    assert_eq!(bookings(&mut client, 7).await.len(), 0);
    assert_ne!(json_of(&client.get("/cars/7").await)["price_per_day"], 1);
}

#[tokio::test]
async fn fences_rise_over_a_restart_that_forgets_all_locks() {
    let file = DbFile::new();
    let flags = [&FLAGS[..], &["--db", file.path()]].concat();
    let mut fences = Vec::new();
    for _ in 0..3 {
        let service = Service::start("booking", &flags);
        fences.push(book_and_cancel(&mut service.connect().await).await);
        assert!(service.stop().success());
    }
    assert!(
        fences.is_sorted_by(|earlier, later| earlier < later),
        "{fences:?}"
    );
}

#[tokio::test]
async fn fences_rise_over_a_redis_that_is_emptied() {
    let redis = RedisServer::start();
    let service = Service::start(
        "booking",
        &[&FLAGS[..], &["--store", &redis.url()]].concat(),
    );
    let mut client = service.connect().await;
    let mut fences = Vec::new();
    for _ in 0..3 {
        fences.push(book_and_cancel(&mut client).await);
        let () = redis.command(&["FLUSHALL"]);
    }
    assert!(
        fences.is_sorted_by(|earlier, later| earlier < later),
        "{fences:?}"
    );
}

#[tokio::test]
async fn bookings_outlast_the_process_where_a_file_is_named() {
    let file = DbFile::new();
    let flags = [&FLAGS[..], &["--db", file.path()]].concat();
    let service = Service::start("booking", &flags);
    let wish = Wish::new(7, "2026-12-01", "2026-12-05");
    let booked = wish.send(&mut service.connect().await).await;
    assert!(service.stop().success());
    let service = Service::start("booking", &flags);
    assert_eq!(
        bookings(&mut service.connect().await, 7).await,
        [json_of(&booked)]
    );

    let flags = [&FLAGS[..], &["--db", "/nowhere/at/all.db"]].concat();
    let output = Service::run("booking", &flags);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("--db") && !said.contains("panicked"),
        "{said}"
    );
}

/// Its fencing token.
async fn book_and_cancel(client: &mut Client) -> u64 {
    let booked = Wish::new(7, "2026-12-01", "2026-12-05").send(client).await;
    assert_eq!(booked.status(), 201);
    let location = location_of(&booked);
    assert_eq!(delete(client, location).await, 204);
    json_of(&booked)["fence"]
        .as_u64()
        .expect("a fence is a number")
}

/// A response is stored after its client has it.
async fn await_stored(client: &mut Client, page: &str) {
    for _ in 0..100 {
        if is_hit(&client.get(page).await) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{page} is never cached");
}

fn is_hit(response: &http::Response<bytes::Bytes>) -> bool {
    let status = &response.headers()["cache-status"];
    status.as_bytes().starts_with(b"cache; hit")
}

/// The file of a database, removed when this value is dropped.
pub(crate) struct DbFile(PathBuf);

impl DbFile {
    pub(crate) fn new() -> Self {
        let name = format!("booking-{}.db", tests::unique());
        Self(std::env::temp_dir().join(name))
    }

    pub(crate) fn path(&self) -> &str {
        self.0
            .to_str()
            .expect("the folder for temporary files has a name in UTF-8")
    }
}

impl Drop for DbFile {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm"] {
            let mut name = self.0.clone().into_os_string();
            name.push(suffix);
            let _ = fs::remove_file(name);
        }
    }
}

/// A service on a free port, whose limit is no matter.
pub(crate) const FLAGS: [&str; 4] = ["--listen", "127.0.0.1:0", "--limit", "1000000/s"];
