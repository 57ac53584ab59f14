//! The layers in the order that the docs ask for: idempotency outside the lock, and inside compression.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use lock_layer::{
    ClientScope, IdempotencyLayer, LockLayer, Locks, header,
    store::{MemoryStore, SharedStore},
};
use tower::{BoxError, Layer, ServiceBuilder, ServiceExt, service_fn};

fn post(key: &str) -> Request<Full<Bytes>> {
    let request = Request::post("/bookings").header("idempotency-key", key);
    let request = request.header("x-car", "7").body(Full::default());
    request.unwrap()
}

async fn text<B>(response: Response<B>) -> String
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    let body = response.into_body().collect().await.map_err(Into::into);
    String::from_utf8(body.unwrap().to_bytes().to_vec()).unwrap()
}

/// A request that the lock refuses has done nothing: under its key it may be sent again, and then it runs.
#[tokio::test]
async fn a_booking_that_found_its_day_locked_is_made_with_the_next_try() {
    type Mode = fn(SharedStore, ClientScope) -> IdempotencyLayer;
    let modes: [Mode; 2] = [IdempotencyLayer::at_most_once, IdempotencyLayer::retry_safe];
    for mode in modes {
        let store = SharedStore::new(MemoryStore::new());
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = runs.clone();
        let service = ServiceBuilder::new()
            .layer(mode(store.clone(), ClientScope::global()))
            .layer(LockLayer::new(store.clone(), header("x-car")).name("car"))
            .service(service_fn(move |_: Request<Full<Bytes>>| {
                counted.fetch_add(1, SeqCst);
                async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("booked"))) }
            }));
        let car = LockLayer::new(store.clone(), header("x-car")).name("car");
        let busy = car.layer(service_fn(|_: Request<Full<Bytes>>| async {
            std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>().await
        }));
        let holder = tokio::spawn(busy.oneshot(post("other")));
        tokio::task::yield_now().await;

        let refused = service.clone().oneshot(post("1")).await.unwrap();
        assert_eq!(refused.status(), StatusCode::CONFLICT);
        assert!(refused.headers().contains_key("retry-after"));
        holder.abort();
        assert!(holder.await.unwrap_err().is_cancelled());
        tokio::task::yield_now().await;
        assert_eq!(runs.load(SeqCst), 0);
        for replayed in [false, true] {
            let booked = service.clone().oneshot(post("1")).await.unwrap();
            assert_eq!(booked.status(), StatusCode::OK);
            let is_replay = booked.headers().contains_key("idempotency-replayed");
            assert_eq!(is_replay, replayed);
        }
        assert_eq!(runs.load(SeqCst), 1);
        // The layers' locks are apart from those of others.
        assert!(Locks::new(store).group("7").try_acquire("-").await.is_ok());
    }
}

/// A compression outside encodes a replay for the client that asks now, whatever the first one had asked for.
#[tokio::test]
async fn a_replay_comes_in_the_encoding_that_its_client_asks_for() {
    let store = SharedStore::new(MemoryStore::new());
    let once = IdempotencyLayer::retry_safe(store, ClientScope::global());
    let inner = once.layer(service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("booked")))
    }));
    // One that writes texts backwards.
    let service = service_fn(move |request: Request<Full<Bytes>>| {
        let (inner, backwards) = (inner.clone(), request.headers().contains_key("x-backwards"));
        async move {
            let (mut head, body) = inner.oneshot(request).await?.into_parts();
            let bytes = body.collect().await?.to_bytes();
            let bytes = match backwards {
                true => bytes.iter().rev().copied().collect(),
                false => bytes,
            };
            if backwards {
                let encoding = HeaderValue::from_static("backwards");
                head.headers.insert("content-encoding", encoding);
            }
            Ok::<_, BoxError>(Response::from_parts(head, Full::new(bytes)))
        }
    });
    for (backwards, expected) in [(true, "dekoob"), (false, "booked"), (true, "dekoob")] {
        let mut request = post("1");
        if backwards {
            let asked = HeaderValue::from_static("yes");
            request.headers_mut().insert("x-backwards", asked);
        }
        let response = service.clone().oneshot(request).await.unwrap();
        let encoded = response.headers().contains_key("content-encoding");
        assert_eq!(encoded, backwards);
        assert_eq!(text(response).await, expected);
    }
}
