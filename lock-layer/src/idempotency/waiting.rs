//! Repetitions that wait for the first request.

use std::{sync::Arc, time::Duration};

use http::Response;
use layer_http::{Body, grpc::ClientProtocol};
use layer_store::{Key, Op, Protocol, Reply, Scratch, Store, StoreError};
use tokio::time::Instant;

use super::{
    config::IdempotencyConfig,
    fingerprint::{Fingerprint, RecordName},
    record::{Record, RecordState},
    replay::respond_to_repetition,
};

/// A request whose record is there already.
pub(super) struct Repetition {
    pub(super) config: Arc<IdempotencyConfig>,
    pub(super) name: RecordName,
    pub(super) fingerprint: Fingerprint,
    pub(super) protocol: ClientProtocol,
}

impl Repetition {
    /// Looks for the record of a request, if the store needs no waiting. `None`: there is none, or a claim has to ask.
    ///
    /// A repetition then makes no run, and no claim.
    pub(super) fn look_now(config: &IdempotencyConfig, name: &RecordName) -> Option<Found> {
        let key = config.record_key(name);
        match config.caller.run_now(&mut ReadRecord { key })? {
            Ok(Read::Record(record)) => Some(Some(record)),
            Ok(Read::Unreadable) => Some(None),
            Ok(Read::Nothing) | Err(_) => None,
        }
    }

    /// Responds by the record that was found. It never runs the handler.
    pub(super) fn respond<B>(&self, found: Found) -> Response<Body<B>> {
        if let Some(record) = &found {
            self.config.keep_local_copy(self.name, record);
        }
        respond_to_repetition(found, self.fingerprint, |deadline| {
            self.config.is_overdue(deadline)
        })
        .unwrap_or_else(|refusal| refusal.refuse(&self.protocol))
    }

    /// Responds once the first request, which is running, has ended, or after the time that the settings say.
    pub(super) async fn respond_after_wait<B>(self, found: Record) -> Response<Body<B>> {
        let record = self.wait_for_end(found).await;
        self.respond(record)
    }

    /// Returns true if the record's run may end soon. Another payload is refused at once.
    pub(super) fn waits_for(&self, record: &Record) -> bool {
        let is_same = record.run.fingerprint == self.fingerprint;
        !self.config.wait.is_zero() && is_same && self.is_running(record)
    }

    fn is_running(&self, record: &Record) -> bool {
        match record.state {
            RecordState::Claimed => true,
            RecordState::InProgress { deadline } => !self.config.is_overdue(deadline),
            _ => false,
        }
    }

    /// Waits until the record says that its run has ended. Returns what it says then, or after the time.
    async fn wait_for_end(&self, mut record: Record) -> Found {
        let until = Instant::now() + self.config.wait;
        let caller = &self.config.caller;
        let key = self.config.record_key(&self.name);
        // Before the first look: a change after it is hinted at.
        let mut watch = caller.store().watch(&key);
        loop {
            match caller.run(&mut ReadRecord { key }).await {
                // ## Waiting => Ended
                Ok(Read::Record(read)) if !self.is_running(&read) => {
                    return Some(read);
                }
                Ok(Read::Record(read)) => record = read,
                Ok(Read::Unreadable) => return None,
                // ## Waiting => refused: the claim is gone, so the client may send its request again.
                Ok(Read::Nothing) => return Some(record),
                // A store that fails may be back in time.
                Err(_) => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            // ## Waiting => refused: the time is over.
            if left.is_zero() {
                return Some(record);
            }
            watch.changed_within(left.min(LOOK)).await;
        }
    }
}

/// A record that was found. `None`: it cannot be read.
type Found = Option<Record>;

/// Reads a record: one operation.
struct ReadRecord<'a> {
    key: Key<'a>,
}

enum Read {
    Record(Record),
    Unreadable,
    Nothing,
}

impl Protocol for ReadRecord<'_> {
    type Output = Result<Read, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        Op::Get(&self.key)
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        let value = reply.and_then(Reply::into_value);
        Some(value.map(|value| match value {
            None => Read::Nothing,
            Some(value) => match Record::of(&value) {
                Some(record) => Read::Record(record),
                None => Read::Unreadable,
            },
        }))
    }
}

/// The pause between two looks of a waiting repetition if no hint comes.
const LOOK: Duration = Duration::from_millis(250);
