//! What an operator is told of stored responses.

use std::time::Duration;

use cache_layer::{
    CacheLayer, LookUp, LookUpError, Profile, RequestHead, Tags, store::SharedStore,
};
use http::Request;

use super::{FRESH, Handler, Site, request, response};

async fn look_up(site: &Site, path: &str, fields: &[(&str, &str)]) -> LookUp {
    let request = request(path, fields);
    site.cache
        .look_up(&RequestHead::of(&request))
        .await
        .unwrap()
}

pub async fn a_look_up_tells_of_a_response_and_not_its_body(store: SharedStore) {
    let handler = Handler::new(|_, _| async {
        let control = "max-age=60, stale-while-revalidate=5, stale-if-error=7, public";
        let fields = [
            ("cache-control", control),
            ("age", "10"),
            ("etag", "\"v1\""),
            ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
            ("vary", "authorization"),
        ];
        let mut response = response(&fields, "the body");
        response.extensions_mut().insert(Tags::new(["car:7"]));
        response
    });
    let site = Site::new(&store, handler);
    let ask = [("authorization", "secret")];
    assert_eq!(look_up(&site, "/cars/7", &ask).await, LookUp::Nothing);
    site.get_with("/cars/7", &ask).await;
    let before = site.cache.stats();
    let found = look_up(&site, "/cars/7", &ask).await;
    let told = format!("{found:?}");
    assert!(!told.contains("secret") && !told.contains("body"), "{told}");
    let found = found.found().unwrap();
    assert_eq!((found.status.as_u16(), found.size), (200, 8));
    assert!(found.is_fresh() && found.public && !found.always_validated);
    let age = Duration::from_secs(10)..Duration::from_secs(30);
    assert!(age.contains(&found.age), "{:?}", found.age);
    assert_eq!(found.lifetime, Duration::from_secs(60));
    assert_eq!(found.stale_while_revalidate, Duration::from_secs(5));
    assert_eq!(found.stale_if_error, Duration::from_secs(7));
    assert_eq!(found.tags, ["car:7"]);
    assert_eq!(found.vary, ["authorization"]);
    assert_eq!(found.etag.unwrap(), "\"v1\"");
    assert_eq!(
        found.last_modified.unwrap(),
        "Thu, 01 Jan 2026 00:00:00 GMT"
    );
    assert_eq!(site.cache.stats(), before, "it is no request");
}

pub async fn a_look_up_tells_why_nothing_is_found(store: SharedStore) {
    let handler = Handler::text(&[FRESH, ("vary", "x-kind")], |_, n| n.to_string());
    let site = Site::new(&store, handler);
    site.get_with("/cars/7", &[("x-kind", "a")]).await;
    let found = look_up(&site, "/cars/7", &[("x-kind", "a")]).await;
    assert!(found.found().is_some());
    let LookUp::OtherVariants(vary) = look_up(&site, "/cars/7", &[]).await else {
        panic!("only another variant is stored");
    };
    assert_eq!(vary, ["x-kind"]);
    assert_eq!(look_up(&site, "/cars/8", &[]).await, LookUp::Nothing);
    site.cache.purge_path("/cars/*").await.unwrap();
    let found = look_up(&site, "/cars/7", &[("x-kind", "a")]).await;
    assert_eq!(found, LookUp::Purged);
    let post = Request::post("/cars/7").body(()).unwrap();
    let range = Request::get("/cars/7").header("range", "bytes=0-1");
    let range = range.body(()).unwrap();
    for (request, expected) in [(post, "method"), (range, "range")] {
        match site.cache.look_up(&RequestHead::of(&request)).await {
            Err(LookUpError::PassesBy(reason)) => assert_eq!(reason, expected),
            other => panic!("it passes by: {other:?}"),
        }
    }
}

pub async fn a_look_up_goes_by_the_rules_of_its_layer(store: SharedStore) {
    let handler = Handler::text(&[FRESH], |_, n| n.to_string());
    let layer = || CacheLayer::new(store.clone());
    let layers = [
        layer(),
        layer().name("pages"),
        layer().profile(Profile::Rfc),
        layer().ignore_query(["utm_*"]),
        layer().key(|head| Some(head.path().to_owned())),
        layer().per_user(|head| Some(head.headers.get("user")?.to_str().ok()?.to_owned())),
    ];
    let sites = layers.map(|layer| Site::with(layer, handler.clone()));
    let ask = [("user", "ada")];
    for (i, site) in sites.iter().enumerate() {
        let nothing = look_up(site, "/Cars?utm_a", &ask).await;
        assert_eq!(nothing, LookUp::Nothing, "of layer {i}");
        site.get_with("/Cars?utm_a", &ask).await;
        let found = look_up(site, "/Cars?utm_a", &ask).await.found();
        assert!(found.is_some(), "of layer {i}");
    }
    let found = |site: usize, path, user| {
        let site = &sites[site];
        async move {
            look_up(site, path, &[("user", user)])
                .await
                .found()
                .is_some()
        }
    };
    assert!(found(3, "/Cars?utm_b", "ada").await && !found(0, "/Cars?utm_b", "ada").await);
    assert!(found(4, "/Cars?b", "ada").await && !found(3, "/Cars?b", "ada").await);
    assert!(found(0, "/Cars?utm_a", "eve").await && !found(5, "/Cars?utm_a", "eve").await);
}
