use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    hash::{BuildHasherDefault, Hasher},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{body::Body, extract::ConnectInfo};
use http::{HeaderValue, Request, Response, StatusCode, header::RETRY_AFTER};
use parking_lot::Mutex;
use rate_limit_layer::Quota;
use tower_layer::Layer;
use tower_service::Service;

/// A minimal limiter by address: sharded maps of theoretical arrival times in nanoseconds, unbounded, with
/// `Retry-After` as its only header. The distance to it is the cost of everything else that a product must do.
#[derive(Clone)]
pub struct FloorLayer {
    shared: Arc<Shared>,
    headers: bool,
}

struct Shared {
    shards: Vec<Mutex<HashMap<u32, u64, BuildHasherDefault<Spread>>>>,
    clock: quanta::Clock,
    started: u64,
    interval: u64,
    tolerance: u64,
    limit: u64,
}

impl FloorLayer {
    /// Enforces `quota`, with the three rate limit headers or without.
    pub fn new(quota: Quota, headers: bool) -> Self {
        let clock = quanta::Clock::new();
        let interval = quota.window().as_nanos() as u64 / quota.limit();
        Self {
            shared: Arc::new(Shared {
                shards: (0..1024).map(|_| Mutex::default()).collect(),
                started: clock.raw(),
                clock,
                interval,
                tolerance: interval * quota.capacity(),
                limit: quota.limit(),
            }),
            headers,
        }
    }
}

impl std::fmt::Debug for FloorLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FloorLayer")
    }
}

impl Shared {
    /// Charges one request. Returns what is left of the burst, or the wait in nanoseconds.
    #[inline]
    fn check(&self, address: u32) -> Result<u64, u64> {
        let now = self.tolerance + self.clock.delta_as_nanos(self.started, self.clock.raw());
        let mut hasher = Spread::default();
        hasher.write_u32(address);
        let mut shard = self.shards[hasher.finish() as usize >> 7 & 1023].lock();
        let time = shard.entry(address).or_insert(now);
        let next = (*time).max(now) + self.interval;
        if next - now > self.tolerance {
            return Err(next - now - self.tolerance);
        }
        *time = next;
        Ok((self.tolerance - (next - now)) / self.interval)
    }
}

impl<S> Layer<S> for FloorLayer {
    type Service = Floor<S>;

    fn layer(&self, inner: S) -> Floor<S> {
        Floor {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service of a [`FloorLayer`].
#[derive(Clone, Debug)]
pub struct Floor<S> {
    inner: S,
    layer: FloorLayer,
}

impl<S> Service<Request<Body>> for Floor<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = FloorFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<Body>) -> Self::Future {
        let peer = req.extensions().get::<ConnectInfo<SocketAddr>>();
        let address = match peer.map(|peer| peer.0.ip()) {
            Some(IpAddr::V4(address)) => address.to_bits(),
            _ => 0,
        };
        let headers = self.layer.headers.then_some(self.layer.shared.limit);
        match self.layer.shared.check(address) {
            Ok(left) => {
                FloorFuture::Calling(self.inner.call(req), headers.map(|limit| (limit, left)))
            }
            Err(wait) => FloorFuture::Refused(Some(refused(wait, headers))),
        }
    }
}

/// The future of a [`Floor`].
#[derive(Debug)]
pub enum FloorFuture<F> {
    /// Admitted, with limit and remaining for the headers.
    Calling(F, Option<(u64, u64)>),
    /// Refused.
    Refused(Option<Response<Body>>),
}

impl<F> Future for FloorFuture<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Calling(call, headers) => {
                let Ok(mut response) = ready!(Pin::new(call).poll(cx));
                if let Some((limit, left)) = *headers {
                    write(&mut response, limit, left, 1);
                }
                Poll::Ready(Ok(response))
            }
            Self::Refused(response) => Poll::Ready(Ok(response.take().expect("polled once"))),
        }
    }
}

fn refused(wait: u64, headers: Option<u64>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    let seconds = wait.div_ceil(1_000_000_000);
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(seconds));
    if let Some(limit) = headers {
        write(&mut response, limit, 0, seconds);
    }
    response
}

fn write(response: &mut Response<Body>, limit: u64, left: u64, reset: u64) {
    let headers = response.headers_mut();
    headers.insert("x-ratelimit-limit", HeaderValue::from(limit));
    headers.insert("x-ratelimit-remaining", HeaderValue::from(left));
    headers.insert("x-ratelimit-reset", HeaderValue::from(reset));
}

/// A hash of one multiplication, which is enough for addresses.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are numbers")
    }

    fn write_u32(&mut self, number: u32) {
        let product = u128::from(number ^ 0x5bd1_e995) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}
