//! The twins of the programs, and what they are given.
//!
//! [`CHARGE`] does all there is: several limits, of all algorithms, charges, looks and refunds. The others do a part of it, and cost a
//! server less. They keep the same values, so that it does not matter which of them comes next.
//!
//! | Program | For | of [`CHARGE`]'s instructions |
//! | --- | --- | ---: |
//! | [`CHARGE_ONE`] | a charge of one GCRA limit whose prices are whole microseconds: the most frequent check by far | 0.55 |
//! | [`CHARGE_FIXED_WINDOW`] | a charge of one fixed window | 0.52 |
//! | [`CHARGE_SLIDING_WINDOW`] | a charge of one sliding window | 0.52 |
//! | [`CHARGE_DEBTS`] | limits that are all of GCRA | 0.87 |
//!
//! [`CHARGE_OR_BLOCK`] is for limits of which one has a block: all of [`CHARGE`], and the blocks.
//!
//! - [`args`]: what [`CHARGE`] is given for one limit. [`debt_step`] and [`count_step`]: what its twin does with it.
//! - [`block_step`]: what the twin does with a block.
//! - [`charge_window`]: the twins for one window, and how their reply is read.

pub(crate) mod args;
pub(crate) mod charge_window;

mod block_step;
mod count_step;
mod debt_step;

use layer_store::{Arg, Output, Program, Retention, Transaction};

use self::{
    args::{BLOCK, GCRA, Numbers},
    block_step::BlockStep,
    charge_window::{charge_fixed_window, charge_sliding_window},
    count_step::CountStep,
    debt_step::{DebtStep, keep},
};
use crate::algorithm::{
    gcra::{self, Rate},
    span::Span,
};

/// Expands to the algorithms of the programs that know all of them.
macro_rules! algorithms {
    () => {
        concat!(
            include_str!("lua/arguments.lua"),
            include_str!("lua/gcra.lua"),
            include_str!("lua/mul_div.lua"),
            include_str!("lua/either.lua"),
            include_str!("lua/sliding_window.lua"),
            include_str!("lua/fixed_window.lua"),
            include_str!("lua/exact_log.lua"),
        )
    };
}

/// The program that charges, looks at or refunds limits of one identity, all of them or none. Keys, arguments and reply are
/// described at the head of `lua/charge.lua`, and for each algorithm in a file of its own.
pub(crate) static CHARGE: Program = Program::new(
    "charge",
    concat!(algorithms!(), include_str!("lua/charge.lua")),
    RETENTION,
    charge,
)
// `TIME`; `GET` and `SET` for each limit.
.billed(1, 2);

/// [`CHARGE`] with blocks: the key of one stands behind that of its limit. See `lua/block.lua`.
pub(crate) static CHARGE_OR_BLOCK: Program = Program::new(
    "charge_or_block",
    concat!(
        algorithms!(),
        include_str!("lua/block.lua"),
        include_str!("lua/charge.lua"),
    ),
    RETENTION,
    charge_or_block,
)
// `TIME`; `GET` and `SET` for each limit and each block.
.billed(1, 2);

/// [`CHARGE`] without the algorithms that count in windows: for limits that are all of GCRA.
pub(crate) static CHARGE_DEBTS: Program = Program::new(
    "charge_debts",
    concat!(
        include_str!("lua/arguments.lua"),
        include_str!("lua/gcra.lua"),
        include_str!("lua/charge.lua"),
    ),
    RETENTION,
    charge,
)
// `TIME`; `GET` and `SET` for each limit.
.billed(1, 2);

/// The program that charges one fixed window. See `lua/charge_fixed_window.lua`.
pub(crate) static CHARGE_FIXED_WINDOW: Program = Program::new(
    "charge_fixed_window",
    concat!(
        include_str!("lua/one_window.lua"),
        include_str!("lua/charge_fixed_window.lua"),
    ),
    RETENTION,
    charge_fixed_window,
)
// `TIME`, `GET` and `SET`.
.billed(1, 2);

/// The program that charges one sliding window. See `lua/charge_sliding_window.lua`.
pub(crate) static CHARGE_SLIDING_WINDOW: Program = Program::new(
    "charge_sliding_window",
    concat!(
        include_str!("lua/one_window.lua"),
        include_str!("lua/mul_div.lua"),
        include_str!("lua/charge_sliding_window.lua"),
    ),
    RETENTION,
    charge_sliding_window,
)
// `TIME`, `GET` and `SET`.
.billed(1, 2);

/// The program that charges one GCRA limit whose prices are whole microseconds. See `lua/charge_one.lua`.
pub(crate) static CHARGE_ONE: Program = Program::new(
    "charge_one",
    include_str!("lua/charge_one.lua"),
    RETENTION,
    charge_one,
)
// `TIME`, `GET` and `SET`.
.billed(1, 2);

/// Returns the arguments of [`CHARGE_ONE`].
#[inline]
pub(crate) const fn charge_one_args(rate: Rate, price: Span) -> [Arg<'static>; 2] {
    [
        Arg::Int(rate.full().micros as i64),
        Arg::Int(price.micros as i64),
    ]
}

