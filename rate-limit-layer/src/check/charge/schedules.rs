//! Clients that charge and refund at once, while their store fails in every way: 10,000 schedules each.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

use http::Request;
use layer_http::{KeyExtractor, RequestHead, header};
use layer_store::{
    Condition, Effect, Key, Op, Protocol, Reply, Retention, Scratch, StoreError, StoreInfo, Value,
    conformance::schedules::{Schedule, assert_finds, assert_holds},
};

use super::Charge;
use crate::{
    Quota,
    algorithm::{
        gcra::{self, Rate},
        program::testing::Run,
    },
    check::{
        decision::Decision, demands::Demands, outage::Outage, partition::Partitions, refund::Refund,
    },
    policy::{FailureMode, limit::Limit},
};

const CLIENTS: usize = 4;
const REQUESTS: usize = 6;

/// Two limits of the user, and one of the car between them. 7 a second: a debt that is no whole number of microseconds.
fn limits(mode: FailureMode) -> Vec<Limit> {
    let of = |quota: Quota, name: &'static str, by: &'static str| {
        let quota = quota.name(name).by(header(by).or_skip());
        Limit::new(match mode {
            FailureMode::Open => quota.fail_open(),
            FailureMode::Closed => quota.fail_closed(),
            FailureMode::Local(instances) => quota.fail_local(instances.get()),
        })
    };
    vec![
        of(Quota::per_second(10).burst(3), "a", "x-user"),
        of(Quota::per_second(20).burst(2), "b", "x-car"),
        of(Quota::per_second(7).burst(5), "c", "x-user"),
    ]
}

fn partitions(limits: &[Limit], car: u64) -> Partitions<'static> {
    let request = Request::builder()
        .header("x-user", "ada")
        .header("x-car", car.to_string())
        .body(())
        .unwrap();
    let partitions = Partitions::of(limits, &RequestHead::of(&request));
    partitions.unwrap().to_owned()
}

/// Everything that the store was asked and did, and that the clients were told.
#[derive(Default)]
struct Books {
    /// The debt of each key in parts and its time, computed by nothing but additions.
    debts: HashMap<Vec<u8>, (i128, u64)>,
    flushes: u64,
    /// Commands that were begun. Each may be charged once.
    asked: u64,
    charged: u64,
    /// The charges and refunds of the user's first limit.
    first_charged: i64,
    first_refunded: i64,
    admitted: i64,
    /// Requests that are not decided yet, or whose client died.
    undecided: i64,
    /// Calls whose caller does not know if they were applied.
    lost: i64,
    /// Calls that were not applied.
    failed: i64,
}

impl Books {
    /// Checks a reply of a program against what the keys owe.
    fn check(&mut self, schedule: &Schedule, keys: &[Key<'_>], run: &Run) -> Result<(), String> {
        self.forget(schedule.flushes());
        let now = schedule.store_time();
        let mut owed = Vec::new();
        let mut allowed = true;
        for (key, limit) in keys.iter().zip(&run.limits) {
            let text = text(key);
            let (debt, since) = self.debts.get(&text).copied().unwrap_or((0, now));
            let paid = i128::from(now - since) * limit.parts;
            let debt = (debt - paid).max(0);
            allowed &= limit.charge <= 0 || debt + limit.charge <= limit.full;
            owed.push((text, debt));
        }
        if run.is_admitted != allowed || run.limits.len() != keys.len() {
            return Err(format!("{run:?}, and {allowed} by what is owed: {owed:?}"));
        }
        for ((text, debt), limit) in owed.into_iter().zip(&run.limits) {
            let debt = match allowed {
                true => (debt + limit.charge).max(0),
                false => debt,
            };
            if limit.debt != debt {
                return Err(format!("{run:?}, and {debt} is owed"));
            }
            self.debts.insert(text, (debt, now));
        }
        if allowed {
            self.count(keys, run.limits[0].charge > 0);
        }
        Ok(())
    }

    fn count(&mut self, keys: &[Key<'_>], is_charge: bool) {
        let is_first = text(&keys[0]).ends_with(b"limit:a");
        match is_charge {
            true => {
                self.charged += 1;
                self.first_charged += i64::from(is_first);
            }
            false => self.first_refunded += i64::from(is_first),
        }
    }

    fn forget(&mut self, flushes: u64) {
        if self.flushes != flushes {
            self.flushes = flushes;
            self.debts.clear();
        }
    }

    fn balance(&self, mode: FailureMode) -> Result<(), String> {
        if self.charged > self.asked {
            return Err(format!("{} charges of {}", self.charged, self.asked));
        }
        let standing = self.first_charged - self.first_refunded;
        let unchecked = match mode {
            FailureMode::Open | FailureMode::Local(_) => self.failed + self.lost,
            FailureMode::Closed => 0,
        };
        if self.admitted > standing + unchecked {
            let admitted = self.admitted;
            return Err(format!(
                "{admitted} admitted, {standing} charged, {unchecked} unchecked"
            ));
        }
        // A request that was not admitted has cost nothing, but for one whose reply, or whose refund's, did not come.
        let unclear = self.lost + self.failed + self.undecided;
        if standing > self.admitted + unclear {
            let admitted = self.admitted;
            return Err(format!(
                "{standing} charged, {admitted} admitted, {unclear} unclear"
            ));
        }
        Ok(())
    }
}

fn text(key: &Key<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    key.render(&mut text);
    text
}

/// Writes the calls of a protocol into the books.
struct Booked<'a, P> {
    protocol: P,
    books: &'a RefCell<Books>,
    is_charge: bool,
    /// A call is under way.
    is_asked: Cell<bool>,
}

impl<'a, P> Booked<'a, P> {
    fn new(protocol: P, books: &'a RefCell<Books>, is_charge: bool) -> Self {
        Self {
            protocol,
            books,
            is_charge,
            is_asked: Cell::new(false),
        }
    }
}

impl<P: Protocol> Protocol for Booked<'_, P> {
    type Output = P::Output;

