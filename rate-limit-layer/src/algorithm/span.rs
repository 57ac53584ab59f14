/// A length of time, such as a debt: whole microseconds, and a fraction of one more.
///
/// The fraction is a number of parts. How many of them make a microsecond is up to the [`Rate`](super::gcra::Rate), and is an
/// argument here: both numbers are kept apart, so that neither has to leave room for the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) micros: u64,
    /// Less than the parts of a microsecond.
    pub(crate) fraction: u32,
}

impl Span {
    pub(crate) const ZERO: Self = Self::of_micros(0);
    /// Longer than any burst.
    pub(crate) const MAX: Self = Self::of_micros(i64::MAX as u64);

    #[inline]
    pub(crate) const fn of_micros(micros: u64) -> Self {
        Self {
            micros,
            fraction: 0,
        }
    }

    /// Makes a span of so many parts, or [`MAX`](Self::MAX).
    pub(crate) const fn of_parts(total: u128, parts: u32) -> Self {
        let micros = total / parts as u128;
        if micros > Self::MAX.micros as u128 {
            return Self::MAX;
        }
        Self {
            micros: micros as u64,
            fraction: (total % parts as u128) as u32,
        }
    }

    /// Returns the length in parts.
    pub(crate) const fn to_parts(self, parts: u32) -> u128 {
        self.micros as u128 * parts as u128 + self.fraction as u128
    }

    #[inline]
    pub(crate) const fn is_zero(self) -> bool {
        self.micros == 0 && self.fraction == 0
    }

    /// Returns the length in microseconds, rounded up.
    #[inline]
    pub(crate) const fn ceil_micros(self) -> u64 {
        self.micros + (self.fraction > 0) as u64
    }

    /// Returns the sum, with a carry.
    #[inline]
    pub(crate) const fn plus(self, other: Self, parts: u32) -> Self {
        let micros = self.micros.saturating_add(other.micros);
        let fraction = self.fraction as u64 + other.fraction as u64;
        match fraction.checked_sub(parts as u64) {
            Some(fraction) => Self {
                micros: micros.saturating_add(1),
                fraction: fraction as u32,
            },
            None => Self {
                micros,
                fraction: fraction as u32,
            },
        }
    }

    /// Returns the difference, with a borrow. Zero if `other` is longer.
    #[inline]
    pub(crate) const fn minus(self, other: Self, parts: u32) -> Self {
        let (borrow, fraction) = match self.fraction.checked_sub(other.fraction) {
            Some(fraction) => (0, fraction),
            None => (
                1,
                (self.fraction as u64 + parts as u64 - other.fraction as u64) as u32,
            ),
        };
        match self.micros.checked_sub(other.micros) {
            Some(micros) if micros >= borrow => Self {
                micros: micros - borrow,
                fraction,
            },
            _ => Self::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_length_is_rounded_up_and_compared_by_its_microseconds_first() {
        let span = |micros, fraction| Span { micros, fraction };
        assert_eq!(span(2, 0).ceil_micros(), 2);
        assert_eq!(span(2, 1).ceil_micros(), 3);
        assert!(span(2, 6) < span(3, 0) && span(3, 0) < span(3, 1));
        assert!(Span::ZERO.is_zero() && !span(0, 1).is_zero() && !span(1, 0).is_zero());
        assert_eq!(Span::of_parts(u128::MAX, 7), Span::MAX);
        assert_eq!(Span::of_parts(23, 7), span(3, 2));
        assert_eq!(span(u64::MAX, 6).plus(span(1, 1), 7), span(u64::MAX, 0));
    }

    proptest! {
        #[test]
        fn sums_and_differences_are_those_of_the_parts(
            parts in 1_u32..,
            (one, other) in ((0..1_u64 << 53, any::<u32>()), (0..1_u64 << 53, any::<u32>())),
        ) {
            let [one, other] = [one, other].map(|(micros, fraction)| Span { micros, fraction: fraction % parts });
            let (a, b) = (one.to_parts(parts), other.to_parts(parts));
            prop_assert_eq!(Span::of_parts(a, parts), one);
            prop_assert_eq!(one.plus(other, parts).to_parts(parts), a + b);
            prop_assert_eq!(one.minus(other, parts).to_parts(parts), a.saturating_sub(b));
            prop_assert_eq!(one.cmp(&other), a.cmp(&b));
        }
    }
}
