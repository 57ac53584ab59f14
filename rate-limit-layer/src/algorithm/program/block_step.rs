use layer_store::{Output, Transaction};

use super::args::{CHARGE, Numbers};
use crate::algorithm::block::{BlockRules, Strikes};

/// The arguments of the block of a limit, and what the twin does with them.
pub(super) struct BlockStep {
    rules: BlockRules,
    /// False: it looks.
    counts: bool,
}

impl BlockStep {
    /// Takes the arguments of a block. Missing numbers are zero.
    pub(super) fn take(numbers: &mut Numbers<'_, '_>) -> Self {
        let [after, window, first, longest] = [(); 4].map(|()| numbers.next_unsigned());
        Self {
            rules: BlockRules {
                after,
                window,
                first,
                longest,
            },
            counts: numbers.next() == CHARGE,
        }
    }

    /// Returns true unless a block refuses a charge. `None` if the value is not of this form.
    pub(super) fn allows(&self, transaction: &Transaction<'_>, index: usize) -> Option<bool> {
        let wait = self.read(transaction, index)?.wait();
        Some(!self.counts || wait == 0)
    }

    /// Counts a strike, if the limit itself `refused`, and appends to the reply how long the block goes on.
    pub(super) fn settle(
        &self,
        transaction: &mut Transaction<'_>,
        index: usize,
        refused: bool,
        output: &mut Output,
    ) {
        let Some(mut strikes) = self.read(transaction, index) else {
            return;
        };
        // ## Looked | blocked => nothing is written, but for a cut
        // ## Refused by the limit => a strike, which may begin a block
        let is_strike = self.counts && refused && strikes.wait() == 0;
        let begun = match is_strike {
            true => strikes.strike(),
            false => 0,
        };
        if is_strike || self.counts && strikes.is_cut() {
            let (value, ttl) = strikes.keep();
            transaction.set(index, value, ttl);
        }
        output.push_int(strikes.wait() as i64);
        output.push_int(begun as i64);
    }

    fn read(&self, transaction: &Transaction<'_>, index: usize) -> Option<Strikes> {
        Strikes::read(transaction.get(index), self.rules, transaction.now())
    }
}