    fn ask<'r, 's: 'r>(&'s self, scratch: &'r mut Scratch<'s>) -> Op<'r> {
        self.books.borrow_mut().asked += u64::from(self.is_charge);
        self.is_asked.set(true);
        self.protocol.ask(scratch)
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<P::Output> {
        self.is_asked.set(false);
        if let Err(error) = &reply {
            let mut books = self.books.borrow_mut();
            match error.effect() {
                Effect::NotApplied => books.failed += 1,
                _ => books.lost += 1,
            }
        }
        self.protocol.take(reply)
    }
}

/// Clients that come, wait, leave and die. They are one user, with two cars.
struct Scenario {
    mode: FailureMode,
    limits: Rc<[Limit]>,
    cars: [Rc<Partitions<'static>>; 2],
    /// Commands that were admitted and refused, over all schedules.
    commands: Rc<Cell<(u64, u64)>>,
}

impl Scenario {
    fn new(mode: FailureMode) -> Self {
        let limits = limits(mode);
        Self {
            mode,
            cars: [0, 1].map(|car| Rc::new(partitions(&limits, car))),
            limits: limits.into(),
            commands: Rc::default(),
        }
    }

    fn begin(&self, schedule: &Schedule) -> impl FnMut() -> Result<(), String> + use<> {
        let books = Rc::new(RefCell::new(Books::default()));
        for client in 0..CLIENTS {
            let (schedule, books, limits) = (schedule.clone(), books.clone(), self.limits.clone());
            let partitions = self.cars[client % 2].clone();
            schedule.clone().spawn(async move {
                let outage = Outage::of(&StoreInfo::new("schedule"));
                for _ in 0..REQUESTS {
                    request(&schedule, &books, &limits, &partitions, &outage).await;
                }
            });
        }
        let (seen, clock, commands) = (books.clone(), schedule.clone(), self.commands.clone());
        schedule.observe(move |op, reply| {
            if let (
                Op::Run {
                    program,
                    keys,
                    args,
                },
                Reply::Output(output),
            ) = (op, reply)
            {
                let run = Run::read(program, args, output).unwrap();
                let (admitted, refused) = commands.get();
                commands.set(match run.is_admitted {
                    true => (admitted + 1, refused),
                    false => (admitted, refused + 1),
                });
                if let Err(message) = seen.borrow_mut().check(&clock, keys, &run) {
                    clock.violate(message);
                }
            }
        });
        let mode = self.mode;
        move || books.borrow().balance(mode)
    }

