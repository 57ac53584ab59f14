//! The reach of purges.

use std::{sync::Arc, time::Duration};

use cache_layer::{
    Invalidation, PurgeError, Tags,
    store::{Context, Identity, Key, KeySpace, Op, Reply, SharedStore, Store, Ttl},
};
use futures_util::FutureExt;
use http::{Request, StatusCode};
use tokio::sync::Semaphore;

use super::{FRESH, Handler, Site, eventually, gate::Gate, response};

pub async fn a_purge_during_the_fill_is_seen(store: SharedStore) {
    let gate = Arc::new(Semaphore::new(0));
    let handler = Handler::gated(&gate, |n| n == 1, |_, n| response(&[FRESH], n.to_string()));
    let site = Site::new(&store, handler);
    let purge = async {
        eventually("the handler runs", || site.calls() == 1).await;
        site.cache.purge_path("/cars/*").await.unwrap();
        gate.add_permits(1);
    };
    let (reply, ()) = tokio::join!(site.get("/cars/7"), purge);
    assert_eq!(reply.body, "1");
    assert_eq!(site.get("/cars/7").await.body, "2");
    assert_eq!(site.get("/cars/7").await.body, "2");
}

pub async fn a_purge_of_another_instance_is_seen(store: SharedStore) {
    let handler = Handler::text(&[FRESH], |_, n| n.to_string());
    let (here, there) = (
        Site::new(&store, handler.clone()),
        Site::new(&store, handler),
    );
    here.get("/").await;
    assert!(there.get("/").await.is_hit());
    there.cache.purge_path("/").await.unwrap();
    assert_eq!(here.get("/").await.body, "2");
}

pub async fn patterns_reach_what_they_say(store: SharedStore) {
    let pages = [
        "/",
        "/cars",
        "/cars/7",
        "/cars/7?a=1",
        "/cars/7/photos",
        "/cars/70",
        "/carsharing",
        "/vans/7",
    ];
    for (pattern, gone) in [
        ("/cars/7", &["/cars/7", "/cars/7?a=1"][..]),
        (
            "/cars/*",
            &["/cars/7", "/cars/7?a=1", "/cars/7/photos", "/cars/70"],
        ),
        ("/cars/7/*", &["/cars/7/photos"]),
        ("/cars", &["/cars"]),
        ("/", &["/"]),
        (
            "/cars/*/photos",
            &["/cars/7", "/cars/7?a=1", "/cars/7/photos", "/cars/70"],
        ),
        (
            "/cars/7*",
            &["/cars/7", "/cars/7?a=1", "/cars/7/photos", "/cars/70"],
        ),
        (
            "/cars/[7-8]",
            &["/cars/7", "/cars/7?a=1", "/cars/7/photos", "/cars/70"],
        ),
        ("/car*", &pages),
        ("*", &pages),
        ("/vans/8", &[]),
    ] {
        let site = Site::new(&store, Handler::text(&[FRESH], |_, _| String::new()));
        for host in ["a", "b"] {
            for page in pages {
                site.get_with(page, &[("host", host)]).await;
            }
        }
        site.cache.purge_path(pattern).await.unwrap();
        for host in ["a", "b"] {
            for page in pages {
                let hit = site.get_with(page, &[("host", host)]).await.is_hit();
                assert_eq!(hit, !gone.contains(&page), "{pattern} {page}");
            }
        }
    }
    let site = Site::new(&store, Handler::text(&[FRESH], |_, _| String::new()));
    let error = site.cache.purge_path("/cars?a=1").await.unwrap_err();
    assert!(matches!(error, PurgeError::Pattern(_)));
}

pub async fn an_escaped_path_is_purged_as_the_plain_one(store: SharedStore) {
    let site = Site::new(&store, Handler::text(&[FRESH], |_, n| n.to_string()));
    for (page, pattern) in [
        ("/cars/7", "/cars/%37"),
        ("/cars/%37", "/cars/7"),
        ("/c%61rs/%37", "/cars/*"),
    ] {
        site.get(page).await;
        assert!(site.get(page).await.is_hit());
        site.cache.purge_path(pattern).await.unwrap();
        assert!(!site.get(page).await.is_hit(), "{page} {pattern}");
    }
}

