//! The arguments of [`CHARGE`](super::CHARGE) for one limit: the number of its algorithm first.

use layer_store::Arg;

use crate::algorithm::{
    block::BlockRules,
    demand::Demand,
    gcra::{Change, Rate},
    span::Span,
};

/// The numbers of the algorithms. They are part of the program: none may change its meaning.
pub(crate) const GCRA: i64 = 1;
pub(crate) const SLIDING_WINDOW: i64 = 2;
pub(crate) const FIXED_WINDOW: i64 = 3;
pub(crate) const EXACT_LOG: i64 = 4;
pub(crate) const CALENDAR_WINDOW: i64 = 5;
pub(crate) const BLOCK: i64 = 6;

/// The numbers of the demands.
const LOOK: i64 = 0;
pub(super) const CHARGE: i64 = 1;
pub(super) const REFUND: i64 = 2;

/// The most arguments for one limit, or for one block.
pub(crate) const MAX_ARGS: usize = 9;

/// The arguments that are still to be read.
pub(super) struct Numbers<'a, 'b>(std::slice::Iter<'b, Arg<'a>>);

impl<'a, 'b> Numbers<'a, 'b> {
    pub(super) fn of(args: &'b [Arg<'a>]) -> Self {
        Self(args.iter())
    }

    /// Takes the next number. Missing ones are zero.
    pub(super) fn next(&mut self) -> i64 {
        self.0.next().and_then(Arg::int).unwrap_or(0)
    }

    /// Takes the next number, of those that are not negative.
    pub(super) fn next_unsigned(&mut self) -> u64 {
        u64::try_from(self.next()).unwrap_or(0)
    }
}

/// Writes the arguments of a GCRA limit to the front of `args`, and returns their number.
pub(crate) fn charge_args(rate: Rate, change: Change, args: &mut [Arg<'_>]) -> usize {
    let (full, parts) = (rate.full(), rate.parts());
    let (micros, fraction) = signed(change);
    let fractions = match parts {
        1 => &[][..],
        _ => &[i64::from(full.fraction), fraction],
    };
    let whole = [GCRA, i64::from(parts), full.micros as i64, micros];
    write(args, whole.iter().chain(fractions).copied())
}

/// Writes the arguments of a limit of another algorithm to the front of `args`, and returns their number.
///
/// `window` are the numbers by which the algorithm knows its windows.
pub(crate) fn count_args(
    algorithm: i64,
    limit: u64,
    window: &[u64],
    demand: Demand,
    args: &mut [Arg<'_>],
) -> usize {
    let (number, age) = match demand {
        Demand::Look { .. } => (LOOK, 0),
        Demand::Charge { .. } => (CHARGE, 0),
        Demand::Refund { age, .. } => (REFUND, age),
    };
    let window = window.iter().map(|number| *number as i64);
    let numbers = [algorithm, limit as i64].into_iter().chain(window);
    let asked = [number, demand.cost() as i64, age as i64];
    write(args, numbers.chain(asked))
}

/// Writes the arguments of a block to the front of `args`, and returns their number.
pub(crate) fn block_args(rules: BlockRules, demand: Demand, args: &mut [Arg<'_>]) -> usize {
    let BlockRules {
        after,
        window,
        first,
        longest,
    } = rules;
    let demand = match demand {
        Demand::Charge { .. } => CHARGE,
        Demand::Look { .. } | Demand::Refund { .. } => LOOK,
    };
    let times = [after, window, first, longest].map(|number| number as i64);
    write(args, [BLOCK].into_iter().chain(times).chain([demand]))
}

/// Writes numbers to the front of `args`, and returns how many.
pub(super) fn write(args: &mut [Arg<'_>], numbers: impl Iterator<Item = i64>) -> usize {
    let mut len = 0;
    for (arg, number) in args.iter_mut().zip(numbers) {
        *arg = Arg::Int(number);
        len += 1;
    }
    len
}

/// Returns a change as the programs take it: what is refunded is negative.
fn signed(change: Change) -> (i64, i64) {
    let signed = |span: Span| (span.micros as i64, i64::from(span.fraction));
    match change {
        Change::Look => (0, 0),
        Change::Charge(price) => signed(price),
        Change::Refund(price) => {
            let (micros, fraction) = signed(price);
            (-micros, -fraction)
        }
    }
}
