//! The task in which a request with a key runs, so that a client that leaves changes nothing.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use http::Request;
use layer_http::{Content, Handler, KeepableBody, Rebuild, RequestHead, grpc::ClientProtocol};
use layer_store::StoreError;
use tokio::{sync::oneshot, time::Instant};
use tracing::Instrument;

use super::{
    capture::{Copied, Streaming, read_request},
    claim::Claimed,
    config::IdempotencyConfig,
    fingerprint::RecordName,
    future::ResponseResult,
    handler_run::{Called, HandlerRun, RecordedHead},
    interrupted::{Interruption, settle_interrupted},
    outcome::IdempotencyRefusal,
    settlement::Settlement,
};
use crate::{body::Sent, metrics::count_idempotent, retry::Retry, tracker::TrackedRun};

/// Responds to a request whose record has this name.
pub(super) async fn respond<S, ReqBody, ResBody>(
    config: Arc<IdempotencyConfig>,
    name: RecordName,
    key: Box<[u8]>,
    inner: S,
    req: Request<ReqBody>,
) -> ResponseResult<ResBody, S::Error>
where
    S: Handler<ReqBody, ResBody>,
    ReqBody: Rebuild,
    ResBody: KeepableBody,
{
    // The handler takes the request with it.
    let protocol = ClientProtocol::of(req.headers());
    let answer = run_or_repeat(config, name, key, inner, req).await;
    answer.unwrap_or_else(|refusal| Ok(refusal.refuse(&protocol)))
}

async fn run_or_repeat<S, ReqBody, ResBody>(
    config: Arc<IdempotencyConfig>,
    name: RecordName,
    key: Box<[u8]>,
    inner: S,
    req: Request<ReqBody>,
) -> Answer<ResBody, S::Error>
where
    S: Handler<ReqBody, ResBody>,
    ReqBody: Rebuild,
    ResBody: KeepableBody,
{
    let (parts, body) = req.into_parts();
    let (body, trailers) = read_request(body, config.max_request_body).await?;
    let content = Content::new(body.clone()).with_trailers(trailers);
    let mut req = Request::from_parts(parts, ReqBody::rebuild(content));
    let fingerprint = config.payload.fingerprint(&RequestHead::of(&req), &body);
    let Some(tracked) = config.tracker.begin() else {
        return Err(IdempotencyRefusal::Closing);
    };
    settle_interrupted(&config);
    let run = HandlerRun::new(config, name, fingerprint);
    req.extensions_mut().insert(run.context(&key));
    let claimed = match run.claim_now() {
        Some(Ok(Claimed::Taken(record))) => {
            drop(tracked);
            return run.respond_to_repetition(record).await.map(Ok);
        }
        Some(Ok(Claimed::Mine)) => true,
        Some(Err(error)) => return Err(unavailable(&error)),
        None => false,
    };
    let (reply, receiver) = oneshot::channel();
    let task = claim_and_run(run, claimed, inner, req, reply, tracked);
    tokio::spawn(task.instrument(tracing::Span::current()));
    match receiver.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        // The runtime shuts down and dropped the task, at whatever step.
        Err(_) => Err(IdempotencyRefusal::OutcomeUnknown),
    }
}

type Panic = Box<dyn Any + Send>;
/// The result of the handler or its replay, or a refusal.
type Answer<B, E> = Result<ResponseResult<B, E>, IdempotencyRefusal>;
type ReplySender<B, E> = oneshot::Sender<Result<Answer<B, E>, Panic>>;

/// Claims the record if that is not done yet, and does what follows, even if nobody waits for the response any more.
async fn claim_and_run<S, ReqBody, ResBody>(
    run: HandlerRun,
    claimed: bool,
    inner: S,
    req: Request<ReqBody>,
    mut reply: ReplySender<ResBody, S::Error>,
    tracked: TrackedRun,
) where
    S: Handler<ReqBody, ResBody>,
    ReqBody: Rebuild,
    ResBody: KeepableBody,
{
    let mut retry = Retry::for_caller(Instant::now());
    let claim = match claimed {
        true => Ok(Claimed::Mine),
        false => run.claim(&mut retry).await,
    };
    match claim {
        // ## Claiming => Running
        Ok(Claimed::Mine) => run_handler(run, inner, req, reply).await,
        // ## Claiming => Replayed or refused. A repetition that waits is no run, and ends with its client.
        Ok(Claimed::Taken(record)) => {
            drop(tracked);
            tokio::select! {
                response = run.respond_to_repetition(record) => {
                    let _ = reply.send(Ok(response.map(Ok)));
                }
                () = reply.closed() => {}
            }
        }
        // ## Claiming => Refused. An attempt whose reply was lost may have written the claim; then it is removed.
        Err(error) => {
            let _ = reply.send(Ok(Err(unavailable(&error))));
            if retry.is_unsure() {
                run.give_up_claim().await;
            }
        }
    }
}

