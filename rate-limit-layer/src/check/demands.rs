use crate::{algorithm::demand::Demand, policy::costs::Costs};

/// What a command asks of its limits: one change for all of them, at the cost of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demands {
    change: Change,
    costs: Costs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Look,
    Charge,
    Refund {
        /// The most microseconds that have passed since the charge.
        age: u64,
    },
}

impl Demands {
    /// Asks for the waits of these costs, and changes nothing.
    pub(crate) const fn look(costs: Costs) -> Self {
        Self {
            change: Change::Look,
            costs,
        }
    }

    /// Charges these costs, if all limits allow it. A limit under which the cost is zero is only looked at.
    pub(crate) const fn charge(costs: Costs) -> Self {
        Self {
            change: Change::Charge,
            costs,
        }
    }

    /// Takes back at `now` what was charged after `charged_at`.
    pub(crate) const fn refund(costs: Costs, charged_at: u64, now: u64) -> Self {
        let age = now.saturating_sub(charged_at);
        Self {
            change: Change::Refund { age },
            costs,
        }
    }

    /// Returns true if charges are taken back. Blocks have no part in that.
    pub(crate) const fn is_refund(&self) -> bool {
        matches!(self.change, Change::Refund { .. })
    }

    /// Returns what is asked of one limit.
    pub(crate) const fn of(&self, limit: usize) -> Demand {
        let cost = self.costs.of(limit);
        match self.change {
            Change::Look => Demand::Look { cost },
            Change::Charge | Change::Refund { .. } if cost == 0 => Demand::Look { cost },
            Change::Charge => Demand::Charge { cost },
            Change::Refund { age } => Demand::Refund { cost, age },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::limit_set::MAX_POLICIES;

    #[test]
    fn each_limit_is_asked_for_its_own_cost_and_for_none_it_is_looked_at() {
        let mut costs = [1; MAX_POLICIES];
        (costs[1], costs[2]) = (4_000, 0);
        let costs = Costs::Each(costs);
        let asked = |demands: Demands| [0, 1, 2].map(|limit| demands.of(limit));
        let look = Demand::Look { cost: 0 };
        assert_eq!(
            asked(Demands::charge(costs)),
            [
                Demand::Charge { cost: 1 },
                Demand::Charge { cost: 4_000 },
                look
            ]
        );
        let refund = |cost| Demand::Refund { cost, age: 7 };
        let refunds = [refund(1), refund(4_000), look];
        assert_eq!(asked(Demands::refund(costs, 3, 10)), refunds);
        let looks = [1, 4_000, 0].map(|cost| Demand::Look { cost });
        assert_eq!(asked(Demands::look(costs)), looks);
    }
}
