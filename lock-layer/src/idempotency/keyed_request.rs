//! A request with a key, from its body to its response.

use std::{future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Request, request::Parts};
use layer_http::{
    Body, Content, Handler, KeepableBody, Rebuild, RequestHead,
    grpc::{ClientProtocol, Message},
};
use layer_store::StoreError;
use tokio::time::Instant;

use super::{
    capture::{Copied, Streaming},
    claim::Claimed,
    config::{IdempotencyConfig, NamedRecord},
    future::ResponseResult,
    handler_run::{Called, HandlerRun, RecordedHead},
    interrupted::{Interruption, settle_interrupted},
    outcome::IdempotencyRefusal,
    record::Record,
    settlement::Settlement,
    waiting::Repetition,
};
use crate::{
    body::{Resumed, Sent},
    detached::{Detached, spawn},
    metrics::count_idempotent,
    retry::Retry,
    tracker::TrackedRun,
};

/// A request that needs a key, and whose body is being read.
pub(super) struct KeyedRequest<S> {
    pub(super) config: Arc<IdempotencyConfig>,
    /// `None`: the message names it.
    pub(super) record: Option<NamedRecord>,
    pub(super) protocol: ClientProtocol,
    /// The instance that reported ready.
    pub(super) inner: S,
    pub(super) parts: Parts,
}

/// The next step of a request.
pub(super) enum Step<B, E: Send + 'static>
where
    B: Send + 'static,
{
    /// The response is there.
    Respond(ResponseResult<B, E>),
    /// The record is claimed, and the handler runs. It goes on when its client leaves.
    Run(Detached<Self>),
    /// A repetition waits for the first request, or a request has no key. It ends with its client.
    Wait(WaitingResponse<B, E>),
}

/// A response that nobody needs whose client has left.
pub(super) type WaitingResponse<B, E> = Pin<Box<dyn Future<Output = ResponseResult<B, E>> + Send>>;

impl<B: Send + 'static, E: Send + 'static> Step<B, E> {
    fn refused(refusal: IdempotencyRefusal, protocol: &ClientProtocol) -> Self {
        Self::Respond(Ok(refusal.refuse(protocol)))
    }
}

impl<S> KeyedRequest<S> {
    /// Refuses the request, whose body cannot be read.
    pub(super) fn refuse<B: Send + 'static, E: Send + 'static>(
        &self,
        refusal: IdempotencyRefusal,
    ) -> Step<B, E> {
        Step::refused(refusal, &self.protocol)
    }

    /// Goes on with the body, which was read.
    pub(super) fn begin<ReqBody, ResBody>(
        self,
        body: Bytes,
        trailers: HeaderMap,
    ) -> Step<ResBody, S::Error>
    where
        S: Handler<ReqBody::Rebuilt, ResBody>,
        ReqBody: Rebuild,
        ResBody: KeepableBody,
    {
        let protocol = self.protocol;
        if protocol.is_plain_grpc() && Message::only_one_in(&body).is_none() {
            return Step::refused(IdempotencyRefusal::NotUnary, &protocol);
        }
        let config = self.config;
        let head = head_of(&self.parts);
        let record = match self.record {
            Some(record) => Ok(Some(record)),
            None => config.record_in(&head, &body),
        };
        let NamedRecord { name, key } = match record {
            Ok(Some(record)) => record,
            // Only its message could tell that it has no key.
            Ok(None) => return pass::<_, ReqBody, _>(self.inner, self.parts, body, trailers),
            Err(refusal) => return Step::refused(refusal, &protocol),
        };
        let fingerprint = config.payload.fingerprint(&head, &body);
        // ## Claiming => Replayed or refused. A repetition is no run, and has its response while the service stops, too.
        let copy = config.local_copy(&name).map(Some);
        if let Some(record) = copy.or_else(|| Repetition::look_now(&config, &name)) {
            let repetition = Repetition {
                config,
                name,
                fingerprint,
                protocol,
            };
            return repeated(repetition, record);
        }
        let Some(tracked) = config.tracker.begin() else {
            return Step::refused(IdempotencyRefusal::Closing, &protocol);
        };
        settle_interrupted(&config);
        let mut run = HandlerRun::new(config, name, fingerprint);
        let request = PendingRequest {
            key,
            inner: self.inner,
            parts: self.parts,
            body,
            trailers,
        };
        match run.claim_now() {
            Some(Ok(Claimed::Mine)) => Step::Run(Detached::new(async move {
                let (inner, req) = request.for_run::<ReqBody>(&run);
                Step::Respond(run_handler(run, inner, req, tracked).await)
            })),
            Some(Ok(Claimed::Taken(record))) => repeated(run.into_repetition(protocol), record),
            Some(Err(error)) => Step::refused(unavailable(&error), &protocol),
            // The store has to wait.
            None => Step::Run(Detached::new(claim_and_run::<_, ReqBody, _>(
                run, request, protocol, tracked,
            ))),
        }
    }
}

