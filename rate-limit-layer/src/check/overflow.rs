use std::sync::{Mutex, PoisonError};

use layer_store::{Clock, Op, Output, Slot, Transaction};

use crate::policy::limit_set::{LimitSet, MAX_POLICIES};

/// The partition of each limit that newcomers share while a store in memory is full.
///
/// The store keeps those whom it knows, and has no room for others until some of those owe nothing any more. Until then all newcomers
/// together have one quota: neither none, nor each a whole one. It is kept here, since the store has no room for it either.
#[derive(Debug)]
pub(crate) struct Overflow {
    clock: Clock,
    slots: Mutex<[Slot; MAX_POLICIES]>,
}

impl Overflow {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            slots: Mutex::new([const { Slot::absent() }; MAX_POLICIES]),
        }
    }

    /// Runs a command for `members` and the `blocks` of some of them, which the store has no room for. `None` if it is no program.
    ///
    /// Strikes are not kept: newcomers would block each other. A client that the store knows is here too while it has no room for its first
    /// strike.
    ///
    /// A refund finds nothing in the store, and so is lost: a newcomer may then pay for a request that did not pass.
    pub(crate) fn run(&self, op: &Op<'_>, members: LimitSet, blocks: LimitSet) -> Option<Output> {
        let Op::Run { program, args, .. } = op else {
            return None;
        };
        let mut all = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slots = Vec::with_capacity(members.len() + blocks.len());
        for limit in members.iter() {
            slots.push(all[limit].clone());
            if blocks.contains(limit) {
                slots.push(Slot::absent());
            }
        }
        let output = program.run(&mut Transaction::new(self.clock.now(), &mut slots), args);
        let mut slots = slots.into_iter();
        for limit in members.iter() {
            if let Some(slot) = slots.next() {
                all[limit] = slot;
            }
            if blocks.contains(limit) {
                slots.next();
            }
        }
        Some(output)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use layer_store::Arg;

    use super::*;
    use crate::{
        Quota,
        algorithm::program::{CHARGE, CHARGE_ONE, charge_one_args, testing},
    };

    #[test]
    fn newcomers_share_a_partition_of_each_limit() {
        let (clock, hand) = Clock::manual(1_767_225_600_000_042);
        let overflow = Overflow::new(clock);
        let rate = Quota::per_second(2).rate();
        let charge = |limit: usize| {
            let args: [Arg<'_>; 2] = charge_one_args(rate, rate.price(1));
            let op = Op::Run {
                program: &CHARGE_ONE,
                keys: &[],
                args: &args,
            };
            let output = overflow
                .run(&op, LimitSet::one(limit), LimitSet::default())
                .unwrap();
            output.int(0).unwrap() >= 0
        };
        assert_eq!([charge(0), charge(0), charge(0)], [true, true, false]);
        assert_eq!([charge(7), charge(7), charge(7)], [true, true, false]);
        hand.advance(Duration::from_millis(500));
        assert_eq!([charge(0), charge(0)], [true, false]);

        // Two limits, all or nothing: one of them has room.
        let charges = [(rate, testing::change(rate, 500_000)); 2];
        let op = Op::Run {
            program: &CHARGE,
            keys: &[],
            args: &testing::args(&charges),
        };
        let mut members = LimitSet::one(3);
        members |= LimitSet::one(0);
        let output = overflow.run(&op, members, LimitSet::default()).unwrap();
        assert_eq!(
            [0, 1, 2].map(|at| output.int(at)),
            [0, 1_000_000, 0].map(Some)
        );
        assert!(
            overflow
                .run(&Op::Ping, members, LimitSet::default())
                .is_none()
        );
    }
}
