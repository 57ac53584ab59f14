use layer_store::{Ttl, Value};

use crate::algorithm::{
    usage::Count,
    window_count::{SLACK, WindowCount, digits, ttl},
};

/// The times of all charges in the last window: the exact log.
///
/// **Bound.** In any span of time shorter than a window at most `limit` pass: a charge passes only if so few are in the log that it is
/// among the last `limit` of a whole window. In any interval of length `t` at most `limit + limit * t / window` pass.
///
/// Proof of the second: an interval of length `t` is `t / window`, rounded down, and one more spans that are shorter than a window.
///
/// Each unit takes 16 bytes, so there are at most 1,000.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExactLog {
    limit: u64,
    window: u64,
    now: u64,
    /// The times in Unix microseconds, with 16 digits each, the oldest first. All are later than `now - window`.
    times: Vec<u8>,
    is_cut: bool,
}

impl ExactLog {
    /// Reads what is kept as it is at `now`. `None`: the value is not of this form. Not all times are looked at.
    pub(crate) fn read(value: Option<&Value>, limit: u64, window: u64, now: u64) -> Option<Self> {
        let mut times = value.map_or_else(Vec::new, |value| value.to_bytes().to_vec());
        if !times.len().is_multiple_of(TIME) {
            return None;
        }
        let mut is_cut = false;
        if let Some(newest) = newest(&times)?
            && newest > now.saturating_add(SLACK)
        {
            // ## Ahead of the clock => charged now
            // The clock ran backwards.
            let past = first_from(&times, now.saturating_add(1))?;
            let ahead = times.len() / TIME - past;
            times.truncate(past * TIME);
            times.extend(text(now).repeat(ahead));
            is_cut = true;
        }
        // ## Older than a window => forgotten
        let oldest = (now + 1).saturating_sub(window);
        times.drain(..first_from(&times, oldest)? * TIME);
        Some(Self {
            limit,
            window,
            now,
            times,
            is_cut,
        })
    }

    fn len(&self) -> usize {
        self.times.len() / TIME
    }

    /// Returns the microseconds until a time of the log is older than a window.
    fn leaves_after(&self, index: usize) -> Option<u64> {
        let time = time(&self.times, index)?;
        Some((time + self.window).saturating_sub(self.now))
    }

    fn reset_after(&self) -> u64 {
        let newest = self.len().checked_sub(1);
        newest
            .and_then(|newest| self.leaves_after(newest))
            .unwrap_or(0)
    }

    fn wait(&self, cost: u64) -> u64 {
        let over = (self.len() as u64)
            .saturating_add(cost)
            .saturating_sub(self.limit);
        let leaving = over.min(self.len() as u64) as usize;
        match leaving.checked_sub(1) {
            Some(last) => self.leaves_after(last).unwrap_or(0),
            None => 0,
        }
    }
}

impl WindowCount for ExactLog {
    fn is_cut(&self) -> bool {
        self.is_cut
    }

    fn count(&self, cost: u64) -> Count {
        Count {
            remaining: self.limit.saturating_sub(self.len() as u64),
            reset_after: self.reset_after(),
            wait: self.wait(cost),
        }
    }

    fn charge(&mut self, cost: u64) {
        // Not before the newest one, so that they stay in order.
        let newest = (self.now + self.reset_after()).saturating_sub(self.window);
        let time = text(self.now.max(newest));
        self.times.extend(time.repeat(cost.min(MAX_LOG) as usize));
    }

    /// Takes the oldest that may be the charge, so that what stays in the log leaves it no earlier.
    fn refund(&mut self, cost: u64, age: u64) {
        if age >= self.window {
            return;
        }
        let first = first_from(&self.times, self.now.saturating_sub(age)).unwrap_or(self.len());
        let end = first.saturating_add(cost as usize).min(self.len());
        self.times.drain(first * TIME..end * TIME);
    }

    fn keep(&self) -> Option<(Value, Ttl)> {
        match self.len() {
            0 => None,
            _ => Some((Value::from(&self.times[..]), ttl(self.reset_after()))),
        }
    }
}

/// Returns the time at an index. `None` if it is not of this form.
fn time(times: &[u8], index: usize) -> Option<u64> {
    digits(times.get(index * TIME..(index + 1) * TIME)?)
}

/// Returns the last time; inside, `None` if there is none. `None` if it is not of this form.
fn newest(times: &[u8]) -> Option<Option<u64>> {
    match (times.len() / TIME).checked_sub(1) {
        Some(last) => time(times, last).map(Some),
        None => Some(None),
    }
}

/// Returns the index of the first time from `least` on, by bisection. `None` if a time is not of this form.
fn first_from(times: &[u8], least: u64) -> Option<usize> {
    let (mut low, mut high) = (0, times.len() / TIME);
    while low < high {
        let middle = low.midpoint(high);
        match time(times, middle)? >= least {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    Some(low)
}

fn text(time: u64) -> Vec<u8> {
    format!("{time:0>TIME$}").into_bytes()
}

/// The digits of a time: enough from 1970 to 2286.
const TIME: usize = 16;
/// The largest limit.
pub(crate) const MAX_LOG: u64 = 1_000;
