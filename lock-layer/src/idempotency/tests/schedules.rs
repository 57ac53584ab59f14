//! Clients that repeat their requests at once, while the store fails in every way: 10,000 schedules for each retry policy.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use layer_store::{
    Condition, IdentityRef, Key, KeySpace, Op, Protocol, Reply, Retention, Scratch, StoreError,
    Ttl, Value,
    conformance::schedules::{Schedule, Tally, assert_finds, assert_holds},
};
use tokio::time::Instant;

use crate::{
    idempotency::{
        claim::{ClaimRun, Claimed},
        fingerprint::Fingerprint,
        record::{PREFIX_LEN, Record, RecordState, RunId},
        retry_policy::RetryPolicy,
        settle::{RemoveClaim, WriteRecord},
        settlement::Settlement,
    },
    retry::Retry,
    testing::retried,
};

/// The first 46 characters of a claim.
type ClaimPrefix = Vec<u8>;

/// The outcomes of the requests.
#[derive(Default)]
struct Ledger {
    /// The number of times that the store had forgotten everything when it wrote a claim.
    claims: HashMap<ClaimPrefix, u64>,
    /// The runs that may have taken effect, by record and by the times that the store had forgotten their claim's
    /// predecessors.
    effects: HashMap<(u64, u64), u64>,
    /// The responses of the handlers, each with the request that it is for.
    responses: HashMap<Bytes, Fingerprint>,
    /// The value under each key, its end, and the number of flushes before it.
    records: HashMap<Vec<u8>, (Bytes, u64, u64)>,
}

impl Ledger {
    /// Takes note of an operation that the store has applied.
    fn note(&mut self, schedule: &Schedule, op: &Op<'_>, reply: &Reply) -> Result<(), String> {
        match (op, reply) {
            (
                Op::Set {
                    key, value, expiry, ..
                },
                Reply::Set { applied: true, .. },
            ) => {
                let claim = value.to_bytes();
                let prefix = claim[..PREFIX_LEN].to_vec();
                self.claims.insert(prefix, schedule.flushes());
                self.write(schedule, key, claim, expiry.ttl().unwrap().as_millis());
                Ok(())
            }
            (Op::Batch(ops), Reply::Batch(replies)) => {
                for (op, reply) in ops.iter().zip(replies) {
                    if let Ok(reply) = reply {
                        self.note(schedule, op, reply)?;
                    }
                }
                Ok(())
            }
            (Op::Touch { key, ttl, .. }, Reply::Count(1)) => {
                if let Some((_, ends, _)) = self.records.get_mut(&text(key)) {
                    *ends = schedule.store_time() + ttl.as_millis() * 1_000;
                }
                Ok(())
            }
            (
                Op::Run {
                    program,
                    keys,
                    args,
                },
                Reply::Output(output),
            ) if program.name() == "record_write" && output.int(0) == Some(1) => {
                let record = Bytes::copy_from_slice(args[1].bytes().unwrap());
                let life = args[0].int().unwrap() as u64;
                match self.write(schedule, &keys[0], record.clone(), life) {
                    Some(old) if old[2..PREFIX_LEN] != record[2..PREFIX_LEN] => {
                        Err("a record is written over another run's".into())
                    }
                    Some(old) if old[1] != b'P' && old[1] != record[1] => {
                        Err("the record of a run that has ended is changed".into())
                    }
                    _ => Ok(()),
                }
            }
            (Op::Run { keys, .. }, Reply::Output(output)) if output.int(0) == Some(1) => {
                self.records.remove(&text(&keys[0]));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Writes a record down. Returns the one that it replaces.
    fn write(
        &mut self,
        schedule: &Schedule,
        key: &Key<'_>,
        record: Bytes,
        life: u64,
    ) -> Option<Bytes> {
        let (now, flushes) = (schedule.store_time(), schedule.flushes());
        let new = (record, now + life * 1_000, flushes);
        let (old, ends, since) = self.records.insert(text(key), new)?;
        (ends > now && since == flushes).then_some(old)
    }
}

fn text(key: &Key<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    key.render(&mut text);
    text
}

struct Scenario {
    policy: RetryPolicy,
    reads_then_writes: bool,
    records: Rc<KeySpace>,
    begin: Instant,
    /// Handler runs, replays, refusals of another payload, and requests without a known outcome, over all schedules.
    seen: Tally<4>,
}

const RAN: usize = 0;
const REPLAYED: usize = 1;
const OTHER_PAYLOAD: usize = 2;
const UNKNOWN: usize = 3;

impl Scenario {
    fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            reads_then_writes: false,
            records: Rc::new(KeySpace::new("record", "http")),
            begin: Instant::now(),
            seen: Tally::new(),
        }
    }

    fn begin(&self, schedule: &Schedule) -> impl FnMut() -> Result<(), String> + use<> {
        let ledger = Rc::new(RefCell::new(Ledger::default()));
        for _ in 0..4 {
            let client = Client {
                policy: self.policy,
                reads_then_writes: self.reads_then_writes,
                records: self.records.clone(),
                begin: self.begin,
                seen: self.seen.clone(),
                schedule: schedule.clone(),
                ledger: ledger.clone(),
            };
            schedule.spawn(async move {
                for _ in 0..4 {
                    client.request().await;
                }
            });
        }
        let (notes, clock) = (ledger.clone(), schedule.clone());
        schedule.observe(move |op, reply| {
            if let Err(message) = notes.borrow_mut().note(&clock, op, reply) {
                clock.violate(message);
            }
        });
        let policy = self.policy;
        move || {
            let ledger = ledger.borrow();
            let most = ledger.effects.values().max().copied().unwrap_or_default();
            match policy {
                RetryPolicy::AtMostOnce if most > 1 => Err("a handler ran twice".into()),
                _ => Ok(()),
            }
        }
    }
}

/// A client whose requests have one of two keys and one of two payloads.
struct Client {
    policy: RetryPolicy,
    reads_then_writes: bool,
    records: Rc<KeySpace>,
    begin: Instant,
    seen: Tally<4>,
    schedule: Schedule,
    ledger: Rc<RefCell<Ledger>>,
}

impl Client {
    async fn request(&self) {
        let record = self.schedule.below(2);
        let payload = [*b"f000000000000000000000", *b"f111111111111111111111"];
        // Most repetitions are honest.
        let payload = payload[usize::from(self.schedule.one_in(5))];
        let run = RunId::new(Fingerprint::read(&payload).unwrap());
        let key = Key::new(&self.records, IdentityRef::Int(record));
        let mut retry = Retry::for_caller(self.now());
        let life = self.claim_life();
        let in_one_step = ClaimRun::in_one_step(key, run, 0, life);
        let claimed = match (self.policy, self.reads_then_writes) {
            (_, true) => {
                let mut claim = GetThenSet::new(in_one_step);
                self.retried(&mut claim, &mut retry).await
            }
            (RetryPolicy::RetrySafe, _) => self.retried(&mut { in_one_step }, &mut retry).await,
            (RetryPolicy::AtMostOnce, _) => {
                let mut claim = ClaimRun::in_two_steps(key, run, 0, life);
                self.retried(&mut claim, &mut retry).await
            }
        };
        match claimed {
            Ok(Claimed::Mine) => self.run(record, key, run).await,
            Ok(Claimed::Taken(Some(found))) => self.repeat(&run, &found),
            Ok(Claimed::Taken(None)) => self.schedule.violate("a record cannot be read"),
            // An attempt whose reply was lost may have written the claim.
            Err(_) if retry.is_unsure() => {
                self.settle(key, &run, &Settlement::Remove).await;
            }
            Err(_) => {}
        }
    }

