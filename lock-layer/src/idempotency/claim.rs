use layer_store::{
    Condition, Key, Op, Protocol, Reply, Retention, Scratch, StoreError, Ttl, Value,
};

use super::record::{Record, RecordState, RunId};

/// Claims the record of a request for one run, and begins the run.
///
/// In one step, the claim is written as that of a run that has begun. Nobody can tell then if a process that died had heard
/// of its claim. So a run that must not be repeated is claimed in two steps over a network: the first claim lasts a second,
/// and the second step makes it that of a run that has begun. A claim whose process heard nothing of it ends by itself.
///
/// It may be asked again after an error. The run's token stays the same, so a step whose reply was lost is recognised.
#[derive(Debug)]
pub(super) struct ClaimRun<'a> {
    key: Key<'a>,
    run: RunId,
    step: Step,
    /// The claim of a run that has not begun. `None`: the claim takes one step.
    claimed: Option<Value>,
    begun: Value,
    life: Ttl,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Claiming,
    Beginning,
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
    /// Makes the claim of `run`, which is expected to end before `deadline`, in Unix ms. The claim of a run that has begun
    /// lasts for `life`.
    pub(super) fn in_one_step(key: Key<'a>, run: RunId, deadline: u64, life: Ttl) -> Self {
        Self {
            key,
            run,
            step: Step::Claiming,
            claimed: None,
            begun: run.in_progress(deadline).into(),
            life,
        }
    }

    /// Makes a claim that says if its run has begun. See [`in_one_step`](Self::in_one_step).
    pub(super) fn in_two_steps(key: Key<'a>, run: RunId, deadline: u64, life: Ttl) -> Self {
        Self {
            claimed: Some(run.claimed().into()),
            ..Self::in_one_step(key, run, deadline, life)
        }
    }

    /// Returns the claim of the run that has begun, as it was written.
    pub(super) fn into_claim(self) -> Value {
        self.begun
    }

    /// Goes on with the claim that stands there now, which is this run's.
    fn own(&mut self, has_begun: bool) -> Option<Result<Claimed, StoreError>> {
        if has_begun || self.claimed.is_none() {
            return Some(Ok(Claimed::Mine));
        }
        self.step = Step::Beginning;
        None
    }

    /// Goes on with the record that stands there and may be another run's.
    fn existing(&mut self, existing: &Value) -> Option<Result<Claimed, StoreError>> {
        match Record::of(existing) {
            // An earlier attempt wrote this claim, and its reply was lost.
            Some(record) if record.run == self.run => {
                let has_begun = !matches!(record.state, RecordState::Claimed);
                self.own(has_begun)
            }
            // ## Claiming => Taken, by another run.
            record => Some(Ok(Claimed::Taken(record))),
        }
    }
}

impl Protocol for ClaimRun<'_> {
    type Output = Result<Claimed, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        let (value, expiry, condition) = match (self.step, &self.claimed) {
            (Step::Claiming, Some(claimed)) => (claimed, CLAIM_LIFE, Condition::Absent),
            (Step::Beginning, Some(claimed)) => {
                (&self.begun, self.life, Condition::Equals(claimed))
            }
            (_, None) => (&self.begun, self.life, Condition::Absent),
        };
        Op::Set {
            key: &self.key,
            value,
            expiry: expiry.into(),
            condition,
            retention: Retention::Pinned,
        }
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        let reply = match reply.and_then(Reply::into_set) {
            Ok(reply) => reply,
            Err(error) => return Some(Err(error)),
        };
        match (self.step, reply) {
            // ## Claiming => (Beginning | Mine): there was no record.
            (Step::Claiming, (true, _)) => self.own(false),
            // ## Beginning => Mine
            (Step::Beginning, (true, _)) => self.own(true),
            // ## Claiming => (Beginning | Mine | Taken), Beginning => (Mine | Taken)
            (_, (false, Some(existing))) => self.existing(&existing),
            // ## Beginning => Claiming: the claim has ended, or the store forgot it.
            (Step::Beginning, (false, None)) => {
                self.step = Step::Claiming;
                None
            }
            (Step::Claiming, (false, None)) => Some(Err(Reply::unexpected())),
        }
    }
}

