use std::ops::{BitAnd, BitOrAssign, Not, SubAssign};

/// A set of limits of one limiter, by their indices: a bit for each.
///
/// A whole word, as are the indices: a decision travels through several enums, and what is copied byte by byte and read word
/// by word stalls the processor at each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LimitSet(u64);

/// The maximum number of policies of one limiter. Their partitions and keys are kept on the stack.
pub(crate) const MAX_POLICIES: usize = 8;

impl LimitSet {
    /// Makes a set of one limit.
    #[inline]
    pub(crate) const fn one(index: usize) -> Self {
        Self(1 << index)
    }

    /// Makes a set of the first limits.
    pub(crate) const fn first(count: usize) -> Self {
        Self((1 << count) - 1)
    }

    /// Returns true if the limit is in the set.
    #[inline]
    pub(crate) const fn contains(self, index: usize) -> bool {
        self.0 >> index & 1 == 1
    }

    /// Returns the number of limits.
    #[inline]
    pub(crate) const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Returns the limit, if it is the only one.
    #[inline]
    pub(crate) const fn only(self) -> Option<usize> {
        match self.len() {
            1 => Some(self.0.trailing_zeros() as usize),
            _ => None,
        }
    }

    /// Iterates over the indices, in order.
    pub(crate) fn iter(self) -> impl Iterator<Item = usize> + Clone {
        (0..MAX_POLICIES).filter(move |index| self.contains(*index))
    }
}

impl BitOrAssign for LimitSet {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for LimitSet {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl SubAssign for LimitSet {
    fn sub_assign(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}

impl Not for LimitSet {
    type Output = Self;

    fn not(self) -> Self {
        Self(!self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_lists_what_was_put_in_in_order() {
        let mut set = LimitSet::default();
        for index in [7, 0, 3, 3] {
            set |= LimitSet::one(index);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 3, 7]);
        assert_eq!((set.len(), set.only()), (3, None));
        assert_eq!(LimitSet::default().only(), None);
        assert_eq!(LimitSet::first(3).iter().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(LimitSet::one(7).only(), Some(7));
        assert!(set.contains(3) && !set.contains(2) && !set.contains(4));
        set -= LimitSet::one(3);
        set -= LimitSet::one(4);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 7]);
        set |= LimitSet::one(3);
        assert_eq!((!set).iter().collect::<Vec<_>>(), [1, 2, 4, 5, 6]);
        let common = set & LimitSet::first(4);
        assert_eq!(common.iter().collect::<Vec<_>>(), [0, 3]);
    }
}
