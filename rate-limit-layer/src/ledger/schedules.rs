//! Several processes with a ledger each, one store, and random delays and faults, beside an exact limiter that sees everything.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use crate::{
    Algorithm::{self, CalendarWindow, ExactLog, FixedWindow, Gcra, SlidingWindow},
    Quota,
    algorithm::{
        gcra::Rate,
        span::Span,
        usage::{Count, Usage},
    },
    ledger::account::{Account, Pending, Report},
};

/// 10 a second: a request costs 0.1 s. Under another algorithm than GCRA the limit is the burst, and the window so long that a request
/// costs as much.
fn quota(algorithm: Algorithm, burst: u64) -> Quota {
    match algorithm {
        Gcra => Quota::per_second(10).burst(burst),
        _ => {
            let window = Duration::from_micros(burst * PRICE);
            let quota = Quota::try_new(burst, window).unwrap();
            quota.try_algorithm(algorithm).unwrap()
        }
    }
}

/// In microseconds.
const PRICE: u64 = 100_000;
const SPAN: Span = Span::of_micros(PRICE);
const START: u64 = 1_767_225_600_000_000;
const PROCESSES: usize = 3;
/// By how much the store's clock is ahead of those of the processes: the edges of its windows are not theirs.
const AHEAD: u64 = 12_345_678;
/// The longest time between sending a command and its reply.
const LONGEST: u64 = 100_000;

/// The fate of one command.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Answered,
    /// It does not reach the store.
    Lost,
    /// The store runs it, and its reply is lost.
    Unanswered,
}

/// A request, some time after the one before it.
#[derive(Clone, Copy, Debug)]
struct Step {
    after: u64,
    process: usize,
    fate: Fate,
    /// The times from sending to the store, and back.
    delays: (u64, u64),
}

fn step(fates: &'static [Fate]) -> impl Strategy<Value = Step> {
    let delays = (1..LONGEST / 2, 1..LONGEST / 2);
    // Mostly bursts, and pauses in which something is earned.
    let after = prop_oneof![4 => 0..2_000_u64, 1 => 0..400_000_u64];
    (after, 0..PROCESSES, prop::sample::select(fates), delays).prop_map(
        |(after, process, fate, delays)| Step {
            after,
            process,
            fate,
            delays,
        },
    )
}

/// An exact limiter: one time, and integers.
#[derive(Clone, Copy, Default)]
struct Exact(u64);

impl Exact {
    fn debt(self, now: u64) -> u64 {
        self.0.saturating_sub(now)
    }

    fn charge(&mut self, now: u64) {
        self.0 = self.0.max(now) + PRICE;
    }
}

/// A limiter in one place, by the definition of its algorithm: it keeps the time of every charge.
#[derive(Clone)]
struct Central {
    quota: Quota,
    debt: Exact,
    charges: Vec<u64>,
}

impl Central {
    fn new(quota: Quota) -> Self {
        Self {
            quota,
            debt: Exact::default(),
            charges: Vec::new(),
        }
    }

    fn charge(&mut self, now: u64) {
        self.debt.charge(now);
        self.charges.push(now);
    }

    fn passes(&self, now: u64) -> bool {
        let (limit, window) = (self.quota.limit(), self.quota.window().as_micros() as u64);
        let charged = |times: std::ops::Range<u64>| {
            let inside = self.charges.iter().filter(|time| times.contains(time));
            inside.count() as u64
        };
        // By the clock of the store.
        let elapsed = (now + AHEAD) % window;
        let start = now - elapsed;
        match self.quota.algorithm() {
            Gcra => self.debt.debt(now) + PRICE <= self.quota.rate().full().micros,
            FixedWindow | CalendarWindow => charged(start..now + 1) < limit,
            SlidingWindow => {
                let (current, before) = (charged(start..now + 1), charged(start - window..start));
                (current + 1) * window + before * (window - elapsed) <= limit * window
            }
            ExactLog => charged(now + 1 - window..now + 1) < limit,
        }
    }

