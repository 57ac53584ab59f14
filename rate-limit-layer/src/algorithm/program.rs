//! The twins of the two programs, and what they are given.
//!
//! [`CHARGE_ONE`] is for the most frequent check by far: a charge of one limit whose prices are whole microseconds. It takes two
//! numbers and replies one. [`CHARGE`] is for everything else.

use layer_store::{Arg, Output, Program, Retention, Transaction};

use crate::algorithm::{
    gcra::{self, Change, Rate},
    span::Span,
};

/// The program that charges, looks at or refunds limits of one identity, all of them or none. Keys, arguments and reply are
/// described at the head of `lua/charge.lua`.
pub(crate) static CHARGE: Program = Program::new(
    "charge",
    include_str!("lua/charge.lua"),
    Retention::Pinned,
    charge,
)
// `TIME`; `GET` and `SET` for each limit.
.billed(1, 2);

/// The program that charges one limit whose prices are whole microseconds. See `lua/charge_one.lua`.
pub(crate) static CHARGE_ONE: Program = Program::new(
    "charge_one",
    include_str!("lua/charge_one.lua"),
    Retention::Pinned,
    charge_one,
)
// `TIME`, `GET` and `SET`.
.billed(1, 2);

/// The most arguments of [`CHARGE`] for one limit.
pub(crate) const MAX_ARGS: usize = 5;

/// Writes the arguments of [`CHARGE`] for one limit to the front of `args`, and returns their number.
pub(crate) fn charge_args(rate: Rate, change: Change, args: &mut [Arg<'_>]) -> usize {
    let (full, parts) = (rate.full(), rate.parts());
    let (micros, fraction) = signed(change);
    let fractions = match parts {
        1 => &[][..],
        _ => &[i64::from(full.fraction), fraction],
    };
    let whole = [i64::from(parts), full.micros as i64, micros];
    let numbers = whole.iter().chain(fractions);
    let mut len = 0;
    for (arg, number) in args.iter_mut().zip(numbers) {
        *arg = Arg::Int(*number);
        len += 1;
    }
    len
}

/// Returns the arguments of [`CHARGE_ONE`].
#[inline]
pub(crate) const fn charge_one_args(rate: Rate, price: Span) -> [Arg<'static>; 2] {
    [
        Arg::Int(rate.full().micros as i64),
        Arg::Int(price.micros as i64),
    ]
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

#[inline]
fn charge_one(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let [full, charge] = args else {
        return Output::ints(&[MALFORMED]);
    };
    let number = |arg: &Arg<'_>| arg.int().unwrap_or(0) as u64;
    let (full, charge) = (number(full), number(charge));
    let state = match transaction.get(0) {
        Some(value) => match value.as_pair() {
            Some(state) => Some(state),
            None => return Output::ints(&[MALFORMED]),
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
        return Output::ints(&[-1 - debt.micros as i64]);
    }
    // ## Charged => the debt is kept until it is paid
    keep(transaction, 0, Span::of_micros(owed));
    Output::ints(&[owed as i64])
}

/// The arguments of one limit.
#[derive(Clone, Copy)]
struct LimitArgs {
    parts: u32,
    full: Span,
    change: Change,
}

impl LimitArgs {
    /// Takes the arguments of the next limit from the front of `args`. Missing numbers are zero.
    fn take(args: &mut &[Arg<'_>]) -> Self {
        let mut number = || {
            let (first, rest) = args.split_first()?;
            *args = rest;
            first.int()
        };
        let mut number = || number().unwrap_or(0);
        let parts = u32::try_from(number()).unwrap_or(1).max(1);
        let (full, micros) = (number(), number());
        let (full_fraction, fraction) = match parts {
            1 => (0, 0),
            _ => (number(), number()),
        };
        let span = |micros: i64, fraction: i64| Span {
            micros: micros.unsigned_abs(),
            fraction: (fraction.unsigned_abs() % u64::from(parts)) as u32,
        };
        let price = span(micros, fraction);
        Self {
            parts,
            full: span(full, full_fraction),
            change: match (micros, fraction) {
                (0, 0) => Change::Look,
                (1.., _) | (0, 1..) => Change::Charge(price),
                _ => Change::Refund(price),
            },
        }
    }

    /// Returns what is owed before the change, and true if that was cut. `None` if the value is not of this form.
    fn debt(self, transaction: &Transaction<'_>, index: usize) -> Option<(Span, bool)> {
        let state = match transaction.get(index) {
            Some(value) => Some(value.as_pair()?),
            // Nothing is kept for a key that owes nothing.
            None => None,
        };
        Some(gcra::debt(self.parts, self.full, state, transaction.now()))
    }

    /// Returns true if the change may be made. A look and a refund always may, even if the debt is a little over `full`.
    fn allows(self, debt: Span) -> bool {
        match self.change {
            Change::Charge(price) => debt.plus(price, self.parts) <= self.full,
            Change::Look | Change::Refund(_) => true,
        }
    }

    /// Writes what is owed after the change, and returns it.
    fn settle(
        self,
        transaction: &mut Transaction<'_>,
        index: usize,
        (debt, cut): (Span, bool),
        admitted: bool,
    ) -> Span {
        let owed = match self.change {
            Change::Charge(price) if admitted => debt.plus(price, self.parts),
            // A refund of more than is owed leaves nothing owed: no caller gains requests by it.
            Change::Refund(price) if admitted => debt.minus(price, self.parts),
            _ => debt,
        };
        // ## Looked => nothing is written
        // A look changes nothing, not even a debt over the largest.
        //
        // ## Refused => nothing is written, but for a cut
        // As in `charge_one`.
        //
        // ## Charged or refunded => the debt is kept until it is paid
        if self.change != Change::Look && (admitted || cut) {
            match owed.is_zero() {
                true => transaction.delete(index),
                false => keep(transaction, index, owed),
            }
        }
        owed
    }
}

fn charge(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    // ## Read => admitted | refused
    // All limits are read before one is written: a refusal by the last charges none.
    let (mut admitted, mut left) = (true, args);
    for index in 0..transaction.len() {
        let args = LimitArgs::take(&mut left);
        match args.debt(transaction, index) {
            Some((debt, _)) => admitted &= args.allows(debt),
            None => return Output::ints(&[MALFORMED]),
        }
    }
    // ## Admitted | refused => settled
    // The values are read again, as there is no room to keep them that costs less.
    let (mut output, mut left) = (Output::ints(&[i64::from(admitted)]), args);
    for index in 0..transaction.len() {
        let args = LimitArgs::take(&mut left);
        let debt = args.debt(transaction, index).unwrap_or_default();
        let owed = args.settle(transaction, index, debt, admitted);
        output.push_int(owed.micros as i64);
        if args.parts > 1 {
            output.push_int(owed.fraction.into());
        }
    }
    output
}

#[inline(always)]
fn keep(transaction: &mut Transaction<'_>, index: usize, owed: Span) {
    let (value, ttl) = gcra::keep(owed, transaction.now());
    transaction.set(index, value, ttl);
}

/// The reply if a value is not of this form. [`CHARGE_ONE`] would reply it to a refusal with nothing owed, which there is not.
const MALFORMED: i64 = -1;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
