//! The arguments and replies of both programs in one form, for tests: numbers of parts.

use layer_store::{Arg, Output, Program, Slot, Transaction};

use super::{
    CHARGE, CHARGE_ONE,
    args::{GCRA, MAX_ARGS, charge_args},
    charge_one_args,
};
use crate::algorithm::{
    gcra::{Change, Rate},
    span::Span,
};

/// One run of a program: what it was asked and replied.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) is_admitted: bool,
    pub(crate) limits: Vec<LimitRun>,
}

/// The arguments and the reply of a run for one limit.
#[derive(Debug)]
pub(crate) struct LimitRun {
    pub(crate) parts: i128,
    pub(crate) full: i128,
    /// A refund is negative.
    pub(crate) charge: i128,
    pub(crate) debt: i128,
}

impl Run {
    /// Reads a run. `None` if the reply says that a value is not of this form, or has another number of elements.
    pub(crate) fn read(program: &Program, args: &[Arg<'_>], output: &Output) -> Option<Self> {
        let args: Vec<_> = args.iter().map(|arg| arg.int().unwrap()).collect();
        let reply: Vec<_> = (0..output.len())
            .map(|at| output.int(at).unwrap())
            .collect();
        if program.name() == CHARGE_ONE.name() {
            return Self::read_one(&args, &reply);
        }
        let (mut args, mut reply) = (args.into_iter(), reply.into_iter());
        let is_admitted = match reply.next()? {
            -1 => return None,
            admitted => admitted == 1,
        };
        let mut limits = Vec::new();
        while let Some(algorithm) = args.next() {
            assert_eq!(algorithm, GCRA);
            let parts = args.next()?;
            let (mut full, mut charge) = (args.next()?.into(), args.next()?.into());
            let mut debt = reply.next()?.into();
            let whole = |micros: i128| micros * i128::from(parts);
            if parts > 1 {
                full = whole(full) + i128::from(args.next()?);
                charge = whole(charge) + i128::from(args.next()?);
                debt = whole(debt) + i128::from(reply.next()?);
            }
            limits.push(LimitRun {
                parts: parts.into(),
                full,
                charge,
                debt,
            });
        }
        reply.next().is_none().then_some(Self {
            is_admitted,
            limits,
        })
    }

    fn read_one(args: &[i64], reply: &[i64]) -> Option<Self> {
        let (&[full, charge], &[reply]) = (args, reply) else {
            return None;
        };
        let is_admitted = reply >= 0;
        let limit = LimitRun {
            parts: 1,
            full: full.into(),
            charge: charge.into(),
            debt: if is_admitted { reply } else { -1 - reply }.into(),
        };
        (reply != -1).then_some(Self {
            is_admitted,
            limits: vec![limit],
        })
    }
}

/// Makes the change of a number of parts: negative is a refund.
pub(crate) fn change(rate: Rate, charge: i128) -> Change {
    let span = Span::of_parts(charge.unsigned_abs(), rate.parts());
    match charge {
        0 => Change::Look,
        1.. => Change::Charge(span),
        _ => Change::Refund(span),
    }
}

/// Returns the arguments of [`CHARGE`].
pub(crate) fn args(charges: &[(Rate, Change)]) -> Vec<Arg<'static>> {
    let mut args = vec![Arg::Int(0); MAX_ARGS * charges.len()];
    let mut len = 0;
    for (rate, change) in charges {
        len += charge_args(*rate, *change, &mut args[len..]);
    }
    args.truncate(len);
    args
}

/// Runs the twin of [`CHARGE`] on slots.
pub(crate) fn run(slots: &mut [Slot], now: u64, charges: &[(Rate, Change)]) -> Option<Run> {
    run_with(&CHARGE, slots, now, &args(charges))
}

/// Runs the twin of [`CHARGE_ONE`] on a slot.
pub(crate) fn run_one(slot: &mut Slot, now: u64, rate: Rate, price: Span) -> Option<Run> {
    let slots = std::slice::from_mut(slot);
    run_with(&CHARGE_ONE, slots, now, &charge_one_args(rate, price))
}

fn run_with(program: &Program, slots: &mut [Slot], now: u64, args: &[Arg<'_>]) -> Option<Run> {
    let output = program.run(&mut Transaction::new(now, slots), args);
    Run::read(program, args, &output)
}
