//! What is in the key of a request: its target as the handler sees it, and what a layer adds or leaves out.

use super::{FRESH, Handler, Reply, Site, response};
use cache_layer::{CacheLayer, Profile, store::SharedStore};

/// A handler that writes all it reads of its target into the page.
fn echo() -> Handler {
    Handler::text(&[FRESH], |request, _| {
        let host = request.headers().get("host");
        format!("{} {host:?}", request.uri())
    })
}

fn counting() -> Handler {
    Handler::text(&[FRESH], |_, n| n.to_string())
}

pub async fn a_target_and_a_host_that_differ_pass_by(store: SharedStore) {
    let site = Site::new(&store, echo());
    let evil = site
        .get_with("https://site.example/", &[("host", "evil.example")])
        .await;
    assert_eq!(evil.cache_status(), "cache; fwd=bypass; detail=authority");
    // Neither way round does it reach the visitors of one of the two.
    for (uri, host) in [
        ("https://site.example/", "site.example"),
        ("https://evil.example/", "evil.example"),
        ("/", "site.example"),
        ("/", "evil.example"),
    ] {
        for is_hit in [false, true] {
            let reply = site.get_with(uri, &[("host", host)]).await;
            assert_eq!(reply.body, format!("{uri} Some({host:?})"));
            assert_eq!(reply.is_hit(), is_hit, "{uri} {host}");
        }
    }
}

pub async fn a_port_that_somebody_wrote_reaches_nobody_else(store: SharedStore) {
    let site = Site::new(&store, echo());
    for (uri, host) in [
        ("/", "a"),
        ("/", "a:80"),
        ("/", "a:443"),
        ("http://a/", "a"),
        ("http://a/", "a:80"),
        ("https://a/", "a"),
        ("https://a/", "a:443"),
    ] {
        let reply = site.get_with(uri, &[("host", host)]).await;
        assert_eq!(reply.body, format!("{uri} Some({host:?})"));
        assert!(!reply.is_hit(), "{uri} {host}");
    }
}

pub async fn schemes_do_not_share_an_entry(store: SharedStore) {
    let site = Site::new(&store, echo());
    for uri in ["http://a/", "https://a/"] {
        let host = [("host", "A")];
        assert_eq!(
            site.get_with(uri, &host).await.body,
            format!("{uri} Some(\"A\")")
        );
        assert!(site.get_with(uri, &[("host", "a")]).await.is_hit());
    }
}

pub async fn a_forwarded_target_passes_by(store: SharedStore) {
    for name in [
        "x-forwarded-host",
        "x-forwarded-proto",
        "forwarded",
        "x-original-url",
        "x-rewrite-url",
    ] {
        let site = Site::new(&store, counting());
        let path = format!("/{name}");
        let reply = site.get_with(&path, &[(name, "evil")]).await;
        assert_eq!(reply.cache_status(), "cache; fwd=bypass; detail=forwarded");
        assert_eq!(site.get(&path).await.body, "2");
        assert_eq!(site.get_with(&path, &[(name, "evil")]).await.body, "3");
    }
    // By the RFC alone such a field is one like others.
    let layer = CacheLayer::new(store).profile(Profile::Rfc);
    let site = Site::with(layer, counting());
    let forwarded = [("x-forwarded-host", "a")];
    assert_eq!(site.get_with("/", &forwarded).await.body, "1");
    assert!(site.get_with("/", &forwarded).await.is_hit());
}

pub async fn a_forwarded_target_may_be_keyed_or_trusted(store: SharedStore) {
    let layer = CacheLayer::new(store)
        .key_headers(["X-Forwarded-Proto"])
        .trust_headers(["x-forwarded-port"]);
    let site = Site::with(layer, counting());
    for (lines, body) in [
        (&[("x-forwarded-proto", "http")][..], "1"),
        (&[("x-forwarded-proto", "https")], "2"),
        (
            &[("x-forwarded-proto", "https"), ("x-forwarded-port", "443")],
            "2",
        ),
        (&[("x-forwarded-proto", "http")], "1"),
        (&[], "3"),
        (&[("x-forwarded-proto", "")], "4"),
        (&[("x-forwarded-host", "a")], "5"),
    ] {
        assert_eq!(site.get_with("/", lines).await.body, body, "{lines:?}");
    }
}

pub async fn headers_in_the_key_do_not_collide(store: SharedStore) {
    let layer = CacheLayer::new(store).key_headers(["a", "b"]);
    let site = Site::with(layer, counting());
    let lines = [
        &[("a", "1"), ("b", "2")][..],
        &[("a", "12"), ("b", "")],
        &[("a", "1"), ("b", "1.2")],
        &[("a", "1")],
        &[("b", "1")],
        &[],
        &[("a", "1, 2")],
    ];
    for _ in 0..2 {
        for (at, lines) in lines.iter().enumerate() {
            let reply = site.get_with("/", lines).await;
            assert_eq!(reply.body, (at + 1).to_string(), "{lines:?}");
        }
    }
}

