//! An app that answers conditions by itself gives the same answers with and without the layer.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::{fs, path::PathBuf, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use cache_layer::{
    CacheLayer, ResponseCache,
    store::{MemoryStore, SharedStore},
};
use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_http::services::ServeDir;

const TAG: &str = "\"v1\"";
/// Before and after the file was made.
const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const LATE: &str = "Thu, 01 Jan 2099 00:00:00 GMT";

/// A folder with one file, which goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("page.txt"), "page").unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A handler that knows its tag.
async fn tagged(request: Request) -> Response {
    let known = request.headers().get(header::IF_NONE_MATCH);
    match known.is_some_and(|tags| tags.to_str().unwrap().contains(TAG)) {
        true => (StatusCode::NOT_MODIFIED, [(header::ETAG, TAG)]).into_response(),
        false => ([(header::ETAG, TAG)], "tagged").into_response(),
    }
}

fn app(folder: &Folder) -> Router {
    Router::new()
        .route("/tagged", get(tagged))
        .nest_service("/files", ServeDir::new(&folder.0))
}

/// Status and body of the answer to a request with one condition.
async fn ask(app: &Router, path: &str, (name, value): (&str, &str)) -> (StatusCode, String) {
    let request = Request::get(path).header(name, value).body(Body::empty());
    let response = app.clone().oneshot(request.unwrap()).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.into()).unwrap())
}

/// A 304 does not wait until its page is stored.
async fn eventually_stored(cache: &ResponseCache) {
    let waiting = async {
        while cache.stats().stored == 0 {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), waiting).await;
    waited.expect("the page is stored");
}

#[tokio::test]
async fn an_app_gives_the_same_304s_with_and_without_the_layer() {
    let folder = Folder::new("cache-layer-not-modified");
    let plain = app(&folder);
    let mut seen = Vec::new();
    for path in ["/tagged", "/files/page.txt", "/files/none.txt"] {
        for condition in [
            ("if-none-match", TAG),
            ("if-none-match", "W/\"v0\", W/\"v1\""),
            ("if-none-match", "\"v0\""),
            ("if-modified-since", EARLY),
            ("if-modified-since", LATE),
            ("if-modified-since", "soon"),
            ("accept", "*/*"),
        ] {
            // A tag is for the handler that makes tags, a date for the one that has dates.
            let is_tag = condition.0 == "if-none-match";
            let is_date = condition.0 == "if-modified-since";
            if (is_tag && path != "/tagged") || (is_date && path == "/tagged") {
                continue;
            }
            let is_stored = path != "/files/none.txt";
            let cache = CacheLayer::new(SharedStore::new(MemoryStore::new()));
            let handle = cache.handle();
            let cached = app(&folder).layer(cache.ttl(Duration::from_secs(30)));
            let expected = ask(&plain, path, condition).await;
            // A miss, and then a hit if it is stored.
            for _ in 0..2 {
                let answer = ask(&cached, path, condition).await;
                assert_eq!(answer, expected, "{path} {condition:?}");
                if is_stored {
                    eventually_stored(&handle).await;
                }
            }
            assert_eq!(handle.stats().hits == 1, is_stored, "{path} {condition:?}");
            seen.push(expected.0);
        }
    }
    for status in [
        StatusCode::OK,
        StatusCode::NOT_MODIFIED,
        StatusCode::NOT_FOUND,
    ] {
        assert!(seen.contains(&status));
    }
}