/// Runs the handler for a claim that is this run's.
async fn run_handler<S, ReqBody, ResBody>(
    run: HandlerRun,
    inner: S,
    req: Request<ReqBody>,
    reply: ReplySender<ResBody, S::Error>,
) where
    S: Handler<ReqBody, ResBody>,
    ReqBody: Rebuild,
    ResBody: KeepableBody,
{
    count_idempotent("run");
    let begun = Instant::now();
    tracing::debug!("idempotent run begins");
    let interruption = Interruption::of(&run);
    let work = AssertUnwindSafe(run.call(inner, req)).catch_unwind();
    let (settlement, end) = match run.renewing(work).await {
        // ## Running => Responded
        Ok(Ok(Called::Settled(settlement, response))) => {
            (settlement, ResponseEnd::Reply(reply, Ok(Ok(response))))
        }
        // ## Running => Streaming: the client gets the head now.
        Ok(Ok(Called::Streaming {
            response,
            streaming,
            head,
        })) => {
            let _ = reply.send(Ok(Ok(Ok(response))));
            stream(&run, head, streaming).await
        }
        // ## Running => Broken off, by an error or a panic. Both go on in the caller.
        Ok(Err(error)) => (run.broken_off(), ResponseEnd::Reply(reply, Ok(Err(error)))),
        Err(panic) => (run.broken_off(), ResponseEnd::Reply(reply, Err(panic))),
    };
    interruption.settled();
    tracing::debug!(
        outcome = settlement.as_str(),
        took_s = begun.elapsed().as_secs_f64(),
        "idempotent run ends"
    );
    // ## (Responded | Streaming) => Settled. Before the end of the response leaves: its client may repeat the request at once,
    // and must find the record.
    let settled = run.settle_once(&settlement).await;
    end.send();
    if let Err(error) = settled {
        tracing::warn!(error = %error.report(), "an idempotency record is written in the background");
        run.settle_in_background(&settlement).await;
    }
}

/// The response that the client gets once the record is written.
enum ResponseEnd<B, E> {
    /// The response.
    Reply(ReplySender<B, E>, Result<ResponseResult<B, E>, Panic>),
    /// The end of a body that it has.
    End(Box<Streaming<B>>),
    /// The rest of a body that is not kept.
    Rest(Box<Streaming<B>>),
    /// The error or the panic in its body.
    Broken(Box<Streaming<B>>, Sent<B>),
}

impl<B: KeepableBody, E> ResponseEnd<B, E> {
    fn send(self) {
        match self {
            // A client that is gone misses it.
            Self::Reply(reply, result) => {
                let _ = reply.send(result.map(Ok));
            }
            Self::End(streaming) => streaming.end(),
            Self::Rest(streaming) => streaming.hand_over(),
            Self::Broken(streaming, end) => streaming.break_off(end),
        }
    }
}

/// Passes a body on to its client, and copies it.
async fn stream<B: KeepableBody, E>(
    run: &HandlerRun,
    head: Box<RecordedHead>,
    mut streaming: Box<Streaming<B>>,
) -> (Settlement, ResponseEnd<B, E>) {
    let work = AssertUnwindSafe(streaming.pass_on(run.body_deadline())).catch_unwind();
    match run.renewing(work).await {
        Ok(copied) => {
            let settlement = run.record_copied(&head, &copied);
            let end = match copied {
                Copied::Whole { .. } => ResponseEnd::End(streaming),
                Copied::TooLong => ResponseEnd::Rest(streaming),
                Copied::Broken(error) => ResponseEnd::Broken(streaming, Sent::Error(error)),
            };
            (settlement, end)
        }
        Err(panic) => {
            let end = ResponseEnd::Broken(streaming, Sent::Panic(panic));
            (run.broken_off(), end)
        }
    }
}

fn unavailable(error: &StoreError) -> IdempotencyRefusal {
    tracing::debug!(
        kind = error.kind().as_str(),
        error = %error.report(),
        "an idempotency key could not be looked up"
    );
    IdempotencyRefusal::StoreUnavailable
}
