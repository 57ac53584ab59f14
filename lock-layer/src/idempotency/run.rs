//! One run of a request: its claim, its renewals, and what is recorded of it.

use std::{convert::Infallible, future::pending, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header::CONTENT_TYPE};
use http_body::Body as HttpBody;
use layer_http::{Body, Content};
use layer_store::{
    Arg, Condition, Context, ErrorKind, IdentityRef, Key, Op, Program, Reply, Retention, Store,
    StoreError, Ttl, Value,
};
use tokio::time::{Instant, sleep_until};
use tower_service::Service;

use super::{
    collect::{Collected, collect},
    layer::Shared,
    mode::{Mode, Verdict},
};
use crate::{
    RunOutcome,
    body::{BoxError, Resumed},
    patience::{Patience, ask},
    programs::{REMOVE, WRITE},
    record::{Record, Stamp},
    token::Token,
};

/// A request on its way.
pub(super) struct Run {
    shared: Arc<Shared>,
    name: Token,
    stamp: Stamp,
}

pub(super) enum Claimed {
    /// It is this run's.
    Mine,
    /// This stands there; None if it cannot be read.
    Standing(Option<Record>),
}

/// What becomes of the record.
pub(super) enum Settlement {
    Write(Bytes),
    Remove,
}

impl Run {
    pub(super) fn new(shared: Arc<Shared>, name: Token, fingerprint: Token) -> Self {
        let token = Token::random();
        Self {
            shared,
            name,
            stamp: Stamp { fingerprint, token },
        }
    }

    /// Whether `stamp` is of a request like this one.
    pub(super) fn is_same_request(&self, stamp: &Stamp) -> bool {
        self.stamp.fingerprint == stamp.fingerprint
    }

    /// Now, in Unix ms.
    pub(super) fn now(&self) -> u64 {
        self.shared.clock.now() / 1_000
    }

    pub(super) fn claim_now(&self) -> Option<Result<Claimed, StoreError>> {
        let reply = self.with_claim(|op| self.shared.store.call_now(op, &CX))?;
        Some(reply.and_then(|reply| self.claimed(reply)))
    }

    /// Claims until there is an answer or the patience ends, with one token: what a lost reply gave is recognised.
    pub(super) async fn claim(&self, patience: &mut Patience) -> Result<Claimed, StoreError> {
        loop {
            let value = self.claim_value();
            let key = self.key();
            let op = self.claim_op(&key, &value);
            let reply = ask(&self.shared.store, &op, CX, patience.deadline()).await;
            match reply.and_then(|reply| self.claimed(reply)) {
                Err(error) if patience.outlasts(&error).await => {}
                result => return result,
            }
        }
    }

