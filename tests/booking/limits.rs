//! The flags of the limits: tiers by API key, a limit on trial, requests charged in advance; and the route that is dear.

use http::{Request, Response};
use tests::{Client, RedisServer, Service};
use tokio::task::JoinSet;

async fn get(client: &mut Client, key: Option<&str>) -> Response<bytes::Bytes> {
    let request = Request::get("/");
    let request = match key {
        Some(key) => request.header("x-api-key", key),
        None => request,
    };
    let request = request.body(String::new());
    client.send(request.expect("it is a request")).await
}

#[tokio::test]
async fn an_api_key_has_the_quota_of_its_tier_and_others_that_of_their_address() {
    let flags = [
        "--listen",
        "127.0.0.1:0",
        "--limit",
        "2/h",
        "--tier",
        "key-of-ada=3/h",
        "--tier",
        "key-of-bob=3/h",
        "--tier",
        "key-of-eve=5/h",
    ];
    let service = Service::start("booking", &flags);
    let mut client = service.connect().await;
    for (key, most, policy) in [
        (Some("key-of-ada"), 3, "tier"),
        (Some("key-of-bob"), 3, "tier"),
        (Some("key-of-eve"), 5, "tier"),
        // A key that nobody was given is no way around the limit of the address.
        (Some("key-of-nobody"), 1, "2/h"),
        (None, 1, "2/h"),
    ] {
        for left in (0..most).rev() {
            let passed = get(&mut client, key).await;
            assert_eq!(passed.status(), 200, "{key:?}");
            let told = passed.headers()["ratelimit"].to_str().expect("it is text");
            if key.is_some_and(|key| key != "key-of-nobody") {
                let expected = format!("\"{policy}\";r={left};");
                assert!(told.starts_with(&expected), "{told}");
            }
            assert_eq!(
                told.matches(";r=").count(),
                1,
                "one limit counts it: {told}"
            );
        }
    }
    for key in [
        Some("key-of-ada"),
        Some("key-of-eve"),
        Some("key-of-nobody"),
        None,
    ] {
        assert_eq!(get(&mut client, key).await.status(), 429, "{key:?}");
    }
    assert!(service.stop().success());
}

#[tokio::test]
async fn a_limit_on_trial_refuses_nothing_and_the_metrics_show_what_it_would() {
    let redis = RedisServer::start();
    let url = redis.url();
    for store in ["memory://", &url] {
        let flags = [
            "--listen",
            "127.0.0.1:0",
            "--store",
            store,
            "--trial",
            "2/h",
        ];
        let service = Service::start("booking", &flags);
        let mut client = service.connect().await;
        for _ in 0..5 {
            let passed = get(&mut client, None).await;
            assert_eq!(passed.status(), 200);
            assert!(!format!("{:?}", passed.headers()).contains("trial"));
        }
        // Over a network nobody waits for it.
        let line = r#"rate_limit_decisions_total{policy="trial",outcome="would_refuse"} 3"#;
        let mut found = false;
        while !found {
            let text = client.get("/metrics").await.into_body();
            found = String::from_utf8_lossy(&text)
                .lines()
                .any(|other| other == line);
        }
        assert!(service.stop().success());
    }
}

#[tokio::test]
async fn requests_charged_in_advance_are_one_command_for_many() {
    let redis = RedisServer::start();
    let url = redis.url();
    let flags = [
        "--listen",
        "127.0.0.1:0",
        "--limit",
        "10000/s",
        "--store",
        &url,
        "--prepaid",
        "50",
    ];
    let service = Service::start("booking", &flags);
    let mut client = service.connect().await;
    assert_eq!(get(&mut client, None).await.status(), 200);
    let mut monitor = redis.monitor();
    for _ in 0..200 {
        assert_eq!(get(&mut client, None).await.status(), 200);
    }
    let commands = monitor.names(&redis).len();
    assert!(commands < 100, "{commands} for 200 requests");
    assert!(service.stop().success());
}

#[tokio::test]
async fn at_most_two_reports_run_at_once_over_two_processes() {
    let redis = RedisServer::start();
    let url = redis.url();
    let flags = [
        "--listen",
        "127.0.0.1:0",
        "--store",
        &url,
        // A call that a busy machine did not answer in time would be admitted uncounted.
        "--deadline",
        "10s",
        "--slow",
        "2s",
    ];
    let services = [(); 2].map(|()| Service::start("booking", &flags));
    let mut reports = JoinSet::new();
    for at in 0..12 {
        let mut client = services[at % 2].connect().await;
        reports.spawn(async move { client.get("/report").await });
    }
    let responses = reports.join_all().await;
    let passed = responses.iter().filter(|response| response.status() == 200);
    assert_eq!(passed.count(), 2);
    for refused in responses.iter().filter(|response| response.status() != 200) {
        assert_eq!(refused.status(), 429);
        assert!(refused.headers().contains_key("retry-after"));
    }
    let mut client = services[1].connect().await;
    assert_eq!(
        client.get("/report").await.status(),
        200,
        "both are free again"
    );
    assert!(services.into_iter().all(|service| service.stop().success()));
}