pub async fn tags_reach_what_they_are_on(store: SharedStore) {
    let handler = Handler::new(|request: Request<String>, n| async move {
        let mut answer = response(&[FRESH], n.to_string());
        let tags = request.uri().query().unwrap_or_default().split('&');
        answer.extensions_mut().insert(Tags::new(tags));
        answer
    });
    let sites = [
        Site::new(&store, handler.clone()),
        Site::new(&store, handler),
    ];
    for round in 0..2 {
        for page in ["/?a", "/?a&b", "/?c"] {
            sites[0].get(page).await;
            assert!(sites[round].get(page).await.is_hit());
            assert!(sites[1].get(page).await.is_hit());
        }
        sites[round].cache.purge_tag("a").await.unwrap();
        for site in &sites {
            assert!(site.get("/?c").await.is_hit());
        }
        assert!(!sites[1].get("/?a").await.is_hit());
        assert!(!sites[0].get("/?a&b").await.is_hit());
        sites[0].cache.purge_tag("b").await.unwrap();
        assert!(sites[0].get("/?a").await.is_hit());
        assert!(!sites[1].get("/?a&b").await.is_hit());
    }
    let many = format!(
        "/?{}",
        (0..65).map(|i| i.to_string()).collect::<Vec<_>>().join("&")
    );
    assert_eq!(
        sites[0].get(&many).await.cache_status(),
        "cache; fwd=uri-miss; detail=tags"
    );
}

pub async fn objects_are_purged_by_key_and_tag(store: SharedStore) {
    let site = Site::new(&store, Handler::text(&[], |_, _| String::new()));
    let minute = Duration::from_secs(60);
    let value = std::cell::Cell::new(0);
    let load = |key: &'static str, tags: &'static [&'static str]| {
        value.set(value.get() + 1);
        let loaded = value.get().to_string();
        let cache = site.cache.clone();
        async move {
            let load = || async move { Ok::<_, ()>(loaded.into()) };
            let before = cache.stats();
            let objects = cache.objects();
            let object = objects.get_or_insert_with(key, minute, tags, load).await;
            let object = object.unwrap();
            if cache.stats().misses > before.misses {
                eventually("it is stored", || cache.stats().stored > before.stored).await;
            }
            cache.stats().hits > before.hits && !object.is_empty()
        }
    };
    for (purge, gone) in [
        ("user:7", &["user:7"][..]),
        ("user:*", &["user:7", "user:7:profile"]),
        ("user:*:profile", &["user:7", "user:7:profile"]),
        ("us*", &["user", "user:7", "user:7:profile"]),
        ("*:7", &["user", "user:7", "user:7:profile"]),
    ] {
        for key in ["user", "user:7", "user:7:profile"] {
            load(key, &["t"]).await;
        }
        site.cache.purge_key(purge).await.unwrap();
        for key in ["user", "user:7", "user:7:profile"] {
            assert_eq!(
                load(key, &["t"]).await,
                !gone.contains(&key),
                "{purge} {key}"
            );
        }
    }
    site.cache.purge_tag("t").await.unwrap();
    assert!(!load("user", &["t"]).await);
    assert!(load("user", &["t"]).await);
    assert!(
        !load("user", &["t", "u"]).await,
        "an entry without a wanted tag is not served"
    );
}

pub async fn a_dropped_purge_happens(store: SharedStore) {
    let gate = Gate::new(&store);
    let site = Site::new(&gate.store(), Handler::text(&[FRESH], |_, n| n.to_string()));
    site.get("/").await;
    assert!(site.get("/").await.is_hit());
    gate.close();
    drop(site.cache.purge_path("/"));
    let mut purge = Box::pin(site.cache.purge_path("/none"));
    assert!(purge.as_mut().now_or_never().is_none());
    drop(purge);
    gate.next("delete_many").await.pass().await;
    gate.next("delete_many").await.pass().await;
    gate.open();
    assert_eq!(site.get("/").await.body, "2");
}

