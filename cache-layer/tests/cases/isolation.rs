//! No client gets the response of another: hosts, cookies, credentials, addresses.

use std::{sync::Arc, time::Duration};

use cache_layer::store::{Context, Identity, Key, KeySpace, SharedStore, StoreExt, Ttl, Value};
use futures_util::future::join_all;
use http::Request;
use tokio::sync::Semaphore;

use super::{FRESH, Handler, Site, eventually, response};

pub async fn hosts_do_not_share_an_entry(store: SharedStore) {
    let site = Site::new(&store, Handler::text(&[FRESH], |request, _| host(request)));
    for (host, calls) in [
        ("a.example", 1),
        ("b.example", 2),
        ("A.example", 2),
        ("a.example:80", 3),
        ("a.example:81", 4),
    ] {
        let reply = site.get_with("/", &[("host", host)]).await;
        assert_eq!(reply.body.to_lowercase(), host.to_lowercase());
        assert_eq!(site.calls(), calls, "{host}");
    }
}

fn host(request: &Request<String>) -> String {
    request.headers()["host"].to_str().unwrap().to_owned()
}

pub async fn a_response_with_a_cookie_is_never_stored(store: SharedStore) {
    let site = Site::new(
        &store,
        Handler::text(&[FRESH, ("set-cookie", "id=1")], |_, n| n.to_string()),
    );
    let reply = site.get("/").await;
    assert_eq!(
        reply.cache_status(),
        "cache; fwd=uri-miss; detail=set-cookie"
    );
    assert_eq!(site.get("/").await.body, "2");
    assert_eq!(reply.headers["set-cookie"], "id=1");
}

pub async fn callers_at_once_each_get_their_own_cookie(store: SharedStore) {
    let site = Site::new(
        &store,
        Handler::new(|_, n| async move {
            tokio::task::yield_now().await;
            response(&[FRESH, ("set-cookie", &format!("id={n}"))], "")
        }),
    );
    let replies = join_all((0..20).map(|_| site.get("/"))).await;
    let mut cookies: Vec<_> = replies
        .iter()
        .map(|reply| reply.headers["set-cookie"].clone())
        .collect();
    cookies.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    cookies.dedup();
    assert_eq!(cookies.len(), 20);
}

pub async fn credentials_are_not_shared_unless_the_answer_says_so(store: SharedStore) {
    for (path, lines, calls) in [
        ("/plain", &[FRESH][..], 2),
        (
            "/revalidate",
            &[("cache-control", "max-age=60, must-revalidate")],
            2,
        ),
        ("/public", &[("cache-control", "max-age=60, public")], 1),
        ("/shared", &[("cache-control", "s-maxage=60")], 1),
    ] {
        for name in ["authorization", "cookie", "x-api-key"] {
            let path = format!("{path}/{name}");
            let site = Site::new(
                &store,
                Handler::new(move |_, n| async move { response(lines, n.to_string()) }),
            );
            for who in ["ada", "bob"] {
                site.get_with(&path, &[(name, who)]).await;
            }
            assert_eq!(site.calls(), calls, "{path}");
        }
    }
}

pub async fn a_request_with_a_credential_does_not_get_an_entry_of_strangers(store: SharedStore) {
    let site = Site::new(&store, Handler::text(&[FRESH], |_, n| n.to_string()));
    assert_eq!(site.get("/").await.body, "1");
    let reply = site.get_with("/", &[("cookie", "id=1")]).await;
    assert_eq!(
        (reply.body.as_str(), reply.cache_status().as_str()),
        ("2", "cache; fwd=bypass; detail=credentials")
    );
    assert_eq!(site.get_with("/", &[("cookie", "id=1")]).await.body, "3");
    // Nor does it take the entry away from them.
    assert_eq!(site.get("/").await.body, "1");
}

