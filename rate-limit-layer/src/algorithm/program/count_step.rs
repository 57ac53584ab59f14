use layer_store::{Output, Transaction};

use super::args::{
    CALENDAR_WINDOW, CHARGE, EXACT_LOG, FIXED_WINDOW, Numbers, REFUND, SLIDING_WINDOW,
};
use crate::algorithm::{
    demand::Demand,
    exact_log::ExactLog,
    fixed_window::{Edges, FixedWindow},
    sliding_window::SlidingWindow,
    usage::Count,
    window_count::WindowCount,
};

/// The arguments of one limit that counts in windows, and what the twin does with them.
pub(super) struct CountStep {
    limit: u64,
    windows: Windows,
    demand: Demand,
}

/// The algorithm, and the windows that it counts in.
enum Windows {
    Sliding(u64),
    Fixed(u64),
    Log(u64),
    Calendar([u64; 4]),
}

impl CountStep {
    /// Takes the arguments of a limit. Missing numbers are zero. `None`: there is no such algorithm.
    pub(super) fn take(algorithm: i64, numbers: &mut Numbers<'_, '_>) -> Option<Self> {
        let limit = numbers.next_unsigned();
        let windows = match algorithm {
            SLIDING_WINDOW => Windows::Sliding(numbers.next_unsigned().max(1)),
            FIXED_WINDOW => Windows::Fixed(numbers.next_unsigned().max(1)),
            EXACT_LOG => Windows::Log(numbers.next_unsigned().max(1)),
            CALENDAR_WINDOW => Windows::Calendar([(); 4].map(|()| numbers.next_unsigned())),
            _ => return None,
        };
        let (demand, cost, age) = (
            numbers.next(),
            numbers.next_unsigned(),
            numbers.next_unsigned(),
        );
        let demand = match demand {
            CHARGE => Demand::Charge { cost },
            REFUND => Demand::Refund { cost, age },
            _ => Demand::Look { cost },
        };
        Some(Self {
            limit,
            windows,
            demand,
        })
    }

    /// Returns true if the limit allows what it is asked. `None` if the value is not of the algorithm's form.
    pub(super) fn allows(&self, transaction: &Transaction<'_>, index: usize) -> Option<bool> {
        let wait = self.with(transaction, index, |count| {
            count.count(self.demand.cost()).wait
        })?;
        Some(match self.demand {
            Demand::Charge { .. } => wait == 0,
            Demand::Look { .. } | Demand::Refund { .. } => true,
        })
    }

    /// Writes the count after the change, and appends to the reply what is left.
    pub(super) fn settle(
        &self,
        transaction: &mut Transaction<'_>,
        index: usize,
        admitted: bool,
        output: &mut Output,
    ) {
        let settled = self.with(transaction, index, |count| {
            // ## Looked => nothing is written
            let is_kept = match self.demand {
                Demand::Look { .. } => false,
                // ## Charged or refunded => kept
                Demand::Charge { cost } if admitted => {
                    count.charge(cost);
                    true
                }
                Demand::Refund { cost, age } if admitted => {
                    count.refund(cost, age);
                    true
                }
                // ## Refused => nothing is written, but for a cut
                Demand::Charge { .. } | Demand::Refund { .. } => count.is_cut(),
            };
            (
                count.count(self.demand.cost()),
                is_kept.then(|| count.keep()),
            )
        });
        let (count, kept) = settled.unwrap_or_default();
        match kept {
            Some(Some((value, ttl))) => transaction.set(index, value, ttl),
            Some(None) => transaction.delete(index),
            None => {}
        }
        let Count {
            remaining,
            reset_after,
            wait,
        } = count;
        for number in [remaining, reset_after, wait] {
            output.push_int(number as i64);
        }
    }

    /// Lends what is kept to `f`. `None` if the value is not of the algorithm's form, or the time lies in no window.
    fn with<T>(
        &self,
        transaction: &Transaction<'_>,
        index: usize,
        f: impl FnOnce(&mut dyn WindowCount) -> T,
    ) -> Option<T> {
        let (value, now, limit) = (transaction.get(index), transaction.now(), self.limit);
        Some(match self.windows {
            Windows::Sliding(window) => f(&mut SlidingWindow::read(value, limit, window, now)?),
            Windows::Fixed(window) => f(&mut FixedWindow::read(
                value,
                limit,
                now,
                Edges::around(now, window),
            )?),
            Windows::Log(window) => f(&mut ExactLog::read(value, limit, window, now)?),
            Windows::Calendar(edges) => f(&mut FixedWindow::read(
                value,
                limit,
                now,
                Edges::between(now, edges)?,
            )?),
        })
    }
}
