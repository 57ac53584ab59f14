use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The room that all fills of one cache share.
///
/// A fill has a [`FillPermit`] from its beginning until its body is stored and read. Without one a response is not stored.
#[derive(Debug)]
pub(crate) struct FillBudget {
    fills: Share,
    bytes: Share,
}

/// The right of one fill to run, and the bytes that it holds. Dropping it gives them back.
#[derive(Debug)]
pub(crate) struct FillPermit {
    budget: Arc<FillBudget>,
    bytes: usize,
}

/// An amount of which at most so much is taken.
#[derive(Debug)]
struct Share {
    taken: AtomicUsize,
    max: AtomicUsize,
}

impl FillBudget {
    pub(crate) fn set(&self, max_bytes: usize, max_fills: usize) {
        self.bytes.max.store(max_bytes, Relaxed);
        self.fills.max.store(max_fills, Relaxed);
    }

    /// Lets a fill begin. `None`: there are too many.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<FillPermit> {
        self.fills.take(1).then(|| FillPermit {
            budget: self.clone(),
            bytes: 0,
        })
    }

    /// Returns the bytes that all fills hold.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.taken.load(Relaxed)
    }
}

impl Default for FillBudget {
    fn default() -> Self {
        Self {
            fills: Share::of(MAX_FILLS),
            bytes: Share::of(MAX_BYTES),
        }
    }
}

impl FillPermit {
    /// Takes room for some bytes more. Returns false if there is none.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let is_taken = self.budget.bytes.take(bytes);
        if is_taken {
            self.bytes += bytes;
        }
        is_taken
    }

    /// Gives back the room of some bytes, or of all if it has fewer.
    pub(crate) fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.bytes.give_back(bytes);
    }
}

impl Drop for FillPermit {
    fn drop(&mut self) {
        self.give_back(self.bytes);
        self.budget.fills.give_back(1);
    }
}

impl Share {
    const fn of(max: usize) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            max: AtomicUsize::new(max),
        }
    }

    fn take(&self, amount: usize) -> bool {
        let max = self.max.load(Relaxed);
        let fits = |taken: usize| taken.checked_add(amount).filter(|sum| *sum <= max);
        self.taken.fetch_update(Relaxed, Relaxed, fits).is_ok()
    }

    fn give_back(&self, amount: usize) {
        self.taken.fetch_sub(amount, Relaxed);
    }
}

pub(crate) const MAX_BYTES: usize = 64 << 20;
pub(crate) const MAX_FILLS: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is_and_all_comes_back() {
        let budget = Arc::new(FillBudget::default());
        budget.set(10, 2);
        let (mut first, mut second) = (budget.begin().unwrap(), budget.begin().unwrap());
        assert!(budget.begin().is_none());
        assert!(first.take(6) && !second.take(5) && second.take(4));
        assert!(!first.take(1) && !first.take(usize::MAX) && first.take(0));
        first.give_back(2);
        assert!(second.take(2));
        first.give_back(100);
        assert_eq!(budget.bytes(), 6);
        drop((first, second));
        assert_eq!(budget.bytes(), 0);
        assert!(budget.begin().is_some());
    }
}
