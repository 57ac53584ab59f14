use std::time::Duration;

/// Pseudo-random numbers, equal for equal seeds: SplitMix64 (Steele, Lea, Flood 2014).
///
/// ```
/// use layer_store::conformance::Random;
///
/// let (mut a, mut b) = (Random::new(7), Random::new(7));
/// assert_eq!(a.number(), b.number());
/// assert!(a.below(10) < 10);
/// ```
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Makes a generator with a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`, and 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(bound)) >> 64) as u64
    }

    /// Returns true once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Returns whole microseconds up to `longest`. A third of them are 0 to 3, because mistakes are found at the edges.
    pub fn duration(&mut self, longest: Duration) -> Duration {
        let longest = longest.as_micros() as u64;
        Duration::from_micros(match self.below(6) {
            0 => 0,
            1 => self.below(longest.min(3) + 1),
            _ => self.below(longest + 1),
        })
    }
}
