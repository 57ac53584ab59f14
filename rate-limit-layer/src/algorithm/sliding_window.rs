use layer_store::{Ttl, Value};

use crate::algorithm::{
    usage::Count,
    window_count::{MAX_COUNT, SLACK, WindowCount, numbers, ttl},
};

/// The counts of two windows, of which the one before fades out: the sliding-window counter.
///
/// What passed in the window before is taken as spread over it evenly. After a quarter of this window three quarters of it still count,
/// rounded up. A charge passes if these, and what was charged in this window, leave room for it.
///
/// **Bound.** In each window at most `limit` pass. In any span of time shorter than a window fewer than `2 * limit` pass; exactly at most
/// `limit` if what passed before was spread evenly. In any interval of length `t` at most `2 * limit + limit * t / window` pass, as with a
/// [fixed window](super::fixed_window::FixedWindow).
///
/// Proof of the second: let the span touch two windows, `a` pass in the first and `b` in the second, the last of these after a share `x` of
/// it, so that the span began after that share of the first. Then `b + a * (1 - x) <= limit`, so `a + b <= limit + a * x`, where
/// `a <= limit` and `x < 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlidingWindow {
    limit: u64,
    window: u64,
    now: u64,
    end: u64,
    current: u64,
    previous: u64,
    is_cut: bool,
}

impl SlidingWindow {
    /// Reads what is kept, `end:current:previous`, as it is at `now`. `None`: the value is not of this form.
    pub(crate) fn read(value: Option<&Value>, limit: u64, window: u64, now: u64) -> Option<Self> {
        let start = now - now % window;
        let mut this = Self {
            limit,
            window,
            now,
            end: start.saturating_add(window),
            current: 0,
            previous: 0,
            is_cut: false,
        };
        let Some(value) = value else {
            return Some(this);
        };
        let [end, current, previous] = numbers(value)?;
        if current > MAX_COUNT || previous > MAX_COUNT {
            return None;
        }
        if end > start {
            // ## Kept => counted in this window
            (this.current, this.previous) = (current, previous);
            if end.saturating_sub(now) > window.saturating_add(SLACK) {
                // ## Of a later window => counted in this one
                // The clock ran backwards, or the windows were longer.
                this.is_cut = true;
            } else if end > this.end {
                // ## Of the next window, which has begun for another check => it has begun
                this.end = end;
            }
        } else if end > start.saturating_sub(window) {
            // ## Kept => the window before
            this.previous = current;
        }
        Some(this)
    }

    const fn left(&self) -> u64 {
        self.end.saturating_sub(self.now)
    }

    /// Returns how much of the window before still counts, rounded up.
    fn carried(&self) -> u64 {
        let left = u128::from(self.left().min(self.window));
        (u128::from(self.previous) * left).div_ceil(self.window.into()) as u64
    }

    fn wait(&self, cost: u64) -> u64 {
        let counted = self.current.saturating_add(cost);
        if counted.saturating_add(self.carried()) <= self.limit {
            return 0;
        }
        // The time before the end of a window from which on `faded` of it leave that much room.
        let before_end = |room: u64, faded: u64| {
            (u128::from(room) * u128::from(self.window))
                .checked_div(faded.into())
                .unwrap_or(0) as u64
        };
        match self.limit.checked_sub(counted) {
            // ## Room beside the current count => once enough of the window before has faded
            Some(room) => self.left() - before_end(room, self.previous),
            // ## No room => in the next window, once enough of the current one has faded
            None => {
                let room = self.limit.saturating_sub(cost);
                self.left() + self.window - before_end(room, self.current)
            }
        }
    }

    const fn reset_after(&self) -> u64 {
        match (self.current, self.previous) {
            (0, 0) => 0,
            (0, _) => self.left(),
            _ => self.left() + self.window,
        }
    }
}

impl WindowCount for SlidingWindow {
    fn is_cut(&self) -> bool {
        self.is_cut
    }

    fn count(&self, cost: u64) -> Count {
        let used = self.current.saturating_add(self.carried());
        Count {
            remaining: self.limit.saturating_sub(used),
            reset_after: self.reset_after(),
            wait: self.wait(cost),
        }
    }

    fn charge(&mut self, cost: u64) {
        self.current = self.current.saturating_add(cost);
    }

    /// Where it is not sure in which window the charge was made, it was the older one: that gives back less.
    fn refund(&mut self, cost: u64, age: u64) {
        let (start, charged_at) = (
            self.end.saturating_sub(self.window),
            self.now.saturating_sub(age),
        );
        if start <= charged_at {
            self.current = self.current.saturating_sub(cost);
        } else if start.saturating_sub(self.window) <= charged_at {
            self.previous = self.previous.saturating_sub(cost);
        }
    }

    fn keep(&self) -> Option<(Value, Ttl)> {
        let (end, current, previous) = (self.end, self.current, self.previous);
        let value = || Value::from(format!("{end}:{current}:{previous}"));
        match self.reset_after() {
            0 => None,
            micros => Some((value(), ttl(micros))),
        }
    }
}
