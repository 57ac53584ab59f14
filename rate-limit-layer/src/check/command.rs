use layer_store::{Arg, Key, Op, Program};

use crate::{
    algorithm::{
        Algorithm,
        demand::Demand,
        program::{
            CHARGE, CHARGE_DEBTS, CHARGE_FIXED_WINDOW, CHARGE_ONE, CHARGE_OR_BLOCK,
            CHARGE_SLIDING_WINDOW, args::MAX_ARGS, charge_one_args,
            charge_window::charge_window_args,
        },
    },
    check::{demands::Demands, partition::Partitions},
    policy::{
        limit::Limit,
        limit_set::{LimitSet, MAX_POLICIES},
    },
};

/// One run of a program, for all limits whose partition of a request has the same identity.
///
/// Keys of one identity lie in one slot of a Redis Cluster, so that one atomic command can charge them all or none. That of a block stands
/// behind that of its limit.
pub(crate) struct Command<'a> {
    program: &'static Program,
    members: LimitSet,
    /// The members whose blocks are asked too.
    blocks: LimitSet,
    keys: [Key<'a>; MAX_POLICIES],
    args: [Arg<'static>; MAX_ARGS * MAX_POLICIES],
    /// The number of arguments.
    len: usize,
}

impl<'a> Command<'a> {
    /// Makes the command of the first limit that is not in `seen`, and of all later ones with the same identity. `None`: all limits
    /// are seen, or skip the request.
    pub(crate) fn next(
        limits: &'a [Limit],
        partitions: &'a Partitions<'_>,
        seen: LimitSet,
        demands: &Demands,
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
            blocks: LimitSet::default(),
            keys: [key; MAX_POLICIES],
            args: [Arg::Int(0); MAX_ARGS * MAX_POLICIES],
            len: 0,
        };
        command.push(limits, partitions, (first, key), demands);
        for other in unseen.filter(|(_, other)| other.same_tag(&key)) {
            command.push(limits, partitions, other, demands);
        }
        command.shorten(limits, demands);
        Some(command)
    }

    /// Returns the limits that the command is for. Its reply has their debts in the order of their indices.
    pub(crate) const fn members(&self) -> LimitSet {
        self.members
    }

    /// Returns the members whose blocks are asked too.
    pub(crate) const fn blocks(&self) -> LimitSet {
        self.blocks
    }

    /// Makes the operation.
    pub(crate) fn op(&self) -> Op<'_> {
        Op::Run {
            program: self.program,
            keys: &self.keys[..self.members.len() + self.blocks.len()],
            args: &self.args[..self.len],
        }
    }

    fn push(
        &mut self,
        limits: &'a [Limit],
        partitions: &'a Partitions<'_>,
        (index, key): (usize, Key<'a>),
        demands: &Demands,
    ) {
        let (limit, demand) = (&limits[index], demands.of(index));
        let place = self.members.len() + self.blocks.len();
        self.keys[place] = key;
        self.len += limit.args(demand, &mut self.args[self.len..]);
        self.members |= LimitSet::one(index);
        // What is given back makes no strike good.
        if limit.block.is_some()
            && !demands.is_refund()
            && let Some(key) = partitions.block_key(limits, index)
        {
            self.keys[place + 1] = key;
            self.len += limit.block_args(demand, &mut self.args[self.len..]);
            self.blocks |= LimitSet::one(index);
        }
    }

    /// Takes the shortest program that can do this.
    fn shorten(&mut self, limits: &[Limit], demands: &Demands) {
        if self.blocks != LimitSet::default() {
            self.program = &CHARGE_OR_BLOCK;
            return;
        }
        if self.members.iter().all(|limit| limits[limit].is_gcra()) {
            self.program = &CHARGE_DEBTS;
        }
        if let Some(limit) = self.members.only()
            && let Demand::Charge { cost } = demands.of(limit)
        {
            self.shorten_charge(&limits[limit], cost);
        }
    }

    /// Takes a program for one charge, if there is one.
    fn shorten_charge(&mut self, limit: &Limit, cost: u64) {
        let (quota, args) = (limit.quota, &mut self.args);
        (self.program, self.len) = match quota.algorithm() {
            Algorithm::Gcra if limit.has_program => {
                let charge = charge_one_args(limit.rate, limit.rate.price(cost));
                args[..charge.len()].copy_from_slice(&charge);
                (&CHARGE_ONE, charge.len())
            }
            algorithm @ (Algorithm::FixedWindow | Algorithm::SlidingWindow) => {
                let window = quota.window().as_micros() as u64;
                let len = charge_window_args(quota.limit(), window, cost, args);
                match algorithm {
                    Algorithm::FixedWindow => (&CHARGE_FIXED_WINDOW, len),
                    _ => (&CHARGE_SLIDING_WINDOW, len),
                }
            }
            Algorithm::Gcra | Algorithm::ExactLog | Algorithm::CalendarWindow => return,
        };
    }
}
