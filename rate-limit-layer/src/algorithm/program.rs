use layer_store::{Arg, Output, Program, Retention, Transaction};

use crate::algorithm::gcra;

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

fn charge(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    match args {
        // Nearly every check is of one limit. It needs no loop and no second look at the value.
        [units, full, charge] if transaction.len() == 1 => {
            charge_one(transaction, ChargeArgs::new(units, full, charge))
        }
        _ => charge_all(transaction, args),
    }
}

/// The three arguments of one limit.
#[derive(Clone, Copy)]
struct ChargeArgs {
    units: u64,
    full: u64,
    charge: i64,
}

impl ChargeArgs {
    #[inline]
    fn new(units: &Arg<'_>, full: &Arg<'_>, charge: &Arg<'_>) -> Self {
        let number = |arg: &Arg<'_>| arg.int().unwrap_or(0);
        Self {
            // Zero would divide.
            units: (number(units) as u64).max(1),
            full: number(full) as u64,
            charge: number(charge),
        }
    }

    /// Returns what is owed before the charge, and true if that was cut. `None` if the value is not of this form.
    #[inline]
    fn debt(self, transaction: &Transaction<'_>, index: usize) -> Option<(u64, bool)> {
        let state = match transaction.get(index) {
            Some(value) => Some(value.as_pair()?),
            // Nothing is kept for a key that owes nothing.
            None => None,
        };
        Some(gcra::debt(self.units, self.full, state, transaction.now()))
    }

    /// Returns true if the charge may be made. A look and a refund always may, even if the debt is a little over `full`.
    #[inline]
    const fn allows(self, debt: u64) -> bool {
        self.charge <= 0 || debt.saturating_add_signed(self.charge) <= self.full
    }

    /// Writes what is owed after the charge, and returns it.
    #[inline(always)]
    fn settle(
        self,
        transaction: &mut Transaction<'_>,
        index: usize,
        (debt, cut): (u64, bool),
        admitted: bool,
    ) -> i64 {
        // A refund of more than is owed leaves nothing owed: no caller gains requests by it.
        let owed = if admitted {
            debt.saturating_add_signed(self.charge)
        } else {
            debt
        };
        // ## Looked => nothing is written
        // A look changes nothing, not even a debt over the largest.
        //
        // ## Refused => nothing is written, but for a cut
        // A cut that is not kept would be made again at each refusal, and lock the caller out until the old debt is paid.
        //
        // ## Charged or refunded => the debt is kept until it is paid
        if self.charge != 0 && (admitted || cut) {
            if owed == 0 {
                transaction.delete(index);
            } else {
                let (value, ttl) = gcra::keep(self.units, owed, transaction.now());
                transaction.set(index, value, ttl);
            }
        }
        owed as i64
    }
}

#[inline]
fn charge_one(transaction: &mut Transaction<'_>, args: ChargeArgs) -> Output {
    let Some(debt) = args.debt(transaction, 0) else {
        return Output::ints(&[MALFORMED]);
    };
    let admitted = args.allows(debt.0);
    let owed = args.settle(transaction, 0, debt, admitted);
    Output::ints(&[i64::from(admitted), owed])
}

fn charge_all(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let limits = args
        .chunks_exact(3)
        .map(|args| ChargeArgs::new(&args[0], &args[1], &args[2]));
    // ## Read => admitted | refused
    // All limits are read before one is written: a refusal by the last charges none.
    let mut admitted = true;
    for (index, args) in limits.clone().enumerate() {
        match args.debt(transaction, index) {
            Some((debt, _)) => admitted &= args.allows(debt),
            None => return Output::ints(&[MALFORMED]),
        }
    }
    // ## Admitted | refused => settled
    // The values are read again, as there is no room to keep them that costs less.
    let mut output = Output::ints(&[i64::from(admitted)]);
    for (index, args) in limits.enumerate() {
        let debt = args.debt(transaction, index).unwrap_or_default();
        output.push_int(args.settle(transaction, index, debt, admitted));
    }
    output
}

/// The reply if a value is not of this form.
const MALFORMED: i64 = -1;

#[cfg(test)]
mod tests;
