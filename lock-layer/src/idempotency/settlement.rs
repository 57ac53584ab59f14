//! The last operation of a run, in all the ways that a server may make it difficult.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use layer_store::{Condition, Op, Reply, Retention, StoreError, Value};
use tokio::time::Instant;

use super::{
    handler_run::HandlerRun,
    settle::{RemoveClaim, WriteRecord, Written},
};
use crate::retry::{Retry, run_with_retry};

/// The last operation of a run.
#[derive(Debug)]
pub(super) enum Settlement {
    /// Write this record, or the smaller one if the server takes none of its size.
    Write {
        record: Value,
        /// The status of the response, if there is a smaller record of it.
        smaller: Option<StatusCode>,
    },
    /// Remove the claim, so that the next request with the key runs.
    Remove,
}

impl Settlement {
    /// Writes a record that every server takes.
    pub(super) fn small(record: Bytes) -> Self {
        Self::Write {
            record: record.into(),
            smaller: None,
        }
    }

    /// Returns what becomes of the claim, for events.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Write { .. } => "recorded",
            Self::Remove => "removed",
        }
    }
}

impl HandlerRun {
    /// Settles with one attempt, for a client who waits.
    pub(super) async fn settle_once(&self, settlement: &Settlement) -> Result<(), StoreError> {
        self.settle(settlement, Retry::once(Instant::now())).await
    }

    /// Settles in the background, for as long as a run is expected to take. The claim is renewed meanwhile. If the server takes
    /// no record of its size to the end, the smaller one is tried once.
    pub(super) async fn settle_in_background(&self, settlement: &Settlement) {
        let deadline = Instant::now() + self.config.expected_run().as_duration();
        let settled = self.settle(settlement, Retry::stubborn(deadline));
        let Err(mut error) = self.renewing(settled).await else {
            return;
        };
        if let Settlement::Write {
            smaller: Some(smaller),
            ..
        } = settlement
        {
            let smaller = Settlement::small(self.id.body_not_kept(*smaller));
            match self.settle_once(&smaller).await {
                Ok(()) => return tell_smaller(),
                Err(last) => error = last,
            }
        }
        tracing::warn!(
            kind = error.kind().as_str(),
            error = %error.report(),
            "an idempotency record was not written: repetitions learn nothing of this run but that it has begun"
        );
    }

    /// Removes a claim that may have been written though nobody heard of it. Nothing was done under it, so no repetition should
    /// learn otherwise: it is tried for as long as the claim lasts, and for at most an hour.
    pub(super) async fn give_up_claim(&self) {
        let patience = self.config.claim_life().as_duration().min(AN_HOUR);
        let retry = Retry::until(Instant::now() + patience);
        if let Err(error) = self.settle(&Settlement::Remove, retry).await {
            tracing::warn!(error = %error.report(), "an idempotency claim was not removed");
        }
    }

    async fn settle(&self, settlement: &Settlement, mut retry: Retry) -> Result<(), StoreError> {
        let caller = &self.config.caller;
        match settlement {
            Settlement::Write { record, smaller } => {
                if self.replace_claim_now(record) {
                    return Ok(());
                }
                let record = record.to_bytes();
                let smaller = smaller.map(|status| self.id.body_not_kept(status));
                let mut write = WriteRecord::new(self.key(), &record, self.config.keep_for())
                    .or(smaller.as_deref());
                let (written, _) = run_with_retry(caller, &mut write, &mut retry).await;
                match written? {
                    Written::Whole => {}
                    Written::Smaller => tell_smaller(),
                    Written::NotOwn => tracing::warn!(
                        "an idempotency record is another run's: this run's claim had ended"
                    ),
                }
            }
            Settlement::Remove => {
                let prefix = self.id.claim_prefix();
                let mut remove = RemoveClaim::new(self.key(), &prefix);
                let (removed, _) = run_with_retry(caller, &mut remove, &mut retry).await;
                removed?;
            }
        }
        Ok(())
    }

    /// Writes a record over the claim, if the store needs no waiting and the claim is as it was: the usual end of a run on such a
    /// store. False: that is not so, and [`WriteRecord`] has to look.
    fn replace_claim_now(&self, record: &Value) -> bool {
        let caller = &self.config.caller;
        let Some(claim) = self.claim.as_ref().filter(|_| caller.answers_now()) else {
            return false;
        };
        let op = Op::Set {
            key: &self.key(),
            value: record,
            expiry: self.config.keep_for().into(),
            condition: Condition::Equals(claim),
            retention: Retention::Pinned,
        };
        let reply = caller.call_now(&op);
        matches!(reply, Some(Ok(Reply::Set { applied: true, .. })))
    }

    /// Notes that the handler was dropped before it had an end, as by a runtime that ends. Nothing can be awaited here.
    pub(super) fn interrupted(&self) {
        tracing::warn!("an idempotent run was dropped with its runtime");
        // ## Running => Settled, if the store needs no waiting.
        match self.settle_now(&self.broken_off()) {
            Some(Ok(())) => {}
            // ## Running => Interrupted. The next request settles it.
            _ => self.config.interrupted.push(self.name, self.id),
        }
    }

    fn settle_now(&self, settlement: &Settlement) -> Option<Result<(), StoreError>> {
        let caller = &self.config.caller;
        let settled = match settlement {
            Settlement::Write { record, .. } => {
                let record = record.to_bytes();
                let mut write = WriteRecord::new(self.key(), &record, self.config.keep_for());
                caller.run_now(&mut write)?.map(drop)
            }
            Settlement::Remove => {
                let prefix = self.id.claim_prefix();
                let mut remove = RemoveClaim::new(self.key(), &prefix);
                caller.run_now(&mut remove)?.map(drop)
            }
        };
        Some(settled)
    }
}

fn tell_smaller() {
    tracing::warn!(
        "an idempotency record was written without its body: the server takes none of its size, \
         so lower max_response_body or raise the server's limit"
    );
}

const AN_HOUR: Duration = Duration::from_secs(3_600);