    /// Shows that the quota was used up and refilled many times.
    fn check_commands(&self, schedules: u64) {
        let (admitted, refused) = self.commands.get();
        assert!(
            admitted > schedules && refused > schedules,
            "{admitted} and {refused}"
        );
    }
}

async fn request(
    schedule: &Schedule,
    books: &RefCell<Books>,
    limits: &[Limit],
    partitions: &Partitions<'_>,
    outage: &Outage,
) {
    let cost = 1 + schedule.below(2);
    let charge = Charge::begin(limits, partitions, outage, cost).unwrap();
    let mut charge = Booked::new(charge, books, true);
    books.borrow_mut().undecided += 1;
    let decision = match schedule.one_in(5) {
        // The client leaves before it is answered.
        true => {
            let turns = schedule.below(6);
            schedule
                .leave_after(turns, schedule.talk(&mut charge))
                .await
        }
        false => Some(schedule.talk(&mut charge).await),
    };
    {
        let mut books = books.borrow_mut();
        books.undecided -= 1;
        books.lost += i64::from(decision.is_none() && charge.is_asked.get());
        books.admitted += i64::from(matches!(decision, Some(Decision::Admit(_))));
    }
    // As the guard does on drop. Until that is done, the request may have cost something.
    let charged = charge.protocol.charged();
    if let Some(refund) = Refund::begin(
        limits,
        partitions,
        charged,
        Demands::refund(cost.into(), 0, 0),
    ) {
        books.borrow_mut().undecided += 1;
        let mut refund = Booked::new(refund, books, false);
        schedule.talk(&mut refund).await;
        books.borrow_mut().undecided -= 1;
    }
}

#[test]
fn no_schedule_admits_more_than_the_quota_or_counts_twice() {
    let scenario = Scenario::new(FailureMode::Closed);
    let schedules = assert_holds(|schedule| scenario.begin(schedule));
    scenario.check_commands(schedules);
}

#[test]
fn no_schedule_lets_a_limit_that_fails_open_pass_more_than_its_failures() {
    let scenario = Scenario::new(FailureMode::Open);
    let schedules = assert_holds(|schedule| scenario.begin(schedule));
    scenario.check_commands(schedules);
}

/// The bug: it reads the state, decides, and writes the state.
struct GetThenSet<'a> {
    key: Key<'a>,
    rate: Rate,
    now: u64,
    write: Option<Value>,
}

impl Protocol for GetThenSet<'_> {
    type Output = bool;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        match &self.write {
            None => Op::Get(&self.key),
            Some(value) => Op::Set {
                key: &self.key,
                value,
                expiry: layer_store::Expiry::NEVER,
                condition: Condition::Always,
                retention: Retention::Pinned,
            },
        }
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<bool> {
        let Ok(reply) = reply else {
            return Some(false);
        };
        let Reply::Value(value) = reply else {
            return Some(true);
        };
        let state = value.and_then(|value| value.as_pair());
        let (debt, _) = gcra::debt(self.rate.parts(), self.rate.full(), state, self.now);
        let owed = debt.plus(self.rate.price(1), self.rate.parts());
        self.write = (owed <= self.rate.full()).then(|| gcra::keep(owed, self.now).0);
        self.write.is_none().then_some(false)
    }
}

#[test]
fn a_charge_that_reads_and_then_writes_is_found() {
    let limit = Rc::new(limits(FailureMode::Closed).swap_remove(0));
    let violation = assert_finds(|schedule| {
        for _ in 0..CLIENTS {
            let (schedule, limit) = (schedule.clone(), limit.clone());
            schedule.clone().spawn(async move {
                for _ in 0..REQUESTS {
                    let mut charge = GetThenSet {
                        key: limit.by.key(layer_store::IdentityRef::Int(1), false),
                        rate: limit.rate,
                        now: schedule.store_time(),
                        write: None,
                    };
                    schedule.talk(&mut charge).await;
                }
            });
        }
        let (clock, rate) = (schedule.clone(), limit.rate);
        let (mut owed, mut since, mut flushes) = (0, schedule.store_time(), 0);
        schedule.observe(move |op, _| {
            if let Op::Set { .. } = op {
                let now = clock.store_time();
                if std::mem::replace(&mut flushes, clock.flushes()) != flushes {
                    owed = 0;
                }
                // All prices of this limit are whole microseconds.
                owed = u64::saturating_sub(owed, now - since) + rate.price(1).micros;
                since = now;
                if owed > rate.full().micros {
                    clock.violate("more than the quota was admitted");
                }
            }
        });
        || Ok(())
    });
    assert_eq!(violation.message(), "more than the quota was admitted");
}
