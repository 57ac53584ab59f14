//! The schedules themselves: a counter that is read and written loses a count, one that is added to does not.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
};

use super::*;
use crate::{
    Arg, Effect, IdentityRef, Key, KeySpace, Op, Protocol, Reply, Scratch, StoreError, Value,
    conformance::programs::LIMITED,
};

/// Counts by a program.
struct Count<'a>([Key<'a>; 1]);

impl Protocol for Count<'_> {
    type Output = Result<i64, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        Op::Run {
            program: &LIMITED,
            keys: &self.0,
            args: &[Arg::Int(i64::MAX), Arg::Int(600_000)],
        }
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        let output = reply.and_then(Reply::into_output);
        Some(output.map(|output| output.int(1).unwrap()))
    }
}

fn space() -> KeySpace {
    KeySpace::new("data", "count")
}

fn number(value: Option<Value>) -> i64 {
    value
        .and_then(|value| value.as_pair())
        .map_or(0, |(number, _)| number as i64)
}

/// Three actors count three times each. Nothing is counted that was not asked for.
fn counting(schedule: &Schedule) -> impl FnMut() -> Result<(), String> + use<> {
    let asked = Rc::new(Cell::new(0));
    for _ in 0..3 {
        let (schedule, asked) = (schedule.clone(), asked.clone());
        schedule.clone().spawn(async move {
            let space = space();
            for _ in 0..3 {
                asked.set(asked.get() + 1);
                let _ = schedule
                    .talk(&mut Count([Key::new(&space, IdentityRef::Int(1))]))
                    .await;
            }
        });
    }
    let schedule = schedule.clone();
    move || {
        let space = space();
        let counted = number(schedule.peek(&Key::new(&space, IdentityRef::Int(1))));
        match counted <= asked.get() {
            true => Ok(()),
            false => Err(format!("{counted} counted, {} asked for", asked.get())),
        }
    }
}

#[test]
fn an_operation_is_applied_once_at_most() {
    assert_holds(counting);
}

#[test]
fn a_seed_plays_the_same_steps_each_time() {
    let steps = |seed| {
        let log = Rc::new(RefCell::new(Vec::new()));
        let schedule = Schedule::new(seed, false);
        let invariant = counting(&schedule);
        let (seen, clock) = (log.clone(), schedule.clone());
        schedule.observe(move |_, reply| {
            seen.borrow_mut()
                .push((clock.elapsed(), format!("{reply:?}")));
        });
        schedule.play(invariant).unwrap();
        log.take()
    };
    let all: BTreeSet<_> = (0..100).map(steps).collect();
    assert!(all.len() > 90, "{} different schedules", all.len());
    for seed in 0..100 {
        assert_eq!(steps(seed), steps(seed));
    }
}

#[test]
fn every_fault_and_event_happens() {
    let (results, seen) = (
        Rc::new(RefCell::new(BTreeSet::new())),
        Rc::new(Cell::new((0, 0, 0))),
    );
    let (all, sums) = (results.clone(), seen.clone());
    let schedules = assert_holds(move |schedule| {
        let (actor, all, sums) = (schedule.clone(), all.clone(), sums.clone());
        let applied = Rc::new(Cell::new(0));
        let counted = applied.clone();
        schedule.observe(move |_, _| counted.set(counted.get() + 1));
        schedule.spawn(async move {
            let space = space();
            for _ in 0..5 {
                let before = applied.get();
                let result = actor
                    .talk(&mut Count([Key::new(&space, IdentityRef::Int(1))]))
                    .await;
                let effect = result.err().map(|error| error.effect() == Effect::Unknown);
                all.borrow_mut().insert((effect, applied.get() > before));
            }
            let (flushes, upsets, ends) = sums.get();
            let jumps = actor.upsets() - actor.flushes();
            sums.set((flushes + actor.flushes(), upsets + jumps, ends + 1));
        });
        || Ok(())
    });
    // Succeeded; refused; lost on the way back; lost on the way there. An earlier one may arrive during a later one.
    for outcome in [
        (None, true),
        (Some(false), false),
        (Some(true), true),
        (Some(true), false),
    ] {
        assert!(results.borrow().contains(&outcome), "{outcome:?}");
    }
    let (flushes, jumps, ends) = seen.get();
    assert!(
        flushes > schedules / 100 && jumps > schedules / 100,
        "{flushes} and {jumps}"
    );
    assert!(
        ends < schedules && ends > schedules / 2,
        "{ends} actors live"
    );
}

#[test]
fn a_violation_names_its_seed() {
    let violation = assert_finds(|schedule| {
        let ends = schedule.clone();
        schedule.spawn(async move { ends.violate("an actor ended") });
        || Ok(())
    });
    assert_eq!(
        (violation.seed(), violation.message()),
        (0, "an actor ended")
    );
    assert!(violation.to_string().contains("SCHEDULE_SEED=0"));
}

#[test]
#[should_panic(expected = "some schedule shows the bug")]
fn a_bug_that_no_schedule_shows_is_an_error() {
    let _ = assert_finds(counting);
}
