//! The future of a [`Cache`](crate::Cache).

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use layer_http::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    body::Tee,
    fetch::{Answer, Shared, invalidated, purge_after, succeeded},
    http::cache_status::Status,
    http::request::Pass,
    purge::scope::Scope,
    shared::{Core, detach},
    stats::count,
};

pin_project! {
    /// The answer to one request. See the [crate docs](crate).
    pub struct ResponseFuture<S, ReqBody, ResBody>
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
        // A stored answer.
        Ready { response: Option<Answer<ResBody>> },
        // Past the cache: waiting for the inner service to be ready.
        Readying { inner: S, request: Option<Request<ReqBody>>, note: Option<Note> },
        // Past the cache: the inner service has the request.
        Passing { #[pin] response: S::Future, note: Option<Note> },
        // A lookup, a handler call, or a purge under way.
        Working { work: Work<ResBody, S::Error> },
    }
}

type Work<ResBody, E> = Pin<Box<dyn Future<Output = Result<Answer<ResBody>, E>> + Send>>;

/// What is to be done with an answer that passes by the cache.
pub(crate) struct Note {
    shared: Arc<Shared>,
    pass: Pass,
    /// What an unsafe request changes.
    guard: Option<Guard>,
}

/// Purges if it is dropped before the answer is known: the handler may have changed something all the same.
struct Guard {
    core: Arc<Core>,
    scope: Option<Scope>,
}

impl<S, ReqBody, ResBody> ResponseFuture<S, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>>,
{
    pub(crate) fn ready(response: Answer<ResBody>) -> Self {
        Self::new(State::Ready {
            response: Some(response),
        })
    }

    pub(crate) fn passing(inner: S, request: Request<ReqBody>, note: Option<Note>) -> Self {
        Self::new(State::Readying {
            inner,
            request: Some(request),
            note,
        })
    }

    pub(crate) fn working(
        work: impl Future<Output = Result<Answer<ResBody>, S::Error>> + Send + 'static,
    ) -> Self {
        Self::new(State::Working {
            work: Box::pin(work),
        })
    }

    fn new(state: State<S, ReqBody, ResBody>) -> Self {
        Self { state }
    }
}

impl Note {
    /// `changes`: the path of an unsafe request.
    pub(crate) fn new(shared: Arc<Shared>, pass: Pass, changes: Option<Scope>) -> Self {
        let guard = changes.map(|scope| Guard {
            core: shared.core.clone(),
            scope: Some(scope),
        });
        Self {
            shared,
            pass,
            guard,
        }
    }

    /// Says in the answer why it passed. Gives what is to be purged before it is released.
    fn settle<ResBody>(mut self, response: Response<ResBody>) -> (Answer<ResBody>, Vec<Scope>)
    where
        ResBody: http_body::Body,
    {
        let (mut parts, body) = response.into_parts();
        let mut scopes = invalidated(&parts);
        // Taken in any case: the answer is known.
        let changed = self.guard.as_mut().and_then(|guard| guard.scope.take());
        if succeeded(parts.status) {
            scopes.extend(changed);
        }
        let Pass { why, detail, .. } = self.pass;
        let status = Status::Forwarded { why, detail };
        self.shared.rule.member.append(&mut parts.headers, status);
        count(&self.shared.core.stats.bypassed);
        let body = Body::inner(Tee::through(body));
        (Response::from_parts(parts, body), scopes)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(scope) = self.scope.take() {
            let core = self.core.clone();
            detach(async move { core.purge(&[scope]).await });
        }
    }
}

impl<S, ReqBody, ResBody> Future for ResponseFuture<S, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: http_body::Body<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Output = Result<Answer<ResBody>, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut state = self.as_mut().project().state;
            let next = match state.as_mut().project() {
                StateProj::Ready { response } => {
                    let response = response.take();
                    return Poll::Ready(Ok(
                        response.expect("a future is not polled after it was ready")
                    ));
                }
                StateProj::Working { work } => return work.as_mut().poll(cx),
                StateProj::Readying {
                    inner,
                    request,
                    note,
                } => {
                    ready!(inner.poll_ready(cx))?;
                    let request = request.take();
                    let request = request.expect("a future is not polled after it was ready");
                    State::Passing {
                        response: inner.call(request),
                        note: note.take(),
                    }
                }
                StateProj::Passing { response, note } => {
                    let response = ready!(response.poll(cx))?;
                    let Some(note) = note.take() else {
                        let response = response.map(|body| Body::inner(Tee::through(body)));
                        return Poll::Ready(Ok(response));
                    };
                    let core = note.shared.core.clone();
                    let (response, scopes) = note.settle(response);
                    if scopes.is_empty() {
                        return Poll::Ready(Ok(response));
                    }
                    // Passing => Working: what changed is purged before the client is told.
                    State::Working {
                        work: Box::pin(async move {
                            purge_after(&core, scopes).await;
                            Ok(response)
                        }),
                    }
                }
            };
            state.set(next);
        }
    }
}

impl<S, ReqBody, ResBody> fmt::Debug for ResponseFuture<S, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
