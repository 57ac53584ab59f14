//! The examples as a user starts them: their responses, how they stop, and their messages for wrong settings.

#[path = "examples/grpc.rs"]
mod grpc;
#[path = "examples/layers.rs"]
mod layers;

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tests::Service;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn booking_lists_its_cars_and_counts_its_clients() {
    let service = Service::start("booking", &["--listen", ANY_PORT, "--limit", "3/h"]);
    let mut client = service.connect().await;
    let cars = client.get("/cars").await;
    assert_eq!(cars.status(), 200);
    assert_eq!(cars.headers()["ratelimit-policy"], "\"3/h\";q=3;w=3600");
    assert_eq!(json_of(&cars)[6]["id"], 7);
    let car = client.get("/cars/7").await;
    assert_eq!(json_of(&car), json_of(&cars)[6]);
    let unknown = client.get("/cars/%37x").await;
    assert_eq!(unknown.status(), 404);
    assert_eq!(
        unknown.headers()["content-type"],
        "application/problem+json"
    );
    assert_eq!(client.get("/cars").await.status(), 429);
    // Whoever watches the service is not counted.
    for _ in 0..5 {
        let health = client.get("/healthz").await;
        assert_eq!(health.status(), 200);
        assert_eq!(json_of(&health)["store"]["provider"], "memory");
        assert_eq!(json_of(&health)["store"]["status"], "up");
        assert!(json_of(&health)["store"]["latency_ms"].is_number());
    }
    drop(client);
    assert!(service.stop().success());
}

#[tokio::test]
async fn booking_bursts_as_it_is_told() {
    let flags = ["--listen", ANY_PORT, "--limit", "100/day", "--burst", "2"];
    let service = Service::start("booking", &flags);
    let mut client = service.connect().await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(client.get("/cars").await.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 429]);
}

#[tokio::test]
async fn booking_sends_twenty_messages_an_hour_to_a_number_however_it_is_written() {
    let service = Service::start("booking", &["--listen", ANY_PORT]);
    let mut client = service.connect().await;
    let message = |to: &str| json!({"to": to, "text": "Your car is ready"});
    for sent in 0..20 {
        let to = ["+442079460000", "+44 20 7946 0000"][sent % 2];
        let accepted = client.post("/sms", message(to)).await;
        assert_eq!(accepted.status(), 202, "message {sent}");
        assert_eq!(json_of(&accepted)["to"], "+442079460000");
    }
    let refused = client.post("/sms", message("+44-20-7946-0000")).await;
    assert_eq!(refused.status(), 429);
    // The next one passes once the first is an hour old, and not 3 minutes later.
    let wait: u64 = refused.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((3_500..=3_600).contains(&wait), "{wait}");
    assert_eq!(json_of(&refused)["violated-policies"], json!(["sms"]));
    let other = client.post("/sms", message("+442079460001")).await;
    assert_eq!(other.status(), 202);
}

#[tokio::test]
async fn booking_sends_no_message_that_it_cannot_count() {
    let flags = [
        "--listen",
        ANY_PORT,
        "--store",
        NOBODYS_URL,
        "--on-store-error",
        "open",
    ];
    let service = Service::start("booking", &flags);
    let mut client = service.connect().await;
    assert_eq!(client.get("/cars").await.status(), 200);
    let message = json!({"to": "+442079460000", "text": "Your car is ready"});
    assert_eq!(client.post("/sms", message).await.status(), 503);
    let health = client.get("/healthz").await;
    assert_eq!(health.status(), 200);
    assert_eq!(json_of(&health)["store"]["status"], "down");
    assert_eq!(
        json_of(&health)["store"]["circuit_breaker"]["state"],
        "open"
    );
}

#[tokio::test]
async fn booking_says_what_to_send_instead() {
    let service = Service::start("booking", &["--listen", ANY_PORT]);
    let mut client = service.connect().await;
    for (body, hint) in [
        (json!({"to": "020 7946 0000", "text": "x"}), "country code"),
        (json!({"to": "+442079460000", "text": ""}), "1 to 1600"),
        (json!({"to": 44, "text": "x"}), r#"{"to": "+442079460000""#),
        (json!({"text": "x"}), "`to`"),
        (Value::Null, r#"{"to": "+442079460000""#),
    ] {
        let refused = client.post("/sms", &body).await;
        assert_eq!(refused.status(), 400, "{body}");
        let content_type = &refused.headers()["content-type"];
        assert_eq!(content_type, "application/problem+json", "{body}");
        let detail = json_of(&refused)["detail"].to_string().replace('\\', "");
        assert!(detail.contains(hint), "{body}: {detail}");
    }
}

#[tokio::test]
async fn booking_answers_what_has_begun_before_it_stops() {
    let mut service = Service::start("booking", &["--listen", ANY_PORT]);
    let body = r#"{"to": "+442079460000", "text": "Your car is ready"}"#;
    let (first, second) = body.split_at(10);
    let mut stream = TcpStream::connect(service.address()).await.unwrap();
    let head = format!(
        "POST /sms HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{first}",
        body.len(),
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The answer to a later request shows that the server has read the beginning of this one.
    assert_eq!(service.connect().await.get("/cars").await.status(), 200);
    service.terminate();
    refuses_connections(service.address()).await;

    stream.write_all(second.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    assert!(service.wait().success());
}

#[tokio::test]
async fn booking_does_not_wait_for_ever_for_a_client_that_stopped_halfway() {
    let mut service = Service::start("booking", &["--listen", ANY_PORT]);
    let mut stream = TcpStream::connect(service.address()).await.unwrap();
    let half = "POST /sms HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(half.as_bytes()).await.unwrap();
    assert_eq!(service.connect().await.get("/").await.status(), 200);
    service.terminate();
    assert!(service.wait().success());
    let log = service.log().concat();
    assert!(
        log.contains("requests that have not been answered"),
        "{log}"
    );
}

#[test]
fn booking_names_a_wrong_setting_in_one_line() {
    let taken = std::net::TcpListener::bind(ANY_PORT).unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (flags, hint) in [
        (&["--listen", &taken][..], "such as 127.0.0.1:0"),
        (&["--store", "mysql://db"], "`redis://host:6379`"),
        (&["--limit", "0/s"], "write at least 1"),
        (&["--limit", "5/fortnight"], "write one such as 100/min"),
        (&["--burst", "0"], "write at least 1"),
        (&["--on-store-error", "ajar"], "open, closed"),
    ] {
        let output = Service::run("booking", flags);
        let said = String::from_utf8(output.stderr).unwrap();
        let code = output.status.code();
        assert!(matches!(code, Some(1 | 2)), "{flags:?}: {code:?}");
        let errors: Vec<_> = said.lines().filter(|line| line.contains("error")).collect();
        assert_eq!(errors.len(), 1, "{flags:?}: {said}");
        assert!(said.contains(hint), "{flags:?}: {said}");
        assert!(!said.contains("panicked"), "{flags:?}: {said}");
    }
}

async fn refuses_connections(address: SocketAddr) {
    for _ in 0..1_000 {
        if TcpStream::connect(address).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("a service that stops still takes connections");
}

fn json_of(response: &http::Response<bytes::Bytes>) -> Value {
    serde_json::from_slice(response.body()).expect("the service speaks JSON")
}

const ANY_PORT: &str = "127.0.0.1:0";
/// Nobody listens on port 1.
const NOBODYS_URL: &str = "redis://127.0.0.1:1";
