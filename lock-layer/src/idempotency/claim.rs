use layer_store::{
    Condition, Key, Op, Protocol, Reply, Retention, Scratch, StoreError, Ttl, Value,
};

use super::record::{Record, RunId};

/// Claims the record of a request for one run, and begins the run.
///
/// In one step, the claim is written as that of a run that has begun. Nobody can tell then if a process that died had heard
/// of its claim. So a run that must not be repeated is claimed in two steps over a network: the first claim lasts a second,
/// and the second step makes it last as long as that of a run that has begun. A claim whose process heard nothing of it ends by
/// itself.
///
/// No single step can do both: if its reply is lost, the store holds what it would hold if the run had begun.
///
/// It may be asked again after an error. The run's token stays the same, so a step whose reply was lost is recognised.
#[derive(Debug)]
pub(super) struct ClaimRun<'a> {
    key: Key<'a>,
    run: RunId,
    step: Step,
    /// The life of a claim whose run has not begun. `None`: the claim takes one step.
    first_life: Option<Ttl>,
    claim: Value,
    life: Ttl,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Writes the claim.
    Claiming { begin: Begin },
    /// Makes it last.
    Beginning(Begin),
}

/// The way in which a claim is made to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// Two plain commands in one round trip: the first sets the life, the second tells whose claim it is. The cheapest.
    ///
    /// The claim was written once and confirmed, so it is there in between if it is there at the end. If it has ended by then,
    /// another run's claim lives for as long as that run's own second step would make it live, and this run does not begin.
    ///
    /// That shows only if this step comes a second late, another run has claimed meanwhile, and its process dies between its own
    /// two steps: its key is answered 409 for longer, and nothing runs twice. A comparison would cost each run a script.
    Touch,
    /// One command that compares. A write of this claim may still be on its way, or a replica may answer.
    Compare,
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
            step: Step::Claiming {
                begin: Begin::Touch,
            },
            first_life: None,
            claim: run.in_progress(deadline).into(),
            life,
        }
    }

    /// Makes a claim that says by its life if its run has begun. See [`in_one_step`](Self::in_one_step).
    pub(super) fn in_two_steps(key: Key<'a>, run: RunId, deadline: u64, life: Ttl) -> Self {
        Self {
            first_life: Some(NOT_BEGUN_LIFE),
            ..Self::in_one_step(key, run, deadline, life)
        }
    }

    /// Compares in the second step, for a store whose reads may lag.
    pub(super) fn comparing(mut self) -> Self {
        self.step = Step::Claiming {
            begin: Begin::Compare,
        };
        self
    }

    /// Returns the claim, as it was written.
    pub(super) fn into_claim(self) -> Value {
        self.claim
    }

    fn claiming(&mut self, reply: Reply, begin: Begin) -> Option<Result<Claimed, StoreError>> {
        let (begin, existing) = match reply.into_set() {
            Err(error) => return Some(Err(error)),
            Ok((true, _)) => (begin, None),
            Ok((false, Some(existing))) => (Begin::Compare, Some(existing)),
            Ok((false, None)) => return Some(Err(Reply::unexpected())),
        };
        // ## Claiming => Taken, by another run. Its own claim is there if an earlier attempt wrote it and its reply was lost.
        if let Some(Err(taken)) = existing.map(|existing| self.is_own(&existing)) {
            return Some(Ok(taken));
        }
        // ## Claiming => Mine
        if self.first_life.is_none() {
            return Some(Ok(Claimed::Mine));
        }
        // ## Claiming => Beginning
        self.step = Step::Beginning(begin);
        None
    }

    fn begun_by_touch(&mut self, reply: Reply) -> Option<Result<Claimed, StoreError>> {
        let both = || {
            let mut replies = reply.into_batch(2)?.into_iter();
            let mut next = || replies.next().unwrap_or_else(|| Err(Reply::unexpected()));
            Ok((next()?.into_count()?, next()?.into_value()?))
        };
        let (touched, existing) = match both() {
            Ok(both) => both,
            Err(error) => return self.failed(error),
        };
        match existing.map(|existing| self.is_own(&existing)) {
            // ## Beginning => Mine
            Some(Ok(())) if touched == 1 => Some(Ok(Claimed::Mine)),
            // ## Beginning => Beginning, as nothing was there at first.
            Some(Ok(())) => {
                self.step = Step::Beginning(Begin::Compare);
                None
            }
            // ## Beginning => Taken, by a run that came when this claim had ended.
            Some(Err(taken)) => Some(Ok(taken)),
            // ## Beginning => Claiming: the claim has ended, or the store forgot it.
            None => self.claim_again(),
        }
    }

    fn begun_by_compare(&mut self, reply: Reply) -> Option<Result<Claimed, StoreError>> {
        match reply.into_set() {
            Err(error) => Some(Err(error)),
            // ## Beginning => Mine
            Ok((true, _)) => Some(Ok(Claimed::Mine)),
            // ## Beginning => Taken
            Ok((false, Some(existing))) => Some(Ok(taken(&existing))),
            // ## Beginning => Claiming: the claim has ended, or the store forgot it.
            Ok((false, None)) => self.claim_again(),
        }
    }

    /// Goes on after an error: what was sent may arrive yet.
    fn failed(&mut self, error: StoreError) -> Option<Result<Claimed, StoreError>> {
        let begin = Begin::Compare;
        self.step = match self.step {
            Step::Claiming { .. } => Step::Claiming { begin },
            Step::Beginning(_) => Step::Beginning(begin),
        };
        Some(Err(error))
    }

    fn claim_again(&mut self) -> Option<Result<Claimed, StoreError>> {
        self.step = Step::Claiming {
            begin: Begin::Compare,
        };
        None
    }

    /// Checks that a record is this run's claim.
    fn is_own(&self, existing: &Value) -> Result<(), Claimed> {
        match taken(existing) {
            Claimed::Taken(Some(record)) if record.run == self.run => Ok(()),
            taken => Err(taken),
        }
    }
}

