use http::StatusCode;
use tests::{RedisServer, Service};
use tokio::task::JoinSet;

#[tokio::test]
async fn of_640_requests_at_once_exactly_100_pass() {
    let service = Service::start("booking", &["--listen", "127.0.0.1:0", "--limit", "100/h"]);
    assert_eq!(storm(&[&service]).await, 100);
    assert!(service.stop().success());
}

#[tokio::test]
async fn of_640_requests_at_two_processes_on_one_redis_exactly_100_pass() {
    let redis = RedisServer::start();
    let url = redis.url();
    let flags = [
        "--listen",
        "127.0.0.1:0",
        "--limit",
        "100/h",
        "--store",
        &url,
        // A call that a busy machine did not answer in time would be admitted uncounted.
        "--deadline",
        "10s",
    ];
    let (one, other) = (
        Service::start("booking", &flags),
        Service::start("booking", &flags),
    );
    // Their first checks load the script.
    for service in [&one, &other] {
        assert_eq!(service.connect().await.get("/").await.status(), 200);
    }
    let mut monitor = redis.monitor();
    assert_eq!(storm(&[&one, &other]).await, 98);
    let commands = monitor.names(&redis);
    // Each process soon knows that nothing is left: the rest is refused without a command.
    assert!(
        (98..=200).contains(&commands.len()),
        "one command for each that passed, and for those under way meanwhile: {}",
        commands.len()
    );
    assert!(
        commands.iter().all(|name| name == "evalsha"),
        "{commands:?}"
    );
    let clients = redis.clients();
    assert_eq!(clients.len(), 2, "one connection a process: {clients:#?}");
    assert!(one.stop().success());
    assert!(other.stop().success());
}

/// Sends 640 requests, each on a connection of its own, distributed over `services`. Returns the number that were admitted.
async fn storm(services: &[&Service]) -> usize {
    let mut clients = Vec::new();
    for at in 0..640 {
        clients.push(services[at % services.len()].connect().await);
    }
    let mut requests = JoinSet::new();
    for mut client in clients {
        requests.spawn(async move { client.get("/").await });
    }
    let responses = requests.join_all().await;
    for refused in responses.iter().filter(|response| response.status() != 200) {
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        let headers = refused.headers();
        assert_eq!(headers["ratelimit-policy"], "\"100/h\";q=100;w=3600");
        let wait = headers["retry-after"].to_str().expect("it is a number");
        let seconds: u64 = wait.parse().expect("it is a number");
        assert!((1..=36).contains(&seconds), "{wait}");
        assert_eq!(headers["ratelimit"], format!("\"100/h\";r=0;t={wait}"));
    }
    let passed = responses.iter().filter(|response| response.status() == 200);
    passed.count()
}
