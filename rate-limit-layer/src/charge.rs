use layer_store::{Arg, Class, Data, Datum, Program, Txn};

use crate::gcra;

/// Charges, looks at or refunds limits of one subject, all of them or none: `lua/charge.lua`, whose head says how.
pub(crate) static CHARGE: Program = Program::new(
    "charge",
    include_str!("lua/charge.lua"),
    Class::Pinned,
    charge,
);

fn charge(txn: &mut Txn<'_>, args: &[Arg<'_>]) -> Data {
    match args {
        [units, full, charge] if txn.len() == 1 => charge_one(txn, Terms::new(units, full, charge)),
        _ => charge_all(txn, args),
    }
}

/// What is asked of one limit.
#[derive(Clone, Copy)]
struct Terms {
    units: u64,
    full: u64,
    charge: i64,
}

impl Terms {
    #[inline]
    fn new(units: &Arg<'_>, full: &Arg<'_>, charge: &Arg<'_>) -> Self {
        let number = |arg: &Arg<'_>| arg.int().unwrap_or(0);
        Self {
            units: (number(units) as u64).max(1),
            full: number(full) as u64,
            charge: number(charge),
        }
    }

    /// What is owed before the charge, and whether that was cut. `None` if the value is not of this form.
    #[inline]
    fn debt(self, txn: &Txn<'_>, index: usize) -> Option<(u64, bool)> {
        let state = match txn.get(index) {
            Some(value) => Some(value.as_pair()?),
            None => None,
        };
        Some(gcra::debt(self.units, self.full, state, txn.now()))
    }

    /// A look and a refund are always allowed: a debt may be a little over `full`.
    #[inline]
    const fn allows(self, debt: u64) -> bool {
        self.charge <= 0 || debt.saturating_add_signed(self.charge) <= self.full
    }

    /// Writes what is owed after the charge, and says it.
    #[inline(always)]
    fn settle(
        self,
        txn: &mut Txn<'_>,
        index: usize,
        (debt, cut): (u64, bool),
        admitted: bool,
    ) -> i64 {
        let owed = if admitted {
            debt.saturating_add_signed(self.charge)
        } else {
            debt
        };
        if self.charge != 0 && (admitted || cut) {
            if owed == 0 {
                txn.delete(index);
            } else {
                let (value, ttl) = gcra::keep(self.units, owed, txn.now());
                txn.set(index, value, ttl);
            }
        }
        owed as i64
    }
}

#[inline]
fn charge_one(txn: &mut Txn<'_>, terms: Terms) -> Data {
    let Some(debt) = terms.debt(txn, 0) else {
        return Data::ints(&[MALFORMED]);
    };
    let admitted = terms.allows(debt.0);
    let owed = terms.settle(txn, 0, debt, admitted);
    Data::ints(&[i64::from(admitted), owed])
}

fn charge_all(txn: &mut Txn<'_>, args: &[Arg<'_>]) -> Data {
    let terms = args
        .chunks_exact(3)
        .map(|terms| Terms::new(&terms[0], &terms[1], &terms[2]));
    let mut admitted = true;
    for (index, terms) in terms.clone().enumerate() {
        match terms.debt(txn, index) {
            Some((debt, _)) => admitted &= terms.allows(debt),
            None => return Data::ints(&[MALFORMED]),
        }
    }
    let mut reply = Reply::new(i64::from(admitted));
    for (index, terms) in terms.enumerate() {
        let debt = terms.debt(txn, index).unwrap_or_default();
        reply.push(terms.settle(txn, index, debt, admitted));
    }
    reply.into()
}

/// Up to four numbers without an allocation.
enum Reply {
    Few([i64; 4], usize),
    Many(Vec<Datum>),
}

impl Reply {
    const fn new(first: i64) -> Self {
        Self::Few([first, 0, 0, 0], 1)
    }

    fn push(&mut self, number: i64) {
        match self {
            Self::Few(numbers, len) if *len < 4 => {
                numbers[*len] = number;
                *len += 1;
            }
            Self::Few(numbers, _) => {
                let mut many: Vec<_> = numbers.iter().copied().map(Datum::Int).collect();
                many.push(Datum::Int(number));
                *self = Self::Many(many);
            }
            Self::Many(many) => many.push(Datum::Int(number)),
        }
    }
}

impl From<Reply> for Data {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Few(numbers, len) => Self::ints(&numbers[..len]),
            Reply::Many(many) => Self::List(many),
        }
    }
}

/// The reply if a value is not of this form.
pub(crate) const MALFORMED: i64 = -1;
