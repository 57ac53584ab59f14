use std::ops::{BitOrAssign, Not};

/// Some of a limiter's buckets, by their places: a bit for each.
///
/// A whole word, as are the places: a verdict travels through several enums, and what is copied byte by byte and read word by
/// word stalls the processor at each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Set(u64);

/// The most policies of one limiter. Their claims and keys stand on the stack.
pub(crate) const MOST: usize = 8;

impl Set {
    /// The bucket at `place` alone.
    #[inline]
    pub(crate) const fn one(place: usize) -> Self {
        Self(1 << place)
    }

    #[inline]
    pub(crate) const fn contains(self, place: usize) -> bool {
        self.0 >> place & 1 == 1
    }

    #[inline]
    pub(crate) const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The places, in order.
    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        (0..MOST).filter(move |place| self.contains(*place))
    }
}

impl BitOrAssign for Set {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl Not for Set {
    type Output = Self;

    fn not(self) -> Self {
        Self(!self.0)
    }
}