pub async fn a_key_of_ones_own_replaces_the_target(store: SharedStore) {
    let layer = CacheLayer::new(store).name("pages").key(|head| {
        let query = head.uri.query()?;
        Some(format!("page {}", query.split('&').next()?))
    });
    let site = Site::with(layer, counting());
    assert_eq!(site.get_with("/?1&x", &[("host", "a")]).await.body, "1");
    assert_eq!(site.get_with("/?1&y", &[("host", "b")]).await.body, "1");
    assert_eq!(site.get("/?2").await.body, "2");
    // A path is purged with all its keys.
    site.cache.purge_path("/").await.unwrap();
    assert_eq!(site.get("/?1").await.body, "3");
    assert_eq!(site.get("/?2").await.body, "4");
    // An entry of another path is out of reach of a purge, so it is not sent.
    assert_eq!(site.get("/other?1").await.body, "5");
    // Parts of a target that disagree are no request of a browser.
    let differ = site.get_with("http://a/?1", &[("host", "b")]).await;
    assert!(differ.cache_status().ends_with("detail=authority"));
    // No key, no cache.
    let reply = site.get("/").await;
    assert_eq!(reply.cache_status(), "pages; fwd=bypass; detail=key");
}

pub async fn ignored_parameters_and_their_order_share_an_entry(store: SharedStore) {
    let layer = CacheLayer::new(store)
        .ignore_query(["utm_*", "ref"])
        .sort_query();
    let site = Site::with(layer, counting());
    for (path, body) in [
        ("/?a=1&b=2", "1"),
        ("/?b=2&utm_source=x&a=1&ref=y", "1"),
        ("/?a=2&b=1", "2"),
        ("/", "3"),
        ("/?utm_medium=z", "3"),
        ("/?utm_a=1;a=1", "4"),
        ("/?a=1&a=2", "5"),
        ("/?a=2&a=1", "6"),
    ] {
        assert_eq!(site.get(path).await.body, body, "{path}");
    }
    // The handler gets what was sent.
    let layer = CacheLayer::new(site.cache.store().clone()).ignore_query(["utm_*"]);
    let site = Site::with(layer, echo());
    assert_eq!(site.get("/?utm_a=1").await.body, "/?utm_a=1 None");
}

pub async fn ignored_cookies_make_no_request_personal(store: SharedStore) {
    let layer = CacheLayer::new(store).ignore_cookies(["_ga*", "theme"]);
    let site = Site::with(layer, counting());
    assert_eq!(site.get("/").await.body, "1");
    for (cookies, is_hit) in [
        ("_ga=1", true),
        ("_ga_X=1; theme=dark", true),
        ("_ga=1; sid=2", false),
        ("sid=2", false),
    ] {
        let reply = site.get_with("/", &[("cookie", cookies)]).await;
        assert_eq!(reply.is_hit(), is_hit, "{cookies}");
    }
    let both = [("cookie", "_ga=1"), ("authorization", "a")];
    assert!(!site.get_with("/", &both).await.is_hit());
}

pub async fn identity_headers_are_credentials(store: SharedStore) {
    let site = Site::new(&store, counting());
    for name in [
        "x-auth-token",
        "cf-access-jwt-assertion",
        "x-forwarded-user",
        "proxy-authorization",
        "x-amzn-oidc-data",
        "x-goog-authenticated-user-email",
        "x-ms-client-principal",
        "x-remote-user",
    ] {
        let path = format!("/{name}");
        site.get(&path).await;
        let reply = site.get_with(&path, &[(name, "ada")]).await;
        assert_eq!(
            reply.cache_status(),
            "cache; fwd=bypass; detail=credentials",
            "{name}"
        );
    }
}

/// A layer that takes a field for the user.
fn per_user(store: SharedStore) -> CacheLayer {
    CacheLayer::new(store).name("account").per_user(|head| {
        let user = head.headers.get("x-user")?;
        Some(user.to_str().ok()?.to_owned())
    })
}

async fn account(site: &Site, user: &str) -> Reply {
    site.get_with("/account", &[("x-user", user), ("cookie", "sid=1")])
        .await
}

