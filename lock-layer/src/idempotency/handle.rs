//! One request with a key, in a task of its own, so that a client that leaves changes nothing.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body::Body as HttpBody;
use layer_http::{Body, Rebuild, RequestHead};
use layer_store::StoreError;
use tokio::sync::oneshot;
use tower_service::Service;
use tracing::Instrument;

use super::{
    answer::answer,
    collect::read,
    fingerprint::fingerprint,
    layer::Shared,
    run::{Claimed, Run, Settlement},
};
use crate::{
    Refusal,
    body::{BoxError, Resumed},
    patience::Patience,
    token::Token,
};

/// What the client receives.
pub(super) type Answer<B, E> = Result<Response<Body<Resumed<B>>>, E>;

/// Answers a request whose record has this name.
pub(super) async fn handle<S, ReqBody, ResBody>(
    shared: Arc<Shared>,
    name: Token,
    inner: S,
    req: Request<ReqBody>,
) -> Answer<ResBody, S::Error>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    ReqBody: Rebuild,
    ResBody: HttpBody<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    let (parts, body) = req.into_parts();
    let body = match read(body, shared.most_request).await {
        Ok(body) => body,
        Err(refusal) => return Ok(refusal.into_response()),
    };
    let req = Request::from_parts(parts, ReqBody::rebuild(body.clone()));
    let fingerprint = fingerprint(&RequestHead::of(&req), &body);
    let run = Run::new(shared, name, fingerprint);
    let claimed = match run.claim_now() {
        Some(Ok(Claimed::Standing(record))) => return Ok(answer(record, &run)),
        Some(Ok(Claimed::Mine)) => true,
        Some(Err(error)) => return Ok(unavailable(&error)),
        None => false,
    };
    let (reply, answered) = oneshot::channel();
    let task = detached(run, claimed, inner, req, reply);
    tokio::spawn(task.instrument(tracing::Span::current()));
    match answered.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        // The runtime shuts down and dropped the task, wherever it was.
        Err(_) => Ok(Refusal::OutcomeUnknown.into_response()),
    }
}

type Panic = Box<dyn Any + Send>;
type Answered<B, E> = oneshot::Sender<Result<Answer<B, E>, Panic>>;

/// Claims where that was not done, and does what follows from it, whether or not somebody waits for the reply.
async fn detached<S, ReqBody, ResBody>(
    run: Run,
    claimed: bool,
    inner: S,
    req: Request<ReqBody>,
    reply: Answered<ResBody, S::Error>,
) where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    ReqBody: Rebuild,
    ResBody: HttpBody<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    let mut patience = Patience::of_caller();
    let claim = match claimed {
        true => Ok(Claimed::Mine),
        false => run.claim(&mut patience).await,
    };
    match claim {
        Ok(Claimed::Mine) => once(run, inner, req, reply).await,
        Ok(Claimed::Standing(record)) => {
            let _ = reply.send(Ok(Ok(answer(record, &run))));
        }
        Err(error) => {
            let _ = reply.send(Ok(Ok(unavailable(&error))));
            if patience.is_unsure() {
                run.insist(&Settlement::Remove).await;
            }
        }
    }
}

/// Runs the handler for a claim that is this run's.
async fn once<S, ReqBody, ResBody>(
    run: Run,
    inner: S,
    req: Request<ReqBody>,
    reply: Answered<ResBody, S::Error>,
) where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    ReqBody: Rebuild,
    ResBody: HttpBody<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    let work = AssertUnwindSafe(run.work(inner, req)).catch_unwind();
    let (settlement, result) = match run.renewing(work).await {
        Ok(Ok((settlement, response))) => (settlement, Ok(Ok(response))),
        Ok(Err(error)) => (run.broken_off(), Ok(Err(error))),
        Err(panic) => (run.broken_off(), Err(panic)),
    };
    // Before the response leaves: a client that has it may repeat the request, and must not find the record unwritten.
    let settled = run
        .settle(&settlement, Patience::of_caller().deadline())
        .await;
    let _ = reply.send(result);
    if let Err(error) = settled {
        tracing::warn!(%error, "an idempotency record is written in the background");
        run.insist(&settlement).await;
    }
}

fn unavailable<B>(error: &StoreError) -> Response<Body<B>> {
    tracing::debug!(%error, "an idempotency key could not be looked up");
    Refusal::StoreUnavailable.into_response()
}
