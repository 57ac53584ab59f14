//! Methods, extensions, and stored bytes that cannot be trusted.

use cache_layer::store::{Context, Identity, Key, KeySpace, SharedStore, StoreExt, Ttl, Value};
use http::{Request, StatusCode};
use tower::ServiceExt;

use super::{FRESH, Handler, Site, request, response};

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

/// HTTP/2 needs neither `Content-Length` nor `Transfer-Encoding`.
pub async fn a_request_with_content_passes_by(store: SharedStore) {
    let site = Site::new(
        &store,
        Handler::text(&[FRESH], |request, _| request.body().clone()),
    );
    let get = |content: &str| Request::get("/").body(content.to_owned()).unwrap();
    let reply = site.send(get("mine")).await;
    assert_eq!(reply.cache_status(), "cache; fwd=bypass; detail=content");
    // It is not stored for others, and is not answered with what is stored for others.
    let reply = site.send(get("")).await;
    assert_eq!(reply.cache_status(), "cache; fwd=uri-miss; stored");
    assert_eq!(reply.body, "");
    assert_eq!(site.send(get("yours")).await.body, "yours");
    assert!(site.send(get("")).await.is_hit());
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

pub async fn an_unsafe_request_purges_what_its_response_names(store: SharedStore) {
    let handler = Handler::new(|request: Request<String>, n| async move {
        let mut answer = response(&[FRESH], n.to_string());
        if let Some(named) = request.headers().get("x-name") {
            answer.headers_mut().insert("location", named.clone());
        }
        answer
    });
    let site = Site::new(&store, handler);
    let post = async |named: &str| {
        let request = Request::post("/cars").header("host", "h.example");
        let request = request.header("x-name", named).body(String::new());
        site.send(request.unwrap()).await;
    };
    site.get("/cars/8").await;
    post("https://other.example/cars/8").await;
    assert!(site.get("/cars/8").await.is_hit());
    for named in ["/cars/8", "cars/8?x=1", "https://h.example/cars/8"] {
        post(named).await;
        assert!(!site.get("/cars/8").await.is_hit(), "{named}");
        assert!(site.get("/cars/8").await.is_hit());
    }
}

pub async fn extensions_pass_in_both_directions(store: SharedStore) {
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
    let space = KeySpace::new("entry", "2/cache");
    let page = Identity::from("///");
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
    let path = Identity::from("/");
    let stamp = Key::new(&stamps, path.as_ref());
    store
        .put(&cx, &stamp, &Value::from("2abcdefghijk"), minute)
        .await
        .unwrap();
    // In memory the stamps of an entry are read again in its next second, or after any purge.
    site.cache.purge_path("/other").await.unwrap();
    for body in ["4", "5"] {
        let reply = site.get("/").await;
        assert_eq!(
            (reply.body.as_str(), reply.cache_status().as_str()),
            (body, "cache; fwd=miss; detail=stamps")
        );
    }
}

pub async fn an_entry_whose_fields_cannot_be_read_is_a_miss(store: SharedStore) {
    let site = Site::new(&store, Handler::text(&[FRESH], |_, n| n.to_string()));
    let cx = Context::new("test");
    let space = KeySpace::new("entry", "2/cache");
    let page = Identity::from("///");
    let key = Key::new(&space, page.as_ref());
    site.get("/").await;
    let mut bytes = store
        .get(&cx, &key)
        .await
        .unwrap()
        .unwrap()
        .to_bytes()
        .to_vec();
    let name = bytes.windows(13).position(|part| part == b"cache-control");
    bytes[name.unwrap()] = b' ';
    let minute = Ttl::from_millis(60_000).unwrap();
    store
        .put(&cx, &key, &Value::from(bytes), minute)
        .await
        .unwrap();
    // Who wants what is stored gets nothing else.
    let only = [("cache-control", "only-if-cached")];
    assert_eq!(
        site.get_with("/", &only).await.status,
        StatusCode::GATEWAY_TIMEOUT
    );
    assert_eq!(site.get("/").await.body, "2");
}
