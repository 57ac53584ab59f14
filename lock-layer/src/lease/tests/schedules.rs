//! Holders that take, renew and give back units at once, and an operator who takes them away, while the store fails in every
//! way: 10,000 schedules.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc, time::Duration};

use layer_store::{
    Arg, Key, MemoryStore, Op, Output, Program, Protocol, Reply, Retention, Scratch, SharedStore,
    StoreError, Transaction, Ttl, Value,
    conformance::schedules::{Schedule, Tally, assert_finds, assert_holds},
};
use tokio::time::Instant;

use crate::{
    Locks, ReleaseOutcome,
    lease::{
        acquire::{Acquire, Acquired},
        extend::Extend,
        holder::Holder,
        operator::Revoke,
        release::Release,
        renewal::{Renewal, Renewed},
    },
    retry::Retry,
    testing::retried,
};

/// A bug that a schedule must find.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KnownBug {
    None,
    /// A release deletes the lock, whoever has it.
    DeletesAtRelease,
    /// A fencing token is the last one plus one, and the last one is forgotten with everything else.
    CountsFences,
}

/// One of the units, as a bit.
type UnitSet = u8;
type Token = Vec<u8>;

const UNITS: [&str; 3] = ["a", "b", "c"];

/// Everything that the store did, and that the holders believe.
#[derive(Default)]
struct Ledger {
    grants: HashMap<Token, Grant>,
    /// The last fencing token that was granted for each unit, and to whom.
    fences: HashMap<UnitSet, (u64, Token)>,
    beliefs: Vec<Belief>,
}

/// A grant in the store.
struct Grant {
    units: UnitSet,
    /// The upsets when it was made or renewed. It ends with the next one.
    upsets: u64,
    /// It was given back, or an operator took it.
    is_over: bool,
}

/// A holder that relies on its lock.
struct Belief {
    token: Token,
    units: UnitSet,
    deadline: Instant,
}

