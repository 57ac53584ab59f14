//! What a limiter tells of its keys, if it is asked to: which are near their limit, and which are refused most.

pub(crate) mod near_limit;
pub(crate) mod top;

mod sketch;

use std::sync::Arc;

use self::{near_limit::NearLimit, top::TopKeys};
use crate::{
    check::{
        decision::{Checked, Decision},
        partition::Partitions,
    },
    policy::limit::Limit,
};

/// The observers of a limiter. Default: none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observers {
    pub(crate) near_limit: Option<Arc<NearLimit>>,
    pub(crate) top: Option<Arc<TopKeys>>,
}

impl Observers {
    /// Shows them the result of a check. `partitions` finds for whom it was made.
    pub(crate) fn look<'a>(
        &self,
        checked: &Checked,
        limits: &[Limit],
        now: u64,
        partitions: impl FnOnce() -> Option<Partitions<'a>>,
    ) {
        match (checked.decision, &self.near_limit, &self.top) {
            (Decision::Admit(Some(debt)), Some(near_limit), _) => {
                let counted = checked.counted.as_deref();
                if near_limit.is_near(limits, debt, counted)
                    && let Some(partitions) = partitions()
                {
                    near_limit.tell(limits, debt, counted, &partitions, now);
                }
            }
            (Decision::Refuse(excess), _, Some(top)) => {
                if let Some(partitions) = partitions() {
                    top.count(limits, excess.violated, &partitions, now);
                }
            }
            _ => {}
        }
    }
}
