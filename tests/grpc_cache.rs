//! The cache for unary calls of gRPC with real clients of tonic, in memory and on a real Redis.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::{ops::Deref, time::Duration};

use axum::routing::get;
use bytes::Bytes;
use cache_layer::{
    CacheLayer, GrpcCacheLayer, Invalidation, ResponseCache, Tags, store::SharedStore,
};
use futures_util::{future::join_all, stream};
use http::HeaderName;
use tests::{
    Backend, Client,
    grpc::{
        BINARY, Echo, EchoClient, FAIL, GrpcServer, HOLD, REPLIES, Site, add_binary_metadata,
        assert_same_reply, call, messages, until,
    },
};
use tonic::{Code, Request, Response, body::Body, metadata::MetadataMap, service::Routes};
use tower::ServiceBuilder;

const UNARY: &str = "/tests.Echo/Unary";
const SERVER_STREAM: &str = "/tests.Echo/ServerStream";

/// An echo behind a cache.
struct Cached {
    site: Site,
    cache: ResponseCache,
}

impl Cached {
    fn behind(layer: GrpcCacheLayer) -> Self {
        let cache = layer.handle();
        let layers = ServiceBuilder::new()
            .layer(layer)
            .map_response(as_asked)
            .into_inner();
        let site = Site::behind(layers);
        Self { site, cache }
    }
}

