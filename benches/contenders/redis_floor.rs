use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderName, Request, Response};
use http_body_util::BodyExt;
use redis::aio::MultiplexedConnection;
use tower_service::Service;

/// The minimum of idempotency on Redis: one command claims a key or brings the body of its response, and one writes it.
///
/// It looks at nothing of a request but its key, and keeps nothing of a response but its body.
#[derive(Clone, Debug)]
pub struct RedisFloor<S> {
    inner: S,
    connection: MultiplexedConnection,
}

/// The minimum of a lock on Redis: `SET NX PX`, and a script that deletes it if it is still one's own. It has no fencing token, is
/// not renewed, and belongs to its one task.
#[derive(Clone, Debug)]
pub struct PlainLock {
    connection: MultiplexedConnection,
    release: String,
}

impl<S> RedisFloor<S> {
    /// Makes one around `inner`.
    pub fn new(inner: S, connection: MultiplexedConnection) -> Self {
        Self { inner, connection }
    }
}

impl<S> Service<Request<Body>> for RedisFloor<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (mut inner, mut connection) = (self.inner.clone(), self.connection.clone());
        Box::pin(async move {
            let key = request.headers().get(&KEY).expect("a key").clone();
            let claim = redis::cmd("SET")
                .arg(key.as_bytes())
                .arg("")
                .arg("PX")
                .arg(DAY)
                .arg("NX")
                .arg("GET")
                .to_owned();
            let kept: Option<Vec<u8>> = claim
                .query_async(&mut connection)
                .await
                .expect("the server runs");
            if let Some(body) = kept {
                return Ok(Response::new(Body::from(body)));
            }
            let response = inner.call(request).await?;
            let (parts, body) = response.into_parts();
            let body: Bytes = body.collect().await.expect("a whole body").to_bytes();
            let keep = redis::cmd("SET")
                .arg(key.as_bytes())
                .arg(&body[..])
                .arg("PX")
                .arg(DAY)
                .to_owned();
            let () = keep
                .query_async(&mut connection)
                .await
                .expect("the server runs");
            Ok(Response::from_parts(parts, Body::from(body)))
        })
    }
}

impl PlainLock {
    /// Makes one, and loads its script.
    ///
    /// # Panics
    ///
    /// If the server does not run.
    pub async fn new(mut connection: MultiplexedConnection) -> Self {
        let mut load = redis::cmd("SCRIPT");
        let release = load.arg("LOAD").arg(RELEASE);
        let release = release.query_async(&mut connection).await;
        Self {
            release: release.expect("the server runs"),
            connection,
        }
    }

    /// Takes the lock and gives it back, a number of times.
    ///
    /// # Panics
    ///
    /// If the server does not run, or somebody else has the lock.
    pub async fn cycle(mut self, times: u32) {
        for token in 0..times {
            let take = redis::cmd("SET")
                .arg("plain")
                .arg(token)
                .arg("NX")
                .arg("PX")
                .arg(30_000)
                .to_owned();
            let taken: Option<String> = take
                .query_async(&mut self.connection)
                .await
                .expect("the server runs");
            assert!(taken.is_some(), "somebody else has it");
            let give_back = redis::cmd("EVALSHA")
                .arg(&self.release)
                .arg(1)
                .arg("plain")
                .arg(token)
                .to_owned();
            let given_back: u32 = give_back
                .query_async(&mut self.connection)
                .await
                .expect("the server runs");
            assert_eq!(given_back, 1);
        }
    }
}

static KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// In ms.
const DAY: u32 = 86_400_000;
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";