impl Ledger {
    /// Takes note of an operation that the store has applied.
    fn note(&mut self, schedule: &Schedule, op: &Op<'_>, reply: &Reply) -> Result<(), String> {
        let (
            Op::Run {
                program,
                keys,
                args,
            },
            Reply::Output(output),
        ) = (op, reply)
        else {
            return Ok(());
        };
        match (program.name(), output.int(0)) {
            ("lock_acquire", Some(fence @ 1..)) => {
                self.granted(schedule, keys, token(args), fence as u64)
            }
            ("lock_acquire", Some(0)) => {
                let lock = schedule.peek(&keys[2 * output.int(2).unwrap() as usize]);
                match lock.is_some_and(|lock| lock.to_bytes().starts_with(&token(args))) {
                    true => Err("a holder is told that it has to wait for itself".into()),
                    false => Ok(()),
                }
            }
            ("lock_extend", Some(1 | 2)) => {
                let grant = self.grants.get_mut(&token(args)).expect("it was granted");
                grant.upsets = schedule.upsets();
                match grant.is_over {
                    true => Err("a lock that was given back or taken away is renewed".into()),
                    false => Ok(()),
                }
            }
            ("lock_release", _) => {
                if let Some(grant) = self.grants.get_mut(&token(args)) {
                    grant.is_over = true;
                }
                Ok(())
            }
            ("lock_revoke", _) => {
                let revoked = units(keys);
                let grants = self.grants.values_mut();
                for grant in grants.filter(|grant| grant.units & revoked != 0) {
                    grant.is_over = true;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn granted(
        &mut self,
        schedule: &Schedule,
        keys: &[Key<'_>],
        token: Token,
        fence: u64,
    ) -> Result<(), String> {
        for unit in [1, 2, 4].into_iter().filter(|unit| units(keys) & unit != 0) {
            let last = self.fences.insert(unit, (fence, token.clone()));
            if let Some((last, holder)) = last
                && (fence < last || (fence == last && holder != token))
            {
                return Err(format!("fencing token {fence} after {last}"));
            }
        }
        let grant = Grant {
            units: units(keys),
            upsets: schedule.upsets(),
            is_over: false,
        };
        self.grants.insert(token, grant);
        Ok(())
    }

    /// No two holders rely on one unit, but for one that an operator took, or after the store has forgotten locks.
    fn check(&self, now: Instant, upsets: u64) -> Result<(), String> {
        let mut held = 0;
        for belief in &self.beliefs {
            let grant = &self.grants[&belief.token];
            let relies = now < belief.deadline && !grant.is_over && grant.upsets == upsets;
            if relies && held & belief.units != 0 {
                return Err("two holders have one unit".into());
            }
            if relies {
                held |= belief.units;
            }
        }
        Ok(())
    }

    fn believe(&mut self, token: &Token, units: UnitSet, deadline: Instant) {
        self.disbelieve(token);
        self.beliefs.push(Belief {
            token: token.clone(),
            units,
            deadline,
        });
    }

    fn disbelieve(&mut self, token: &Token) {
        self.beliefs.retain(|belief| belief.token != *token);
    }
}

fn token(args: &[Arg<'_>]) -> Token {
    args[0].bytes().expect("a holder token").to_vec()
}

/// Returns the units of a program's keys, of which each has two.
fn units(keys: &[Key<'_>]) -> UnitSet {
    let unit = |key: &Key<'_>| {
        let mut text = Vec::new();
        key.render(&mut text);
        let index = text.last().expect("a unit has a name") - b'a';
        1 << index
    };
    keys.iter().step_by(2).map(unit).sum()
}

struct Scenario {
    bug: KnownBug,
    locks: Locks,
    begin: Instant,
    /// Grants, refusals, losses and units put back, over all schedules.
    seen: Tally<4>,
}

const GRANTED: usize = 0;
const BUSY: usize = 1;
const LOST: usize = 2;
const PUT_BACK: usize = 3;

impl Scenario {
    fn new(bug: KnownBug) -> Self {
        let locks = Locks::new(SharedStore::new(MemoryStore::new()));
        Self {
            bug,
            locks: locks.lease(Duration::from_millis(300)),
            begin: Instant::now(),
            seen: Tally::new(),
        }
    }

    fn begin(&self, schedule: &Schedule) -> impl FnMut() -> Result<(), String> + use<> {
        let ledger = Rc::new(RefCell::new(Ledger::default()));
        for _ in 0..4 {
            let actor = self.actor(schedule, &ledger);
            schedule.spawn(async move {
                for _ in 0..3 {
                    actor.take_and_give_back().await;
                }
            });
        }
        let operator = self.actor(schedule, &ledger);
        schedule.spawn(async move { operator.revoke().await });
        let (notes, clock) = (ledger.clone(), schedule.clone());
        schedule.observe(move |op, reply| {
            if let Err(message) = notes.borrow_mut().note(&clock, op, reply) {
                clock.violate(message);
            }
        });
        let (schedule, begin) = (schedule.clone(), self.begin);
        move || {
            let now = begin + schedule.elapsed();
            ledger.borrow().check(now, schedule.upsets())
        }
    }

    fn actor(&self, schedule: &Schedule, ledger: &Rc<RefCell<Ledger>>) -> Actor {
        Actor {
            bug: self.bug,
            locks: self.locks.clone(),
            begin: self.begin,
            seen: self.seen.clone(),
            schedule: schedule.clone(),
            ledger: ledger.clone(),
        }
    }
}

/// A holder, or an operator.
struct Actor {
    bug: KnownBug,
    locks: Locks,
    begin: Instant,
    seen: Tally<4>,
    schedule: Schedule,
    ledger: Rc<RefCell<Ledger>>,
}

impl Actor {
    async fn take_and_give_back(&self) {
        let units = 1 + self.schedule.below(7) as UnitSet;
        let holder = self.holder(units);
        let token = token(&[holder.token_arg()]);
        let mut retry = Retry::for_caller(self.now());
        let (result, sent) = match self.bug {
            KnownBug::CountsFences => self.retried(&mut Count::new(&holder), &mut retry).await,
            _ => self.retried(&mut Acquire::new(&holder), &mut retry).await,
        };
        match result {
            Ok(Acquired::Granted { fence }) => {
                self.seen.count(GRANTED);
                self.hold(&holder, &token, units, fence, sent).await;
                self.ledger.borrow_mut().disbelieve(&token);
                self.give_back(&holder, fence).await;
            }
            Ok(Acquired::Busy { .. }) => self.seen.count(BUSY),
            // An attempt whose reply was lost may hold the units.
            Err(_) if retry.is_unsure() => self.give_back(&holder, 0).await,
            Err(_) => {}
        }
    }

    /// Holds for some turns, and renews meanwhile as the task behind a guard does.
    async fn hold(
        &self,
        holder: &Holder,
        token: &Token,
        units: UnitSet,
        fence: u64,
        sent: Instant,
    ) {
        let mut renewal = Renewal::new(holder.config().lease, sent);
        for _ in 0..self.schedule.below(30) {
            let now = self.now();
            if renewal.has_ended(now) {
                return;
            }
            self.believe(token, units, &renewal);
            if now < renewal.next() {
                self.schedule.turn().await;
                continue;
            }
            let reply = self.schedule.talk(&mut Extend::new(holder, fence)).await;
            match renewal.take(reply.as_ref().copied(), now, self.now()) {
                Renewed::Held | Renewed::Failed => {}
                Renewed::PutBack => self.seen.count(PUT_BACK),
                Renewed::Lost => return self.seen.count(LOST),
            }
        }
    }

    fn believe(&self, token: &Token, units: UnitSet, renewal: &Renewal) {
        let mut ledger = self.ledger.borrow_mut();
        ledger.believe(token, units, renewal.deadline());
    }

    async fn give_back(&self, holder: &Holder, fence: u64) {
        let mut retry = Retry::until(holder.config().lease.deadline(self.now()));
        if self.bug == KnownBug::DeletesAtRelease {
            let mut delete = DeleteLocks::new(holder);
            let _ = self.retried(&mut delete, &mut retry).await;
            return;
        }
        let mut release = match fence {
            0 => Release::without_fence(holder),
            _ => Release::new(holder, fence),
        };
        let _ = self.retried(&mut release, &mut retry).await;
    }

    async fn revoke(&self) {
        for _ in 0..2 {
            for _ in 0..self.schedule.below(40) {
                self.schedule.turn().await;
            }
            let holder = self.holder(1 + self.schedule.below(7) as UnitSet);
            let _ = self.schedule.talk(&mut Revoke::new(&holder)).await;
        }
    }

    async fn retried<T>(
        &self,
        protocol: &mut impl Protocol<Output = Result<T, StoreError>>,
        retry: &mut Retry,
    ) -> (Result<T, StoreError>, Instant) {
        retried(&self.schedule, self.begin, protocol, retry).await
    }

    fn holder(&self, units: UnitSet) -> Arc<Holder> {
        let names = UNITS.iter().enumerate();
        let names = names.filter(|(index, _)| units >> index & 1 == 1);
        let names: Vec<_> = names.map(|(_, name)| *name).collect();
        self.locks.group("car:7").holder(names).unwrap()
    }

    fn now(&self) -> Instant {
        self.begin + self.schedule.elapsed()
    }
}

#[test]
fn no_schedule_gives_one_unit_to_two_holders_or_lowers_a_fencing_token() {
    let scenario = Scenario::new(KnownBug::None);
    let schedules = assert_holds(|schedule| scenario.begin(schedule));
    scenario.seen.assert_each(schedules / 100);
}

#[test]
fn a_release_that_deletes_whatever_is_there_is_found() {
    let scenario = Scenario::new(KnownBug::DeletesAtRelease);
    let violation = assert_finds(|schedule| scenario.begin(schedule));
    assert_eq!(violation.message(), "two holders have one unit");
}

#[test]
fn a_fencing_token_that_is_counted_is_found() {
    let scenario = Scenario::new(KnownBug::CountsFences);
    let violation = assert_finds(|schedule| scenario.begin(schedule));
    assert!(violation.message().starts_with("fencing token 1 after "));
}

/// The bug: it deletes the locks without a look at them.
struct DeleteLocks<'a>(Vec<Key<'a>>);

impl<'a> DeleteLocks<'a> {
    fn new(holder: &'a Holder) -> Self {
        Self(holder.keys().into_iter().step_by(2).collect())
    }
}

impl Protocol for DeleteLocks<'_> {
    type Output = Result<ReleaseOutcome, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        Op::DeleteMany(&self.0)
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        let count = reply.and_then(Reply::into_count);
        Some(count.map(|_| ReleaseOutcome::StillHeld))
    }
}

/// The bug: it takes units with a fencing token that is counted.
struct Count<'a> {
    keys: Vec<Key<'a>>,
    args: [Arg<'a>; 2],
    acquire: Acquire<'a>,
}

static COUNT: Program = Program::new(
    "lock_acquire",
    "",
    Retention::Pinned,
    |transaction, args| {
        let token = args[0].bytes().unwrap();
        let life = Ttl::from_millis(args[1].int().unwrap() as u64).unwrap();
        count(transaction, token, life)
    },
);

fn count(transaction: &mut Transaction<'_>, token: &[u8], life: Ttl) -> Output {
    let number = |value: Option<&Value>| value.and_then(Value::as_pair).map_or(0, |pair| pair.0);
    let mut fence = 1;
    for unit in 0..transaction.len() / 2 {
        let is_own = |lock: &Value| lock.with_bytes(|lock| lock.starts_with(token));
        if transaction.get(2 * unit).is_some_and(|lock| !is_own(lock)) {
            return Output::ints(&[0, 1, unit as i64]);
        }
        fence = fence.max(number(transaction.get(2 * unit + 1)) + 1);
    }
    for unit in 0..transaction.len() / 2 {
        let lock = [token, fence.to_string().as_bytes()].concat();
        transaction.set(2 * unit, lock.into(), life);
        transaction.set(2 * unit + 1, Value::pair(fence, 0), Ttl::MAX);
    }
    Output::ints(&[1, fence as i64])
}

impl<'a> Count<'a> {
    fn new(holder: &'a Holder) -> Self {
        Self {
            keys: holder.keys(),
            args: [holder.token_arg(), holder.lease_arg()],
            acquire: Acquire::new(holder),
        }
    }
}

impl Protocol for Count<'_> {
    type Output = Result<Acquired, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        Op::Run {
            program: &COUNT,
            keys: &self.keys,
            args: &self.args,
        }
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        self.acquire.take(reply)
    }
}