impl Deref for Cached {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

/// Gives a reply the lifetime, the tag and the purge that its call asked for: the handler of these tests.
fn as_asked(mut response: http::Response<Body>) -> http::Response<Body> {
    let headers = response.headers_mut();
    if let Some(lifetime) = headers.remove("x-lifetime") {
        headers.insert(http::header::CACHE_CONTROL, lifetime);
    }
    if let Some(tag) = headers.remove("x-tag") {
        let tags = Tags::new([tag.to_str().unwrap()]);
        response.extensions_mut().insert(tags);
    }
    let headers = response.headers_mut();
    if let Some(path) = headers.remove("x-purges") {
        let old = Invalidation::path(path.to_str().unwrap());
        response.extensions_mut().insert(old);
    }
    response
}

fn layer(store: SharedStore) -> GrpcCacheLayer {
    CacheLayer::new(store)
        .ttl(Duration::from_secs(600))
        .max_body(8 << 20)
        .grpc([UNARY, SERVER_STREAM])
        .max_message(8 << 20)
}

fn is_hit(metadata: &MetadataMap) -> bool {
    let status = metadata.get("cache-status").unwrap();
    status.to_str().unwrap().contains("; hit")
}

/// Calls twice, and returns how often it ran.
async fn runs_of_two(site: &Cached, request: impl Fn() -> Request<Bytes>) -> usize {
    let mut client = site.client().await;
    let before = site.echo.calls();
    let mut replies = Vec::new();
    for _ in 0..2 {
        replies.push(client.unary(request()).await);
        stored(site).await;
    }
    match &replies[..] {
        [Ok(first), Ok(second)] => assert_same_reply(first, second),
        [Err(first), Err(second)] => assert_eq!(first.code(), second.code()),
        replies => panic!("{replies:?}"),
    }
    site.echo.calls() - before
}

/// Waits until what was read is in the store, if it goes there: the client has its reply before.
async fn stored(site: &Cached) {
    let before = site.cache.stats();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if site.cache.stats() != before {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_call_gets_the_stored_message_and_trailers_and_another_message_its_own() {
    Backend::on_each(async |store| {
        let site = Cached::behind(layer(store));
        assert_eq!(
            runs_of_two(&site, || call("car 7", &[("x-a", "1")])).await,
            1
        );
        assert_eq!(runs_of_two(&site, || call("car 8", &[])).await, 1);
        let mut client = site.client().await;
        let hit = client.unary(call("car 7", &[])).await.unwrap();
        assert!(is_hit(hit.metadata()));
        assert_eq!(hit.metadata().get("x-a").unwrap(), "1");
        assert_eq!(hit.metadata().get("grpc-status").unwrap(), "0");
        assert_eq!((&hit.get_ref()[..], site.echo.calls()), (&b"car 7"[..], 2));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_did_not_end_with_ok_is_not_stored() {
    Backend::on_each(async |store| {
        let site = Cached::behind(layer(store));
        for code in [Code::Unavailable, Code::NotFound, Code::Unknown] {
            let code = (code as i32).to_string();
            // In the headers.
            assert_eq!(runs_of_two(&site, || call("no", &[(FAIL, &code)])).await, 2);
            // In the trailers, after a message.
            let before = site.echo.calls();
            let mut client = site.client().await;
            for _ in 0..2 {
                let failing = call("no", &[(FAIL, &code), (REPLIES, "1")]);
                let status = client.whole_stream(failing).await.unwrap_err();
                assert_eq!((status.code() as i32).to_string(), code);
            }
            assert_eq!(site.echo.calls() - before, 2);
        }
        // A failure is no reason to make others call alone: the next success is stored.
        assert_eq!(runs_of_two(&site, || call("no", &[])).await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_pass_by() {
    Backend::on_each(async |store| {
        let site = Cached::behind(layer(store));
        let mut client = site.client().await;
        for _ in 0..2 {
            // Though the method is listed.
            let read = client.whole_stream(call("a", &[(REPLIES, "3")])).await;
            assert_eq!(read.unwrap().get_ref(), &["a"; 3]);
            let messages = || stream::iter(vec![Bytes::from_static(b"ab"); 3]);
            let reply = client.client_stream(messages()).await.unwrap();
            assert_eq!(
                (&reply.get_ref()[..], is_hit(reply.metadata())),
                (&b"ababab"[..], false)
            );
            let mut replies = client.bidi_stream(messages()).await.unwrap().into_inner();
            assert_eq!(replies.message().await.unwrap().unwrap(), "ab");
        }
        assert_eq!(site.echo.calls(), 6);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lifetime_is_that_of_the_metadata_or_of_the_layer() {
    Backend::on_each(async |store| {
        let ruled = Cached::behind(layer(store.clone()));
        let unruled = CacheLayer::new(store).name("unruled").grpc([UNARY]);
        let unruled = Cached::behind(unruled);
        for (message, lifetime, runs) in [
            ("1", "", [1, 2]),
            ("2", "max-age=60", [1, 1]),
            ("3", "no-store", [2, 2]),
            ("4", "private, max-age=60", [2, 2]),
        ] {
            let asked = || match lifetime {
                "" => call(message, &[]),
                lifetime => call(message, &[("x-lifetime", lifetime)]),
            };
            let [by_rule, alone] = runs;
            assert_eq!(runs_of_two(&ruled, asked).await, by_rule, "{lifetime}");
            assert_eq!(runs_of_two(&unruled, asked).await, alone, "{lifetime}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_with_a_credential_is_what_it_is_in_http() {
    Backend::on_each(async |store| {
        let site = Cached::behind(layer(store.clone()));
        let ada = ("authorization", "Bearer ada");
        assert_eq!(runs_of_two(&site, || call("1", &[])).await, 1);
        assert_eq!(runs_of_two(&site, || call("1", &[ada])).await, 2);
        let public = ("x-lifetime", "public, max-age=60");
        assert_eq!(runs_of_two(&site, || call("2", &[ada, public])).await, 1);

        let personal = CacheLayer::new(store)
            .ttl(Duration::from_secs(600))
            .per_user(|head| Some(head.headers.get("authorization")?.to_str().ok()?.to_owned()));
        let site = Cached::behind(personal.grpc([UNARY]));
        let bob = ("authorization", "Bearer bob");
        for user in [ada, bob] {
            assert_eq!(runs_of_two(&site, || call("1", &[user])).await, 1);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_calls_at_once_are_one_and_a_failure_is_for_one() {
    Backend::on_each(async |store| {
        let site = Cached::behind(layer(store));
        let client = site.client().await;
        let calls: Vec<_> = (0..50)
            .map(|_| {
                let mut client = client.clone();
                tokio::spawn(async move { client.unary(call("car", &[(HOLD, "1")])).await })
            })
            .collect();
        until(|| site.echo.calls() == 1).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        site.echo.release();
        let replies: Vec<_> = join_all(calls).await;
        let replies: Vec<Response<Bytes>> =
            replies.into_iter().map(|it| it.unwrap().unwrap()).collect();
        for reply in &replies {
            assert_same_reply(&replies[0], reply);
        }
        assert_eq!(site.echo.calls(), 1);

        // The status comes after the message. Whoever waits for it makes a call of its own.
        let calls: Vec<_> = (0..3)
            .map(|_| {
                let mut client = client.clone();
                let metadata = [(HOLD, "1"), (REPLIES, "1"), (FAIL, "14")];
                tokio::spawn(async move { client.whole_stream(call("bus", &metadata)).await })
            })
            .collect();
        until(|| site.echo.calls() == 2).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(site.echo.calls(), 2);
        site.echo.release();
        until(|| site.echo.calls() == 4).await;
        site.echo.release();
        until(|| site.echo.running() == 1).await;
        site.echo.release();
        for call in calls {
            let status = call.await.unwrap().unwrap_err();
            assert_eq!(status.code(), Code::Unavailable);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_by_path_or_tag_ends_what_is_stored() {
    Backend::on_each(async |store| {
        let site = Cached::behind(layer(store));
        let tagged = || call("car", &[("x-tag", "car:7")]);
        assert_eq!(runs_of_two(&site, tagged).await, 1);
        site.cache.purge_tag("car:8").await.unwrap();
        assert_eq!(runs_of_two(&site, tagged).await, 0);
        site.cache.purge_tag("car:7").await.unwrap();
        assert_eq!(runs_of_two(&site, tagged).await, 1);
        site.cache.purge_path("/tests.Echo/Other").await.unwrap();
        assert_eq!(runs_of_two(&site, tagged).await, 0);
        site.cache.purge_path(UNARY).await.unwrap();
        assert_eq!(runs_of_two(&site, tagged).await, 1);
        site.cache.purge_path("/tests.Echo/*").await.unwrap();
        assert_eq!(runs_of_two(&site, tagged).await, 1);
    })
    .await;
}

/// A rule may name the key of a call, and each user may have replies of his own: the path of the method still purges all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_reaches_the_replies_under_keys_of_a_rule_and_those_of_a_user() {
    Backend::on_each(async |store| {
        let layer = CacheLayer::new(store)
            .ttl(Duration::from_secs(600))
            .key(|head| Some(head.headers.get("x-tenant")?.to_str().ok()?.to_owned()))
            .per_user(|head| Some(head.headers.get("x-user")?.to_str().ok()?.to_owned()));
        let site = Cached::behind(layer.grpc([UNARY]));
        let ada = || call("car 7", &[("x-tenant", "1"), ("x-user", "ada")]);
        let bob = || call("car 7", &[("x-tenant", "1"), ("x-user", "bob")]);
        for request in [&ada as &dyn Fn() -> _, &bob] {
            assert_eq!(runs_of_two(&site, request).await, 1);
        }
        site.cache.purge_user("ada").await.unwrap();
        assert_eq!(runs_of_two(&site, bob).await, 0);
        assert_eq!(runs_of_two(&site, ada).await, 1);
        site.cache.purge_path(UNARY).await.unwrap();
        for request in [&ada as &dyn Fn() -> _, &bob] {
            assert_eq!(runs_of_two(&site, request).await, 1);
        }
    })
    .await;
}

/// A method that changes something is not listed, and its reply says what it made old.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_purges_what_its_handler_names_and_nothing_else() {
    Backend::on_each(async |store| {
        let site = Cached::behind(layer(store));
        let reading = || call("car", &[]);
        assert_eq!(runs_of_two(&site, reading).await, 1);
        let mut client = site.client().await;
        for (purges, runs) in [("", 0), ("/tests.Echo/Other", 0), (UNARY, 1)] {
            let mut changing = Request::new(stream::iter([Bytes::from_static(b"car")]));
            if !purges.is_empty() {
                let path = purges.parse().unwrap();
                changing.metadata_mut().insert("x-purges", path);
            }
            client.client_stream(changing).await.unwrap();
            assert_eq!(runs_of_two(&site, reading).await, runs, "{purges}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_long_and_empty_messages_and_binary_metadata_are_stored_byte_for_byte() {
    Backend::on_each(async |store| {
        let site = Cached::behind(layer(store));
        let plain = site.client().await;
        for (name, mut client) in [("plain", plain.clone()), ("gzip", plain.compressed())] {
            for message in messages() {
                let length = message.len();
                let request = || {
                    let mut call = Request::new(message.clone());
                    add_binary_metadata(call.metadata_mut());
                    call
                };
                let before = site.echo.calls();
                let first = client.unary(request()).await.unwrap();
                until(|| site.cache.stats().stored == site.echo.calls() as u64).await;
                let second = client.unary(request()).await.unwrap();
                assert!(!is_hit(first.metadata()) && is_hit(second.metadata()));
                assert_eq!(first.get_ref(), &message);
                assert_eq!(first.metadata().get_all_bin(BINARY).iter().count(), 2);
                assert_same_reply(&first, &second);
                // A client that accepts no compressed messages gets none.
                assert_eq!(site.echo.calls() - before, 1, "{name} {length}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_with_a_long_message_passes_by() {
    Backend::on_each(async |store| {
        let site = Cached::behind(layer(store).max_message(5));
        assert_eq!(runs_of_two(&site, || call("12345", &[])).await, 1);
        assert_eq!(runs_of_two(&site, || call("123456", &[])).await, 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_client_left_or_was_late_is_stored_all_the_same() {
    Backend::on_each(async |store| {
        let site = Cached::behind(layer(store));
        let mut client = site.client().await;
        let mut leaving = client.clone();
        let left = tokio::spawn(async move { leaving.unary(call("a", &[(HOLD, "1")])).await });
        until(|| site.echo.running() == 1).await;
        left.abort();
        site.echo.release();
        until(|| site.cache.stats().stored == 1).await;
        assert!(is_hit(
            client.unary(call("a", &[])).await.unwrap().metadata()
        ));

        let mut late = call("b", &[(HOLD, "1")]);
        late.set_timeout(Duration::from_millis(300));
        let status = client.unary(late).await.unwrap_err();
        let codes = [Code::DeadlineExceeded, Code::Cancelled];
        assert!(codes.contains(&status.code()), "{status:?}");
        site.echo.release();
        until(|| site.cache.stats().stored == 2).await;
        // The deadline of a call is no part of its key.
        let mut hit = call("b", &[]);
        hit.set_timeout(Duration::from_secs(20));
        assert!(is_hit(client.unary(hit).await.unwrap().metadata()));
        assert_eq!((site.echo.calls(), site.echo.running()), (2, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_layer_stores_calls_and_pages_on_one_port() {
    Backend::on_each(async |store| {
        let echo = Echo::default();
        let layer = layer(store);
        let cache = layer.handle();
        let app = Routes::new(echo.clone())
            .into_axum_router()
            .route("/page", get(async || "a page"))
            .layer(layer);
        let server = GrpcServer::axum(app).await;
        let mut client = EchoClient::new(server.channel().await);
        let first = client.unary(call("a", &[])).await.unwrap();
        until(|| cache.stats().stored == 1).await;
        let second = client.unary(call("a", &[])).await.unwrap();
        assert!(is_hit(second.metadata()));
        assert_same_reply(&first, &second);

        let page = async || {
            let mut http = Client::connect(server.address()).await;
            let request = http::Request::get("/page")
                .body(Default::default())
                .unwrap();
            http.send(request).await
        };
        page().await;
        until(|| cache.stats().stored == 2).await;
        let hit = page().await;
        let status = &hit.headers()[HeaderName::from_static("cache-status")];
        assert!(status.to_str().unwrap().contains("; hit"), "{status:?}");
        assert_eq!(echo.calls(), 1);
    })
    .await;
}
