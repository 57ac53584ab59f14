use layer_store::{Output, Transaction};

use super::args::Numbers;
use crate::algorithm::{
    gcra::{self, Change},
    span::Span,
};

/// The arguments of one GCRA limit, and what the twin does with them.
#[derive(Clone, Copy)]
pub(super) struct DebtStep {
    parts: u32,
    full: Span,
    change: Change,
}

impl DebtStep {
    /// Takes the arguments of a limit. Missing numbers are zero.
    pub(super) fn take(numbers: &mut Numbers<'_, '_>) -> Self {
        let parts = u32::try_from(numbers.next()).unwrap_or(1).max(1);
        let (full, micros) = (numbers.next(), numbers.next());
        let (full_fraction, fraction) = match parts {
            1 => (0, 0),
            _ => (numbers.next(), numbers.next()),
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

    /// Returns true if the change may be made. A look and a refund always may, even if the debt is a little over `full`. `None` if the
    /// value is not of this form.
    pub(super) fn allows(self, transaction: &Transaction<'_>, index: usize) -> Option<bool> {
        let (debt, _) = self.debt(transaction, index)?;
        Some(match self.change {
            Change::Charge(price) => debt.plus(price, self.parts) <= self.full,
            Change::Look | Change::Refund(_) => true,
        })
    }

    /// Writes what is owed after the change, and appends it to the reply.
    pub(super) fn settle(
        self,
        transaction: &mut Transaction<'_>,
        index: usize,
        admitted: bool,
        output: &mut Output,
    ) {
        let (debt, cut) = self.debt(transaction, index).unwrap_or_default();
        let owed = self.owed(debt, admitted);
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
        output.push_int(owed.micros as i64);
        if self.parts > 1 {
            output.push_int(owed.fraction.into());
        }
    }

    const fn owed(self, debt: Span, admitted: bool) -> Span {
        match self.change {
            Change::Charge(price) if admitted => debt.plus(price, self.parts),
            // A refund of more than is owed leaves nothing owed: no caller gains requests by it.
            Change::Refund(price) if admitted => debt.minus(price, self.parts),
            _ => debt,
        }
    }
}

#[inline(always)]
pub(super) fn keep(transaction: &mut Transaction<'_>, index: usize, owed: Span) {
    let (value, ttl) = gcra::keep(owed, transaction.now());
    transaction.set(index, value, ttl);
}
