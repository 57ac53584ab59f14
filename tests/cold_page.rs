//! Several processes and one cold page. It has the machine for itself: a process that is held up may call once more.

#[path = "cache/origin.rs"]
mod origin;

use std::sync::atomic::Ordering::SeqCst;

use futures_util::future::join_all;
use origin::origin;
use tests::{RedisServer, Service};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_make_one_call_for_a_cold_page() {
    let server = RedisServer::start();
    let (origin, asked) = origin().await;
    let (url, store) = (format!("http://{origin}"), server.url());
    let args = [
        "--listen",
        "127.0.0.1:0",
        "--origin",
        &url,
        "--store",
        &store,
        // Where a busy machine takes longer to say who has the lease, each process calls for itself.
        "--deadline",
        "10s",
    ];
    let proxies = [(); 3].map(|()| Service::start("reverse-proxy", &args));
    let requests = (0..200).map(|i| {
        let proxy = &proxies[i % 3];
        async move {
            let mut client = proxy.connect().await;
            client.set_host("example.com");
            client.get("/slow").await
        }
    });
    for reply in join_all(requests).await {
        assert_eq!(reply.body(), "slow");
    }
    assert_eq!(asked.load(SeqCst), 1);
    for proxy in proxies {
        assert!(proxy.stop().success());
    }
}