    /// Runs the handler, and settles as its outcome says.
    async fn run(&self, record: u64, key: Key<'_>, run: RunId) {
        self.seen.count(RAN);
        let epoch = self
            .ledger
            .borrow()
            .claims
            .get(&run.claim_prefix())
            .copied();
        let Some(epoch) = epoch else {
            return self.schedule.violate("a handler runs without a claim");
        };
        let settlement = match self.schedule.below(8) {
            // It says that it has done nothing.
            0 => Settlement::Remove,
            outcome => {
                let body = self.take_effect(record, epoch, &run);
                self.work(key, &run).await;
                match (outcome, self.policy) {
                    // It panics.
                    (1, RetryPolicy::AtMostOnce) => Settlement::small(run.unknown()),
                    (1, RetryPolicy::RetrySafe) => Settlement::Remove,
                    (2, _) => Settlement::small(run.body_not_kept(StatusCode::OK)),
                    _ => {
                        let headers = HeaderMap::new();
                        let (record, _) = run.completed(StatusCode::OK, &headers, &body, None);
                        Settlement::small(record)
                    }
                }
            }
        };
        self.settle(key, &run, &settlement).await;
    }

    /// Takes note of an effect. Returns the body of the response.
    fn take_effect(&self, record: u64, epoch: u64, run: &RunId) -> Bytes {
        let mut ledger = self.ledger.borrow_mut();
        *ledger.effects.entry((record, epoch)).or_default() += 1;
        let body = Bytes::from(run.claim_prefix());
        ledger.responses.insert(body.clone(), run.fingerprint);
        body
    }

    /// Lets some turns pass in the handler. A claim that is renewed is renewed now and then.
    async fn work(&self, key: Key<'_>, run: &RunId) {
        for _ in 0..self.schedule.below(6) {
            self.schedule.turn().await;
            if self.policy == RetryPolicy::RetrySafe && self.schedule.one_in(3) {
                let record = run.in_progress(0);
                let mut renewal = WriteRecord::new(key, &record, self.claim_life());
                let _ = self.schedule.talk(&mut renewal).await;
            }
        }
    }

