use layer_store::{Ttl, Value};

use crate::algorithm::{
    usage::Count,
    window_count::{MAX_COUNT, SLACK, WindowCount, numbers, ttl},
};

/// A count that begins anew at the edge of each window: the arithmetic of fixed and of calendar windows.
///
/// **Bound.** In each window at most `limit` pass. A span of time of length `t` that is no window itself touches at most
/// `t / window + 2` of them, so at most `2 * limit + limit * t / window` pass in it: of 100 a minute 200 may pass within a second, around
/// the edge.
///
/// Proof of the second: let it touch `m` windows. Those between the first and the last lie inside it, so `m - 2` windows are at most as
/// long as `t`, and in each at most `limit` pass. For calendar windows `window` is the shortest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FixedWindow {
    limit: u64,
    now: u64,
    edges: Edges,
    used: u64,
    is_cut: bool,
}

/// The edges of the window in which a time lies, in Unix microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edges {
    pub(crate) start: u64,
    /// The first time after the window.
    pub(crate) end: u64,
    /// The end of the window after it.
    pub(crate) next_end: u64,
}

impl Edges {
    /// Returns the edges around `now` of windows of one length, the first of which began with 1970.
    pub(crate) const fn around(now: u64, window: u64) -> Self {
        let start = now - now % window;
        Self {
            start,
            end: start.saturating_add(window),
            next_end: start.saturating_add(window).saturating_add(window),
        }
    }

    /// Returns the edges around `now`, of three windows between four edges. `None` if it lies in none of them.
    pub(crate) const fn between(
        now: u64,
        [first, second, third, fourth]: [u64; 4],
    ) -> Option<Self> {
        let (start, end, next_end) = if now < first || now >= fourth {
            return None;
        } else if now < second {
            (first, second, third)
        } else if now < third {
            (second, third, fourth)
        } else {
            (third, fourth, fourth)
        };
        Some(Self {
            start,
            end,
            next_end,
        })
    }
}

impl FixedWindow {
    /// Reads what is kept, `end:used`, as it is at `now`. `None`: the value is not of this form.
    pub(crate) fn read(value: Option<&Value>, limit: u64, now: u64, edges: Edges) -> Option<Self> {
        let mut this = Self {
            limit,
            now,
            edges,
            used: 0,
            is_cut: false,
        };
        let Some(value) = value else {
            return Some(this);
        };
        let [end, used] = numbers(value)?;
        if used > MAX_COUNT {
            return None;
        }
        // ## Kept => over | counted in this window
        if end <= edges.start {
            return Some(this);
        }
        this.used = used;
        if end > edges.next_end || end > edges.end && now.saturating_add(SLACK) < edges.end {
            // ## Of a later window => counted in this one
            // The clock ran backwards, or the windows were longer.
            this.is_cut = true;
        } else if end > edges.end {
            // ## Of the next window, which has begun for another check => it has begun
            // Two checks read the clock in one order and reach the key in the other.
            this.edges = Edges {
                start: edges.end,
                end,
                ..edges
            };
        }
        Some(this)
    }

    const fn left(&self) -> u64 {
        self.edges.end.saturating_sub(self.now)
    }
}

impl WindowCount for FixedWindow {
    fn is_cut(&self) -> bool {
        self.is_cut
    }

    fn count(&self, cost: u64) -> Count {
        let is_over = self.used.saturating_add(cost) > self.limit;
        Count {
            remaining: self.limit.saturating_sub(self.used),
            reset_after: if self.used > 0 { self.left() } else { 0 },
            wait: if is_over { self.left() } else { 0 },
        }
    }

    fn charge(&mut self, cost: u64) {
        self.used = self.used.saturating_add(cost);
    }

    fn refund(&mut self, cost: u64, age: u64) {
        if self.edges.start <= self.now.saturating_sub(age) {
            self.used = self.used.saturating_sub(cost);
        }
    }

    fn keep(&self) -> Option<(Value, Ttl)> {
        let value = match u32::try_from(self.used) {
            Ok(0) => return None,
            Ok(used) => Value::pair(self.edges.end, used),
            _ => Value::from(format!("{}:{}", self.edges.end, self.used)),
        };
        Some((value, ttl(self.left())))
    }
}
