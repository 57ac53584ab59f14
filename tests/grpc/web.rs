//! Clients of gRPC-Web: what passes, what is stored and replayed, and what they read of a refusal.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use cache_layer::{CacheLayer, GrpcCacheLayer};
use http::{Request, Response};
use hyper_util::rt::TokioExecutor;
use lock_layer::{ClientScope, IdempotencyLayer, KeyExtractor, LockLayer, header};
use rate_limit_layer::{InFlightLayer, MaxInFlight, Quota, RateLimitLayer};
use tests::{
    Client,
    grpc::{Echo, EchoClient, FAIL, GrpcServer, REPLIES, WebReply, until},
};
use tonic::{Code, Status, service::Routes};
use tonic_web::{GrpcWebClientLayer, GrpcWebLayer};
use tower::ServiceBuilder;

use super::{assert_told, memory, message, refusals::down};

const KINDS: [&str; 2] = ["application/grpc-web+proto", "application/grpc-web-text"];

/// Sends a message of five bytes and reads what comes back.
async fn post(
    server: &GrpcServer,
    method: &str,
    kind: &str,
    fields: &[(&str, &str)],
) -> Response<Bytes> {
    let frame = "\0\0\0\0\x05hello";
    let body = match kind.contains("text") {
        false => frame.to_owned(),
        true => STANDARD.encode(frame),
    };
    let mut request = Request::post(format!("/tests.Echo/{method}"))
        .header("content-type", kind)
        .header("accept", kind)
        .header("x-grpc-web", "1");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let mut client = Client::connect(server.address()).await;
    let response = client.send(request.body(body).unwrap()).await;
    assert_eq!(response.status(), 200);
    response
}

/// Serves an echo for gRPC-Web, with a layer outside of what translates it, or inside.
macro_rules! serve {
    ($echo:expr, outside $layer:expr) => {{
        let routes = Routes::new($echo.clone()).into_axum_router();
        GrpcServer::axum(routes.layer(GrpcWebLayer::new()).layer($layer)).await
    }};
    ($echo:expr, inside $layer:expr) => {{
        let routes = Routes::new($echo.clone()).into_axum_router();
        GrpcServer::axum(routes.layer($layer).layer(GrpcWebLayer::new())).await
    }};
}

fn cache() -> GrpcCacheLayer {
    CacheLayer::new(memory())
        .ttl(Duration::from_secs(600))
        .grpc(["/tests.Echo/Unary"])
}

fn idempotency() -> IdempotencyLayer {
    IdempotencyLayer::retry_safe(memory(), ClientScope::global()).optional_key()
}

/// All layers at once, of which none has a reason to refuse.
macro_rules! layers {
    () => {
        ServiceBuilder::new()
            .layer(RateLimitLayer::new(
                memory(),
                Quota::per_second(10_000).fail_open(),
            ))
            .layer(InFlightLayer::new(
                memory(),
                MaxInFlight::new(1_000).fail_open(),
            ))
            .layer(LockLayer::new(memory(), header("x-none")))
            .layer(CacheLayer::new(memory()))
            .into_inner()
    };
}

#[tokio::test]
async fn calls_pass_byte_for_byte() {
    let echo = Echo::default();
    let bare = serve!(echo, outside tower::layer::util::Identity::new());
    let outside = serve!(echo, outside layers!());
    let inside = serve!(echo, inside layers!());
    for method in ["Unary", "ServerStream"] {
        for fails in ["0", "14"] {
            for kind in KINDS {
                let fields = [(FAIL, fails), ("x-bytes-bin", "AP8")];
                let expected = post(&bare, method, kind, &fields).await;
                let read = WebReply::read(&expected);
                assert_eq!(read.trailers["grpc-status"], fails);
                for server in [&outside, &inside] {
                    let passed = post(server, method, kind, &fields).await;
                    assert_eq!(passed.body(), expected.body());
                    let bytes =
                        |response: &Response<_>| response.headers().get("x-bytes-bin").cloned();
                    assert_eq!(bytes(&passed), bytes(&expected));
                    assert_eq!(WebReply::read(&passed).messages, read.messages);
                }
            }
        }
    }
}

/// The cache sees gRPC, and what it stored becomes gRPC-Web again: bytes or text, as each client asks.
#[tokio::test]
async fn a_stored_reply_is_sent_byte_for_byte() {
    let echo = Echo::default();
    let bare = serve!(echo, inside tower::layer::util::Identity::new());
    let layer = cache();
    let cached = layer.handle();
    let server = serve!(echo, inside layer);
    let mut expected = Vec::new();
    for kind in KINDS {
        expected.push(post(&bare, "Unary", kind, &[]).await);
    }
    let before = echo.calls();
    for run in 0..3 {
        for (kind, expected) in KINDS.iter().zip(&expected) {
            let reply = post(&server, "Unary", kind, &[]).await;
            assert_eq!(reply.body(), expected.body(), "{kind} {run}");
            assert_eq!(
                reply.headers()["content-type"],
                expected.headers()["content-type"]
            );
            until(|| cached.stats().stored == 1).await;
        }
    }
    assert_eq!(echo.calls() - before, 1);
}

/// A cache outside sees no trailers, and stores nothing.
#[tokio::test]
async fn a_cache_outside_of_the_translation_is_passed_by() {
    let echo = Echo::default();
    let server = serve!(echo, outside cache());
    for kind in KINDS {
        let before = echo.calls();
        let first = post(&server, "Unary", kind, &[]).await;
        let second = post(&server, "Unary", kind, &[]).await;
        assert_eq!(first.body(), second.body());
        assert_eq!(WebReply::read(&first).messages, ["hello"]);
        assert_eq!(echo.calls() - before, 2);
    }
}

