//! One handler call for one key, even if a client leaves or a handler fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cache_layer::{CacheLayer, store::SharedStore};
use futures_util::{FutureExt, future::join_all};
use http::Request;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, oneshot};
use tower::ServiceExt;

use super::{FRESH, Handler, Site, eventually, frames, request, response};

/// A handler that waits for a permit, and answers with the number of its call.
fn gated(gate: &Arc<Semaphore>) -> Handler {
    Handler::gated(gate, |_| true, |_, n| response(&[FRESH], n.to_string()))
}

pub async fn the_first_byte_does_not_wait_for_the_last(store: SharedStore) {
    let (last, withheld) = oneshot::channel::<()>();
    let withheld = Arc::new(std::sync::Mutex::new(Some(withheld)));
    let handler = Handler::new(move |_, _| {
        let withheld = withheld.lock().unwrap().take().unwrap();
        async move {
            let (sender, body) = frames();
            sender.send(Ok(Frame::data("first".into()))).unwrap();
            tokio::spawn(async move {
                withheld.await.unwrap();
                sender.send(Ok(Frame::data(" last".into()))).unwrap();
            });
            response(&[FRESH], "").map(|_| body)
        }
    });
    let site = Site::new(&store, handler);
    let mut answer = site
        .service
        .clone()
        .oneshot(request("/", &[]))
        .await
        .unwrap();
    let first = answer.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "first");
    last.send(()).unwrap();
    assert_eq!(
        answer.into_body().collect().await.unwrap().to_bytes(),
        " last"
    );
    eventually("it is stored", || site.cache.stats().stored == 1).await;
    assert_eq!(site.get("/").await.body, "first last");
}

pub async fn two_hundred_requests_make_one_call(store: SharedStore) {
    let gate = Arc::new(Semaphore::new(0));
    let site = Site::new(&store, gated(&gate));
    let requests = join_all((0..200).map(|_| site.get("/")));
    let release = async {
        eventually("the handler runs", || site.calls() == 1).await;
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(1);
    };
    let (replies, ()) = tokio::join!(requests, release);
    assert!(replies.iter().all(|reply| reply.body == "1"));
    assert_eq!(site.calls(), 1);
    let stats = site.cache.stats();
    assert_eq!((stats.misses, stats.collapsed + stats.hits), (1, 199));
    let collapsed = replies
        .iter()
        .filter(|r| r.cache_status().contains("fwd=uri-miss; collapsed"))
        .count();
    assert_eq!(collapsed as u64, stats.collapsed);
}

pub async fn a_leader_that_leaves_costs_no_call(store: SharedStore) {
    let gate = Arc::new(Semaphore::new(0));
    let site = Site::new(&store, gated(&gate));
    let mut leader = Box::pin(site.get("/"));
    eventually("it leads", || {
        let _ = leader.as_mut().now_or_never();
        site.calls() == 1
    })
    .await;
    let others = join_all((0..199).map(|_| site.get("/")));
    let leave = async {
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        drop(leader);
        gate.add_permits(1);
    };
    let (replies, ()) = tokio::join!(others, leave);
    assert!(replies.iter().all(|reply| reply.body == "1"));
    assert_eq!(site.calls(), 1);
}

pub async fn clients_that_all_leave_leave_a_stored_page(store: SharedStore) {
    let gate = Arc::new(Semaphore::new(0));
    let site = Site::new(&store, gated(&gate));
    let mut clients: Vec<_> = (0..10).map(|_| Box::pin(site.get("/"))).collect();
    eventually("the handler runs", || {
        for client in &mut clients {
            let _ = client.as_mut().now_or_never();
        }
        site.calls() == 1
    })
    .await;
    drop(clients);
    gate.add_permits(1);
    eventually("it is stored", || site.cache.stats().stored == 1).await;
    assert!(site.get("/").await.is_hit());
    assert_eq!(site.calls(), 1);
}

pub async fn a_layer_may_drop_the_call_with_its_last_client(store: SharedStore) {
    let gate = Arc::new(Semaphore::new(0));
    let layer = CacheLayer::new(store).fills_outlive_clients(false);
    let site = Site::with(layer, gated(&gate));
    let mut leader = Box::pin(site.get("/"));
    let mut follower = Box::pin(site.get("/"));
    eventually("the handler runs", || {
        let _ = leader.as_mut().now_or_never();
        let _ = follower.as_mut().now_or_never();
        site.calls() == 1
    })
    .await;
    for _ in 0..1_000 {
        let _ = follower.as_mut().now_or_never();
        tokio::task::yield_now().await;
    }
    drop(leader);
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(Arc::strong_count(&gate), 3, "one still waits");
    drop(follower);
    eventually("the call is dropped", || Arc::strong_count(&gate) == 2).await;
    let next = async {
        eventually("the next one calls", || site.calls() == 2).await;
        gate.add_permits(1);
    };
    let (reply, ()) = tokio::join!(site.get("/"), next);
    assert_eq!(reply.body, "2");
}

