use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use layer_store::Identity;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use crate::{BoxError, Limiter};

/// A service that makes requests wait until a quota has room for them. See [`ThrottleLayer`](crate::ThrottleLayer).
///
/// It is always ready: requests wait in their futures, so that those of one identity do not hold up the others. The inner
/// service is made ready when a request is admitted.
#[derive(Clone)]
pub struct Throttle<S, K> {
    inner: S,
    limiter: Limiter,
    max_wait: Duration,
    pub(super) cost: u64,
    key: K,
}

pin_project! {
    /// The future of a [`Throttle`]: the wait, then the inner service's response.
    ///
    /// # Cancel safety
    ///
    /// As [`Limiter::until_ready`](crate::Limiter::until_ready), as long as the request waits.
    pub struct ThrottleFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        // Waiting for the quota, then for the inner service to be ready. It has the request.
        Waiting { call: BoxFuture<Result<F, BoxError>> },
        // Admitted: the inner service has the request.
        Calling { #[pin] response: F },
    }
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, K> Throttle<S, K> {
    pub(super) const fn new(inner: S, limiter: Limiter, max_wait: Duration, key: K) -> Self {
        Self {
            inner,
            limiter,
            max_wait,
            cost: 1,
            key,
        }
    }

    /// Makes a service with these settings around another one.
    pub(super) fn around<T>(&self, inner: T) -> Throttle<T, K>
    where
        K: Clone,
    {
        Throttle {
            inner,
            limiter: self.limiter.clone(),
            max_wait: self.max_wait,
            cost: self.cost,
            key: self.key.clone(),
        }
    }

    /// Returns the inner service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    pub(super) fn fmt_as(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("limiter", &self.limiter)
            .field("max_wait", &self.max_wait)
            .field("cost", &self.cost)
            .finish_non_exhaustive()
    }
}

impl<S, K, Req> Service<Req> for Throttle<S, K>
where
    S: Service<Req> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    K: for<'a> Fn(&'a Req) -> Identity<'a>,
    Req: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ThrottleFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let identity = (self.key)(&req).into_owned();
        let (limiter, cost) = (self.limiter.clone(), self.cost);
        // A wait without an end is one of as many years as the clock can count.
        let now = Instant::now();
        let deadline = now.checked_add(self.max_wait).unwrap_or(now + YEARS);
        // No instance that reported ready is left behind: this one never asked.
        let mut inner = self.inner.clone();
        ThrottleFuture {
            state: State::Waiting {
                call: Box::pin(async move {
                    limiter.until_ready_cost(identity, cost, deadline).await?;
                    let ready = poll_fn(|cx| inner.poll_ready(cx)).await;
                    ready.map_err(Into::into)?;
                    Ok(inner.call(req))
                }),
            },
        }
    }
}

impl<F, T, E> Future for ThrottleFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            match this.state.as_mut().project() {
                // ## Waiting => calling | refused
                StateProj::Waiting { call } => match ready!(call.as_mut().poll(cx)) {
                    Ok(response) => this.state.set(State::Calling { response }),
                    Err(error) => return Poll::Ready(Err(error)),
                },
                StateProj::Calling { response } => {
                    return response.poll(cx).map_err(Into::into);
                }
            }
        }
    }
}

impl<S, K> fmt::Debug for Throttle<S, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as("Throttle", f)
    }
}

impl<F> fmt::Debug for ThrottleFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::Waiting { .. } => "ThrottleFuture::Waiting",
            State::Calling { .. } => "ThrottleFuture::Calling",
        })
    }
}

/// 30 years, as far ahead as tokio's own "never".
const YEARS: Duration = Duration::from_secs(30 * 365 * 86_400);
