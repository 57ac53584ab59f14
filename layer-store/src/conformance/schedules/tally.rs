use std::{cell::Cell, rc::Rc};

/// The number of times that each of `N` things happened, over all schedules of a scenario. Clones count together.
///
/// A scenario in which something never happens shows nothing of it.
#[derive(Clone, Debug)]
pub struct Tally<const N: usize>(Rc<Cell<[u64; N]>>);

impl<const N: usize> Tally<N> {
    /// Makes a tally of zeros.
    pub fn new() -> Self {
        Self(Rc::new(Cell::new([0; N])))
    }

    /// Adds one to the thing at `what`.
    pub fn count(&self, what: usize) {
        let mut times = self.0.get();
        times[what] += 1;
        self.0.set(times);
    }

    /// Checks that each thing happened at least so often.
    ///
    /// # Panics
    ///
    /// If one did not.
    #[track_caller]
    pub fn assert_each(&self, at_least: u64) {
        let times = self.0.get();
        assert!(times.iter().all(|times| *times >= at_least), "{times:?}");
    }
}

impl<const N: usize> Default for Tally<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_count_together() {
        let tally = Tally::<2>::new();
        tally.count(0);
        tally.clone().count(1);
        tally.assert_each(1);
    }

    #[test]
    #[should_panic(expected = "[2, 1]")]
    fn a_thing_that_happens_too_rarely_is_found() {
        let tally = Tally::<2>::new();
        [0, 0, 1].into_iter().for_each(|what| tally.count(what));
        tally.assert_each(2);
    }
}