pub async fn each_user_has_entries_of_their_own(store: SharedStore) {
    let private = [("cache-control", "private, max-age=60")];
    let handler = Handler::new(move |_, n| async move { response(&private, n.to_string()) });
    let site = Site::with(per_user(store), handler);
    for (user, body) in [("ada", "1"), ("bob", "2"), ("ada", "1"), ("bob", "2")] {
        assert_eq!(account(&site, user).await.body, body, "{user}");
    }
    // Who is nobody gets nothing of theirs, and nothing is stored.
    for lines in [
        &[][..],
        &[("x-user", "")],
        &[("x-user", "\u{fc}")],
        &[("cookie", "sid=1")],
    ] {
        let reply = site.get_with("/account", lines).await;
        let status = reply.cache_status();
        assert!(!status.contains("hit") && !status.contains("stored"));
        assert!(!["1", "2"].contains(&&*reply.body), "{lines:?}");
    }
}

pub async fn by_the_rfc_alone_a_user_has_entries_of_their_own_too(store: SharedStore) {
    let site = Site::with(per_user(store).profile(Profile::Rfc), counting());
    let ask = async |user| {
        let lines = [("x-user", user), ("authorization", "a")];
        site.get_with("/", &lines).await
    };
    assert_eq!(ask("ada").await.body, "1");
    assert_eq!(ask("bob").await.body, "2");
    assert!(ask("ada").await.is_hit() && ask("bob").await.is_hit());
}

pub async fn a_purge_of_a_user_reaches_that_user_alone(store: SharedStore) {
    let site = Site::with(per_user(store.clone()), counting());
    let elsewhere = Site::with(per_user(store), counting());
    for user in ["ada", "bob"] {
        account(&site, user).await;
    }
    assert_eq!(site.get("/public").await.body, "3");
    elsewhere.cache.purge_user("ada").await.unwrap();
    assert_eq!(
        account(&site, "ada").await.cache_status(),
        "account; fwd=miss; stored; detail=purged"
    );
    assert!(account(&site, "bob").await.is_hit());
    assert!(site.get("/public").await.is_hit());
    // A path is purged for all users.
    site.cache.purge_path("/account").await.unwrap();
    assert!(!account(&site, "ada").await.is_hit());
    assert!(!account(&site, "bob").await.is_hit());
}

pub async fn a_purge_of_a_user_during_the_fill_is_seen(store: SharedStore) {
    let purging = per_user(store.clone()).handle();
    let handler = Handler::new(move |_, n| {
        let purging = purging.clone();
        async move {
            if n == 1 {
                purging.purge_user("ada").await.unwrap();
            }
            response(&[FRESH], n.to_string())
        }
    });
    let site = Site::with(per_user(store), handler);
    assert_eq!(account(&site, "ada").await.body, "1");
    assert_eq!(account(&site, "ada").await.body, "2");
    assert!(account(&site, "ada").await.is_hit());
}

pub async fn fields_of_one_request_are_not_stored(store: SharedStore) {
    let layer = CacheLayer::new(store).unstored_headers(["X-Request-Id", "x-debug-*"]);
    let lines = [
        FRESH,
        ("x-request-id", "1"),
        ("x-debug-sql", "3"),
        ("x-kept", "1"),
    ];
    let site = Site::with(
        layer,
        Handler::new(move |_, _| async move { response(&lines, "") }),
    );
    let first = site.get("/").await.headers;
    assert_eq!(
        (&first["x-request-id"], &first["x-debug-sql"]),
        (&"1".parse().unwrap(), &"3".parse().unwrap())
    );
    let hit = site.get("/").await;
    assert!(hit.is_hit() && hit.headers["x-kept"] == "1");
    for name in ["x-request-id", "x-debug-sql"] {
        assert!(!hit.headers.contains_key(name), "{name}");
    }
}

pub async fn layers_with_other_rules_share_no_entry(store: SharedStore) {
    let layer = || CacheLayer::new(store.clone());
    let lax = Site::with(
        layer().only_credential_headers(["authorization"]),
        counting(),
    );
    let strict = Site::with(layer(), counting());
    // What one layer may store of a request with a cookie, the other one never sends.
    lax.get_with("/", &[("cookie", "sid=ada")]).await;
    assert!(!strict.get("/").await.is_hit());
    assert!(strict.get("/").await.is_hit());
    // Layers with equal rules share, also if they were written in another order.
    let one = Site::with(layer().ignore_query(["a", "b"]), counting());
    let other = Site::with(layer().ignore_query(["b"]).ignore_query(["a"]), counting());
    one.get("/shared").await;
    assert!(other.get("/shared?a=1&b=2").await.is_hit());
}

pub async fn all_layers_of_a_store_are_purged_together(store: SharedStore) {
    let layer = || CacheLayer::new(store.clone());
    let one = Site::with(layer().sort_query(), counting());
    let other = Site::with(layer(), counting());
    one.get("/").await;
    other.cache.purge_path("/").await.unwrap();
    assert!(!one.get("/").await.is_hit());
}
