//! `connect`, against servers that are there, are gone, and refuse.

use super::*;

#[tokio::test]
async fn connect_tells_an_outage_from_a_refusal() {
    let refused = Server::start(|_| {
        "-WRONGPASS invalid username-password pair or user is disabled.\r\n".into()
    })
    .await;
    let url = refused.address.replace("redis://", "redis://:hunter2@");
    let patient = crate::Options::new().deadline(Duration::from_secs(2));
    let error = crate::connect_with(&url, patient.clone())
        .await
        .unwrap_err();
    let message = error.report().to_string();
    assert!(
        message.contains("WRONGPASS") && !message.contains("hunter2"),
        "{message}"
    );

    // It answers with a web page: no Redis.
    let other = Server::start(|_| "HTTP/1.1 400 Bad Request\r\n\r\n".into()).await;
    let error = crate::connect_with(&other.address, patient.clone()).await;
    assert!(error.is_err());

    let hanging = Server::start(|_| String::new()).await;
    let loading =
        Server::start(|_| "-LOADING Redis is loading the dataset in memory\r\n".into()).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone_address = format!("redis://{}", gone.local_addr().unwrap());
    drop(gone);
    let hasty = crate::Options::new().connect_timeout(Duration::from_millis(100));
    for url in [&hanging.address, &loading.address, &gone_address] {
        let start = Instant::now();
        let store = crate::connect_with(url, hasty.clone()).await.unwrap();
        assert!(start.elapsed() < Duration::from_millis(500), "{url}");
        let breaker = store.info().health.breaker.unwrap();
        assert_eq!(breaker.state(), crate::BreakerState::Open);
        assert!(store.call_now(&Op::Ping, &CX).is_some());
    }

    let sound = Server::start(sound).await;
    let options = patient.prefix("shop");
    let store = crate::connect_with(&sound.address, options).await.unwrap();
    let space = KeySpace::new("data", "s");
    store
        .get(&CX, &Key::new(&space, IdentityRef::Int(1)))
        .await
        .unwrap();
    assert_eq!(sound.seen(), ["GET shop:{int:1}:data:s"]);
    let info = store.info();
    assert_eq!(info.call_limit, Some(Duration::from_secs(2)));
    assert!(info.shared && info.health.last_latency.is_some());
}

#[tokio::test]
async fn a_far_server_has_more_time_to_connect_than_for_a_call() {
    let server = Server::slow(sound, Duration::from_millis(60)).await;
    let store = crate::connect(&server.address).await.unwrap();
    let breaker = store.info().health.breaker.unwrap();
    assert_eq!(breaker.state(), crate::BreakerState::Closed);
}

#[tokio::test]
async fn a_refused_connection_is_at_the_end_of_the_sources() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", gone.local_addr().unwrap());
    drop(gone);
    let error = get(&RedisStore::new(&url).unwrap()).await.unwrap_err();
    assert_eq!(what(&error), NOT_SENT);
    let mut last: &(dyn std::error::Error + 'static) = &error;
    while let Some(source) = last.source() {
        last = source;
    }
    let io = last.downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(io.kind(), std::io::ErrorKind::ConnectionRefused);
}