/// Calls the handler with a request that has no key.
fn pass<S, ReqBody, ResBody>(
    mut inner: S,
    parts: Parts,
    body: Bytes,
    trailers: HeaderMap,
) -> Step<ResBody, S::Error>
where
    S: Handler<ReqBody::Rebuilt, ResBody>,
    ReqBody: Rebuild,
    ResBody: KeepableBody,
{
    let content = Content::new(body).with_trailers(trailers);
    let response = inner.call(Request::from_parts(parts, ReqBody::rebuild(content)));
    Step::Wait(Box::pin(async move {
        let response = response.await?;
        Ok(response.map(|body| Body::inner(Resumed::whole(body))))
    }))
}

/// A request that may run, until it is known if it does.
struct PendingRequest<S> {
    /// `None`: it stands in the header.
    key: Option<Box<[u8]>>,
    inner: S,
    parts: Parts,
    body: Bytes,
    trailers: HeaderMap,
}

impl<S> PendingRequest<S> {
    /// Makes the request whole again, with what its handler may know of its run.
    fn for_run<ReqBody: Rebuild>(self, run: &HandlerRun) -> (S, Request<ReqBody::Rebuilt>) {
        let key = self
            .key
            .unwrap_or_else(|| run.config.key.in_header(&self.parts.headers));
        let content = Content::new(self.body).with_trailers(self.trailers);
        let mut req = Request::from_parts(self.parts, ReqBody::rebuild(content));
        req.extensions_mut().insert(run.context(key));
        (self.inner, req)
    }
}

fn head_of(parts: &Parts) -> RequestHead<'_> {
    RequestHead {
        method: &parts.method,
        uri: &parts.uri,
        version: parts.version,
        headers: &parts.headers,
        extensions: &parts.extensions,
    }
}

/// Responds to a repetition whose record is there already. `None`: it cannot be read.
fn repeated<B: Send + 'static, E: Send + 'static>(
    repetition: Repetition,
    record: Option<Record>,
) -> Step<B, E> {
    match record {
        Some(record) if repetition.waits_for(&record) => {
            Step::Wait(Box::pin(repetition.respond_after_wait(record).map(Ok)))
        }
        record => Step::Respond(Ok(repetition.respond(record))),
    }
}

/// Claims the record, and does what follows.
async fn claim_and_run<S, ReqBody, ResBody>(
    run: HandlerRun,
    request: PendingRequest<S>,
    protocol: ClientProtocol,
    tracked: TrackedRun,
) -> Step<ResBody, S::Error>
where
    S: Handler<ReqBody::Rebuilt, ResBody>,
    ReqBody: Rebuild,
    ResBody: KeepableBody,
{
    let mut retry = Retry::for_caller(Instant::now());
    match run.claim(&mut retry).await {
        // ## Claiming => Running
        Ok(Claimed::Mine) => {
            let (inner, req) = request.for_run::<ReqBody>(&run);
            Step::Respond(run_handler(run, inner, req, tracked).await)
        }
        // ## Claiming => Replayed or refused. A repetition is no run.
        Ok(Claimed::Taken(record)) => repeated(run.into_repetition(protocol), record),
        // ## Claiming => Refused. An attempt whose reply was lost may have written the claim; then it is removed.
        Err(error) => {
            if retry.is_unsure() {
                spawn(async move {
                    run.give_up_claim().await;
                    drop(tracked);
                });
            }
            Step::refused(unavailable(&error), &protocol)
        }
    }
}

