//! What caches are known to do wrong, each with its right.

use std::{sync::Arc, time::Duration};

use cache_layer::{
    CacheLayer,
    store::{Clock, Context, Identity, Key, KeySpace, SharedStore, StoreExt, Ttl, Value},
};
use futures_util::future::join_all;
use http::{HeaderMap, Request, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::{FRESH, Handler, Site, eventually, frames, request, response};

pub async fn hosts_do_not_share_an_entry(store: SharedStore) {
    let site = Site::new(&store, Handler::text(&[FRESH], |request, _| host(request)));
    for (host, calls) in [
        ("a.example", 1),
        ("b.example", 2),
        ("A.example:80", 2),
        ("a.example:81", 3),
    ] {
        let reply = site.get_with("/", &[("host", host)]).await;
        assert_eq!(
            reply.body.to_lowercase().trim_end_matches(":80"),
            host.to_lowercase().trim_end_matches(":80")
        );
        assert_eq!(site.calls(), calls, "{host}");
    }
}

fn host(request: &Request<String>) -> String {
    request.headers()["host"].to_str().unwrap().to_owned()
}

pub async fn a_cookie_is_never_replayed(store: SharedStore) {
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

pub async fn a_credentialed_request_is_not_answered_with_what_is_for_strangers(store: SharedStore) {
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

pub async fn directives_are_read_as_they_are_meant(store: SharedStore) {
    for (i, (lines, calls)) in [
        (&["PRIVATE, max-age=60"][..], 2),
        (&["max-age=60, No-Store"], 2),
        (&["private=\"x\", max-age=60"], 2),
        (&["no-cache=\"set-cookie, x\", max-age=60"], 2),
        (&["max-age=60", "private"], 2),
        (&["max-age=\"60\""], 1),
        (&["MAX-AGE=60"], 1),
        (&["x=\"private, no-store\", max-age=60"], 1),
        (&["max-age=0, max-age=60"], 2),
        (&["max-age=soon"], 2),
    ]
    .into_iter()
    .enumerate()
    {
        let handler = Handler::new(move |_, n| async move {
            let mut answer = response(&[], n.to_string());
            for line in lines {
                answer
                    .headers_mut()
                    .append("cache-control", line.parse().unwrap());
            }
            answer
        });
        let site = Site::with(
            CacheLayer::new(store.clone()).ttl(Duration::from_secs(9)),
            handler,
        );
        let path = format!("/{i}");
        site.get(&path).await;
        site.get(&path).await;
        assert_eq!(site.calls(), calls, "{lines:?}");
    }
}

pub async fn a_suffix_decides_nothing(store: SharedStore) {
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

pub async fn vary_star_is_never_reused(store: SharedStore) {
    for (i, lines) in [&["*"][..], &["* "], &["a, *"], &["a", "*"], &[",*,"]]
        .into_iter()
        .enumerate()
    {
        let handler = Handler::new(move |_, n| async move {
            let mut answer = response(&[FRESH], n.to_string());
            for line in lines {
                answer.headers_mut().append("vary", line.parse().unwrap());
            }
            answer
        });
        let site = Site::new(&store, handler);
        let path = format!("/{i}");
        assert_eq!(site.get(&path).await.body, "1");
        assert_eq!(site.get(&path).await.body, "2");
    }
}

pub async fn vary_on_two_lines_counts_twice(store: SharedStore) {
    let handler = Handler::text(&[FRESH, ("vary", "a"), ("vary", "b")], |_, n| n.to_string());
    let site = Site::new(&store, handler);
    for (a, b, body) in [
        ("1", "1", "1"),
        ("1", "2", "2"),
        ("2", "1", "3"),
        ("1", "2", "2"),
        ("1", "1", "1"),
    ] {
        assert_eq!(site.get_with("/", &[("a", a), ("b", b)]).await.body, body);
    }
}

pub async fn several_variants_are_kept(store: SharedStore) {
    let languages = ["de", "en", "fr", ""];
    let handler = Handler::text(&[FRESH, ("vary", "Accept-Language")], |request, _| {
        request
            .headers()
            .get("accept-language")
            .map_or("none".into(), |l| l.to_str().unwrap().into())
    });
    let sites = [
        Site::new(&store, handler.clone()),
        Site::new(&store, handler),
    ];
    for round in 0..3 {
        for language in languages {
            let reply = sites[round % 2]
                .get_with("/", &[("accept-language", language)])
                .await;
            assert_eq!(reply.body, language);
            assert_eq!(
                reply.is_hit(),
                round > 0,
                "{language} {}",
                reply.cache_status()
            );
        }
    }
    assert_eq!(sites[0].get("/").await.body, "none");
    assert_eq!(sites[0].calls(), 5);
    let reply = sites[0].get_with("/", &[("accept-language", "it")]).await;
    assert!(reply.cache_status().contains("fwd=vary-miss"));
}

pub async fn names_that_come_later_join_the_rule(store: SharedStore) {
    let handler = Handler::new(|request: Request<String>, n| async move {
        let vary = if request.headers().contains_key("b") {
            "a, b"
        } else {
            "a"
        };
        response(&[FRESH, ("vary", vary)], n.to_string())
    });
    let sites = [
        Site::new(&store, handler.clone()),
        Site::new(&store, handler),
    ];
    let first = [("a", "1")];
    let second = [("a", "1"), ("b", "2")];
    assert_eq!(sites[0].get_with("/", &[("a", "2")]).await.body, "1");
    assert_eq!(sites[0].get_with("/", &second[1..]).await.body, "2");
    // The rule has both names now, and both instances hold to it.
    assert_eq!(sites[1].get_with("/", &second).await.body, "3");
    assert_eq!(sites[0].get_with("/", &first).await.body, "4");
    for site in &sites {
        assert_eq!(site.get_with("/", &second).await.body, "3");
        assert_eq!(site.get_with("/", &first).await.body, "4");
        let other = site.get_with("/", &[("a", "1"), ("b", "3")]).await;
        assert!(!["1", "2", "3", "4"].contains(&other.body.as_str()));
    }
}

pub async fn head_and_get_do_not_spoil_each_other(store: SharedStore) {
    let handler = Handler::new(|request: Request<String>, _| async move {
        let text = if request.method() == "HEAD" {
            ""
        } else {
            "whole"
        };
        response(&[FRESH], text)
    });
    let site = Site::new(&store, handler);
    let head = || Request::head("/").body(String::new()).unwrap();
    let reply = site.send(head()).await;
    assert_eq!(reply.cache_status(), "cache; fwd=uri-miss; detail=head");
    assert_eq!(site.get("/").await.body, "whole");
    let reply = site.send(head()).await;
    assert!(reply.is_hit());
    assert_eq!(reply.body, "");
    assert_eq!(reply.headers["content-length"], "5");
    let reply = site.get("/").await;
    assert_eq!((reply.is_hit(), reply.body.as_str()), (true, "whole"));
    assert_eq!(site.calls(), 2);
}

pub async fn a_method_override_passes_by(store: SharedStore) {
    let site = Site::new(&store, Handler::text(&[FRESH], |_, n| n.to_string()));
    assert_eq!(
        site.get_with("/", &[("x-http-method-override", "DELETE")])
            .await
            .body,
        "1"
    );
    assert_eq!(site.get("/").await.body, "2");
    assert_eq!(
        site.get_with("/", &[("x-http-method-override", "DELETE")])
            .await
            .body,
        "3"
    );
    let reply = site.get("/?_method=DELETE").await;
    assert_eq!(
        reply.cache_status(),
        "cache; fwd=bypass; detail=method-override"
    );
    assert!(!site.get("/?_method=DELETE").await.is_hit());
}

pub async fn a_post_is_not_cached(store: SharedStore) {
    let site = Site::new(
        &store,
        Handler::text(&[FRESH], |request, _| request.body().clone()),
    );
    for body in ["one", "two"] {
        let reply = site
            .send(Request::post("/").body(body.into()).unwrap())
            .await;
        assert_eq!(
            (reply.body.as_str(), reply.cache_status().as_str()),
            (body, "cache; fwd=method")
        );
    }
    assert_eq!(site.calls(), 2);
    assert_eq!(site.get("/").await.body, "");
}

pub async fn a_body_that_breaks_off_is_not_stored(store: SharedStore) {
    let handler = Handler::new(|_, n| async move {
        if n > 1 {
            return response(&[FRESH], "whole");
        }
        let (sender, body) = frames();
        for part in ["1", "2", "3"] {
            sender.send(Ok(Frame::data(part.into()))).unwrap();
        }
        sender.send(Err("broken".into())).unwrap();
        response(&[FRESH], "").map(|_| body)
    });
    let site = Site::new(&store, handler);
    let error = site.try_send(request("/", &[])).await.unwrap_err();
    assert_eq!(error.to_string(), "broken");
    assert_eq!(site.get("/").await.body, "whole");
    assert_eq!(site.calls(), 2);
    assert!(site.get("/").await.is_hit());
}

pub async fn a_body_shorter_than_stated_is_not_stored(store: SharedStore) {
    let site = Site::new(
        &store,
        Handler::text(&[FRESH, ("content-length", "100")], |_, _| "x".repeat(60)),
    );
    for calls in 1..=2 {
        let reply = site.try_send(request("/", &[])).await.unwrap();
        assert_eq!(reply.body.len(), 60);
        assert_eq!(site.calls(), calls);
    }
}

pub async fn a_client_that_leaves_midway_leaves_nothing_partial(store: SharedStore) {
    let senders = Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = senders.clone();
    let handler = Handler::new(move |_, n| {
        let (sender, body) = frames();
        sender.send(Ok(Frame::data(n.to_string().into()))).unwrap();
        if n == 1 {
            kept.lock().unwrap().push(sender);
        }
        async move { response(&[FRESH], "").map(|_| body) }
    });
    let site = Site::new(&store, handler);
    let mut answer = site
        .service
        .clone()
        .oneshot(request("/", &[]))
        .await
        .unwrap();
    answer.body_mut().frame().await.unwrap().unwrap();
    drop(answer);
    // Nobody is stuck behind it.
    assert_eq!(site.get("/").await.body, "2");
    assert_eq!(site.get("/").await.body, "2");
}

pub async fn a_part_never_answers_for_the_whole(store: SharedStore) {
    let handler = Handler::new(|request: Request<String>, _| async move {
        let mut answer = response(&[FRESH], "whole");
        if request.headers().contains_key("range") {
            answer = response(&[FRESH, ("content-range", "bytes 0-1/5")], "wh");
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        } else if request.headers().contains_key("if-modified-since") {
            answer = response(&[FRESH], "");
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
        }
        answer
    });
    let site = Site::new(&store, handler);
    let crafted = [("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT")];
    assert_eq!(
        site.get_with("/", &[("range", "bytes=0-1")]).await.body,
        "wh"
    );
    assert_eq!(
        site.get_with("/", &crafted).await.status,
        StatusCode::NOT_MODIFIED
    );
    assert_eq!(site.get("/").await.body, "whole");
    assert!(site.get("/").await.is_hit(), "nothing pinned the key");
    assert_eq!(
        site.get_with("/", &[("range", "bytes=0-1")]).await.status,
        StatusCode::PARTIAL_CONTENT
    );
    assert_eq!(site.get("/").await.body, "whole");
}

pub async fn what_concerns_a_connection_is_not_stored(store: SharedStore) {
    let site = Site::new(
        &store,
        Handler::text(
            &[
                FRESH,
                ("connection", "X-Foo, close"),
                ("x-foo", "1"),
                ("keep-alive", "timeout=5"),
                ("transfer-encoding", "chunked"),
                ("trailer", "x"),
                ("upgrade", "h2c"),
                ("te", "x"),
                ("proxy-connection", "close"),
                ("x-bar", "1"),
            ],
            |_, _| "body".into(),
        ),
    );
    site.get("/").await;
    let reply = site.get("/").await;
    assert!(reply.is_hit());
    let mut names: Vec<_> = reply
        .headers
        .keys()
        .map(|name| name.as_str().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["age", "cache-control", "cache-status", "x-bar"]);
}

pub async fn an_encoded_answer_is_not_given_to_who_cannot_read_it(store: SharedStore) {
    let handler = Handler::new(|request: Request<String>, _| async move {
        match request.headers().get("accept-encoding") {
            Some(accepted) if accepted == "gzip" => {
                response(&[FRESH, ("content-encoding", "gzip")], "zipped")
            }
            _ => response(&[FRESH], "plain"),
        }
    });
    let site = Site::new(&store, handler);
    for _ in 0..2 {
        assert_eq!(
            site.get_with("/", &[("accept-encoding", "gzip")])
                .await
                .body,
            "zipped"
        );
        assert_eq!(
            site.get_with("/", &[("accept-encoding", "identity")])
                .await
                .body,
            "plain"
        );
        assert_eq!(site.get("/").await.body, "plain");
    }
}

pub async fn keys_do_not_collide(store: SharedStore) {
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
        let load = || async { Ok::<_, ()>(format!("{key} {tag}")) };
        let minute = Duration::from_secs(60);
        assert_eq!(
            site.cache
                .get_or_set(key, minute, &[tag], load)
                .await
                .unwrap(),
            format!("{key} {tag}")
        );
    }
}

pub async fn a_request_without_a_key_is_not_cached(store: SharedStore) {
    let gate = Arc::new(Semaphore::new(0));
    let inside = gate.clone();
    let handler = Handler::new(move |_, n| {
        let gate = inside.clone();
        async move {
            if n <= 2 {
                gate.acquire().await.unwrap().forget();
            }
            response(&[FRESH], n.to_string())
        }
    });
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

pub async fn what_is_uncacheable_does_not_queue(store: SharedStore) {
    let gate = Arc::new(Semaphore::new(0));
    let inside = gate.clone();
    let handler = Handler::new(move |_, n| {
        let gate = inside.clone();
        async move {
            if n > 1 {
                gate.acquire().await.unwrap().forget();
            }
            response(&[("cache-control", "no-store")], n.to_string())
        }
    });
    let site = Site::new(&store, handler);
    let cold = site.get("/").await;
    assert_eq!(cold.cache_status(), "cache; fwd=uri-miss; detail=no-store");
    let requests = join_all((0..20).map(|_| site.get("/")));
    let release = async {
        eventually("all are in the handler", || site.calls() == 21).await;
        gate.add_permits(20);
    };
    let (replies, ()) = tokio::join!(requests, release);
    let mut bodies: Vec<_> = replies.iter().map(|reply| reply.body.clone()).collect();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 20, "no answer was shared");
    assert!(
        replies
            .iter()
            .all(|reply| reply.cache_status() == "cache; fwd=bypass; detail=uncacheable")
    );
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

pub async fn extensions_reach_the_handler_and_its_answer_the_client(store: SharedStore) {
    #[derive(Clone)]
    struct Seen(u32);
    let handler = Handler::new(|request: Request<String>, _| async move {
        let Seen(seen) = request.extensions().get().cloned().unwrap();
        let mut answer = response(&[FRESH], request.into_body());
        answer.extensions_mut().insert(Seen(seen + 1));
        answer
    });
    let site = Site::new(&store, handler);
    let mut asked = request("/", &[]);
    asked.extensions_mut().insert(Seen(1));
    let answer = site.service.clone().oneshot(asked).await.unwrap();
    assert_eq!(answer.extensions().get::<Seen>().unwrap().0, 2);
}

pub async fn garbage_under_a_key_is_a_miss(store: SharedStore) {
    let site = Site::new(&store, Handler::text(&[FRESH], |_, n| n.to_string()));
    let cx = Context::new("test");
    let space = KeySpace::new("entry", "1/cache");
    let page = Identity::from("/");
    let key = Key::new(&space, page.as_ref());
    site.get("/").await;
    let stored = store
        .get(&cx, &key)
        .await
        .unwrap()
        .expect("the place of entries is golden");
    let minute = Ttl::from_millis(60_000).unwrap();
    let mut of_another_version = stored.to_bytes().to_vec();
    of_another_version[2] += 1;
    for (garbage, body) in [
        (Value::from("garbage"), "2"),
        (Value::from(of_another_version), "3"),
    ] {
        store.put(&cx, &key, &garbage, minute).await.unwrap();
        assert_eq!(site.get("/").await.body, body);
        assert_eq!(site.get("/").await.body, body);
    }
    // A stamp that a later version wrote: nothing is known, so nothing is served and nothing stored.
    let stamps = KeySpace::new("stamp", "page");
    let stamp = Key::new(&stamps, page.as_ref());
    store
        .put(&cx, &stamp, &Value::from("2abcdefghijk"), minute)
        .await
        .unwrap();
    for body in ["4", "5"] {
        let reply = site.get("/").await;
        assert_eq!(
            (reply.body.as_str(), reply.cache_status().as_str()),
            (body, "cache; fwd=miss; detail=stamps")
        );
    }
}

pub async fn a_body_over_the_limit_passes_and_is_not_stored(store: SharedStore) {
    let handler = Handler::new(|request: Request<String>, _| async move {
        let (sender, body) = frames();
        let parts = request.uri().path()[1..].parse().unwrap();
        for _ in 0..parts {
            sender.send(Ok(Frame::data("x".repeat(10).into()))).unwrap();
        }
        response(&[FRESH], "").map(|_| body)
    });
    let site = Site::with(CacheLayer::new(store.clone()).max_body(100), handler);
    assert_eq!(site.get("/10").await.body.len(), 100);
    assert!(site.get("/10").await.is_hit());
    assert_eq!(
        site.try_send(request("/11", &[])).await.unwrap().body.len(),
        110
    );
    let reply = site.try_send(request("/11", &[])).await.unwrap();
    assert_eq!(
        (reply.body.len(), reply.cache_status().as_str()),
        (110, "cache; fwd=bypass; detail=uncacheable")
    );
}

pub async fn trailers_are_kept(store: SharedStore) {
    let handler = Handler::new(|_, _| async {
        let (sender, body) = frames();
        sender.send(Ok(Frame::data("body".into()))).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        sender.send(Ok(Frame::trailers(trailers))).unwrap();
        response(&[FRESH], "").map(|_| body)
    });
    let site = Site::new(&store, handler);
    for hit in [false, true] {
        let reply = site.get("/").await;
        assert_eq!((reply.is_hit(), reply.body.as_str()), (hit, "body"));
        assert_eq!(reply.trailers.unwrap()["grpc-status"], "0");
    }
}

pub async fn a_lifetime_ends(store: SharedStore) {
    let (clock, hand) = Clock::manual(1_800_000_000_000_000);
    let handler = Handler::text(&[("cache-control", "max-age=60"), ("age", "20")], |_, n| {
        n.to_string()
    });
    let site = Site::with(CacheLayer::new(store).clock(clock), handler);
    assert_eq!(site.get("/").await.body, "1");
    hand.advance(Duration::from_millis(39_999));
    let reply = site.get("/").await;
    assert_eq!(reply.cache_status(), "cache; hit; ttl=0");
    assert_eq!(reply.headers["age"], "59");
    hand.advance(Duration::from_millis(1));
    let reply = site.get("/").await;
    assert_eq!(
        (reply.body.as_str(), reply.cache_status().as_str()),
        ("2", "cache; fwd=stale; stored")
    );
}

pub async fn an_unsafe_request_purges_its_path(store: SharedStore) {
    let handler = Handler::new(|request: Request<String>, n| async move {
        let mut answer = response(&[FRESH], n.to_string());
        if request.headers().contains_key("fails") {
            *answer.status_mut() = StatusCode::CONFLICT;
        }
        answer
    });
    let site = Site::new(&store, handler);
    site.get("/cars/7?a=1").await;
    site.get("/cars/8").await;
    let put = |fails: bool| {
        let request = Request::put("/cars/7");
        let request = if fails {
            request.header("fails", "1")
        } else {
            request
        };
        request.body(String::new()).unwrap()
    };
    site.send(put(true)).await;
    assert!(site.get("/cars/7?a=1").await.is_hit());
    site.send(put(false)).await;
    assert_eq!(
        site.get("/cars/7?a=1").await.cache_status(),
        "cache; fwd=miss; stored; detail=purged"
    );
    assert!(site.get("/cars/8").await.is_hit());
}

pub async fn the_client_may_ask_for_a_fresh_answer(store: SharedStore) {
    let site = Site::new(&store, Handler::text(&[FRESH], |_, n| n.to_string()));
    assert_eq!(site.get("/").await.body, "1");

    assert_eq!(
        site.get_with("/", &[("cache-control", "no-cache")])
            .await
            .cache_status(),
        "cache; fwd=request; stored"
    );
    assert_eq!(site.get("/").await.body, "2");
    assert_eq!(
        site.get_with("/", &[("pragma", "no-cache")]).await.body,
        "3"
    );
    assert_eq!(
        site.get_with("/", &[("cache-control", "max-age=30")])
            .await
            .body,
        "3"
    );
    let reply = site
        .get_with("/none", &[("cache-control", "only-if-cached")])
        .await;
    assert_eq!(reply.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(site.calls(), 3);
    let reply = site
        .get_with("/own", &[("cache-control", "no-store")])
        .await;
    assert_eq!(reply.cache_status(), "cache; fwd=uri-miss; detail=no-store");
    assert!(!site.get("/own").await.is_hit());
}
