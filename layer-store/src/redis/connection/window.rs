use std::time::Duration;

use tokio::time::Instant;

/// The number of commands that may wait for their replies at once.
///
/// A server works on one command after the other, so what is sent beyond a round trip only waits there, before everybody
/// else's commands. The window grows while replies take about as long as on an idle connection, and shrinks when they take
/// longer: a flood then waits in this process, where its turn can be shared out and its calls can end in time.
#[derive(Debug)]
pub(super) struct Window {
    limit: usize,
    /// The largest `limit`.
    max: usize,
    /// The shortest round trip of late, and when it was seen.
    shortest: (Duration, Instant),
}

impl Window {
    /// Makes a window of at most `most` commands, for a line whose first round trip took `round_trip`.
    pub(super) fn new(most: usize, now: Instant, round_trip: Duration) -> Self {
        Self {
            limit: MIN_LIMIT.min(most),
            max: most,
            shortest: (round_trip, now),
        }
    }

    /// Returns the shortest round trip of late.
    pub(super) const fn shortest(&self) -> Duration {
        self.shortest.0
    }

    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Learns from `replies` that came at once, the last of them after `round_trip`. `full`: calls were waiting for room.
    pub(super) fn learn(&mut self, now: Instant, round_trip: Duration, replies: usize, full: bool) {
        let (shortest, at) = self.shortest;
        if round_trip < shortest || at + MEMORY <= now {
            self.shortest = (round_trip, now);
        }
        let shortest = self.shortest.0;
        if !full {
            return;
        }
        if round_trip <= shortest + (shortest * 2).max(SLACK) {
            self.limit = (self.limit + replies).min(self.max);
        } else {
            let less = self.limit - self.limit / 8;
            self.limit = less.max(MIN_LIMIT.min(self.max));
        }
    }
}

/// Enough for a server next door: more commands at once make it no faster.
const MIN_LIMIT: usize = 64;
/// The time that a round trip may take at least beyond the shortest.
const SLACK: Duration = Duration::from_micros(500);
/// The time for which the shortest round trip is believed.
const MEMORY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_grows_to_its_most_while_replies_come_as_on_an_idle_connection() {
        let now = Instant::now();
        let mut window = Window::new(1_024, now, MS * 60);
        window.learn(now, MS * 60, 1, false);
        assert_eq!(window.limit(), 64);
        for _ in 0..10 {
            let replies = window.limit();
            window.learn(now, MS * 90, replies, true);
        }
        assert_eq!(window.limit(), 1_024);
    }

    #[test]
    fn it_shrinks_when_replies_take_longer_and_not_below_its_least() {
        let now = Instant::now();
        let mut window = Window::new(1_024, now, MS * 60);
        window.learn(now, MS / 20, 1, false);
        for _ in 0..10 {
            window.learn(now, MS / 10, 200, true);
        }
        assert_eq!(window.limit(), 1_024);
        window.learn(now, MS * 5, 200, true);
        assert_eq!(window.limit(), 896);
        for _ in 0..100 {
            window.learn(now, MS * 5, 200, true);
        }
        assert_eq!(window.limit(), MIN_LIMIT);
        // Nobody waits: nothing is learnt of the room.
        window.learn(now, MS * 50, 1, false);
        assert_eq!(window.limit(), MIN_LIMIT);
    }

    #[test]
    fn a_line_that_has_become_longer_is_believed_after_a_while() {
        let now = Instant::now();
        let mut window = Window::new(1_024, now, MS * 60);
        window.learn(now, MS / 20, 1, false);
        window.learn(now, MS * 20, 64, true);
        assert_eq!(window.limit(), MIN_LIMIT);
        window.learn(now + MEMORY, MS * 20, 64, true);
        assert_eq!(window.limit(), MIN_LIMIT + 64);
    }

    #[test]
    fn a_most_below_the_least_holds() {
        let now = Instant::now();
        let mut window = Window::new(3, now, MS);
        window.learn(now, MS, 3, true);
        window.learn(now, MS * 50, 3, true);
        assert_eq!(window.limit(), 3);
    }
}
