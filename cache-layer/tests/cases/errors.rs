//! Errors that are shared for a while.

use std::{sync::Arc, time::Duration};

use cache_layer::{
    CacheLayer,
    store::{Clock, SharedStore},
};
use futures_util::future::join_all;
use http::StatusCode;
use tokio::sync::Semaphore;

use super::{Handler, Site, eventually, response};

const NOW: u64 = 1_800_000_000_000_000;
const SECOND: Duration = Duration::from_secs(1);

/// Fails with this status when it is told to.
fn failing(status: u16, gate: &Arc<Semaphore>) -> Handler {
    Handler::gated(
        gate,
        |_| true,
        move |_, n| {
            let mut answer = response(&[], n.to_string());
            *answer.status_mut() = StatusCode::from_u16(status).unwrap();
            answer
        },
    )
}

pub async fn a_hundred_requests_for_a_page_that_fails_make_one_call(store: SharedStore) {
    for status in [500, 503, 404, 410] {
        let gate = Arc::new(Semaphore::new(0));
        let (clock, hand) = Clock::manual(NOW);
        let layer = CacheLayer::new(store.clone()).clock(clock);
        let layer = layer.name(&status.to_string()).share_errors(SECOND);
        let site = Site::with(layer, failing(status, &gate));
        let release = async {
            eventually("one is in the handler", || site.calls() == 1).await;
            gate.add_permits(1);
        };
        let (replies, ()) = tokio::join!(join_all((0..100).map(|_| site.get("/"))), release);
        for reply in replies {
            assert_eq!((reply.status.as_u16(), &*reply.body), (status, "1"));
        }
        assert_eq!(site.calls(), 1, "{status}");
        hand.advance(SECOND - Duration::from_millis(1));
        assert!(site.get("/").await.is_hit());
        hand.advance(Duration::from_millis(1));
        gate.add_permits(1);
        assert_eq!(site.get("/").await.body, "2");
    }
}

pub async fn errors_are_not_shared_unless_the_route_says_so(store: SharedStore) {
    for status in [500, 404] {
        let gate = Arc::new(Semaphore::new(5));
        let layer = CacheLayer::new(store.clone()).ttl(SECOND);
        let site = Site::with(layer, failing(status, &gate));
        join_all((0..5).map(|_| site.get("/"))).await;
        assert_eq!(site.calls(), 5, "{status}");
    }
}

pub async fn an_error_does_not_take_the_place_of_a_page_that_is_of_use(store: SharedStore) {
    let (clock, hand) = Clock::manual(NOW);
    let handler = Handler::new(|_, n| async move {
        let mut answer = response(&[], n.to_string());
        if n > 1 {
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        answer
    });
    let layer = CacheLayer::new(store).clock(clock).ttl(SECOND);
    let layer = layer
        .stale_while_revalidate(60 * SECOND)
        .share_errors(SECOND);
    let site = Site::with(layer, handler);
    assert_eq!(site.get("/").await.body, "1");
    // A client that wants a new response does not spoil the page for others.
    let failed = site.get_with("/", &[("cache-control", "no-cache")]).await;
    assert_eq!(failed.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(failed.cache_status(), "cache; fwd=request; detail=status");
    assert!(site.get("/").await.is_hit());
    hand.advance(2 * SECOND);
    // It is refreshed behind some of these, in vain.
    while site.calls() < 6 {
        assert_eq!(site.get("/").await.body, "1");
        tokio::task::yield_now().await;
    }
}
