use std::time::Duration;

use layer_store::{IdentityRef, Key};

use crate::{
    algorithm::block::BlockRules,
    metrics::Blocks,
    policy::{key_spaces::KeySpaces, quota::Quota},
};

/// When a policy blocks a client that goes on though it is refused, and for how long ([`Policy::block`](crate::Policy::block)).
///
/// - A **strike** is a refusal by this policy, whatever the request costs. A refusal by another policy is none.
/// - So many strikes within one window of the policy's quota, counted from the first of them, begin a **block**. The request of the last
///   strike is told of it.
/// - While the block goes on, everything that the policy would count is refused. Nothing is charged, and there are no strikes.
/// - Each later block is twice as long as the one before, up to the [longest](Self::up_to). Once that time has passed since the end of the
///   last one, the next is as long as the first again.
///
/// ```
/// use std::time::Duration;
/// use rate_limit_layer::Block;
///
/// // 1 minute, then 2, 4, 8, 16, 32, and an hour from then on.
/// let block = Block::after(10, Duration::from_secs(60)).up_to(Duration::from_secs(3_600));
/// assert_eq!(block.longest(), Duration::from_secs(3_600));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "write it in Policy::block"]
pub struct Block {
    strikes: u32,
    first: Duration,
    longest: Duration,
}

impl Block {
    /// Makes a block of this `length`, which begins with so many strikes. Default: all blocks are of one length, see [`up_to`](Self::up_to).
    ///
    /// The length counts in whole microseconds.
    ///
    /// # Panics
    ///
    /// If there are no strikes, or the length is less than 1 ms or more than 3,650 days.
    #[track_caller]
    pub const fn after(strikes: u32, length: Duration) -> Self {
        match Self::try_after(strikes, length) {
            Ok(block) => block,
            Err(fault) => panic!("{}", fault),
        }
    }

    /// Sets the length of the longest block. Default: that of the first, so that blocks do not grow.
    ///
    /// It is also the time after the end of a block after which it is forgotten that there was one.
    ///
    /// # Panics
    ///
    /// If it is less than the first length, or more than 3,650 days.
    #[track_caller]
    pub const fn up_to(self, longest: Duration) -> Self {
        match self.try_up_to(longest) {
            Ok(block) => block,
            Err(fault) => panic!("{}", fault),
        }
    }

    pub(crate) const fn try_after(strikes: u32, length: Duration) -> Result<Self, &'static str> {
        if strikes == 0 {
            return Err("a block begins with a refusal: write Block::after(1, ..) or more");
        }
        let micros = length.as_micros();
        if micros < 1_000 || micros > MAX_LENGTH {
            return Err("a block is 1 ms to 3,650 days long: write such a length");
        }
        Ok(Self {
            strikes,
            first: length,
            longest: length,
        })
    }

    pub(crate) const fn try_up_to(self, longest: Duration) -> Result<Self, &'static str> {
        let micros = longest.as_micros();
        if micros < self.first.as_micros() || micros > MAX_LENGTH {
            return Err(
                "the longest block is at least as long as the first, and at most 3,650 days: write such a length in up_to(..)",
            );
        }
        Ok(Self { longest, ..self })
    }

    /// Returns how many strikes begin a block.
    pub const fn strikes(&self) -> u32 {
        self.strikes
    }

    /// Returns the length of the first block.
    pub const fn length(&self) -> Duration {
        self.first
    }

    /// Returns the length of the longest block.
    pub const fn longest(&self) -> Duration {
        self.longest
    }
}

/// A [`Block`] made ready: with the keys under which a limit counts its strikes.
pub(crate) struct LimitBlock {
    pub(crate) block: Block,
    spaces: KeySpaces,
    /// The number of blocks that have begun.
    pub(crate) blocks: Blocks,
}

impl LimitBlock {
    /// Makes it for the limit of this name.
    pub(crate) fn new(block: Block, name: &str) -> Self {
        Self {
            block,
            spaces: KeySpaces::new(KIND, name),
            blocks: Blocks::default(),
        }
    }

    /// Makes the key of an identity's strikes, or, with `fallback`, of those of a peer.
    pub(crate) fn key<'a>(&'a self, identity: IdentityRef<'a>, fallback: bool) -> Key<'a> {
        self.spaces.key(identity, fallback)
    }

    /// Returns the numbers of the block under a quota.
    pub(crate) const fn rules(&self, quota: Quota) -> BlockRules {
        BlockRules {
            after: self.block.strikes as u64,
            window: quota.window().as_micros() as u64,
            first: self.block.first.as_micros() as u64,
            longest: self.block.longest.as_micros() as u64,
        }
    }
}

/// The kind of the keys. The key has the identity of the limit's own, and so lies in the same slot of a Redis Cluster.
const KIND: &str = "block";
/// 3,650 days, in microseconds. The end of a block and the time to forget it stay whole numbers in Lua.
const MAX_LENGTH: u128 = 3_650 * 86_400 * 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const YEARS: Duration = Duration::from_secs(3_650 * 86_400);

    #[test]
    fn blocks_do_not_grow_unless_it_is_written() {
        let block = Block::after(3, MINUTE);
        assert_eq!(
            (block.strikes(), block.length(), block.longest()),
            (3, MINUTE, MINUTE)
        );
        assert_eq!(block.up_to(YEARS).longest(), YEARS);
        let rules = LimitBlock::new(block.up_to(2 * MINUTE), "a").rules(Quota::per_hour(5));
        let expected = BlockRules {
            after: 3,
            window: 3_600_000_000,
            first: 60_000_000,
            longest: 120_000_000,
        };
        assert_eq!(rules, expected);
    }

    #[test]
    fn an_impossible_block_says_what_to_write() {
        for length in [Duration::ZERO, Duration::from_micros(999), 2 * YEARS] {
            let fault = Block::try_after(1, length).unwrap_err();
            assert!(fault.contains("1 ms to 3,650 days"), "{fault}");
        }
        assert!(Block::try_after(1, Duration::from_millis(1)).is_ok());
        assert!(
            Block::try_after(0, MINUTE)
                .unwrap_err()
                .contains("write Block::after(1, ..)")
        );
        let block = Block::after(1, MINUTE);
        for longest in [MINUTE - Duration::from_micros(1), 2 * YEARS] {
            assert!(
                block
                    .try_up_to(longest)
                    .unwrap_err()
                    .contains("at least as long as the first")
            );
        }
    }

    #[test]
    #[should_panic(expected = "write Block::after(1, ..) or more")]
    fn a_block_without_strikes_panics() {
        let _ = Block::after(0, MINUTE);
    }

    #[test]
    #[should_panic(expected = "write such a length in up_to(..)")]
    fn a_longest_block_that_is_shorter_panics() {
        let _ = Block::after(1, MINUTE).up_to(Duration::from_secs(1));
    }
}
