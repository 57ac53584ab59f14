use layer_store::{Arg, Key, Op};

use crate::{
    algorithm::{gcra::Rate, program::CHARGE},
    check::partition::Partitions,
    policy::{
        limit::Limit,
        limit_set::{LimitSet, MAX_POLICIES},
    },
};

/// One run of [`CHARGE`], for all limits whose partition of a request has the same identity.
///
/// Keys of one identity lie in one slot of a Redis Cluster, so that one atomic command can charge them all or none.
pub(crate) struct Command<'a> {
    members: LimitSet,
    keys: [Key<'a>; MAX_POLICIES],
    args: [Arg<'static>; 3 * MAX_POLICIES],
}

impl<'a> Command<'a> {
    /// Makes the command of the first limit that is not in `seen`, and of all later ones with the same identity. `charge`
    /// returns the charge at a limit's rate. `None`: all limits are seen, or skip the request.
    pub(crate) fn next(
        limits: &'a [Limit],
        partitions: &'a Partitions<'_>,
        seen: LimitSet,
        charge: impl Fn(Rate) -> i64,
    ) -> Option<Self> {
        let mut unseen = (0..limits.len())
            .filter(|index| !seen.contains(*index))
            .filter_map(|index| Some((index, partitions.key(limits, index)?)));
        // ## Unseen limits => one identity
        // The first of them decides, and later ones join if their keys lie in the same slot. Others wait for a command of
        // their own.
        let (first, key) = unseen.next()?;
        let mut command = Self {
            members: LimitSet::default(),
            keys: [key; MAX_POLICIES],
            args: [Arg::Int(0); 3 * MAX_POLICIES],
        };
        command.push(first, key, limits[first].args(charge(limits[first].rate)));
        for (index, other) in unseen.filter(|(_, other)| other.same_tag(&key)) {
            let limit = &limits[index];
            command.push(index, other, limit.args(charge(limit.rate)));
        }
        Some(command)
    }

    /// Returns the limits that the command is for. Its reply has their debts in the order of their indices.
    pub(crate) const fn members(&self) -> LimitSet {
        self.members
    }

    /// Makes the operation.
    pub(crate) fn op(&self) -> Op<'_> {
        let len = self.members.len();
        Op::Run {
            program: &CHARGE,
            keys: &self.keys[..len],
            args: &self.args[..3 * len],
        }
    }

    fn push(&mut self, index: usize, key: Key<'a>, args: [Arg<'static>; 3]) {
        let len = self.members.len();
        self.keys[len] = key;
        self.args[3 * len..3 * len + 3].copy_from_slice(&args);
        self.members |= LimitSet::one(index);
    }
}
