use std::{collections::BTreeMap, time::Duration};

use ::tests::worker::Event;

/// What several processes did, as their events tell it. It knows which invariants it breaks.
#[derive(Debug, Default)]
pub(crate) struct History {
    waits: Vec<Span>,
    holds: BTreeMap<String, Vec<Hold>>,
    runs: BTreeMap<String, Vec<Span>>,
    results: BTreeMap<String, Vec<String>>,
}

/// A time from one moment to another, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    from: u64,
    until: u64,
}

#[derive(Clone, Copy, Debug)]
struct Hold {
    fence: u64,
    span: Span,
}

impl History {
    /// Reads what the processes have written.
    pub(crate) fn of(lines: impl IntoIterator<Item = String>) -> Self {
        let mut history = Self::default();
        let events = lines.into_iter().filter_map(|line| Event::read(&line));
        events.for_each(|event| history.add(event));
        history
    }

    fn add(&mut self, event: Event) {
        match event {
            Event::Waited { asked, answered } => self.waits.push(Span::new(asked, answered)),
            Event::Held {
                unit,
                fence,
                from,
                until,
            } => {
                let span = Span::new(from, until);
                self.holds
                    .entry(unit)
                    .or_default()
                    .push(Hold { fence, span });
            }
            Event::Ran { key, from, until } => {
                let runs = self.runs.entry(key).or_default();
                runs.push(Span::new(from, until));
            }
            Event::Got { key, result } => self.results.entry(key).or_default().push(result),
        }
    }

    /// Returns the number of holds and of runs.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let holds = self.holds.values().map(Vec::len).sum();
        (holds, self.runs.values().map(Vec::len).sum())
    }

    /// I1: the keys of a mode whose runs overlap.
    pub(crate) fn overlapping_runs(&self, mode: &str) -> Vec<&str> {
        let of_mode = self.runs.iter().filter(|(key, _)| key.starts_with(mode));
        let overlapping = of_mode.filter(|(_, runs)| longest_overlap(runs) > Duration::ZERO);
        overlapping.map(|(key, _)| &**key).collect()
    }

    /// I2: the longest time for which two believed in a lock.
    pub(crate) fn longest_double_hold(&self) -> Duration {
        let overlaps = self.holds.values().map(|holds| {
            let spans: Vec<_> = holds.iter().map(|hold| hold.span).collect();
            longest_overlap(&spans)
        });
        overlaps.max().unwrap_or_default()
    }

    /// I3: the holds that began after one with a higher fencing token had ended, or have the token of another.
    pub(crate) fn sunken_fences(&self) -> Vec<u64> {
        let mut sunken = Vec::new();
        for holds in self.holds.values() {
            let mut holds = holds.clone();
            holds.sort_unstable_by_key(|hold| hold.fence);
            let twice = holds.windows(2).filter(|two| two[0].fence == two[1].fence);
            sunken.extend(twice.map(|two| two[0].fence));
            // From the highest token down: the earliest end of those above.
            let mut ended = u64::MAX;
            for hold in holds.iter().rev() {
                if hold.span.from > ended {
                    sunken.push(hold.fence);
                }
                ended = ended.min(hold.span.until);
            }
        }
        sunken
    }

    /// I4: the keys of a mode that have two results.
    pub(crate) fn torn_results(&self, mode: &str) -> Vec<&str> {
        let of_mode = self.results.iter().filter(|(key, _)| key.starts_with(mode));
        let torn =
            of_mode.filter(|(_, results)| results.iter().any(|result| *result != results[0]));
        torn.map(|(key, _)| &**key).collect()
    }

    /// I5: the keys of a mode that ran more than once.
    pub(crate) fn repeated_runs(&self, mode: &str) -> Vec<&str> {
        let of_mode = self.runs.iter().filter(|(key, _)| key.starts_with(mode));
        let repeated = of_mode.filter(|(_, runs)| runs.len() > 1);
        repeated.map(|(key, _)| &**key).collect()
    }

    /// I6: the longest wait for a lock.
    pub(crate) fn longest_wait(&self) -> Duration {
        let longest = self.waits.iter().map(|wait| wait.until - wait.from).max();
        Duration::from_micros(longest.unwrap_or_default())
    }
}

impl Span {
    fn new(from: u64, until: u64) -> Self {
        Self { from, until }
    }
}

/// Returns the longest time that two of these have in common.
fn longest_overlap(spans: &[Span]) -> Duration {
    let mut spans = spans.to_vec();
    spans.sort_unstable_by_key(|span| span.from);
    // The latest end of those that began before.
    let (mut latest, mut longest) = (0, 0);
    for span in spans {
        longest = longest.max(latest.min(span.until).saturating_sub(span.from));
        latest = latest.max(span.until);
    }
    Duration::from_micros(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(text: &str) -> History {
        History::of(text.lines().map(|line| line.trim().to_owned()))
    }

    #[test]
    fn two_holders_at_a_time_are_seen_and_two_in_turn_are_not() {
        let in_turn = "held 1 7 100 200\nheld 1 9 200 300\nheld 2 8 150 250";
        assert_eq!(history(in_turn).longest_double_hold(), Duration::ZERO);
        let inside = "held 1 7 100 400\nheld 1 9 150 160\nheld 1 10 390 500";
        let longest = Duration::from_micros(10);
        assert_eq!(history(inside).longest_double_hold(), longest);
    }

    #[test]
    fn a_fence_that_is_not_higher_than_that_of_an_earlier_holder_is_seen() {
        let table: [(&str, &[u64]); 4] = [
            ("held 1 7 100 200\nheld 1 9 200 300", &[]),
            // Two at a time may be told in any order.
            ("held 1 9 100 200\nheld 1 7 150 300", &[]),
            ("held 1 9 100 200\nheld 1 7 201 300", &[7]),
            ("held 1 7 100 200\nheld 1 7 201 300", &[7]),
        ];
        for (text, sunken) in table {
            assert_eq!(history(text).sunken_fences(), sunken, "{text}");
        }
    }

    #[test]
    fn runs_and_results_are_those_of_their_mode() {
        let text = "ran a-1 100 200\nran a-1 150 250\nran b-1 100 200\nran b-1 200 300\ngot a-1 x\ngot a-1 y\ngot b-1 x\ngot b-1 x";
        let history = history(text);
        assert_eq!(history.overlapping_runs("a"), ["a-1"]);
        assert!(history.overlapping_runs("b").is_empty());
        assert_eq!(history.repeated_runs("b"), ["b-1"]);
        assert_eq!(history.torn_results("a"), ["a-1"]);
        assert!(history.torn_results("b").is_empty());
        assert_eq!(history.counts(), (0, 4));
    }

    #[test]
    fn what_an_event_says_is_read_again_and_half_a_line_is_not() {
        let line = "waited 5 905";
        assert_eq!(history(line).longest_wait(), Duration::from_micros(900));
        for broken in ["", "ready", "held 1 7 100", "waited 5 x"] {
            assert_eq!(Event::read(broken), None, "{broken}");
        }
    }
}
