use layer_store::{Key, Op};

use crate::{
    algorithm::{
        Algorithm,
        demand::Demand,
        program::{
            CHARGE, CHARGE_DEBTS, CHARGE_FIXED_WINDOW, CHARGE_ONE, CHARGE_SLIDING_WINDOW,
            charge_one_args, charge_window::charge_window_args,
        },
    },
    check::{demands::Demands, partition::Partitions, run::Run},
    policy::{limit::Limit, limit_set::LimitSet},
};

/// One run of a program, for all limits whose partition of a request has the same identity.
///
/// Keys of one identity lie in one slot of a Redis Cluster, so that one atomic command can charge them all or none.
pub(crate) struct Command<'a> {
    run: Run<'a>,
    members: LimitSet,
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
            run: Run::new(key),
            members: LimitSet::default(),
        };
        let mut push = |index, key| command.push(limits, partitions, index, key, demands);
        push(first, key);
        for (index, other) in unseen.filter(|(_, other)| other.same_tag(&key)) {
            push(index, other);
        }
        command.shorten(limits, demands);
        Some(command)
    }

    /// Returns the limits that the command is for. Its reply has their debts in the order of their indices.
    pub(crate) const fn members(&self) -> LimitSet {
        self.members
    }

    /// Makes the operation.
    pub(crate) fn op(&self) -> Op<'_> {
        self.run.op()
    }

    fn push(
        &mut self,
        limits: &'a [Limit],
        partitions: &'a Partitions<'_>,
        index: usize,
        key: Key<'a>,
        demands: &Demands,
    ) {
        let (limit, demand) = (&limits[index], demands.of(index));
        self.run.push(limit, key, demand);
        self.members |= LimitSet::one(index);
        let counts_strikes = match demand {
            Demand::Charge { .. } => true,
            Demand::Look { .. } => false,
            // What is given back is given back, blocked or not.
            Demand::Refund { .. } => return,
        };
        if limit.block.is_some() {
            let key = partitions.block_key(limits, index);
            self.run.push_block(limit, key, counts_strikes);
        }
    }

    /// Takes the shortest program that can do this.
    fn shorten(&mut self, limits: &[Limit], demands: &Demands) {
        // ## All there is => what is asked here
        // There is one program for blocks.
        if !std::ptr::eq(self.run.program, &CHARGE) {
            return;
        }
        if self.members.iter().all(|limit| limits[limit].is_gcra()) {
            self.run.program = &CHARGE_DEBTS;
        }
        if let Some(limit) = self.members.only()
            && let Demand::Charge { cost } = demands.of(limit)
        {
            self.shorten_charge(&limits[limit], cost);
        }
    }

    /// Takes a program for one charge, if there is one.
    fn shorten_charge(&mut self, limit: &Limit, cost: u64) {
        let (quota, args) = (limit.quota, &mut self.run.args);
        (self.run.program, self.run.args_len) = match quota.algorithm() {
            Algorithm::Gcra if limit.is_simple => {
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
