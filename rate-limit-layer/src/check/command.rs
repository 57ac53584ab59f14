use layer_store::{Arg, Key, Op, Program};

use crate::{
    algorithm::{
        gcra::{Change, Rate},
        program::{CHARGE, CHARGE_ONE, MAX_ARGS, charge_args, charge_one_args},
    },
    check::partition::Partitions,
    policy::{
        limit::Limit,
        limit_set::{LimitSet, MAX_POLICIES},
    },
};

/// One run of a program, for all limits whose partition of a request has the same identity.
///
/// Keys of one identity lie in one slot of a Redis Cluster, so that one atomic command can charge them all or none.
pub(crate) struct Command<'a> {
    program: &'static Program,
    members: LimitSet,
    keys: [Key<'a>; MAX_POLICIES],
    args: [Arg<'static>; MAX_ARGS * MAX_POLICIES],
    /// The number of arguments.
    len: usize,
}

impl<'a> Command<'a> {
    /// Makes the command of the first limit that is not in `seen`, and of all later ones with the same identity. `change`
    /// returns what is done to a debt at a limit's rate. `None`: all limits are seen, or skip the request.
    pub(crate) fn next(
        limits: &'a [Limit],
        partitions: &'a Partitions<'_>,
        seen: LimitSet,
        change: impl Fn(Rate) -> Change,
    ) -> Option<Self> {
        let mut unseen = (0..limits.len())
            .filter(|index| !seen.contains(*index))
            .filter_map(|index| Some((index, partitions.key(limits, index)?)));
        // ## Unseen limits => one identity
        // The first of them decides, and later ones join if their keys lie in the same slot. Others wait for a command of
        // their own.
        let (first, key) = unseen.next()?;
        let mut command = Self {
            program: &CHARGE,
            members: LimitSet::default(),
            keys: [key; MAX_POLICIES],
            args: [Arg::Int(0); MAX_ARGS * MAX_POLICIES],
            len: 0,
        };
        command.push(first, key, limits[first].rate, change(limits[first].rate));
        for (index, other) in unseen.filter(|(_, other)| other.same_tag(&key)) {
            let rate = limits[index].rate;
            command.push(index, other, rate, change(rate));
        }
        command.shorten(limits, change);
        Some(command)
    }

    /// Returns the limits that the command is for. Its reply has their debts in the order of their indices.
    pub(crate) const fn members(&self) -> LimitSet {
        self.members
    }

    /// Makes the operation.
    pub(crate) fn op(&self) -> Op<'_> {
        Op::Run {
            program: self.program,
            keys: &self.keys[..self.members.len()],
            args: &self.args[..self.len],
        }
    }

    fn push(&mut self, index: usize, key: Key<'a>, rate: Rate, change: Change) {
        self.keys[self.members.len()] = key;
        self.len += charge_args(rate, change, &mut self.args[self.len..]);
        self.members |= LimitSet::one(index);
    }

    /// Takes the shorter program, if it can do this.
    fn shorten(&mut self, limits: &[Limit], change: impl Fn(Rate) -> Change) {
        if let Some(limit) = self.members.only()
            && let rate = limits[limit].rate
            && rate.is_whole()
            && let Change::Charge(price) = change(rate)
        {
            let args = charge_one_args(rate, price);
            self.program = &CHARGE_ONE;
            self.len = args.len();
            self.args[..args.len()].copy_from_slice(&args);
        }
    }
}
