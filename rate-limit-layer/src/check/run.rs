use layer_store::{Arg, Key, Op, Program};

use crate::{
    algorithm::{
        demand::Demand,
        program::{
            CHARGE, CHARGE_OR_BLOCK,
            args::{MAX_ARGS, block_args},
        },
    },
    policy::{limit::Limit, limit_set::MAX_POLICIES},
};

/// A run of a program over keys of one identity: those of some limits, and of their blocks.
///
/// There are no more keys than [`MAX_POLICIES`], as a [`Checker`](super::Checker) has no more limits and blocks.
pub(crate) struct Run<'a> {
    pub(super) program: &'static Program,
    keys: [Key<'a>; MAX_POLICIES],
    len: usize,
    pub(super) args: [Arg<'static>; MAX_ARGS * MAX_POLICIES],
    /// The number of arguments.
    pub(super) args_len: usize,
}

impl<'a> Run<'a> {
    /// Makes a run of [`CHARGE`] over no keys. `any` is a key of the identity.
    pub(super) const fn new(any: Key<'a>) -> Self {
        Self {
            program: &CHARGE,
            keys: [any; MAX_POLICIES],
            len: 0,
            args: [Arg::Int(0); MAX_ARGS * MAX_POLICIES],
            args_len: 0,
        }
    }

    /// Adds a limit and what it is asked.
    #[inline]
    pub(super) fn push(&mut self, limit: &Limit, key: Key<'a>, demand: Demand) {
        self.keys[self.len] = key;
        self.len += 1;
        self.args_len += limit.args(demand, &mut self.args[self.args_len..]);
    }

    /// Adds the block of the limit that was added last, if it has one. Refusals are strikes if `counts_strikes`.
    pub(super) fn push_block(&mut self, limit: &Limit, key: Option<Key<'a>>, counts_strikes: bool) {
        if let (Some(rule), Some(key)) = (limit.block_rule(), key) {
            self.keys[self.len] = key;
            self.len += 1;
            self.args_len += block_args(rule, counts_strikes, &mut self.args[self.args_len..]);
            self.program = &CHARGE_OR_BLOCK;
        }
    }

    /// Makes the operation.
    pub(super) fn op(&self) -> Op<'_> {
        Op::Run {
            program: self.program,
            keys: &self.keys[..self.len],
            args: &self.args[..self.args_len],
        }
    }
}