    /// Returns what the store replies about one more request: the first time at which it passes is found by bisection.
    fn usage(&self, now: u64) -> Usage {
        if self.quota.algorithm() == Gcra {
            return Usage::Debt(Span::of_micros(self.debt.debt(now)));
        }
        let (mut early, mut late) = (now, now + 2 * self.quota.window().as_micros() as u64);
        while late - early > 1 {
            let middle = early.midpoint(late);
            match self.passes(middle) {
                true => late = middle,
                false => early = middle,
            }
        }
        let wait = if self.passes(now) { 0 } else { late - now };
        Usage::Count(Count {
            wait,
            ..Count::default()
        })
    }
}

enum Event {
    Ask(Step),
    Arrives(Step, Pending),
    Replies(Step, Pending, Option<(bool, Usage)>),
}

struct World {
    rate: Rate,
    processes: [Account; PROCESSES],
    store: Central,
    /// Sees what the store charged, and what passed without it.
    exact: Central,
    /// For each process the times at which its requests were charged, in order.
    passed: [Vec<u64>; PROCESSES],
    /// The commands that were sent.
    commands: usize,
}

impl World {
    fn new(quota: Quota) -> Self {
        Self {
            rate: quota.rate(),
            processes: [Account::open(START); PROCESSES],
            store: Central::new(quota),
            exact: Central::new(quota),
            passed: Default::default(),
            commands: 0,
        }
    }

    fn play(mut self, steps: &[Step]) -> Result<Self, TestCaseError> {
        // By time, and in the order in which they were made.
        let mut events = BTreeMap::new();
        let mut now = START;
        for (number, step) in steps.iter().enumerate() {
            now += step.after;
            events.insert((now, number), Event::Ask(*step));
        }
        let mut number = steps.len();
        while let Some(((now, _), event)) = events.pop_first() {
            if let Some((later, event)) = self.happens(now, event)? {
                events.insert((later, number), event);
                number += 1;
            }
        }
        Ok(self)
    }

    fn happens(&mut self, now: u64, event: Event) -> Result<Option<(u64, Event)>, TestCaseError> {
        let rate = self.rate;
        match event {
            Event::Ask(step) => {
                let account = &mut self.processes[step.process];
                account.advance(rate.parts(), now);
                if account.admit_to_store(rate, SPAN).is_err() {
                    prop_assert!(self.is_refused(step.process, now), "refused too much");
                    return Ok(None);
                }
                self.commands += 1;
                let sent = account.send(rate, SPAN);
                Ok(Some((now + step.delays.0, Event::Arrives(step, sent))))
            }
            Event::Arrives(step, sent) => {
                let mut reply = None;
                if step.fate != Fate::Lost {
                    let admitted = self.store.passes(now);
                    if admitted {
                        self.store.charge(now);
                        self.exact.charge(now);
                    }
                    if step.fate == Fate::Answered {
                        reply = Some((admitted, self.store.usage(now)));
                    }
                    if admitted && step.fate == Fate::Answered {
                        self.passed[step.process].push(now);
                    }
                }
                Ok(Some((
                    now + step.delays.1,
                    Event::Replies(step, sent, reply),
                )))
            }
            Event::Replies(step, sent, reply) => {
                let account = &mut self.processes[step.process];
                account.advance(rate.parts(), now);
                if let Some((admitted, usage)) = reply {
                    account.learn(rate, Report::of(usage, rate, SPAN), sent.sent_at);
                    match admitted {
                        true => account.charge(rate, sent),
                        false => account.end(rate, sent),
                    }
                    return Ok(None);
                }
                account.end(rate, sent);
                if account.admit_unseen(rate, SPAN).is_ok() {
                    self.exact.charge(now);
                    self.passed[step.process].push(now);
                } else {
                    prop_assert!(self.is_refused(step.process, now), "refused too much");
                }
                Ok(None)
            }
        }
    }