/// Runs the handler for a claim that is this run's.
///
/// A panic of the handler goes on in the caller once the record is settled.
async fn run_handler<S, ReqBody, ResBody>(
    run: HandlerRun,
    inner: S,
    req: Request<ReqBody>,
    tracked: TrackedRun,
) -> ResponseResult<ResBody, S::Error>
where
    S: Handler<ReqBody, ResBody>,
    ReqBody: Send + 'static,
    ResBody: KeepableBody,
{
    count_idempotent("run");
    let begun = Instant::now();
    tracing::debug!("idempotent run begins");
    let interruption = Interruption::of(&run);
    let work = AssertUnwindSafe(run.call(inner, req)).catch_unwind();
    let (settlement, result) = match run.renewing(work).await {
        // ## Running => Responded
        Ok(Ok(Called::Settled(settlement, response))) => (settlement, Ok(Ok(response))),
        // ## Running => Streaming: the client gets the head now, and the rest goes on beside it.
        Ok(Ok(Called::Streaming {
            response,
            streaming,
            head,
        })) => {
            spawn(stream(run, interruption, head, streaming, begun, tracked));
            return Ok(response);
        }
        // ## Running => Broken off, by an error or a panic. Both go on in the caller.
        Ok(Err(error)) => (run.broken_off(), Ok(Err(error))),
        Err(panic) => (run.broken_off(), Err(panic)),
    };
    interruption.settled();
    tell_end(&settlement, begun);
    // ## Responded => Settled. Before the response leaves: its client may repeat the request at once, and must find the record.
    let settled = run.settle_once(&settlement).await;
    go_on_settling(settled, run, settlement, tracked);
    match result {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Passes a body on to its client, and copies it for the record.
async fn stream<B: KeepableBody>(
    run: HandlerRun,
    interruption: Interruption,
    head: Box<RecordedHead>,
    mut streaming: Box<Streaming<B>>,
    begun: Instant,
    tracked: TrackedRun,
) {
    let work = AssertUnwindSafe(streaming.pass_on(run.body_deadline())).catch_unwind();
    let (settlement, end) = match run.renewing(work).await {
        Ok(copied) => {
            let settlement = run.record_copied(&head, &copied);
            let end = match copied {
                Copied::Whole { .. } => BodyEnd::Whole,
                Copied::TooLong => BodyEnd::Rest,
                Copied::Broken(error) => BodyEnd::Broken(Sent::Error(error)),
            };
            (settlement, end)
        }
        Err(panic) => (run.broken_off(), BodyEnd::Broken(Sent::Panic(panic))),
    };
    interruption.settled();
    tell_end(&settlement, begun);
    // ## Streaming => Settled. Before the end of the body leaves, as above.
    let settled = run.settle_once(&settlement).await;
    match end {
        BodyEnd::Whole => streaming.end(),
        BodyEnd::Rest => streaming.hand_over(),
        BodyEnd::Broken(end) => streaming.break_off(end),
    }
    go_on_settling(settled, run, settlement, tracked);
}

/// The end of a body that its client gets once the record is written.
enum BodyEnd<B> {
    /// Nothing is left but its end.
    Whole,
    /// The rest of it is not kept.
    Rest,
    /// The error or the panic in it.
    Broken(Sent<B>),
}

/// Writes a record in the background that the store did not take at once.
fn go_on_settling(
    settled: Result<(), StoreError>,
    run: HandlerRun,
    settlement: Settlement,
    tracked: TrackedRun,
) {
    let Err(error) = settled else {
        return;
    };
    tracing::warn!(error = %error.report(), "an idempotency record is written in the background");
    spawn(async move {
        run.settle_in_background(&settlement).await;
        drop(tracked);
    });
}

fn tell_end(settlement: &Settlement, begun: Instant) {
    tracing::debug!(
        outcome = settlement.as_str(),
        took_s = begun.elapsed().as_secs_f64(),
        "idempotent run ends"
    );
}

fn unavailable(error: &StoreError) -> IdempotencyRefusal {
    tracing::debug!(
        kind = error.kind().as_str(),
        error = %error.report(),
        "an idempotency key could not be looked up"
    );
    IdempotencyRefusal::StoreUnavailable
}
