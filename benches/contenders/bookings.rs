use std::{convert::Infallible, future::poll_fn, pin::pin};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use tokio::runtime::Runtime;
use tower_service::Service;

use crate::{
    cached::read,
    request::{call, poll},
};

/// Makes requests with an idempotency key, as a server does, but for the time of reading them.
#[derive(Debug)]
pub struct Bookings {
    uri: Uri,
    fields: [(HeaderName, HeaderValue); 3],
    keys: Keys,
}

/// The keys of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// A new one for each request, counted from this number.
    New(u64),
    /// Each request has the one of the first.
    Repeated,
}

impl Bookings {
    /// Makes requests with these keys.
    pub fn new(keys: Keys) -> Self {
        let fields = [
            (header::HOST, "shop.example"),
            (header::CONTENT_TYPE, "application/json"),
            (header::USER_AGENT, "curl/8.5.0"),
        ];
        Self {
            uri: Uri::from_static("/cars/7/bookings"),
            fields: fields.map(|(name, value)| (name, HeaderValue::from_static(value))),
            keys,
        }
    }

    /// Makes the next one.
    #[inline(never)]
    pub fn make(&mut self) -> Request<Body> {
        let number = match &mut self.keys {
            Keys::New(next) => {
                *next += 1;
                *next
            }
            Keys::Repeated => 0,
        };
        let mut request = Request::new(Body::from(BODY));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        for (name, value) in &self.fields {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        let headers = request.headers_mut();
        headers.insert(
            KEY.clone(),
            numbered(*b"00000000-0000-4000-8000-000000000000", number),
        );
        // axum-idempotent protects nobody without a session, and walks through all keys of one. The others do not look at it.
        headers.insert(
            header::COOKIE,
            numbered(*b"session=AAAAAAAAA000000000000A", number / 2),
        );
        request
    }
}

/// Writes a number into the last twelve zeros of a text.
fn numbered<const N: usize>(mut text: [u8; N], number: u64) -> HeaderValue {
    let mut rest = number;
    let zeros = text.iter_mut().rev().filter(|byte| **byte == b'0');
    for digit in zeros.take(12) {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    HeaderValue::from_bytes(&text).expect("it is ASCII")
}

/// Sends a number of requests, and reads the bodies of the responses. This is what is counted. Never inlined, so that a profiler
/// can find it.
///
/// # Panics
///
/// If a body has another length than `length`.
#[inline(never)]
pub fn drive_bookings<S, B>(
    runtime: &Runtime,
    service: &mut S,
    requests: u32,
    keys: Keys,
    length: usize,
) where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = Bytes>,
{
    runtime.block_on(book(service, requests, keys, length));
}

/// Sends a number of requests, one after the other, and reads the bodies of the responses.
///
/// # Panics
///
/// If a body has another length than `length`.
pub async fn book<S, B>(service: &mut S, requests: u32, keys: Keys, length: usize)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = Bytes>,
{
    let mut made = Bookings::new(keys);
    for _ in 0..requests {
        let response = answer(service, made.make()).await;
        assert_eq!(read(response.into_body()), length, "the whole page");
    }
}

async fn answer<S, B>(service: &mut S, request: Request<Body>) -> Response<B>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    let Ok(()) = poll_fn(|cx| service.poll_ready(cx)).await;
    let mut answer = pin!(call(service, request));
    let Ok(response) = poll_fn(|cx| poll(answer.as_mut(), cx)).await;
    response
}

static KEY: HeaderName = HeaderName::from_static("idempotency-key");
const BODY: &str = r#"{"from":"2026-12-01","days":3}"#;