pub async fn file_name_suffixes_do_not_make_a_page_cacheable(store: SharedStore) {
    let site = Site::new(
        &store,
        Handler::text(&[("content-type", "text/css")], |_, n| n.to_string()),
    );
    for path in [
        "/account/x.css",
        "/account;a.css",
        "/account%2f..%2fx.css",
        "/account%00.css",
    ] {
        assert_eq!(
            site.get(path).await.cache_status(),
            "cache; fwd=uri-miss; detail=no-lifetime"
        );
        assert!(!site.get(path).await.is_hit());
    }
    let site = Site::new(
        &store,
        Handler::text(&[FRESH], |request, _| request.uri().path().to_owned()),
    );
    for path in [
        "/account",
        "/account/",
        "/account%2Fx",
        "/account/x",
        "/account;x",
        "/account%3Bx",
    ] {
        assert_eq!(site.get(path).await.body, path);
        assert_eq!(site.get(path).await.body, path);
    }
    assert_eq!(site.calls(), 6);
}

pub async fn addresses_and_variants_do_not_collide(store: SharedStore) {
    let site = Site::new(
        &store,
        Handler::text(&[FRESH, ("vary", "a, b")], |request, _| {
            let said = |name| {
                request
                    .headers()
                    .get(name)
                    .map(|v| v.to_str().unwrap().to_owned())
            };
            format!("{} {:?} {:?}", request.uri(), said("a"), said("b"))
        }),
    );
    let mut asked = Vec::new();
    for path in [
        "/a/b:c", "/a:b/c", "/a%3Ab/c", "/a?b", "/a%3Fb", "/a?b=1&c", "/a?b=1;c",
    ] {
        for (a, b) in [
            ("1", "2;3"),
            ("1;2", "3"),
            ("1|2", "3"),
            ("%3D", "="),
            ("", "1"),
            ("1", ""),
        ] {
            asked.push((path, [("a", a), ("b", b)]));
        }
    }
    for hit in [false, true] {
        for (path, headers) in &asked {
            let reply = site.get_with(path, headers).await;
            let expected = format!("{path} {:?} {:?}", Some(headers[0].1), Some(headers[1].1));
            assert_eq!(
                (
                    reply.body,
                    reply.headers["cache-status"]
                        .to_str()
                        .unwrap()
                        .contains("hit")
                ),
                (expected, hit)
            );
        }
    }
    let objects = [("a", "b:c"), ("a:b", "c")];
    for (key, tag) in objects {
        let load = || async { Ok::<_, ()>(format!("{key} {tag}").into()) };
        let minute = Duration::from_secs(60);
        assert_eq!(
            site.cache
                .objects()
                .get_or_insert_with(key, minute, &[tag], load)
                .await
                .unwrap(),
            format!("{key} {tag}")
        );
    }
}

pub async fn a_request_with_a_malformed_host_is_not_cached(store: SharedStore) {
    let gate = Arc::new(Semaphore::new(0));
    let handler = Handler::gated(&gate, |n| n <= 2, |_, n| response(&[FRESH], n.to_string()));
    let site = Site::new(&store, handler);
    let odd = [("host", "a/b")];
    // Both are in the handler at once: no lock holds one of them.
    let (one, other, ()) =
        tokio::join!(site.get_with("/", &odd), site.get_with("/", &odd), async {
            eventually("both came through", || site.calls() == 2).await;
            gate.add_permits(2);
        });
    assert_ne!(one.body, other.body);
    assert_eq!(one.cache_status(), "cache; fwd=bypass; detail=host");
    assert_eq!(site.get_with("/", &odd).await.body, "3");
}

pub async fn other_peoples_keys_survive_a_purge(store: SharedStore) {
    let cx = Context::new("test");
    let space = KeySpace::new("data", "theirs");
    let cars = Identity::from("/cars");
    let key = Key::new(&space, cars.as_ref());
    store
        .put(
            &cx,
            &key,
            &Value::from("kept"),
            Ttl::from_millis(60_000).unwrap(),
        )
        .await
        .unwrap();
    let site = Site::new(&store, Handler::text(&[FRESH], |_, n| n.to_string()));
    site.get("/cars/7").await;
    for pattern in ["*", "/*", "/cars/*", "/cars"] {
        site.cache.purge_path(pattern).await.unwrap();
    }
    site.cache.purge_key("*").await.unwrap();
    assert_eq!(
        store.get(&cx, &key).await.unwrap(),
        Some(Value::from("kept"))
    );
}