#[inline]
fn charge_one(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let [full, charge] = args else {
        return Output::ints(&[MALFORMED]);
    };
    let number = |arg: &Arg<'_>| arg.int().unwrap_or(0) as u64;
    Output::ints(&[charge_debt(transaction, number(full), number(charge))])
}

/// Does what [`CHARGE_ONE`] does, and returns the number that it replies.
#[inline(always)]
pub(crate) fn charge_debt(transaction: &mut Transaction<'_>, full: u64, charge: u64) -> i64 {
    let state = match transaction.get(0) {
        Some(value) => match value.as_pair() {
            Some(state) => Some(state),
            None => return MALFORMED,
        },
        None => None,
    };
    let (debt, cut) = gcra::debt(1, Span::of_micros(full), state, transaction.now());
    let owed = debt.micros.saturating_add(charge);
    // ## Refused => nothing is written, but for a cut
    // A cut that is not kept would be made again at each refusal, and lock the caller out until the old debt is paid.
    if owed > full {
        if cut {
            keep(transaction, 0, debt);
        }
        return -1 - debt.micros as i64;
    }
    // ## Charged => the debt is kept until it is paid
    keep(transaction, 0, Span::of_micros(owed));
    owed as i64
}

/// One limit in a run of [`CHARGE`], or one block in a run of [`CHARGE_OR_BLOCK`].
enum Step {
    Debt(DebtStep),
    Count(CountStep),
    Block(BlockStep),
}

impl Step {
    /// Takes the arguments of the next limit or block. `None`: there is no such algorithm.
    fn take(numbers: &mut Numbers<'_, '_>, has_blocks: bool) -> Option<Self> {
        match numbers.next() {
            GCRA => Some(Self::Debt(DebtStep::take(numbers))),
            BLOCK if has_blocks => Some(Self::Block(BlockStep::take(numbers))),
            algorithm => CountStep::take(algorithm, numbers).map(Self::Count),
        }
    }

    /// Returns true if the limit allows what it is asked. `None` if its value is not of the algorithm's form.
    fn allows(&self, transaction: &Transaction<'_>, index: usize) -> Option<bool> {
        match self {
            Self::Debt(step) => step.allows(transaction, index),
            Self::Count(step) => step.allows(transaction, index),
            Self::Block(step) => step.allows(transaction, index),
        }
    }

    /// Does what the limit is asked, if all limits allow it, and appends what the limit replies.
    fn settle(
        &self,
        transaction: &mut Transaction<'_>,
        index: usize,
        admitted: bool,
        struck: bool,
        output: &mut Output,
    ) {
        match self {
            Self::Debt(step) => step.settle(transaction, index, admitted, output),
            Self::Count(step) => step.settle(transaction, index, admitted, output),
            Self::Block(step) => step.settle(transaction, index, struck, output),
        }
    }
}

fn charge(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    charge_all(transaction, args, false).unwrap_or_else(|| Output::ints(&[MALFORMED]))
}

fn charge_or_block(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    charge_all(transaction, args, true).unwrap_or_else(|| Output::ints(&[MALFORMED]))
}

/// `None`: a value is not of its algorithm's form.
fn charge_all(
    transaction: &mut Transaction<'_>,
    args: &[Arg<'_>],
    has_blocks: bool,
) -> Option<Output> {
    // ## Read => admitted | refused
    // All limits are read before one is written: a refusal by the last charges none.
    let (mut admitted, mut numbers) = (true, Numbers::of(args));
    // The blocks whose limit, the one before them, refuses by itself: a bit for each.
    let (mut struck, mut own_allowed) = (0_u128, true);
    for index in 0..transaction.len() {
        let step = Step::take(&mut numbers, has_blocks)?;
        let allowed = step.allows(transaction, index)?;
        admitted &= allowed;
        match step {
            Step::Block(_) if own_allowed => {}
            Step::Block(_) => struck |= bit(index),
            Step::Debt(_) | Step::Count(_) => own_allowed = allowed,
        }
    }
    // ## Admitted | refused => settled
    // The values are read again, as there is no room to keep them that costs less.
    let (mut output, mut numbers) = (Output::ints(&[i64::from(admitted)]), Numbers::of(args));
    for index in 0..transaction.len() {
        let is_struck = struck & bit(index) != 0;
        let step = Step::take(&mut numbers, has_blocks)?;
        step.settle(transaction, index, admitted, is_struck, &mut output);
    }
    Some(output)
}

/// Returns the bit of a key. A program has at most 128.
const fn bit(index: usize) -> u128 {
    match index {
        0..128 => 1 << index,
        _ => 0,
    }
}

/// The retention of all of them: a debt is kept until it is paid, and a count until its windows are over.
pub(crate) const RETENTION: Retention = Retention::Pinned;

/// The reply if a value is not of this form. [`CHARGE_ONE`] would reply it to a refusal with nothing owed, which there is not.
const MALFORMED: i64 = -1;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
