use layer_store::{Output, Transaction};

use super::args::{CHARGE, Numbers};
use crate::algorithm::block::{BlockRule, BlockState};

/// The arguments of one block, and what the twin does with them.
pub(super) struct BlockStep {
    rule: BlockRule,
    is_charge: bool,
}

impl BlockStep {
    /// Takes the arguments of a block. Missing numbers are zero.
    pub(super) fn take(numbers: &mut Numbers<'_, '_>) -> Self {
        let mut next = || numbers.next_unsigned();
        Self {
            rule: BlockRule {
                after: next(),
                window: next(),
                time: next(),
                longest: next(),
            },
            is_charge: numbers.next() == CHARGE,
        }
    }

    /// Returns true if no block refuses what is asked. `None` if the value is not of a block's form.
    pub(super) fn allows(&self, transaction: &Transaction<'_>, index: usize) -> Option<bool> {
        let wait = self.read(transaction, index)?.wait();
        Some(!self.is_charge || wait == 0)
    }

    /// Counts a strike if the limit did not allow what it was asked, and appends how long the block goes on.
    pub(super) fn settle(
        &self,
        transaction: &mut Transaction<'_>,
        index: usize,
        is_allowed: bool,
        output: &mut Output,
    ) {
        let Some(mut state) = self.read(transaction, index) else {
            return;
        };
        let is_strike = self.is_charge && !is_allowed && state.wait() == 0;
        if is_strike {
            state.strike();
        }
        if is_strike || self.is_charge && state.is_cut() {
            let (value, ttl) = state.keep();
            transaction.set(index, value, ttl);
        }
        output.push_int(state.wait() as i64);
    }

    fn read(&self, transaction: &Transaction<'_>, index: usize) -> Option<BlockState> {
        BlockState::read(transaction.get(index), self.rule, transaction.now())
    }
}
