use layer_store::{Ttl, Value};

use crate::algorithm::window_count::{MAX_COUNT, SLACK, numbers, ttl};

/// When a limit blocks a partition, and for how long: numbers in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockRule {
    /// So many strikes within a window begin a block.
    pub(crate) after: u64,
    /// The length of the windows in which strikes are counted. One begins with its first strike.
    pub(crate) window: u64,
    /// For how long the first block goes on. Each later one is twice as long.
    pub(crate) time: u64,
    /// The most for which a block goes on. As long after the end of one, it is forgotten.
    pub(crate) longest: u64,
}

/// What is kept of the strikes and blocks of one partition, as it is at one time: numbers in, numbers out.
///
/// A strike is a request that the limit itself refused. While a block goes on everything is refused, and there are no strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockState {
    rule: BlockRule,
    now: u64,
    /// When the last block ends. Zero: there was none, or it is forgotten.
    ends: u64,
    /// How many blocks there were one after the other.
    level: u64,
    window_ends: u64,
    strikes: u64,
    is_cut: bool,
}

impl BlockState {
    /// Reads what is kept, `ends:level:window_ends:strikes`, as it is at `now`. `None`: the value is not of this form.
    pub(crate) fn read(value: Option<&Value>, rule: BlockRule, now: u64) -> Option<Self> {
        let mut this = Self {
            rule,
            now,
            ends: 0,
            level: 0,
            window_ends: 0,
            strikes: 0,
            is_cut: false,
        };
        let Some(value) = value else {
            return Some(this);
        };
        let [ends, level, window_ends, strikes] = numbers(value)?;
        if level > MAX_LEVEL || strikes > MAX_COUNT {
            return None;
        }
        (this.ends, this.level) = (ends, level);
        (this.window_ends, this.strikes) = (window_ends, strikes);
        // ## Kept => ahead of the clock, and cut
        // The clock ran backwards, or blocks and windows were longer.
        for (end, most) in [
            (&mut this.ends, rule.longest),
            (&mut this.window_ends, rule.window),
        ] {
            if *end > now + most + SLACK {
                (*end, this.is_cut) = (now + most, true);
            }
        }
        // ## Kept => forgotten
        if this.ends + rule.longest <= now {
            (this.ends, this.level) = (0, 0);
        }
        if this.window_ends <= now {
            (this.window_ends, this.strikes) = (0, 0);
        }
        Some(this)
    }

    /// Returns true if what was kept lay ahead of the clock. It is kept as it was cut, also where nothing else changes: otherwise it would
    /// be cut anew each time, and the block go on until its old end.
    pub(crate) const fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Returns the microseconds until the block ends. Zero: there is none.
    pub(crate) const fn wait(&self) -> u64 {
        self.ends.saturating_sub(self.now)
    }

    /// Counts a refusal by the limit, outside of a block.
    pub(crate) fn strike(&mut self) {
        // ## Not blocked => a strike in its window
        if self.strikes == 0 {
            self.window_ends = self.now + self.rule.window;
        }
        self.strikes += 1;
        // ## The last strike => blocked
        if self.strikes >= self.rule.after {
            let time = u128::from(self.rule.time) << self.level;
            let time = time.min(u128::from(self.rule.longest)) as u64;
            self.ends = self.now + time;
            self.level = (self.level + 1).min(MAX_LEVEL);
            (self.window_ends, self.strikes) = (0, 0);
        }
    }

    /// Returns the value to keep, and its time to live: until it means nothing any more.
    pub(crate) fn keep(&self) -> (Value, Ttl) {
        let known = match self.ends {
            0 => 0,
            ends => (ends + self.rule.longest).saturating_sub(self.now),
        };
        let lives = known.max(self.window_ends.saturating_sub(self.now));
        let Self {
            ends,
            level,
            window_ends,
            strikes,
            ..
        } = self;
        let text = format!("{ends}:{level}:{window_ends}:{strikes}");
        (Value::from(text), ttl(lives))
    }
}

