//! The ways to a server that a URL and the options name, and the mistakes in them.

use std::time::Duration;

use layer_store::{
    BreakerState, Context, Options, SharedStore, Store, StoreExt, connect, connect_with,
};
use tests::{Certificates, FaultProxy, HelloRefusal, Mode, RedisServer, Resp2Front, TlsFront};

#[tokio::test]
async fn a_server_that_is_far_away_is_connected_to_at_the_start() {
    let server = RedisServer::start();
    let proxy = FaultProxy::before(&server);
    let half = Duration::from_millis(30);
    proxy.set(Mode::Delay {
        requests: half,
        replies: half,
    });
    let store = connect(&server.url_through(&proxy)).await.unwrap();
    assert_eq!(state(&store), BreakerState::Closed);
    store.ping(&CX).await.unwrap();
}

#[tokio::test]
async fn through_tls_too() {
    let server = RedisServer::start();
    let certificates = Certificates::new();
    let front = TlsFront::for_any_client(&server, &certificates);
    let proxy = FaultProxy::start(front.address());
    let half = Duration::from_millis(30);
    proxy.set(Mode::Delay {
        requests: half,
        replies: half,
    });
    let url = format!("rediss://localhost:{}", proxy.address().port());
    let options = Options::new().ca_pem(certificates.ca.clone());
    let store = connect_with(&url, options).await.unwrap();
    assert_eq!(state(&store), BreakerState::Closed);
}

#[tokio::test]
async fn each_proxy_that_knows_no_hello_is_spoken_to_in_resp2() {
    let server = RedisServer::start_with(&["--requirepass", "safe"]);
    for refusal in HelloRefusal::ALL {
        let front = Resp2Front::before(&server, refusal);
        let store = connect(&front.url(&server)).await.unwrap();
        assert_eq!(state(&store), BreakerState::Closed, "{refusal:?}");
        store.ping(&CX).await.unwrap();
    }
}

#[tokio::test]
async fn a_client_certificate_opens_a_server_that_wants_one() {
    let server = RedisServer::start();
    let certificates = Certificates::new();
    let front = TlsFront::before(&server, &certificates);
    let url = front.url(&server);
    let trusting = || Options::new().ca_pem(certificates.ca.clone());
    let options = trusting().client_pem(certificates.client.clone());
    up(connect_with(&url, options).await)
        .ping(&CX)
        .await
        .unwrap();

    let message = failure(connect_with(&url, trusting()).await);
    assert!(message.contains("client_pem"), "{message}");
}

#[tokio::test]
async fn a_unix_socket_leads_to_its_server() {
    let server = RedisServer::start_with(&["--requirepass", "safe"]);
    let () = server.command(&["ACL", "SETUSER", "ada", "on", ">p:/@?", "~*", "+@all"]);
    let url = server.unix_url();
    let path = url.split_once("@").map_or(url.as_str(), |(_, path)| path);
    let path = path.strip_prefix("unix://").unwrap_or(path);
    for url in [
        format!("unix://:safe@{path}?db=3"),
        format!("redis+unix://ada:p%3A%2F%40%3F@{path}?db=3&protocol=2"),
    ] {
        up(connect(&url).await).ping(&CX).await.unwrap();
        let clients = server.clients();
        assert!(
            clients.iter().any(|line| line.contains(" db=3 ")),
            "{clients:?}"
        );
    }
    let message = failure(connect(&format!("unix://{path}")).await);
    assert!(message.contains("NOAUTH"), "{message}");
}

#[tokio::test]
async fn a_database_that_the_server_does_not_have_is_an_error() {
    let server = RedisServer::start();
    for option in ["/99", "?db=99", "?db=99&protocol=2"] {
        let message = failure(connect(&format!("{}{option}", server.url())).await);
        assert!(message.contains("DB index is out of range"), "{message}");
    }
}

#[tokio::test]
async fn tls_and_plain_text_taken_for_each_other_are_errors_that_say_what_to_write() {
    let server = RedisServer::start();
    let tls = server.url().replace("redis://", "rediss://");
    let message = failure(connect(&tls).await);
    assert!(message.contains("write `redis://`"), "{message}");

    let certificates = Certificates::new();
    let front = TlsFront::for_any_client(&server, &certificates);
    let plain = format!("redis://localhost:{}", front.address().port());
    let message = failure(connect(&plain).await);
    assert!(message.contains("write `rediss://`"), "{message}");
}

fn up(connected: Result<SharedStore, layer_store::ConfigError>) -> SharedStore {
    let store = connected.expect("the server runs");
    assert_eq!(state(&store), BreakerState::Closed);
    store
}

fn failure(connected: Result<SharedStore, layer_store::ConfigError>) -> String {
    connected.expect_err("no store").report().to_string()
}

fn state(store: &SharedStore) -> BreakerState {
    let breaker = store.info().health.breaker;
    breaker.expect("a networked store has a breaker").state()
}

const CX: Context = Context::new("test");