fn taken(existing: &Value) -> Claimed {
    Claimed::Taken(Record::of(existing))
}

impl Protocol for ClaimRun<'_> {
    type Output = Result<Claimed, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, scratch: &'r mut Scratch<'s>) -> Op<'r> {
        let key = &self.key;
        let (expiry, condition) = match self.step {
            Step::Claiming { .. } => (self.first_life.unwrap_or(self.life), Condition::Absent),
            Step::Beginning(Begin::Compare) => (self.life, Condition::Equals(&self.claim)),
            Step::Beginning(Begin::Touch) => {
                let touch = Op::Touch {
                    key,
                    ttl: self.life,
                    only_longer: false,
                };
                return Op::Batch(scratch.ops([touch, Op::Get(key)]));
            }
        };
        Op::Set {
            key,
            value: &self.claim,
            expiry: expiry.into(),
            condition,
            retention: Retention::Pinned,
        }
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        match (reply, self.step) {
            (Err(error), _) => self.failed(error),
            (Ok(reply), Step::Claiming { begin }) => self.claiming(reply, begin),
            (Ok(reply), Step::Beginning(Begin::Touch)) => self.begun_by_touch(reply),
            (Ok(reply), Step::Beginning(Begin::Compare)) => self.begun_by_compare(reply),
        }
    }
}

/// The life of a claim whose run has not begun: longer than a caller waits, so that it does not end between the two steps.
pub(super) const NOT_BEGUN_LIFE: Ttl = Ttl::from_millis(1_000).expect("a second is not zero");

#[cfg(test)]
mod tests {
    use layer_store::{ErrorKind, IdentityRef, KeySpace};

    use super::*;
    use crate::{
        idempotency::{fingerprint::Fingerprint, record::RecordState},
        retry::CALLER_LIMIT,
    };

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

    /// Returns the life in ms that the claim would get by plain commands.
    fn touched(claim: &ClaimRun<'_>) -> u64 {
        match claim.ask(&mut Scratch::default()) {
            Op::Batch(
                [
                    Op::Touch {
                        ttl,
                        only_longer: false,
                        ..
                    },
                    Op::Get(_),
                ],
            ) => ttl.as_millis(),
            op => panic!("{op:?}"),
        }
    }

    fn lost() -> Result<Reply, StoreError> {
        Err(StoreError::unknown(ErrorKind::Timeout))
    }

    /// The reply to a step that touches: the number of keys that were there, and what stands there now.
    fn touch(count: u64, existing: Option<Value>) -> Result<Reply, StoreError> {
        Ok(Reply::Batch(vec![
            Ok(Reply::Count(count)),
            Ok(Reply::Value(existing)),
        ]))
    }

