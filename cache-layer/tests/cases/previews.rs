//! What a purge would end.

use std::time::Duration;

use cache_layer::{CacheLayer, PreviewError, PurgePreview, Tags, store::SharedStore};

use super::{FRESH, Handler, Site, response};

/// Far more keys than any of these tests stores.
const ALL: u64 = 1_000_000;

fn tagged() -> Handler {
    Handler::new(|request, _| async move {
        let mut response = response(&[FRESH, ("vary", "x-kind")], "four");
        if request.uri().path().starts_with("/cars/") {
            response.extensions_mut().insert(Tags::new(["cars"]));
        }
        response
    })
}

pub async fn a_preview_counts_what_a_purge_ends(store: SharedStore) {
    let site = Site::new(&store, tagged());
    for path in ["/", "/cars", "/cars/7", "/cars/7?a", "/cars/8", "/vans/7"] {
        site.get(path).await;
    }
    site.get_with("/cars/7", &[("x-kind", "a")]).await;
    let objects = site.cache.objects();
    for key in ["user:7", "user:8", "car:7"] {
        let minute = Duration::from_secs(60);
        objects
            .insert(key, &"object".into(), minute, &["cars"])
            .await
            .unwrap();
    }
    let paths = [
        ("*", 7),
        ("/cars/*", 4),
        ("/cars/7", 3),
        ("/cars", 1),
        ("/vans/*", 1),
        ("/bikes/*", 0),
    ];
    for (pattern, expected) in paths {
        let preview = site.cache.preview_path(pattern, ALL).await.unwrap();
        assert_eq!(preview.entries, expected, "{pattern}");
        assert_eq!(preview.bytes, expected * 4, "{pattern}");
        assert!(!preview.is_partial && preview.unknown == 0);
    }
    for (pattern, expected) in [("*", 3), ("user:*", 2), ("user:7", 1), ("user", 0)] {
        let preview = site.cache.preview_key(pattern, ALL).await.unwrap();
        assert_eq!(preview.entries, expected, "{pattern}");
    }
    let preview = site.cache.preview_tag("cars", ALL).await.unwrap();
    assert_eq!((preview.entries, preview.bytes), (7, 4 * 4 + 3 * 6));
    assert_eq!(preview.looked_at, 10);
    // It has purged nothing.
    assert!(site.get("/cars/7").await.is_hit());
    site.cache.purge_path("/cars/7").await.unwrap();
    let preview = site.cache.preview_path("/cars/7", ALL).await.unwrap();
    assert_eq!(preview, PurgePreview::default(), "it is purged already");
    site.cache.purge_path("*").await.unwrap();
    site.get("/").await;
    let preview = site.cache.preview_tag("cars", ALL).await.unwrap();
    assert_eq!(preview.entries, 3, "the objects are left");
}

pub async fn a_preview_of_a_user_counts_that_user_alone(store: SharedStore) {
    let layer = CacheLayer::new(store.clone())
        .per_user(|head| Some(head.headers.get("user")?.to_str().ok()?.to_owned()));
    let site = Site::with(layer, tagged());
    for (path, user) in [("/cars/1", "ada"), ("/cars/2", "ada"), ("/cars/1", "eve")] {
        site.get_with(path, &[("user", user)]).await;
    }
    for (user, expected) in [("ada", 2), ("eve", 1), ("bob", 0)] {
        let preview = site.cache.preview_user(user, ALL).await.unwrap();
        assert_eq!(preview.entries, expected, "{user}");
    }
    let other = Site::new(&store, tagged());
    let preview = other.cache.preview_path("*", ALL).await.unwrap();
    assert_eq!(preview.entries, 0, "they are of another layer");
}

pub async fn a_preview_is_bounded_and_tells_what_it_did_not_see(store: SharedStore) {
    let site = Site::new(&store, tagged());
    for i in 0..250 {
        site.get(&format!("/cars/{i}")).await;
    }
    let long = format!("/cars/{}", "x".repeat(200));
    site.get(&long).await;
    let whole = site.cache.preview_path("/cars/*", ALL).await.unwrap();
    assert_eq!((whole.entries, whole.is_partial), (250, false));
    assert!(whole.unknown > 0);
    let part = site.cache.preview_path("/cars/*", 100).await.unwrap();
    assert!(part.is_partial && part.entries < 250, "{part:?}");
    let nothing = site.cache.preview_path("/cars/*", 0).await.unwrap();
    assert_eq!((nothing.entries, nothing.is_partial), (0, true));
    match site.cache.preview_path("cars", ALL).await {
        Err(PreviewError::Pattern(instead)) => assert!(instead.contains("begins with a slash")),
        other => panic!("it is malformed: {other:?}"),
    }
}
