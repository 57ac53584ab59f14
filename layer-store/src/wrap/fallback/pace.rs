use std::time::Duration;

use tokio::time::Instant;

/// The pace at which a store that is away is tried: after 100 ms, then after twice as long each time, up to every second.
///
/// A store that comes and goes is tried less often with each outage, so that it does not fill the log. After ten seconds
/// without an outage the next one begins at 100 ms again.
#[derive(Debug)]
pub(super) struct Pace {
    next: Duration,
    ended: Option<Instant>,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self {
            next: MIN,
            ended: None,
        }
    }

    /// Begins an outage at `now`.
    pub(super) fn begin(&mut self, now: Instant) {
        let is_steady = |ended| now.saturating_duration_since(ended) >= STEADY;
        if self.ended.is_none_or(is_steady) {
            self.next = MIN;
        }
    }

    /// Returns the time until the next try.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(MAX);
        wait
    }

    /// Ends an outage at `now`.
    pub(super) fn end(&mut self, now: Instant) {
        self.ended = Some(now);
    }
}

const MIN: Duration = Duration::from_millis(100);
const MAX: Duration = Duration::from_secs(1);
const STEADY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn nexts<const N: usize>(pace: &mut Pace) -> [u128; N] {
        std::array::from_fn(|_| pace.next().as_millis())
    }

    #[test]
    fn the_time_between_two_tries_doubles_up_to_a_second() {
        let mut pace = Pace::new();
        assert_eq!(nexts(&mut pace), [100, 200, 400, 800, 1_000, 1_000]);
    }

    #[test]
    fn only_a_store_that_stayed_is_tried_as_often_as_at_first() {
        let (mut pace, now) = (Pace::new(), Instant::now());
        pace.begin(now);
        assert_eq!(nexts(&mut pace), [100]);
        pace.end(now);
        pace.begin(now + STEADY - Duration::from_millis(1));
        assert_eq!(nexts(&mut pace), [200, 400]);
        pace.end(now + STEADY);
        pace.begin(now + STEADY * 2);
        assert_eq!(nexts(&mut pace), [100]);
    }
}
