/// What a command asks of its limits: one change for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Nothing is changed. The cost is the one whose wait is asked for; 0 if nobody waits.
    Look { cost: u64 },
    /// The cost is charged, if all limits allow it.
    Charge { cost: u64 },
    /// A charge is taken back.
    Refund {
        cost: u64,
        /// The most microseconds that have passed since the charge.
        age: u64,
    },
}

impl Demand {
    /// Returns how many units it is about.
    pub(crate) const fn cost(self) -> u64 {
        match self {
            Self::Look { cost } | Self::Charge { cost } | Self::Refund { cost, .. } => cost,
        }
    }
}