    /// Responds to a repetition, as `respond_to_repetition` does.
    fn repeat(&self, run: &RunId, found: &Record) {
        if found.run == *run {
            return self
                .schedule
                .violate("a request is told to wait for itself");
        }
        if found.run.fingerprint != run.fingerprint {
            return self.seen.count(OTHER_PAYLOAD);
        }
        let RecordState::Completed(response) = &found.state else {
            return self.seen.count(UNKNOWN);
        };
        self.seen.count(REPLAYED);
        match self.ledger.borrow().responses.get(response.content.data()) {
            Some(fingerprint) if *fingerprint == run.fingerprint => {}
            Some(_) => self
                .schedule
                .violate("a response of another request is replayed"),
            None => self
                .schedule
                .violate("a response is replayed that no handler gave"),
        }
    }

    async fn settle(&self, key: Key<'_>, run: &RunId, settlement: &Settlement) {
        let mut retry = Retry::until(self.now() + EXPECTED_RUN.as_duration());
        let _ = match settlement {
            Settlement::Write { record, .. } => {
                let record = record.to_bytes();
                let mut write = WriteRecord::new(key, &record, KEEP_FOR);
                self.retried(&mut write, &mut retry).await.map(drop)
            }
            Settlement::Remove => {
                let prefix = run.claim_prefix();
                let mut remove = RemoveClaim::new(key, &prefix);
                self.retried(&mut remove, &mut retry).await.map(drop)
            }
        };
    }

    async fn retried<T>(
        &self,
        protocol: &mut impl Protocol<Output = Result<T, StoreError>>,
        retry: &mut Retry,
    ) -> Result<T, StoreError> {
        retried(&self.schedule, self.begin, protocol, retry).await.0
    }

    /// As [`HandlerRun`](crate::idempotency::handler_run::HandlerRun) chooses it.
    fn claim_life(&self) -> Ttl {
        match self.policy {
            RetryPolicy::AtMostOnce => KEEP_FOR,
            RetryPolicy::RetrySafe => EXPECTED_RUN,
        }
    }

    fn now(&self) -> Instant {
        self.begin + self.schedule.elapsed()
    }
}

#[test]
fn no_schedule_runs_a_handler_twice_or_replays_another_request() {
    let scenario = Scenario::new(RetryPolicy::AtMostOnce);
    let schedules = assert_holds(|schedule| scenario.begin(schedule));
    scenario.seen.assert_each(schedules / 10);
}

#[test]
fn no_schedule_replays_another_request_where_what_failed_may_run_again() {
    let scenario = Scenario::new(RetryPolicy::RetrySafe);
    let schedules = assert_holds(|schedule| scenario.begin(schedule));
    scenario.seen.assert_each(schedules / 10);
}

#[test]
fn a_claim_that_reads_and_then_writes_is_found() {
    let scenario = Scenario {
        reads_then_writes: true,
        ..Scenario::new(RetryPolicy::AtMostOnce)
    };
    let violation = assert_finds(|schedule| scenario.begin(schedule));
    assert_eq!(violation.message(), "a handler ran twice");
}

/// The bug: it looks if there is a record, and writes the claim.
struct GetThenSet<'a> {
    claim: ClaimRun<'a>,
    is_absent: bool,
}

impl<'a> GetThenSet<'a> {
    fn new(claim: ClaimRun<'a>) -> Self {
        Self {
            claim,
            is_absent: false,
        }
    }
}

impl Protocol for GetThenSet<'_> {
    type Output = Result<Claimed, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, scratch: &'r mut Scratch<'s>) -> Op<'r> {
        let Op::Set {
            key, value, expiry, ..
        } = self.claim.ask(scratch)
        else {
            unreachable!("a claim is a write");
        };
        match self.is_absent {
            false => Op::Get(key),
            true => Op::Set {
                key,
                value,
                expiry,
                condition: Condition::Always,
                retention: Retention::Pinned,
            },
        }
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        let existing: Option<Value> = match reply {
            Ok(Reply::Value(existing)) => existing,
            // It was written, or failed, and begins anew.
            reply => {
                self.is_absent = false;
                return self.claim.take(reply);
            }
        };
        if existing.is_none() {
            self.is_absent = true;
            return None;
        }
        self.claim.take(Ok(Reply::Set {
            applied: false,
            existing,
        }))
    }
}

/// Longer than any schedule.
const KEEP_FOR: Ttl = Ttl::from_millis(24 * 3_600_000).unwrap();
const EXPECTED_RUN: Ttl = Ttl::from_millis(500).unwrap();