pub async fn a_client_that_reads_nothing_holds_up_nobody(store: SharedStore) {
    const FRAME: usize = 16 << 10;
    let handler = Handler::new(|_, _| async move {
        let (sender, body) = frames();
        tokio::spawn(async move {
            for _ in 0..20 {
                let frame = Frame::data(vec![b'x'; FRAME].into());
                let _ = sender.send(Ok(frame));
                tokio::task::yield_now().await;
            }
        });
        response(&[FRESH], "").map(|_| body)
    });
    let site = Site::new(&store, handler);
    let ask = || site.service.clone().oneshot(request("/", &[]));
    let unread = ask().await.unwrap();
    let replies = join_all((0..50).map(|_| site.get("/"))).await;
    assert!(replies.iter().all(|reply| reply.body.len() == 20 * FRAME));
    eventually("it is stored", || site.cache.stats().stored == 1).await;
    assert!(site.get("/").await.is_hit());
    assert_eq!(site.calls(), 1);
    // And it is all there when the client reads at last.
    let body = unread.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body.len(), 20 * FRAME);
}

pub async fn a_handler_that_fails_hangs_nobody(store: SharedStore) {
    let handler = Handler::new(|_, n| async move {
        tokio::task::yield_now().await;
        let mut answer = response(&[], n.to_string());
        *answer.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        answer
    });
    let site = Site::new(&store, handler);
    let replies = join_all((0..20).map(|_| site.get("/"))).await;
    assert!(replies.iter().all(|reply| reply.status == 500));
    assert_eq!(site.calls(), 20, "a failure is nobody else's");
}

pub async fn a_handler_that_panics_hangs_nobody(store: SharedStore) {
    let gate = Arc::new(Semaphore::new(0));
    let handler = Handler::gated(
        &gate,
        |_| true,
        |_, n| {
            assert!(n > 1, "on purpose");
            response(&[FRESH], n.to_string())
        },
    );
    let site = Site::new(&store, handler);
    let leading = site.clone();
    let leader = tokio::spawn(async move { leading.get("/").await.body });
    eventually("it leads", || site.calls() == 1).await;
    let others = join_all((0..20).map(|_| site.get("/")));
    let release = async {
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(2);
    };
    let (replies, ()) = tokio::join!(others, release);
    assert!(leader.await.unwrap_err().is_panic());
    assert!(replies.iter().all(|reply| reply.body == "2"));
    assert_eq!(site.calls(), 2);
}

pub async fn variants_at_once_make_one_call_each(store: SharedStore) {
    let handler = Handler::new(|request: Request<String>, _| async move {
        tokio::task::yield_now().await;
        let language = request.headers()["accept-language"]
            .to_str()
            .unwrap()
            .to_owned();
        response(&[FRESH, ("vary", "accept-language")], language)
    });
    let site = Site::new(&store, handler);
    let languages = ["de", "en", "fr"];
    let replies = (0..60).map(|i| {
        let (site, language) = (site.clone(), languages[i % 3]);
        async move {
            (
                site.get_with("/", &[("accept-language", language)])
                    .await
                    .body,
                language,
            )
        }
    });
    for (body, language) in join_all(replies).await {
        assert_eq!(body, language);
    }
    assert_eq!(site.calls(), 3);
}

pub async fn two_hundred_loads_make_one(store: SharedStore) {
    let site = Site::new(&store, Handler::text(&[], |_, _| String::new()));
    let loads = AtomicUsize::new(0);
    let load = || async {
        loads.fetch_add(1, SeqCst);
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        Ok::<_, ()>("object".into())
    };
    let minute = Duration::from_secs(60);
    let objects = site.cache.objects();
    let calls = (0..200).map(|_| objects.get_or_insert_with("user:7", minute, &["users"], load));
    let objects = join_all(calls).await;
    assert!(
        objects
            .iter()
            .all(|object| object.as_ref().unwrap() == "object")
    );
    assert_eq!(loads.load(SeqCst), 1);
}

pub async fn a_load_that_fails_is_not_kept(store: SharedStore) {
    let site = Site::new(&store, Handler::text(&[], |_, _| String::new()));
    let minute = Duration::from_secs(60);
    let failed = site
        .cache
        .objects()
        .get_or_insert_with("a", minute, &[], || async { Err("no") })
        .await;
    assert_eq!(failed, Err("no"));
    let object = site
        .cache
        .objects()
        .get_or_insert_with("a", minute, &[], || async { Ok::<_, &str>("yes".into()) })
        .await;
    assert_eq!(object.unwrap(), "yes");
    // One with more tags than are allowed is loaded each time.
    let tags = ["t"; 17];
    for object in ["1", "2"] {
        let load = || async { Ok::<_, ()>(object.into()) };
        assert_eq!(
            site.cache
                .objects()
                .get_or_insert_with("b", minute, &tags, load)
                .await
                .unwrap(),
            object
        );
    }
}