    #[test]
    fn a_careful_claim_is_short_until_its_run_begins() {
        let (space, run) = (KeySpace::new("record", "http"), run());
        let mut claim = careful_claim(run, &space);
        let own = run.in_progress(7);
        assert_eq!(asked(&claim), (own.to_vec(), 1_000, None));
        assert!(u128::from(NOT_BEGUN_LIFE.as_millis()) > CALLER_LIMIT.as_millis());
        assert!(claim.take(applied()).is_none());
        assert_eq!(touched(&claim), 10_000);
        let mine = claim.take(touch(1, Some(own.into())));
        assert!(matches!(mine, Some(Ok(Claimed::Mine))));
    }

    #[test]
    fn a_lost_reply_to_either_step_of_a_careful_claim_is_recognised_and_then_it_compares() {
        let space = KeySpace::new("record", "http");
        let run = run();
        let own = || Some(run.in_progress(7).into());
        let mut claim = careful_claim(run, &space);
        assert!(matches!(claim.take(lost()), Some(Err(_))));
        // The first step was applied.
        assert!(claim.take(taken(own())).is_none());
        let beginning = (
            run.in_progress(7).to_vec(),
            10_000,
            Some(run.in_progress(7).to_vec()),
        );
        assert_eq!(asked(&claim), beginning);
        assert!(matches!(claim.take(lost()), Some(Err(_))));
        assert_eq!(asked(&claim), beginning);
        assert!(matches!(claim.take(applied()), Some(Ok(Claimed::Mine))));

        // The first step was not applied, and may be on its way yet.
        let mut claim = careful_claim(run, &space);
        assert!(matches!(claim.take(lost()), Some(Err(_))));
        assert!(claim.take(applied()).is_none());
        assert_eq!(asked(&claim), beginning);

        // The second step was lost, whole or in part.
        for failed in [
            lost(),
            Ok(Reply::Batch(vec![Ok(Reply::Count(1)), lost()])),
            Ok(Reply::Batch(vec![lost(), Ok(Reply::Value(own()))])),
            Ok(Reply::Pong),
        ] {
            let mut claim = careful_claim(run, &space);
            assert!(claim.take(applied()).is_none());
            assert!(matches!(claim.take(failed), Some(Err(_))));
            assert_eq!(asked(&claim), beginning);
        }
    }

    #[test]
    fn a_careful_claim_that_ended_before_its_run_began_is_made_again() {
        let space = KeySpace::new("record", "http");
        let (run, other) = (run(), run());
        let first = (run.in_progress(7).to_vec(), 1_000, None);
        let mut claim = careful_claim(run, &space);
        assert!(claim.take(applied()).is_none());
        assert!(claim.take(touch(0, None)).is_none());
        assert_eq!(asked(&claim), first);
        assert!(claim.take(applied()).is_none());
        assert!(claim.take(taken(None)).is_none());
        assert_eq!(asked(&claim), first);
        // Another run came first this time.
        assert!(claim.take(applied()).is_none());
        let output = claim.take(taken(Some(other.in_progress(7).into())));
        assert!(matches!(output, Some(Ok(Claimed::Taken(Some(_))))));
    }

    #[test]
    fn a_run_never_begins_by_a_touch_that_was_not_its_own_claims() {
        let space = KeySpace::new("record", "http");
        let (run, other) = (run(), run());
        // Another run's claim was touched.
        let mut claim = careful_claim(run, &space);
        assert!(claim.take(applied()).is_none());
        let output = claim.take(touch(1, Some(other.in_progress(7).into())));
        assert!(matches!(output, Some(Ok(Claimed::Taken(Some(_))))));
        // Nothing was there to be touched, and its own claim came after that.
        let mut claim = careful_claim(run, &space);
        assert!(claim.take(applied()).is_none());
        let own = run.in_progress(7);
        assert!(claim.take(touch(0, Some(own.clone().into()))).is_none());
        assert_eq!(asked(&claim).2, Some(own.to_vec()));
    }

    #[test]
    fn a_store_whose_reads_lag_compares() {
        let (space, run) = (KeySpace::new("record", "http"), run());
        let mut claim = careful_claim(run, &space).comparing();
        assert!(claim.take(applied()).is_none());
        assert_eq!(asked(&claim).2, Some(run.in_progress(7).to_vec()));
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
