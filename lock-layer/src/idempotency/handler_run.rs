//! One run of the handler: its claim, the renewals of the claim, and the record of its response.

use std::{convert::Infallible, future::pending, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, response::Parts};
use layer_http::{
    Body, Content, Handler, KeepableBody,
    grpc::{CallOutcome, ClientProtocol},
};
use layer_store::{ErrorKind, FindingKind, Key, StoreError, Value};
use tokio::time::{Instant, sleep_until};

use super::{
    capture::{Captured, Copied, Streaming, capture},
    claim::{ClaimRun, Claimed},
    config::IdempotencyConfig,
    context::IdempotencyContext,
    fingerprint::{Fingerprint, RecordName},
    outcome::RunOutcome,
    record::{RecordedResponse, RunId},
    retry_policy::{RetryPolicy, RunEnd},
    settle::{WriteRecord, Written},
    settlement::Settlement,
    waiting::Repetition,
};
use crate::{
    body::Resumed,
    retry::{Retry, run_with_retry},
};

/// One run of a request with a key.
#[derive(Clone)]
pub(super) struct HandlerRun {
    pub(super) config: Arc<IdempotencyConfig>,
    pub(super) name: RecordName,
    pub(super) id: RunId,
    /// The claim as it was written, if the store answered at once.
    pub(super) claim: Option<Value>,
}

/// A handler's response, and what it leaves in the store.
pub(super) enum Called<B> {
    /// That is known.
    Settled(Settlement, Response<Body<Resumed<B>>>),
    /// It is known when the body has ended, which goes to the client as it comes.
    Streaming {
        response: Response<Body<Resumed<B>>>,
        streaming: Box<Streaming<B>>,
        head: Box<RecordedHead>,
    },
}

/// The head of a response that is recorded when its body has ended.
pub(super) struct RecordedHead {
    status: StatusCode,
    headers: HeaderMap,
    run_end: RunEnd,
}

/// The record that a response leaves in the store, as far as it is known.
enum End<B> {
    Known(Settlement),
    Streaming(Box<Streaming<B>>),
}

impl<B> From<Settlement> for End<B> {
    fn from(settlement: Settlement) -> Self {
        Self::Known(settlement)
    }
}

impl HandlerRun {
    pub(super) fn new(
        config: Arc<IdempotencyConfig>,
        name: RecordName,
        fingerprint: Fingerprint,
    ) -> Self {
        Self {
            config,
            name,
            id: RunId::new(fingerprint),
            claim: None,
        }
    }

    /// Makes the run again that was interrupted.
    pub(super) fn resumed(config: Arc<IdempotencyConfig>, name: RecordName, id: RunId) -> Self {
        Self {
            config,
            name,
            id,
            claim: None,
        }
    }

    /// Returns what the handler may know of its run.
    pub(super) fn context(&self, key: Box<[u8]>) -> IdempotencyContext {
        IdempotencyContext::new(key, self.name, self.id)
    }

    /// Makes a repetition of a request that is no run after all.
    pub(super) fn into_repetition(self, protocol: ClientProtocol) -> Repetition {
        Repetition {
            config: self.config,
            name: self.name,
            fingerprint: self.id.fingerprint,
            protocol,
        }
    }

    /// Claims the record if the store needs no waiting. `None`: nothing was done.
    pub(super) fn claim_now(&mut self) -> Option<Result<Claimed, StoreError>> {
        let caller = &self.config.caller;
        // Before the keys are made.
        if !caller.answers_now() {
            return None;
        }
        let mut protocol = self.claim_protocol();
        let claimed = caller.run_now(&mut protocol)?;
        self.claim = Some(protocol.into_claim());
        Some(claimed)
    }

    /// Claims the record, as often as `retry` says.
    ///
    /// What the end of a run needs is known before it begins: a server without programs is an error.
    pub(super) async fn claim(&self, retry: &mut Retry) -> Result<Claimed, StoreError> {
        self.check_server()?;
        let mut protocol = self.claim_protocol();
        let (result, _) = run_with_retry(&self.config.caller, &mut protocol, retry).await;
        result
    }

    fn check_server(&self) -> Result<(), StoreError> {
        let findings = self.config.caller.info().findings;
        match findings
            .iter()
            .find(|found| found.kind == FindingKind::NoScripts)
        {
            Some(found) => {
                let error = StoreError::not_applied(ErrorKind::Unsupported);
                Err(error.with_source(found.text.clone()))
            }
            None => Ok(()),
        }
    }