/// What a call came to is the status in its frame of trailers, on both sides of what makes that.
#[tokio::test]
async fn a_replay_is_sent_byte_for_byte_and_a_failed_call_runs_again() {
    let echo = Echo::default();
    let bare = serve!(echo, inside tower::layer::util::Identity::new());
    let servers = [
        serve!(echo, inside idempotency()),
        serve!(echo, outside idempotency()),
    ];
    for (server, kind) in servers
        .iter()
        .flat_map(|server| KINDS.map(|kind| (server, kind)))
    {
        for (key, method, fails, runs) in [
            ("ok", "Unary", "0", 1),
            ("exists", "Unary", "6", 1),
            ("exists-after", "ServerStream", "6", 1),
            ("gone", "Unary", "14", 3),
            ("gone-after", "ServerStream", "14", 3),
        ] {
            let fields = [(FAIL, fails), (REPLIES, "1")];
            let expected = post(&bare, method, kind, &fields).await;
            let before = echo.calls();
            let key = format!("{key}-{}", kind.len());
            for run in 1..=3 {
                let fields = [fields[0], fields[1], ("idempotency-key", &*key)];
                let reply = post(server, method, kind, &fields).await;
                assert_eq!(reply.body(), expected.body(), "{key} {run}");
                let trailers = WebReply::read(&reply).trailers;
                assert_eq!(trailers["grpc-status"], fails);
                let is_replay = reply.headers().contains_key("idempotency-replayed");
                assert_eq!(is_replay, runs == 1 && run > 1, "{key} {run}");
            }
            assert_eq!(echo.calls() - before, runs, "{key}");
        }
    }
}

/// A refusal is a whole frame of trailers, with the details that a client of gRPC reads, on both sides of the translation.
#[tokio::test]
async fn each_layer_refuses_by_a_frame_of_trailers() {
    let echo = Echo::default();
    macro_rules! assert_refuses {
        ($layer:expr, $code:expr, $reason:expr) => {
            for server in [serve!(echo, outside $layer), serve!(echo, inside $layer)] {
                for kind in KINDS {
                    let refused = post(&server, "Unary", kind, &[("x-user", "ada")]).await;
                    assert!(refused.headers()["content-type"].to_str().unwrap().starts_with(kind));
                    let reply = WebReply::read(&refused);
                    assert!(reply.messages.is_empty());
                    let status = Status::from_header_map(&reply.trailers).unwrap();
                    assert_told(&status, $code, $reason);
                }
            }
        };
    }
    let spent = RateLimitLayer::new(memory(), Quota::per_hour(1).fail_closed());
    let used = serve!(echo, outside spent.clone());
    post(&used, "Unary", KINDS[0], &[]).await;
    assert_refuses!(spent.clone(), Code::ResourceExhausted, "QUOTA_EXCEEDED");
    assert_refuses!(
        RateLimitLayer::new(down(), Quota::per_hour(1).fail_closed()),
        Code::Unavailable,
        "LIMIT_UNAVAILABLE"
    );
    assert_refuses!(
        InFlightLayer::new(down(), MaxInFlight::new(1).fail_closed()),
        Code::Unavailable,
        "LIMIT_UNAVAILABLE"
    );
    assert_refuses!(
        LockLayer::new(memory(), header("x-car").or_refuse()),
        Code::InvalidArgument,
        "LOCK_KEY_MISSING"
    );
    assert_refuses!(
        LockLayer::new(down(), header("x-user")),
        Code::Unavailable,
        "LOCK_UNAVAILABLE"
    );
    assert_refuses!(
        IdempotencyLayer::retry_safe(memory(), ClientScope::global()),
        Code::InvalidArgument,
        "KEY_MISSING"
    );
    assert_eq!(echo.calls(), 1);

    // The cache has nothing to do with gRPC-Web, and refuses what is translated.
    let server = serve!(echo, inside cache());
    for kind in KINDS {
        let stored_only = [("cache-control", "only-if-cached")];
        let refused = WebReply::read(&post(&server, "Unary", kind, &stored_only).await);
        let status = Status::from_header_map(&refused.trailers).unwrap();
        assert_told(&status, Code::FailedPrecondition, "NOT_STORED");
    }
    assert_eq!(echo.calls(), 1);
}

/// tonic's own client of gRPC-Web reads the last frame of the body.
#[tokio::test]
async fn a_client_of_grpc_web_reads_the_status() {
    let layer = RateLimitLayer::new(memory(), Quota::per_hour(1).fail_open());
    let echo = Echo::default();
    let app = Routes::new(echo.clone())
        .into_axum_router()
        .layer((layer, GrpcWebLayer::new()));
    let server = GrpcServer::axum(app).await;
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http();
    let service = ServiceBuilder::new()
        .layer(GrpcWebClientLayer::new())
        .service(client);
    let origin = format!("http://{}", server.address()).parse().unwrap();
    let mut client = EchoClient::with_origin(service, origin);
    assert_eq!(client.unary(message()).await.unwrap().get_ref(), "hello");
    let refused = client.unary(message()).await.unwrap_err();
    assert_told(&refused, Code::ResourceExhausted, "QUOTA_EXCEEDED");
    assert_eq!(refused.metadata().get("retry-after").unwrap(), "3600");
    assert_eq!(echo.calls(), 1);
}
