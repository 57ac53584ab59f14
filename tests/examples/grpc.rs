//! The examples that serve gRPC, with the client that each of them has.

use bytes::Bytes;
use tests::{
    Service,
    grpc::{EchoClient, channel},
};
use tonic::Code;

use crate::ANY_PORT;

/// Runs the client of an example, and returns what it prints.
fn run(example: &str, args: &[&str]) -> Vec<String> {
    let output = Service::run(example, args);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("it prints text");
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn rate_limit_tonic_refuses_and_its_client_waits() {
    let service = Service::start("rate-limit-tonic", &[ANY_PORT]);
    let url = format!("http://{}", service.address());
    let lines = run("rate-limit-tonic", &["call", &url]);
    // Three pass at once. How long each of the other two waits depends on the machine.
    let expected: Vec<_> = (1..=3)
        .map(|call| format!("call {call} passed after 0 waits"))
        .collect();
    assert_eq!(lines[..3], expected);
    assert_eq!(lines.len(), 5);
    assert!(lines[3].starts_with("call 4 passed after"), "{lines:?}");
    assert!(service.stop().success());
}

#[tokio::test]
async fn tonic_all_caches_replays_and_limits_http_and_grpc_together() {
    let service = Service::start("tonic-all", &[ANY_PORT]);
    let url = format!("http://{}", service.address());
    let show = || run("tonic-all", &["show", &url, "7"]).remove(0);
    assert!(show().contains("cache: cache; fwd=uri-miss; stored"));
    assert!(show().contains("cache: cache; hit; ttl="));

    let book = |day: &str| run("tonic-all", &["book", &url, "7", day, "key-1"]).remove(0);
    let first = book("mon");
    let replay = book("mon");
    assert!(
        first.starts_with("car 7 is booked on mon, fence "),
        "{first}"
    );
    assert!(first.contains("replayed: false") && replay.contains("replayed: true"));
    let text = |line: &str| line.split(" (").next().unwrap().to_owned();
    assert_eq!(text(&replay), text(&first));
    assert!(book("tue").starts_with("FailedPrecondition: another request was sent with this key"));

    // More than the ten that pass at once. The service has no such method, and the limit is around all of it.
    let mut http = service.connect().await;
    let mut grpc = EchoClient::new(channel(service.address()).await);
    let mut refused = [false, false];
    for _ in 0..1_000 {
        refused[0] |= http.get("/cars/7").await.status() == 429;
        let call = grpc.unary(Bytes::new()).await.unwrap_err();
        refused[1] |= call.code() == Code::ResourceExhausted;
        if refused == [true, true] {
            break;
        }
    }
    assert_eq!(refused, [true, true]);
    drop((http, grpc));
    assert!(service.stop().success());
}
