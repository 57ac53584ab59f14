use std::time::Duration;

use crate::algorithm::{block::BlockRule, window_count::MAX_WINDOW};

/// When a policy blocks a client that does not stop, and for how long ([`Policy::block`](crate::Policy::block)).
///
/// ```
/// use std::time::Duration;
///
/// use rate_limit_layer::Block;
///
/// // 10 refusals in a window block for a minute, the next 10 for two, and at most for an hour.
/// let block = Block::after(10, Duration::from_secs(60)).up_to(Duration::from_secs(3_600));
/// # let _ = block;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Block {
    after: u32,
    /// In microseconds.
    time: u64,
    /// In microseconds.
    longest: u64,
}

impl Block {
    /// Makes a block that begins with so many refusals within a window of the quota, and goes on for `time`. Each later one is twice as
    /// long, up to a [longest](Self::up_to).
    ///
    /// # Panics
    ///
    /// If `refusals` is zero, or `time` is shorter than a millisecond or longer than 10 years.
    #[track_caller]
    pub const fn after(refusals: u32, time: Duration) -> Self {
        must(Self::checked(refusals, time, None))
    }

    /// Sets the longest block. Default: a day, or the first block if that is longer.
    ///
    /// As long after the end of a block the earlier ones are forgotten: the next is as short as the first.
    ///
    /// # Panics
    ///
    /// If `longest` is shorter than the first block, or longer than 10 years.
    #[track_caller]
    pub const fn up_to(self, longest: Duration) -> Self {
        let time = Duration::from_micros(self.time);
        must(Self::checked(self.after, time, Some(longest)))
    }

    /// Makes a block, or says what is wrong with it.
    pub(crate) const fn checked(
        refusals: u32,
        time: Duration,
        longest: Option<Duration>,
    ) -> Result<Self, &'static str> {
        if refusals == 0 {
            return Err(
                "a block begins with a refusal: write how many, as in Block::after(10, ..)",
            );
        }
        let Some(time) = micros(time) else {
            return Err(OUT_OF_RANGE);
        };
        let longest = match longest {
            None if time > DAY => time,
            None => DAY,
            Some(longest) => match micros(longest) {
                Some(longest) => longest,
                None => return Err(OUT_OF_RANGE),
            },
        };
        if longest < time {
            return Err(
                "the longest block is shorter than the first: write .up_to(..) with a longer time",
            );
        }
        Ok(Self {
            after: refusals,
            time,
            longest,
        })
    }

    /// Returns the numbers for a quota whose windows are so long.
    pub(crate) fn rule(self, window: Duration) -> BlockRule {
        let window = u64::try_from(window.as_micros()).unwrap_or(MAX_WINDOW);
        BlockRule {
            after: u64::from(self.after),
            window: window.min(MAX_WINDOW),
            time: self.time,
            longest: self.longest,
        }
    }
}

#[track_caller]
const fn must(block: Result<Block, &'static str>) -> Block {
    match block {
        Ok(block) => block,
        Err(fault) => panic!("{}", fault),
    }
}

const fn micros(time: Duration) -> Option<u64> {
    let micros = time.as_micros();
    if micros < 1_000 || micros > TEN_YEARS {
        return None;
    }
    Some(micros as u64)
}

const OUT_OF_RANGE: &str =
    "a block goes on for a millisecond to 10 years: write a time between them";
/// In microseconds.
const DAY: u64 = 86_400_000_000;
const TEN_YEARS: u128 = 3_653 * DAY as u128;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_longest_block_is_a_day_or_the_first() {
        let longest = |time| Block::after(1, time).rule(SECOND).longest;
        assert_eq!(longest(SECOND), DAY);
        assert_eq!(longest(Duration::from_secs(172_800)), 2 * DAY);
        let shorter = Block::after(1, SECOND).up_to(2 * SECOND);
        let expected = BlockRule {
            after: 1,
            window: 60_000_000,
            time: 1_000_000,
            longest: 2_000_000,
        };
        assert_eq!(shorter.rule(60 * SECOND), expected);
    }

    #[test]
    #[should_panic = "write how many, as in Block::after(10, ..)"]
    fn no_refusals_are_none() {
        let _ = Block::after(0, SECOND);
    }

    #[test]
    #[should_panic = "a millisecond to 10 years"]
    fn no_time_is_none() {
        let _ = Block::after(1, Duration::ZERO);
    }

    #[test]
    #[should_panic = "write .up_to(..) with a longer time"]
    fn the_longest_is_not_shorter_than_the_first() {
        let _ = Block::after(1, 2 * SECOND).up_to(SECOND);
    }
}
