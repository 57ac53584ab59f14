//! A user of Redis with exactly the documented access rules can do everything, and with one rule less cannot.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use cache_layer::CacheLayer;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use layer_store::{
    Arg, Context, FindingKind, Identity, Key, KeySpace, Op, Options, RedisStore, Scan, SharedStore,
    StoreExt, Ttl,
    conformance::{CASES, Trial, programs::LIMITED},
};
use lock_layer::{ClientScope, IdempotencyLayer, LockLayer};
use rate_limit_layer::{Quota, RateLimitLayer};
use tests::{RedisServer, patient_store_at};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_documented_rules_are_enough_for_the_conformance_kit_and_all_layers() {
    let server = RedisServer::start();
    let store = store(&server, RedisStore::ACCESS_RULES).await;
    for case in CASES {
        let result = case.run(&Trial::new(store.clone())).await;
        result.unwrap_or_else(|error| panic!("{}: {error:?}", case.name()));
    }
    everything(&store).await.unwrap();
    let kinds: Vec<_> = store.doctor().iter().map(|found| found.kind).collect();
    // INFO is optional, and without it nothing is known.
    assert!(kinds.contains(&FindingKind::UnknownVersion), "{kinds:?}");
    assert!(!kinds.contains(&FindingKind::NoScripts), "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_the_optional_rules_the_server_tells_what_it_is() {
    let server = RedisServer::start();
    let rules = [RedisStore::ACCESS_RULES, RedisStore::OPTIONAL_ACCESS_RULES].join(" ");
    let store = store(&server, &rules).await;
    everything(&store).await.unwrap();
    let kinds: Vec<_> = store.doctor().iter().map(|found| found.kind).collect();
    assert!(!kinds.contains(&FindingKind::UnknownVersion), "{kinds:?}");
    assert!(kinds.contains(&FindingKind::NoPersistence), "{kinds:?}");
    let info = layer_store::Store::info(&store);
    assert!(info.incarnation.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_any_one_of_the_rules_something_fails() {
    let server = RedisServer::start();
    for rule in RedisStore::ACCESS_RULES.split(' ') {
        let others: Vec<_> = RedisStore::ACCESS_RULES
            .split(' ')
            .filter(|other| *other != rule)
            .collect();
        allow(&server, &others.join(" "));
        // A script that is there needs no EVAL.
        let () = server.command(&["SCRIPT", "FLUSH"]);
        // What could not be given back with one rule less is not in the way of the next.
        let () = server.command(&["FLUSHALL"]);
        let Ok(store) = layer_store::connect_with(&url(&server), options()).await else {
            assert_eq!(rule, "+select");
            continue;
        };
        if rule == "+getrange" {
            // The program of a record fails then, and plain commands, which are not atomic, write it.
            everything(&store).await.unwrap();
            continue;
        }
        assert!(
            everything(&store).await.is_err(),
            "nothing needs {rule}: take it out of the table"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_user_without_scripts_reads_the_cache_and_is_told_what_fails() {
    let server = RedisServer::start();
    let rules = RedisStore::ACCESS_RULES
        .replace(" +evalsha", "")
        .replace(" +eval", "");
    let store = store(&server, &rules).await;
    let findings = store.doctor();
    let finding = findings
        .iter()
        .find(|found| found.kind == FindingKind::NoScripts);
    let text = &finding.unwrap().text;
    assert!(
        text.contains("NOPERM") && text.contains("rate limits"),
        "{text}"
    );

    cache(&store).await.unwrap();
    keyed(&store).await.unwrap_err();
    let error = plain(&store).await.unwrap_err();
    // The cause is in the report, without a key.
    assert!(
        error.contains("NOPERM") && !error.contains("{ada}"),
        "{error}"
    );
}

/// Makes the user of [`url`] one with these rules alone.
fn allow(server: &RedisServer, rules: &str) {
    let mut words = vec!["ACL", "SETUSER", "app", "reset", "on", ">secret", "~shop:*"];
    words.extend(rules.split(' '));
    let () = server.command(&words);
}

fn url(server: &RedisServer) -> String {
    format!("{}/1", server.url_as("app", "secret"))
}

fn options() -> Options {
    Options::new()
        .prefix("shop")
        .deadline(Duration::from_secs(10))
}

async fn store(server: &RedisServer, rules: &str) -> SharedStore {
    allow(server, rules);
    patient_store_at(&url(server), options()).await
}

/// Uses every operation, and each layer once.
async fn everything(store: &SharedStore) -> Result<(), String> {
    plain(store).await?;
    limit(store).await?;
    lock(store).await?;
    keyed(store).await?;
    cache(store).await
}

async fn plain(store: &SharedStore) -> Result<(), String> {
    let text = |error: layer_store::StoreError| error.report().to_string();
    let space = KeySpace::new("data", "all");
    let ada = Identity::from("ada");
    let key = Key::new(&space, ada.as_ref());
    let (one, two) = ("1".into(), "2".into());
    store.ping(&CX).await.map_err(text)?;
    store.put(&CX, &key, &one, TTL).await.map_err(text)?;
    store.get(&CX, &key).await.map_err(text)?;
    store.get_many(&CX, &[key]).await.map_err(text)?;
    store.touch(&CX, &key, TTL, true).await.map_err(text)?;
    store.touch(&CX, &key, TTL, false).await.map_err(text)?;
    store.apply(&add(&key, None), &CX).await.map_err(text)?;
    let scan = Scan::new(&space);
    store.apply(&Op::Scan(&scan), &CX).await.map_err(text)?;
    store.delete_many(&CX, &[key]).await.map_err(text)?;
    store
        .put_if_absent(&CX, &key, &one, TTL)
        .await
        .map_err(text)?;
    store
        .compare_and_set(&CX, &key, &one, &two, TTL)
        .await
        .map_err(text)?;
    store
        .apply(&add(&key, Some(TTL)), &CX)
        .await
        .map_err(text)?;
    store
        .compare_and_delete(&CX, &key, &two)
        .await
        .map_err(text)?;
    let args = [Arg::Int(100), Arg::Int(60_000)];
    let run = Op::Run {
        program: &LIMITED,
        keys: &[key],
        args: &args,
    };
    let replies = store.batch(&CX, &[run]).await.map_err(text)?;
    replies
        .into_iter()
        .try_for_each(|reply| reply.map(drop).map_err(text))
}

fn add<'a>(key: &'a Key<'a>, ttl: Option<Ttl>) -> Op<'a> {
    Op::Add {
        key,
        delta: 1,
        ttl,
        max: None,
    }
}

async fn limit(store: &SharedStore) -> Result<(), String> {
    let quota = Quota::per_minute(100).fail_closed();
    let layer = RateLimitLayer::new(store.clone(), quota.by(rate_limit_layer::header("x-user")));
    expect("a limit", layer.layer(handler())).await
}

async fn lock(store: &SharedStore) -> Result<(), String> {
    let locks = lock_layer::Locks::new(store.clone());
    let group = || locks.group("car:7");
    let held = group().try_acquire("mon").await;
    let held = held.map_err(|error| error.to_string())?;
    // One that is held is the only one whose end is asked for.
    let refused = group().try_acquire("mon").await;
    if !matches!(refused, Err(lock_layer::AcquireError::Busy { .. })) {
        return Err(format!("{refused:?}"));
    }
    let released = held.release().await;
    released.map_err(|error| error.to_string())?;
    let layer = LockLayer::new(store.clone(), lock_layer::header("x-user"));
    expect("a lock", layer.layer(handler())).await
}

async fn keyed(store: &SharedStore) -> Result<(), String> {
    let by_user =
        ClientScope::by(|head| Some(Identity::from(head.headers.get("x-user")?.as_bytes())));
    let layer = IdempotencyLayer::at_most_once(store.clone(), by_user);
    let key = format!("\"{}\"", tests::unique());
    let service = layer.layer(handler());
    ask("an idempotency key", service.clone(), &key).await?;
    // The record of the first, which only a script writes.
    let again = ask("an idempotency key", service, &key).await?;
    match again.contains_key("idempotency-replayed") {
        true => Ok(()),
        false => Err("the record was not written".into()),
    }
}

async fn cache(store: &SharedStore) -> Result<(), String> {
    let layer = CacheLayer::new(store.clone()).ttl(Duration::from_secs(60));
    let pages = layer.handle();
    expect("a cache", layer.layer(handler())).await?;
    let purged = pages.purge_path("/cars/*").await;
    purged.map_err(|error| format!("{error:?}"))?;
    Ok(())
}

type Handler = BoxCloneSyncService<Request<Full<Bytes>>, Response<Full<Bytes>>, Infallible>;

fn handler() -> Handler {
    let handler = |_| async { Ok::<_, Infallible>(Response::new(Full::from("a car"))) };
    BoxCloneSyncService::new(service_fn(handler))
}

/// Sends one request, which must be answered by the handler.
async fn expect<S, B>(what: &str, service: S) -> Result<(), String>
where
    S: tower::Service<Request<Full<Bytes>>, Response = Response<B>>,
    S::Error: std::fmt::Debug,
{
    let key = format!("\"{}\"", tests::unique());
    ask(what, service, &key).await.map(drop)
}

/// Sends one request with an idempotency key. Returns the head of the response.
async fn ask<S, B>(what: &str, service: S, key: &str) -> Result<HeaderMap, String>
where
    S: tower::Service<Request<Full<Bytes>>, Response = Response<B>>,
    S::Error: std::fmt::Debug,
{
    let mut request = Request::new(Full::default());
    *request.uri_mut() = "http://shop.example/cars/7".parse().expect("a URI");
    *request.method_mut() = match what {
        "a cache" => http::Method::GET,
        _ => http::Method::POST,
    };
    for (name, value) in [("x-user", "ada"), ("idempotency-key", key)] {
        let value = HeaderValue::from_str(value).expect("a value");
        request.headers_mut().insert(name, value);
    }
    let response = service
        .oneshot(request)
        .await
        .expect("no error is possible");
    match response.status() {
        StatusCode::OK => Ok(response.into_parts().0.headers),
        status => Err(format!("{what} is {status}")),
    }
}

const CX: Context = Context::new("test");
const TTL: Ttl = Ttl::from_millis(60_000).unwrap();
