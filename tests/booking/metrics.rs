use std::time::Duration;

use tests::{RedisServer, Service, outage::now};

/// The scrape of Prometheus: the operations, a refusal, and the state of the breaker, during an outage too.
#[tokio::test]
async fn metrics_show_operations_refusals_and_the_breaker() {
    let redis = RedisServer::start();
    let url = redis.url();
    let flags = ["--listen", "127.0.0.1:0", "--limit", "3/h", "--store", &url];
    let service = Service::start("booking", &flags);
    let mut client = service.connect().await;
    for expected in [200, 200, 200, 429] {
        assert_eq!(client.get("/cars").await.status(), expected);
    }
    let text = scrape(&service).await;
    for line in [
        r#"store_operations_total{store="main",backend="redis",source="ratelimit",operation="run",outcome="ok"} 3"#,
        r#"store_breaker_state{store="main",backend="redis"} 0"#,
        r#"store_connections{store="main",backend="redis"} 1"#,
        r#"rate_limit_decisions_total{policy="3/h",outcome="refused_by_ledger"} 1"#,
        r#"cache_requests_total{cache="cache",result="hit",reason="fresh"} 2"#,
        "# TYPE store_operation_duration_seconds histogram",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains("127.0.0.1"), "an identity: {text}");

    drop(redis);
    let open = r#"store_breaker_state{store="main",backend="redis"} 2"#;
    let until = now() + Duration::from_secs(10);
    let text = loop {
        // The client is over its limit, and for a second that is believed without a command.
        client.get("/cars").await;
        let text = scrape(&service).await;
        if text.lines().any(|line| line == open) {
            break text;
        }
        assert!(now() < until, "{text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(text.contains(r#"outcome="unavailable"}"#), "{text}");
    assert!(service.stop().success());
}

/// It is not limited, as the service would be blind when it matters.
async fn scrape(service: &Service) -> String {
    let response = service.connect().await.get("/metrics").await;
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.headers()["content-type"],
        "text/plain; version=0.0.4"
    );
    String::from_utf8(response.body().to_vec()).expect("it is text")
}
