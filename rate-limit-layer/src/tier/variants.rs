use std::{
    fmt,
    sync::{PoisonError, RwLock},
};

use super::quotas::Quotas;

/// Values made for choices of quotas: a bounded number of them, each made when it is first needed.
///
/// A clone begins anew: it has other settings.
pub(crate) struct Variants<T>(RwLock<Vec<(Quotas, T)>>);

impl<T: Clone> Variants<T> {
    /// Returns what is for these quotas. If there is nothing, it is made; the one that was made first is then forgotten if there are too
    /// many.
    pub(crate) fn get_or_make(&self, quotas: &Quotas, make: impl FnOnce() -> T) -> T {
        if let Some(known) = self.get(quotas) {
            return known;
        }
        // Two may make one at once. They are alike, and one of them is kept.
        let made = make();
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = all.iter().find(|(known, _)| known == quotas) {
            return known.clone();
        }
        if all.len() >= MAX_VARIANTS {
            all.remove(0);
        }
        all.push((*quotas, made.clone()));
        made
    }

    fn get(&self, quotas: &Quotas) -> Option<T> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (_, known) = all.iter().find(|(known, _)| known == quotas)?;
        Some(known.clone())
    }
}

impl<T> Default for Variants<T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<T> Clone for Variants<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T> fmt::Debug for Variants<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Variants")
    }
}

/// The choices of quotas that are kept ready. With more of them some requests are slower.
pub(crate) const MAX_VARIANTS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Quota, policy::limit::Limit};

    #[test]
    fn each_choice_is_made_once_and_the_oldest_is_forgotten() {
        let variants = Variants::default();
        let mut made = Vec::new();
        let mut get = |limit: u64| {
            let limits = [Limit::new(Quota::per_hour(limit).fail_open())];
            variants.get_or_make(&Quotas::of(&limits), || {
                made.push(limit);
                limit
            })
        };
        let most = MAX_VARIANTS as u64;
        for limit in (1..=most).chain(1..=most) {
            assert_eq!(get(limit), limit);
        }
        assert_eq!((get(most + 1), get(2), get(1)), (most + 1, 2, 1));
        let expected: Vec<_> = (1..=most + 1).chain([1]).collect();
        assert_eq!(made, expected);
    }
}