pub async fn a_client_that_leaves_an_unsafe_request_purges_its_path(store: SharedStore) {
    let handler = Handler::new(|request: Request<String>, n| async move {
        if request.method() == "PUT" {
            std::future::pending::<()>().await;
        }
        response(&[FRESH], n.to_string())
    });
    let site = Site::new(&store, handler);
    site.get("/cars/7").await;
    let mut put = Box::pin(site.send(Request::put("/cars/7").body(String::new()).unwrap()));
    eventually("the handler runs", || {
        let _ = put.as_mut().now_or_never();
        site.calls() == 2
    })
    .await;
    assert!(site.get("/cars/7").await.is_hit());
    drop(put);
    let mut gone = false;
    for _ in 0..1_000 {
        gone = gone || !site.get("/cars/7").await.is_hit();
        tokio::task::yield_now().await;
    }
    assert!(gone);
}

pub async fn invalidations_of_the_handler_are_applied_before_the_answer(store: SharedStore) {
    let handler = Handler::new(|request: Request<String>, n| async move {
        let mut answer = response(&[FRESH], n.to_string());
        if request.method() == "POST" {
            answer.extensions_mut().insert(
                Invalidation::path("/cars/*")
                    .and_path("/cars")
                    .and_key("car:7"),
            );
        }
        answer
    });
    let site = Site::new(&store, handler);
    let minute = Duration::from_secs(60);
    let pages = ["/cars", "/cars/7"];
    for page in pages {
        site.get(page).await;
    }
    let objects = site.cache.objects();
    let load = |text: &'static str| {
        let load = move || async move { Ok::<_, ()>(text.into()) };
        objects.get_or_insert_with("car:7", minute, &[], load)
    };
    load("old").await.unwrap();
    site.send(Request::post("/bookings").body(String::new()).unwrap())
        .await;
    for page in pages {
        assert!(!site.get(page).await.is_hit());
    }
    assert_eq!(load("new").await.unwrap(), "new");
}

pub async fn a_handler_that_fails_invalidates_nothing(store: SharedStore) {
    let handler = Handler::new(|request: Request<String>, n| async move {
        let mut answer = response(&[FRESH], n.to_string());
        if request.method() == "POST" {
            *answer.status_mut() = StatusCode::CONFLICT;
            answer
                .extensions_mut()
                .insert(Invalidation::path("/cars/*"));
        }
        answer
    });
    let site = Site::new(&store, handler);
    site.get("/cars/7").await;
    site.send(Request::post("/bookings").body(String::new()).unwrap())
        .await;
    assert!(site.get("/cars/7").await.is_hit());
}

pub async fn stamps_live_on_with_their_entries(store: SharedStore) {
    let site = Site::new(&store, Handler::text(&[FRESH], |_, n| n.to_string()));
    site.get("/cars/7").await;
    // A stamp that lives longer than two days already is not moved; the planted minute would be.
    let cx = Context::new("test");
    let just_below = Ttl::from_millis(2 * 24 * 60 * 60 * 1_000 - 60_000).unwrap();
    for (name, text) in [("pages", ""), ("pages", "/cars"), ("page", "/cars/7")] {
        let space = KeySpace::new("stamp", name);
        let subject = Identity::from(text);
        let key = Key::new(&space, subject.as_ref());
        let touch = Op::Touch {
            key: &key,
            ttl: just_below,
            only_longer: true,
        };
        let reply = match store.call_now(&touch, &cx) {
            Some(reply) => reply,
            None => store.call(&touch, &cx).await,
        };
        assert!(matches!(reply, Ok(Reply::Count(0))), "{name} {text}");
    }
    assert!(site.get("/cars/7").await.is_hit(), "they are still there");
}
