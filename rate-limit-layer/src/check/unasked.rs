use crate::{
    InvalidCost,
    check::partition::Unpartitioned,
    policy::{costs::Costs, limit::Limit, limit_set::LimitSet},
};

/// The reason why a request is refused and its store not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unasked {
    /// Nobody knows for whom it counts.
    Unpartitioned(Unpartitioned),
    /// It costs more than a limit ever allows at once.
    TooCostly { limit: usize, cost: u64 },
}

impl Unasked {
    /// Finds a limit that can never allow these costs, of those that count the request.
    pub(crate) fn of_costs(limits: &[Limit], by: LimitSet, costs: &Costs) -> Result<(), Self> {
        for limit in by.iter() {
            let cost = costs.of(limit);
            if cost > limits[limit].quota.capacity() {
                return Err(Self::TooCostly { limit, cost });
            }
        }
        Ok(())
    }

    /// Returns the reason as a label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Unpartitioned(unpartitioned) => unpartitioned.as_str(),
            Self::TooCostly { .. } => "too_costly",
        }
    }

    /// Makes the error of a cost that never passes.
    pub(crate) fn invalid_cost(limits: &[Limit], limit: usize, cost: u64) -> InvalidCost {
        let limit = &limits[limit];
        InvalidCost::over(cost, limit.name.clone(), limit.quota)
    }
}

impl From<Unpartitioned> for Unasked {
    fn from(unpartitioned: Unpartitioned) -> Self {
        Self::Unpartitioned(unpartitioned)
    }
}