    fn with_claim<T>(&self, call: impl FnOnce(&Op<'_>) -> T) -> T {
        let value = self.claim_value();
        call(&self.claim_op(&self.key(), &value))
    }

    fn claim_value(&self) -> Value {
        let deadline = self.now() + self.shared.expected.as_millis();
        self.stamp.in_progress(deadline).into()
    }

    fn claim_op<'a>(&self, key: &'a Key<'a>, value: &'a Value) -> Op<'a> {
        Op::Set {
            key,
            value,
            expiry: self.claim_life().into(),
            condition: Condition::Absent,
            retention: Retention::Pinned,
        }
    }

    /// A claim that is renewed ends soon after its process; one that is not has to outlive every repetition.
    fn claim_life(&self) -> Ttl {
        match self.shared.mode {
            Mode::AtMostOnce => self.shared.kept_for,
            Mode::RetrySafe => self.shared.expected,
        }
    }

    fn claimed(&self, reply: Reply) -> Result<Claimed, StoreError> {
        match reply {
            Reply::Set { applied: true, .. } => Ok(Claimed::Mine),
            Reply::Set {
                existing: Some(value),
                ..
            } => {
                let record = Record::read(&value.to_bytes());
                match record {
                    Some(record) if record.stamp == self.stamp => Ok(Claimed::Mine),
                    record => Ok(Claimed::Standing(record)),
                }
            }
            _ => Err(odd()),
        }
    }

    /// Drives `work`, and renews the claim meanwhile if it is of the kind that ends.
    pub(super) async fn renewing<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            done = work => done,
            never = self.renew() => match never {},
        }
    }

    async fn renew(&self) -> Infallible {
        if self.shared.mode == Mode::AtMostOnce {
            return pending().await;
        }
        let expected = self.shared.expected.as_duration();
        loop {
            let next = Instant::now() + expected / 3;
            sleep_until(next).await;
            let deadline = self.now() + self.shared.expected.as_millis();
            let record = self.stamp.in_progress(deadline);
            match self
                .write(&record, self.shared.expected, next + expected / 3)
                .await
            {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!("an idempotency claim was lost: another run may have begun");
                    return pending().await;
                }
                Err(error) => tracing::debug!(%error, "an idempotency claim was not renewed"),
            }
        }
    }

    /// Runs the handler, and reads its response if it is to be kept.
    pub(super) async fn work<S, ReqBody, ResBody>(
        &self,
        mut inner: S,
        req: Request<ReqBody>,
    ) -> Result<(Settlement, Response<Body<Resumed<ResBody>>>), S::Error>
    where
        S: Service<Request<ReqBody>, Response = Response<ResBody>>,
        ResBody: HttpBody<Data = Bytes>,
        ResBody::Error: Into<BoxError>,
    {
        let response = inner.call(req).await?;
        let (parts, body) = response.into_parts();
        let outcome = parts.extensions.get::<RunOutcome>().copied();
        let forget = |body| (Settlement::Remove, Body::inner(Resumed::whole(body)));
        let (settlement, body) = match self.shared.mode.verdict(parts.status, outcome) {
            Verdict::Forget => forget(body),
            Verdict::Keep if has_no_end(&parts.headers) => {
                let record = self.stamp.body_not_kept(parts.status);
                (Settlement::Write(record), Body::inner(Resumed::whole(body)))
            }
            Verdict::Keep => match collect(body, self.shared.most_response).await {
                Collected::Whole { data, trailers } => self.keep(&parts, data, trailers),
                Collected::TooLong(body) => {
                    let record = self.stamp.body_not_kept(parts.status);
                    (Settlement::Write(record), Body::inner(body))
                }
                Collected::Broken(body) => (self.broken_off(), Body::inner(body)),
            },
        };
        Ok((settlement, Response::from_parts(parts, body)))
    }

    fn keep<B>(
        &self,
        parts: &http::response::Parts,
        data: Bytes,
        trailers: Option<HeaderMap>,
    ) -> (Settlement, Body<B>) {
        let (record, range) =
            self.stamp
                .completed(parts.status, &parts.headers, &data, trailers.as_ref());
        let (record, body) = match record.len() <= self.shared.store.info().max_value {
            true => (record.clone(), record.slice(range)),
            false => (self.stamp.body_not_kept(parts.status), data),
        };
        let content = Content::new(body).with_trailers(trailers.unwrap_or_default());
        (Settlement::Write(record), Body::own(content))
    }

    /// What becomes of a run that may or may not have taken effect.
    pub(super) fn broken_off(&self) -> Settlement {
        match self.shared.mode {
            Mode::AtMostOnce => Settlement::Write(self.stamp.unknown()),
            Mode::RetrySafe => Settlement::Remove,
        }
    }

    pub(super) async fn settle(
        &self,
        settlement: &Settlement,
        until: Instant,
    ) -> Result<(), StoreError> {
        let settled = match settlement {
            Settlement::Write(record) => self.write(record, self.shared.kept_for, until).await?,
            Settlement::Remove => self.remove(until).await?,
        };
        if !settled && matches!(settlement, Settlement::Write(_)) {
            tracing::warn!(
                "an idempotency record is another run's by now: this run's claim had ended"
            );
        }
        Ok(())
    }

    /// Settles in the background, for as long as a claim lasts.
    pub(super) async fn insist(&self, settlement: &Settlement) {
        let mut patience = Patience::until(Instant::now() + self.shared.expected.as_duration());
        while let Err(error) = self.settle(settlement, patience.deadline()).await {
            if !patience.outlasts(&error).await {
                tracing::warn!(%error, "an idempotency record was not written");
                return;
            }
        }
    }

    /// Whether the record was this run's to write.
    async fn write(&self, record: &[u8], life: Ttl, until: Instant) -> Result<bool, StoreError> {
        let args = [Arg::Int(life.as_millis() as i64), Arg::Bytes(record)];
        self.run(&WRITE, &args, until).await
    }

    async fn remove(&self, until: Instant) -> Result<bool, StoreError> {
        let claim = self.stamp.claim_prefix();
        self.run(&REMOVE, &[Arg::Bytes(&claim)], until).await
    }

    async fn run(
        &self,
        program: &'static Program,
        args: &[Arg<'_>],
        until: Instant,
    ) -> Result<bool, StoreError> {
        let keys = [self.key()];
        let op = Op::Run {
            program,
            keys: &keys,
            args,
        };
        match ask(&self.shared.store, &op, CX, until).await? {
            Reply::Output(data) => data.int(0).map(|done| done == 1).ok_or_else(odd),
            _ => Err(odd()),
        }
    }

    fn key(&self) -> Key<'_> {
        Key::new(
            &self.shared.records,
            IdentityRef::Text(self.name.as_bytes()),
        )
    }
}

/// An event stream goes on for as long as somebody listens.
fn has_no_end(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes());
    kind.is_some_and(|kind| {
        kind.get(..EVENTS.len())
            .is_some_and(|kind| kind.eq_ignore_ascii_case(EVENTS))
    })
}

/// A reply of another command: it may have been applied.
fn odd() -> StoreError {
    StoreError::unknown(ErrorKind::Corrupt)
}

const CX: Context = Context::new("idempotency");
const EVENTS: &[u8] = b"text/event-stream";
