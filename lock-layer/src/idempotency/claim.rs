use layer_store::{
    Condition, Key, Op, Protocol, Reply, Retention, Scratch, StoreError, Ttl, Value,
};

use super::record::{Record, RunId};

/// Claims the record of a request for one run: one operation, which writes the claim if there is no record.
///
/// It may be asked again after an error. The run's token stays the same, so a claim whose reply was lost is recognised.
#[derive(Debug)]
pub(super) struct ClaimRun<'a> {
    key: Key<'a>,
    run: RunId,
    value: Value,
    life: Ttl,
}

/// The store's reply to a claim.
#[derive(Debug)]
pub(super) enum Claimed {
    /// The run is the first. It goes on to the handler.
    Mine,
    /// There is a record already. `None`: it cannot be read.
    Taken(Option<Record>),
}

impl<'a> ClaimRun<'a> {
    /// Makes the claim of `run`, which is expected to end before `deadline`, in Unix ms. The claim itself lasts for `life`.
    pub(super) fn new(key: Key<'a>, run: RunId, deadline: u64, life: Ttl) -> Self {
        Self {
            key,
            run,
            value: run.in_progress(deadline).into(),
            life,
        }
    }
}

impl Protocol for ClaimRun<'_> {
    type Output = Result<Claimed, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        Op::Set {
            key: &self.key,
            value: &self.value,
            expiry: self.life.into(),
            condition: Condition::Absent,
            retention: Retention::Pinned,
        }
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        Some(
            reply
                .and_then(Reply::into_set)
                .and_then(|reply| match reply {
                    // ## Claiming => Mine: there was no record.
                    (true, _) => Ok(Claimed::Mine),
                    (false, Some(value)) => match Record::read(&value.to_bytes()) {
                        // ## Claiming => Mine: an earlier attempt wrote this claim, and its reply was lost.
                        Some(record) if record.run == self.run => Ok(Claimed::Mine),
                        // ## Claiming => Taken, by another run.
                        record => Ok(Claimed::Taken(record)),
                    },
                    (false, None) => Err(Reply::unexpected()),
                }),
        )
    }
}

#[cfg(test)]
mod tests {
    use layer_store::{ErrorKind, IdentityRef, KeySpace};

    use super::*;
    use crate::idempotency::{fingerprint::Fingerprint, record::RecordState};

    fn run() -> RunId {
        RunId::new(Fingerprint::read(&[b'f'; 22]).unwrap())
    }

    fn claim(run: RunId, space: &KeySpace) -> ClaimRun<'_> {
        let life = Ttl::from_millis(1_000).unwrap();
        ClaimRun::new(Key::new(space, IdentityRef::Text(b"r")), run, 7, life)
    }

    fn taken(existing: Option<Value>) -> Result<Reply, StoreError> {
        Ok(Reply::Set {
            applied: false,
            existing,
        })
    }

    #[test]
    fn a_claim_is_written_only_where_no_record_is() {
        let (space, run) = (KeySpace::new("record", "http"), run());
        let claim = claim(run, &space);
        let mut scratch = Scratch::default();
        match claim.ask(&mut scratch) {
            Op::Set {
                value,
                expiry,
                condition,
                retention,
                ..
            } => {
                assert_eq!(value.to_bytes(), run.in_progress(7));
                assert_eq!(expiry, Ttl::from_millis(1_000).unwrap().into());
                assert_eq!(
                    (condition, retention),
                    (Condition::Absent, Retention::Pinned)
                );
            }
            op => panic!("{op:?}"),
        }
    }

    #[test]
    fn a_claim_whose_reply_was_lost_is_recognised_and_another_runs_is_not() {
        let space = KeySpace::new("record", "http");
        let run = run();
        let mut claim = claim(run, &space);
        let lost = claim.take(Err(StoreError::unknown(ErrorKind::Timeout)));
        assert!(matches!(lost, Some(Err(_))));
        let own = taken(Some(run.in_progress(7).into()));
        assert!(matches!(claim.take(own), Some(Ok(Claimed::Mine))));

        let other = taken(Some(self::run().in_progress(7).into()));
        match claim.take(other) {
            Some(Ok(Claimed::Taken(Some(record)))) => {
                assert!(matches!(
                    record.state,
                    RecordState::InProgress { deadline: 7 }
                ));
                assert_eq!(record.run.fingerprint, run.fingerprint);
            }
            output => panic!("{output:?}"),
        }
    }

    #[test]
    fn each_reply_has_one_end() {
        let space = KeySpace::new("record", "http");
        let mut claim = claim(run(), &space);
        let mine = Reply::Set {
            applied: true,
            existing: None,
        };
        assert!(matches!(claim.take(Ok(mine)), Some(Ok(Claimed::Mine))));
        let unreadable = taken(Some(Value::from("2 of another version")));
        let output = claim.take(unreadable);
        assert!(matches!(output, Some(Ok(Claimed::Taken(None)))));
        for unexpected in [taken(None), Ok(Reply::Pong)] {
            match claim.take(unexpected) {
                Some(Err(error)) => assert_eq!(error.kind(), ErrorKind::Corrupt),
                output => panic!("{output:?}"),
            }
        }
    }
}
