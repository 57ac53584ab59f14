use std::sync::{
    PoisonError, RwLock,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use super::quotas::Quotas;
use crate::policy::limit::Limit;

/// The quotas of a limiter that are in force, and if requests have to look at them.
#[derive(Debug)]
pub(crate) struct Live {
    /// True if a request can be decided by the limits as they were made, in a store that answers at once: one look on the fastest path.
    is_direct: AtomicBool,
    /// True if the quotas of a request have to be found first.
    varies: AtomicBool,
    answers_now: bool,
    has_tiers: bool,
    made: Quotas,
    quotas: RwLock<Quotas>,
}

impl Live {
    pub(crate) fn new(limits: &[Limit], answers_now: bool) -> Self {
        let has_tiers = limits.iter().any(|limit| limit.tiers.is_some());
        let made = Quotas::of(limits);
        Self {
            is_direct: (answers_now && !has_tiers).into(),
            varies: has_tiers.into(),
            answers_now,
            has_tiers,
            made,
            quotas: RwLock::new(made),
        }
    }

    #[inline]
    pub(crate) fn is_direct(&self) -> bool {
        self.is_direct.load(Relaxed)
    }

    #[inline]
    pub(crate) fn varies(&self) -> bool {
        self.varies.load(Relaxed)
    }

    /// Returns the quotas that the limits were made with.
    pub(crate) const fn made(&self) -> &Quotas {
        &self.made
    }

    /// Returns the quotas in force, for clients without a tier.
    pub(crate) fn get(&self) -> Quotas {
        *self.quotas.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the quotas in force, and returns those before and after. Requests that are being decided may see those before.
    pub(crate) fn change<E>(
        &self,
        change: impl FnOnce(&mut Quotas) -> Result<(), E>,
    ) -> Result<(Quotas, Quotas), E> {
        let mut quotas = self.quotas.write().unwrap_or_else(PoisonError::into_inner);
        let (before, mut after) = (*quotas, *quotas);
        change(&mut after)?;
        *quotas = after;
        let varies = self.has_tiers || after != self.made;
        self.varies.store(varies, Relaxed);
        self.is_direct.store(self.answers_now && !varies, Relaxed);
        Ok((before, after))
    }
}
