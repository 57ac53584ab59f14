use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use layer_http::BoxError;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{Cache, body::CacheResponse, future::ResponseFuture};

pin_project! {
    /// The response of a [`GrpcCache`](crate::GrpcCache), to come.
    ///
    /// # Cancel safety
    ///
    /// That of the [`ResponseFuture`] of a [`Cache`]. While the message of a call is read, nothing has begun.
    pub struct GrpcResponseFuture<S, ReqBody, ResBody>
    where
        S: Service<Request<ReqBody>>,
    {
        #[pin]
        state: State<S, ReqBody, ResBody>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, ReqBody, ResBody>
    where
        S: Service<Request<ReqBody>>,
    {
        // The message of a call is on its way.
        Reading { cache: Cache<S>, reading: Pin<Box<dyn Future<Output = Request<ReqBody>> + Send>> },
        // The cache has the request.
        Answering { #[pin] response: ResponseFuture<S, ReqBody, ResBody> },
    }
}

impl<S, ReqBody, ResBody> GrpcResponseFuture<S, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>>,
{
    pub(super) fn reading(
        cache: Cache<S>,
        reading: impl Future<Output = Request<ReqBody>> + Send + 'static,
    ) -> Self {
        let reading = Box::pin(reading);
        Self {
            state: State::Reading { cache, reading },
        }
    }

    pub(super) fn answering(response: ResponseFuture<S, ReqBody, ResBody>) -> Self {
        Self {
            state: State::Answering { response },
        }
    }
}

impl<S, ReqBody, ResBody> Future for GrpcResponseFuture<S, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    ReqBody: http_body::Body + Send + 'static,
    ResBody: http_body::Body<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    type Output = Result<CacheResponse<ResBody>, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut state = self.as_mut().project().state;
            let response = match state.as_mut().project() {
                // ## Answering => end
                StateProj::Answering { response } => return response.poll(cx),
                // ## Reading => Answering
                StateProj::Reading { cache, reading } => {
                    let request = ready!(reading.as_mut().poll(cx));
                    cache.call(request)
                }
            };
            state.set(State::Answering { response });
        }
    }
}

impl<S, ReqBody, ResBody> fmt::Debug for GrpcResponseFuture<S, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcResponseFuture").finish_non_exhaustive()
    }
}