    /// Returns true if a refusal by the ledger of this process is right: an exact limiter that saw every admitted request would refuse
    /// too, also if it let through what is under way. In windows that begin anew, it is right too if the process has let as much through
    /// as no such limiter would have.
    fn is_refused(&self, process: usize, now: u64) -> bool {
        let under_way = self.processes[process].under_way().micros / PRICE;
        let mut exact = self.exact.clone();
        (0..under_way).for_each(|_| exact.charge(now));
        let is_windowed = matches!(self.exact.quota.algorithm(), FixedWindow | SlidingWindow);
        let mut own = Exact::default();
        let passed = self.passed[process].iter().copied();
        passed.for_each(|time| own.charge(time));
        let owed = own.debt(now) + (under_way + 1) * PRICE;
        !exact.passes(now) || is_windowed && owed > 2 * self.exact.quota.limit() * PRICE
    }

    /// Checks that one process let through at most what the quota allows, and `slack` microseconds' worth more.
    fn is_bounded(&self, slack: u64) -> Result<(), TestCaseError> {
        for passed in &self.passed {
            let mut process = Exact::default();
            for now in passed {
                process.charge(*now);
                prop_assert!(
                    process.debt(*now) <= self.rate.full().micros + slack,
                    "let through too much"
                );
            }
        }
        Ok(())
    }
}

const ALGORITHMS: &[Algorithm] = &[Gcra, SlidingWindow, FixedWindow, ExactLog];
const ALL: &[Fate] = &[Fate::Answered, Fate::Lost, Fate::Unanswered];

proptest! {
    /// Whatever fails, a refusal by a ledger is one that the exact limiter would give too, but for what is under way. And no process
    /// lets more through than the quota, by the times of the store and its own, which differ by a command's time.
    #[test]
    fn a_ledger_refuses_only_what_an_exact_limiter_would_and_holds_the_quota(
        algorithm in prop::sample::select(ALGORITHMS),
        burst in 1..20_u64,
        steps in prop::collection::vec(step(ALL), 0..300),
    ) {
        World::new(quota(algorithm, burst)).play(&steps)?.is_bounded(LONGEST)?;
    }

    /// Without a store each process holds the quota exactly.
    #[test]
    fn without_a_store_each_process_lets_through_what_the_quota_allows(
        algorithm in prop::sample::select(ALGORITHMS),
        burst in 1..20_u64,
        steps in prop::collection::vec(step(&[Fate::Lost]), 0..300),
    ) {
        World::new(quota(algorithm, burst)).play(&steps)?.is_bounded(0)?;
    }

    /// With a store that answers, all processes together hold the quota exactly.
    #[test]
    fn with_a_store_all_processes_let_through_what_the_quota_allows(
        algorithm in prop::sample::select(ALGORITHMS),
        burst in 1..20_u64,
        steps in prop::collection::vec(step(&[Fate::Answered]), 0..300),
    ) {
        let quota = quota(algorithm, burst);
        let world = World::new(quota).play(&steps)?;
        let mut passed: Vec<_> = world.passed.into_iter().flatten().collect();
        passed.sort_unstable();
        let mut all = Central::new(quota);
        for now in passed {
            prop_assert!(all.passes(now));
            all.charge(now);
        }
    }
}

/// 100,000 requests in 10 s for a quota of 10 a second: what does not pass costs next to nothing.
#[test]
fn a_flood_of_one_key_costs_few_commands() {
    let step = Step {
        after: 100,
        process: 0,
        fate: Fate::Answered,
        delays: (100, 100),
    };
    let world = World::new(quota(Gcra, 10));
    let world = world.play(&vec![step; 100_000]).unwrap();
    let passed = world.passed[0].len();
    assert!((109..=110).contains(&passed), "{passed}");
    // At each request that is earned, those of one round trip. And one question a second.
    assert!(world.commands <= passed * 4, "{}", world.commands);
}