    fn claim_protocol(&self) -> ClaimRun<'_> {
        let (key, life) = (self.key(), self.config.claim_life());
        if !self.config.begins_apart() {
            return ClaimRun::in_one_step(key, self.id, self.deadline(), life);
        }
        let claim = ClaimRun::in_two_steps(key, self.id, self.deadline(), life);
        match self.config.caller.info().reads_may_lag {
            true => claim.comparing(),
            false => claim,
        }
    }

    /// Drives `work`, and renews the claim meanwhile if it needs that.
    pub(super) async fn renewing<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            done = work => done,
            never = self.renew() => match never {},
        }
    }

    async fn renew(&self) -> Infallible {
        // ## Claimed => Claimed. Renewed after each third of its life: a run may last longer than that.
        let life = self.config.claim_life();
        let third = life.as_duration() / 3;
        loop {
            let next = Instant::now() + third;
            sleep_until(next).await;
            let record = self.id.in_progress(self.deadline());
            let mut protocol = WriteRecord::new(self.key(), &record, life);
            let deadline = (next + third).into_std();
            let caller = &self.config.caller;
            match caller.run_by(&mut protocol, Some(deadline)).await {
                Ok(Written::Whole | Written::Smaller) => {}
                // ## Claimed => Lost. The run goes on; its record will be refused. Or it is settled by now.
                Ok(Written::NotOwn) => {
                    tracing::debug!("an idempotency claim is not renewed any more");
                    return pending().await;
                }
                Err(error) => {
                    tracing::debug!(error = %error.report(), "an idempotency claim was not renewed")
                }
            }
        }
    }

    /// Calls the handler, and reads its response if it is kept and there.
    pub(super) async fn call<S, ReqBody, ResBody>(
        &self,
        mut inner: S,
        req: Request<ReqBody>,
    ) -> Result<Called<ResBody>, S::Error>
    where
        S: Handler<ReqBody, ResBody>,
        ResBody: KeepableBody,
    {
        let response = inner.call(req).await?;
        let (parts, body) = response.into_parts();
        let (end, body) = self.record(&parts, body).await;
        Ok(match end {
            End::Known(settlement) => {
                Called::Settled(settlement, Response::from_parts(parts, body))
            }
            End::Streaming(streaming) => Called::Streaming {
                head: Box::new(RecordedHead {
                    status: parts.status,
                    headers: parts.headers.clone(),
                    run_end: RunEnd::of_head(&parts),
                }),
                response: Response::from_parts(parts, body),
                streaming,
            },
        })
    }

    /// Decides what a response leaves whose body was copied while its client got it.
    pub(super) fn record_copied(&self, head: &RecordedHead, copied: &Copied) -> Settlement {
        let status = head.status;
        match copied {
            // ## Streaming => Removed: the next request runs.
            Copied::Whole { data, trailers }
                if !self.keeps(head.run_end, &head.headers, data, trailers.as_ref()) =>
            {
                Settlement::Remove
            }
            // ## Streaming => Completed
            Copied::Whole { data, trailers } => {
                let content = self.content(data.clone(), trailers.clone());
                let (settlement, _) = self.completed(status, &head.headers, content);
                settlement
            }
            // ## Streaming => Body not kept
            Copied::TooLong => Settlement::small(self.id.body_not_kept(status)),
            // ## Streaming => Broken off
            Copied::Broken(_) => self.broken_off(),
        }
    }

    /// Returns the time at which a body is given up that has begun now.
    pub(super) fn body_deadline(&self) -> Instant {
        Instant::now() + self.config.expected_run().as_duration()
    }

    /// Decides what a response leaves in the store.
    async fn record<B: KeepableBody>(&self, parts: &Parts, body: B) -> (End<B>, Body<Resumed<B>>) {
        let run_end = RunEnd::of_head(parts);
        let body_not_kept = || Settlement::small(self.id.body_not_kept(parts.status));
        // ## Responded => Removed: the next request runs.
        if !self.config.retry_policy.keeps(run_end) {
            return (Settlement::Remove.into(), Body::inner(Resumed::whole(body)));
        }
        // ## Responded => Body not kept, without a look at the body.
        let is_secret = run_end == RunEnd::Told(RunOutcome::ExecutedNotKept);
        if is_secret || self.config.unkept_types.have(&parts.headers) {
            return (body_not_kept().into(), Body::inner(Resumed::whole(body)));
        }
        match capture(body, self.config.max_response_body).await {
            // ## Responded => Removed: the next request runs.
            Captured::Whole { data, trailers }
                if !self.keeps(run_end, &parts.headers, &data, trailers.as_ref()) =>
            {
                let content = Content::new(data).with_trailers(trailers.unwrap_or_default());
                (Settlement::Remove.into(), Body::own(content))
            }
            // ## Responded => Completed
            Captured::Whole { data, trailers } => self.keep(parts, data, trailers),
            // ## Responded => Body not kept
            Captured::TooLong(body) => (body_not_kept().into(), Body::inner(body)),
            // ## Responded => Broken off
            Captured::Broken(body) => (self.broken_off().into(), Body::inner(body)),
            // ## Responded => Streaming
            Captured::Streaming(body, streaming) => (End::Streaming(streaming), Body::inner(body)),
        }
    }

    /// Returns true if a whole response is kept, now that its body and its trailers are there.
    fn keeps(
        &self,
        run_end: RunEnd,
        headers: &HeaderMap,
        body: &[u8],
        trailers: Option<&HeaderMap>,
    ) -> bool {
        let run_end = match run_end {
            RunEnd::InBody => RunEnd::Code(CallOutcome::of_body(headers, body)),
            RunEnd::InTrailers => RunEnd::Code(CallOutcome::of_trailers(trailers)),
            known => known,
        };
        self.config.retry_policy.keeps(run_end)
    }

    fn keep<B>(
        &self,
        parts: &Parts,
        data: Bytes,
        trailers: Option<HeaderMap>,
    ) -> (End<B>, Body<Resumed<B>>) {
        let content = self.content(data, trailers);
        let (settlement, content) = self.completed(parts.status, &parts.headers, content);
        (settlement.into(), Body::own(content))
    }

    /// Returns the content of a whole response.
    pub(super) fn content(&self, data: Bytes, trailers: Option<HeaderMap>) -> Content {
        // What is kept as it is may be a slice of a much larger buffer, which would be kept with it.
        let is_slice = self.config.caller.answers_now() && data.len() <= COPIED;
        let data = match is_slice {
            true => Bytes::copy_from_slice(&data),
            false => data,
        };
        Content::new(data).with_trailers(trailers.unwrap_or_default())
    }

    /// Returns the settlement of a whole response, and its content for the client, who gets the bytes in the record, so that the
    /// response is in memory once.
    pub(super) fn completed(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        content: Content,
    ) -> (Settlement, Content) {
        let headers = self.config.replay_headers.of(headers);
        let smaller = Some(status);
        // A store that answers at once keeps objects, and says by itself what is too large.
        if self.config.caller.answers_now() {
            let response = RecordedResponse::new(status, headers, content.clone());
            let record = self.id.kept(response);
            return (Settlement::Write { record, smaller }, content);
        }
        let trailers = content.trailers();
        let (record, range) = self
            .id
            .completed(status, &headers, content.data(), trailers);
        if record.len() > self.config.caller.info().max_value {
            return (Settlement::small(self.id.body_not_kept(status)), content);
        }
        let trailers = trailers.cloned().unwrap_or_default();
        let content = Content::new(record.slice(range)).with_trailers(trailers);
        let record = record.into();
        (Settlement::Write { record, smaller }, content)
    }

    /// Returns the settlement of a run that may or may not have taken effect.
    pub(super) fn broken_off(&self) -> Settlement {
        match self.config.retry_policy {
            RetryPolicy::AtMostOnce => Settlement::small(self.id.unknown()),
            RetryPolicy::RetrySafe => Settlement::Remove,
        }
    }

    /// Returns the time before which a run that begins now is expected to end, in Unix ms.
    fn deadline(&self) -> u64 {
        self.config.now() + self.config.expected_run().as_millis()
    }

    pub(super) fn key(&self) -> Key<'_> {
        self.config.record_key(&self.name)
    }
}

/// The longest body that is copied before it is kept as it is, in bytes. About the buffer of a connection.
const COPIED: usize = 64 * 1_024;