/// From the first to the longest block there are fewer steps: it doubles the longest time at least.
pub(crate) const MAX_LEVEL: u64 = 49;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_767_225_600_000_000;
    const SECOND: u64 = 1_000_000;
    const RULE: BlockRule = BlockRule {
        after: 3,
        window: 60 * SECOND,
        time: 10 * SECOND,
        longest: 35 * SECOND,
    };

    /// A partition whose value is kept from one step to the next.
    struct Kept(Option<Value>);

    impl Kept {
        fn at(&self, now: u64) -> BlockState {
            BlockState::read(self.0.as_ref(), RULE, now).unwrap()
        }

        /// Strikes so often at one time, and returns the wait.
        fn strike(&mut self, times: usize, now: u64) -> u64 {
            let mut state = self.at(now);
            for _ in 0..times {
                state.strike();
            }
            self.0 = Some(state.keep().0);
            state.wait()
        }
    }

    #[test]
    fn each_block_is_twice_as_long_up_to_the_longest() {
        let (mut kept, mut now) = (Kept(None), NOW);
        for seconds in [10, 20, 35, 35] {
            assert_eq!(kept.strike(2, now), 0);
            assert_eq!(kept.strike(1, now), seconds * SECOND);
            now += seconds * SECOND - 1;
            assert_eq!(kept.at(now).wait(), 1);
            now += 1;
            assert_eq!(kept.at(now).wait(), 0);
        }
    }

    #[test]
    fn a_block_is_forgotten_once_the_longest_time_has_passed_since_its_end() {
        let mut kept = Kept(None);
        assert_eq!(kept.strike(3, NOW), 10 * SECOND);
        let forgotten = NOW + 45 * SECOND;
        assert_eq!(kept.at(forgotten - 1).level, 1);
        assert_eq!(kept.at(forgotten).level, 0);
        assert_eq!(kept.strike(3, forgotten), 10 * SECOND);
    }

    #[test]
    fn strikes_are_counted_in_a_window_that_the_first_of_them_begins() {
        let mut kept = Kept(None);
        assert_eq!(kept.strike(1, NOW), 0);
        assert_eq!(kept.strike(1, NOW + 60 * SECOND - 1), 0);
        // The window of both is over.
        assert_eq!(kept.strike(2, NOW + 60 * SECOND), 0);
        assert_eq!(kept.strike(1, NOW + 60 * SECOND), 10 * SECOND);
    }

    #[test]
    fn a_value_lives_until_it_means_nothing() {
        let mut state = Kept(None).at(NOW);
        state.strike();
        assert_eq!(state.keep().1.as_millis(), 60_000);
        state.strike();
        state.strike();
        // The block, and as long as its level is known.
        assert_eq!(state.keep().1.as_millis(), 45_000);
    }

    #[test]
    fn what_lies_ahead_of_the_clock_is_cut() {
        let mut kept = Kept(None);
        kept.strike(3, NOW + 3_600 * SECOND);
        let state = kept.at(NOW);
        assert!(state.is_cut());
        assert_eq!(state.wait(), 35 * SECOND);
        // Two commands out of order are not.
        kept.strike(0, NOW);
        let value = format!("{}:1:0:0", NOW + 35 * SECOND + SLACK);
        let state = BlockState::read(Some(&Value::from(value)), RULE, NOW).unwrap();
        assert!(!state.is_cut());
    }

    #[test]
    fn a_value_of_another_form_is_none() {
        for value in ["", "1:2:3", "1:2:3:4:5", "a:0:0:0", "1:50:0:0", "1:-1:0:0"] {
            let value = Value::from(value.to_owned());
            assert_eq!(BlockState::read(Some(&value), RULE, NOW), None, "{value:?}");
        }
    }

    #[test]
    fn the_largest_numbers_are_in_range() {
        let most = 1 << 49;
        let rule = BlockRule {
            after: 1,
            window: most,
            time: most,
            longest: most,
        };
        let value = Value::from(format!("{NOW}:{MAX_LEVEL}:0:0"));
        let mut state = BlockState::read(Some(&value), rule, NOW).unwrap();
        state.strike();
        assert_eq!((state.wait(), state.level), (most, MAX_LEVEL));
    }
}
