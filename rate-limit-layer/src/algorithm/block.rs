use layer_store::{Ttl, Value};

use crate::algorithm::window_count::{MAX_COUNT, MAX_WHOLE, SLACK, numbers, ttl};

/// The numbers of a [`Block`](crate::Block), in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockRules {
    /// So many strikes begin a block.
    pub(crate) after: u64,
    /// The time from the first of them within which they count.
    pub(crate) window: u64,
    /// The length of the first block.
    pub(crate) first: u64,
    /// That of the longest one; and the time after a block at which its level is forgotten.
    pub(crate) longest: u64,
}

/// The strikes of one partition and its last block, as they are at one time: numbers in, numbers out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strikes {
    rules: BlockRules,
    now: u64,
    /// The end of the last block. Zero: there is none that matters.
    until: u64,
    /// The number of blocks, one soon after the other.
    level: u64,
    /// The end of the window in which the strikes count.
    window_end: u64,
    strikes: u64,
    is_cut: bool,
}

impl Strikes {
    /// Reads what is kept, `until:level:window_end:strikes`, as it is at `now`. `None`: the value is not of this form.
    pub(crate) fn read(value: Option<&Value>, rules: BlockRules, now: u64) -> Option<Self> {
        let mut this = Self {
            rules,
            now,
            until: 0,
            level: 0,
            window_end: 0,
            strikes: 0,
            is_cut: false,
        };
        let Some(value) = value else {
            return Some(this);
        };
        let [until, level, window_end, strikes] = numbers(value)?;
        if level > MAX_LEVEL || strikes > MAX_COUNT {
            return None;
        }
        let latest = now.saturating_add(rules.longest);
        if until > latest.saturating_add(SLACK) {
            // ## Ahead of the clock => blocked from now on
            // The clock ran backwards, or blocks were longer.
            (this.until, this.level, this.is_cut) = (latest, level, true);
        } else if until.saturating_add(rules.longest) > now {
            (this.until, this.level) = (until, level);
        }
        if window_end > now {
            let latest = now.saturating_add(rules.window);
            this.strikes = strikes;
            this.window_end = match window_end > latest.saturating_add(SLACK) {
                true => latest,
                false => window_end,
            };
        }
        Some(this)
    }

    /// Returns the time until the block ends. Zero: there is none.
    pub(crate) const fn wait(&self) -> u64 {
        self.until.saturating_sub(self.now)
    }

    /// Returns true if a block was cut. That is kept, or it would be cut again each time and last until the old end.
    pub(crate) const fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Counts a refusal while no block goes on. Returns the number of the block that begins. Zero: none does.
    pub(crate) fn strike(&mut self) -> u64 {
        if self.strikes == 0 {
            self.window_end = self.now.saturating_add(self.rules.window);
        }
        self.strikes += 1;
        if self.strikes < self.rules.after {
            return 0;
        }
        // ## The last strike => blocked
        let length = u128::from(self.rules.first) << self.level;
        let length = length.min(self.rules.longest.into()) as u64;
        self.until = self.now.saturating_add(length);
        self.level = (self.level + 1).min(MAX_LEVEL);
        (self.window_end, self.strikes) = (0, 0);
        self.level
    }

    /// Returns the value to keep, and its time to live: until neither a block, its level nor a strike counts.
    pub(crate) fn keep(&self) -> (Value, Ttl) {
        let Self {
            until,
            level,
            window_end,
            strikes,
            ..
        } = self;
        let forgotten = match until {
            0 => 0,
            until => until.saturating_add(self.rules.longest),
        };
        let ends = forgotten.max(*window_end).min(MAX_WHOLE);
        let text = format!("{until}:{level}:{window_end}:{strikes}");
        (Value::from(text), ttl(ends.saturating_sub(self.now)))
    }
}