/// The life of a claim whose run has not begun: longer than a caller waits, so that it does not end between the two steps.
const CLAIM_LIFE: Ttl = Ttl::from_millis(1_000).expect("a second is not zero");

#[cfg(test)]
mod tests {
    use layer_store::{ErrorKind, IdentityRef, KeySpace};

    use super::*;
    use crate::{idempotency::fingerprint::Fingerprint, retry::CALLER_LIMIT};

    fn run() -> RunId {
        RunId::new(Fingerprint::read(&[b'f'; 22]).unwrap())
    }

    fn claim(run: RunId, space: &KeySpace) -> ClaimRun<'_> {
        let life = Ttl::from_millis(1_000).unwrap();
        ClaimRun::in_one_step(Key::new(space, IdentityRef::Text(b"r")), run, 7, life)
    }

    fn careful_claim(run: RunId, space: &KeySpace) -> ClaimRun<'_> {
        let life = Ttl::from_millis(10_000).unwrap();
        ClaimRun::in_two_steps(Key::new(space, IdentityRef::Text(b"r")), run, 7, life)
    }

    fn applied() -> Result<Reply, StoreError> {
        Ok(Reply::Set {
            applied: true,
            existing: None,
        })
    }

    /// Returns what the claim would write: the value, its life in ms, and the value that it replaces.
    fn asked(claim: &ClaimRun<'_>) -> (Vec<u8>, u64, Option<Vec<u8>>) {
        match claim.ask(&mut Scratch::default()) {
            Op::Set {
                value,
                expiry,
                condition,
                retention: Retention::Pinned,
                ..
            } => {
                let replaced = match condition {
                    Condition::Equals(old) => Some(old.to_bytes().to_vec()),
                    _ => None,
                };
                let life = expiry.ttl().unwrap().as_millis();
                (value.to_bytes().to_vec(), life, replaced)
            }
            op => panic!("{op:?}"),
        }
    }

    #[test]
    fn a_careful_claim_is_short_until_its_run_begins() {
        let (space, run) = (KeySpace::new("record", "http"), run());
        let mut claim = careful_claim(run, &space);
        let (claimed, begun) = (run.claimed().to_vec(), run.in_progress(7).to_vec());
        assert_eq!(asked(&claim), (claimed.clone(), 1_000, None));
        assert!(u128::from(CLAIM_LIFE.as_millis()) > CALLER_LIMIT.as_millis());
        assert!(claim.take(applied()).is_none());
        assert_eq!(asked(&claim), (begun, 10_000, Some(claimed)));
        assert!(matches!(claim.take(applied()), Some(Ok(Claimed::Mine))));
    }

    #[test]
    fn a_lost_reply_to_either_step_of_a_careful_claim_is_recognised() {
        let space = KeySpace::new("record", "http");
        let run = run();
        let mut claim = careful_claim(run, &space);
        let lost = || Err(StoreError::unknown(ErrorKind::Timeout));
        assert!(matches!(claim.take(lost()), Some(Err(_))));
        // The first step was applied.
        assert!(claim.take(taken(Some(run.claimed().into()))).is_none());
        assert_eq!(asked(&claim).2, Some(run.claimed().to_vec()));
        assert!(matches!(claim.take(lost()), Some(Err(_))));
        // The second step was applied.
        let begun = taken(Some(run.in_progress(7).into()));
        assert!(matches!(claim.take(begun), Some(Ok(Claimed::Mine))));
    }

    #[test]
    fn a_careful_claim_that_ended_before_its_run_began_is_made_again() {
        let space = KeySpace::new("record", "http");
        let (run, other) = (run(), run());
        let mut claim = careful_claim(run, &space);
        assert!(claim.take(applied()).is_none());
        assert!(claim.take(taken(None)).is_none());
        assert_eq!(asked(&claim), (run.claimed().to_vec(), 1_000, None));
        // Another run came first this time.
        assert!(claim.take(applied()).is_none());
        let output = claim.take(taken(Some(other.claimed().into())));
        assert!(matches!(output, Some(Ok(Claimed::Taken(Some(_))))));
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