/// The most blocks that are counted. Each of them makes the next one twice as long, so any longest one is reached before.
const MAX_LEVEL: u64 = 50;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_767_225_600_000_000;
    const SECOND: u64 = 1_000_000;
    /// 2 strikes in 10 s; 5 s, 10 s and 12 s.
    const RULES: BlockRules = BlockRules {
        after: 2,
        window: 10 * SECOND,
        first: 5 * SECOND,
        longest: 12 * SECOND,
    };

    fn read(text: &str, now: u64) -> Option<Strikes> {
        Strikes::read(Some(&Value::from(text)), RULES, now)
    }

    /// Goes on `after` what was kept.
    fn later(strikes: Strikes, after: u64) -> Strikes {
        let (value, ttl) = strikes.keep();
        let now = strikes.now + after;
        // What has expired is absent.
        let value = (after < ttl.as_millis() * 1_000).then_some(value);
        Strikes::read(value.as_ref(), strikes.rules, now).unwrap()
    }

    #[test]
    fn each_block_is_twice_as_long_up_to_the_longest_and_a_good_while_forgets() {
        let mut strikes = Strikes::read(None, RULES, NOW).unwrap();
        for (level, seconds) in [(1, 5), (2, 10), (3, 12), (4, 12)] {
            assert_eq!(strikes.wait(), 0);
            assert_eq!((strikes.strike(), strikes.wait()), (0, 0));
            assert_eq!(strikes.strike(), level);
            assert_eq!(strikes.wait(), seconds * SECOND);
            assert_eq!(later(strikes, seconds * SECOND - 1).wait(), 1);
            strikes = later(strikes, seconds * SECOND);
        }
        for (good, level) in [(12 * SECOND - 1, 5), (12 * SECOND, 1)] {
            let mut strikes = later(strikes, good);
            assert_eq!([strikes.strike(), strikes.strike()], [0, level]);
        }
    }

    #[test]
    fn strikes_count_for_a_window_from_the_first_of_them() {
        for (pause, begins) in [(10 * SECOND - 1, true), (10 * SECOND, false)] {
            let mut strikes = Strikes::read(None, RULES, NOW).unwrap();
            strikes.strike();
            let mut strikes = later(strikes, pause);
            assert_eq!(strikes.strike() > 0, begins, "{pause}");
        }
    }

    #[test]
    fn what_lies_ahead_of_the_clock_is_cut() {
        let hour_back = NOW - 3_600 * SECOND;
        let strikes = read(&format!("{}:1:0:0", NOW + 5 * SECOND), hour_back).unwrap();
        assert!(strikes.is_cut());
        assert_eq!(strikes.wait(), 12 * SECOND);
        assert_eq!(later(strikes, 12 * SECOND).wait(), 0);
        // A second is two checks out of order.
        let ends = NOW + 13 * SECOND;
        assert!(!read(&format!("{ends}:1:0:0"), NOW).unwrap().is_cut());
        assert!(read(&format!("{ends}:1:0:0"), NOW - 1).unwrap().is_cut());
        // A window of strikes ends at most its length from now.
        let mut strikes = read(&format!("0:0:{NOW}:1"), hour_back).unwrap();
        strikes.strikes = 0;
        assert_eq!(strikes.window_end, hour_back + 10 * SECOND);
    }

    #[test]
    fn a_value_of_another_form_is_none() {
        for text in [
            "",
            "1:2:3",
            "1:2:3:4:5",
            "1:2:3:x",
            "-1:2:3:4",
            "1:51:3:4",
            "1:2:3:1099511627777",
            "9007199254740992:1:0:0",
        ] {
            assert_eq!(read(text, NOW), None, "{text:?}");
        }
        assert!(read("9007199254740991:50:9007199254740991:1099511627776", NOW).is_some());
    }

    proptest! {
        /// Against a list of all strikes: a block begins with the strike that is the last of so many within a window of the first.
        #[test]
        fn it_is_what_a_list_of_strikes_says(
            pauses in proptest::collection::vec(0..15 * SECOND, 1..60),
            after in 1_u64..5,
        ) {
            let rules = BlockRules { after, ..RULES };
            let mut strikes = Strikes::read(None, rules, NOW).unwrap();
            let (mut list, mut blocks): (Vec<u64>, Vec<(u64, u64)>) = (Vec::new(), Vec::new());
            let mut now = NOW;
            for pause in pauses {
                now += pause;
                strikes = later(strikes, pause);
                let blocked = blocks.last().is_some_and(|(_, end)| now < *end);
                let left = blocks.last().map_or(0, |(_, end)| end.saturating_sub(now));
                prop_assert_eq!(strikes.wait(), left);
                if blocked {
                    continue;
                }
                if list.first().is_some_and(|first| now - first >= rules.window) {
                    list.clear();
                }
                list.push(now);
                let begins = list.len() as u64 == after;
                prop_assert_eq!(strikes.strike() > 0, begins);
                if begins {
                    list.clear();
                    // Those in a row, each less than the longest after the one before.
                    let mut row = 0;
                    let mut next = now;
                    for (begin, end) in blocks.iter().rev() {
                        if next - end >= rules.longest {
                            break;
                        }
                        (row, next) = (row + 1, *begin);
                    }
                    let length = (0..row).fold(rules.first, |length, _| (2 * length).min(rules.longest));
                    prop_assert_eq!(strikes.wait(), length);
                    blocks.push((now, now + length));
                }
            }
        }
    }
}
