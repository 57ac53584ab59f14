use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The time for which something is usually held, such as a lock: a moving average over what this process has held, of which the
/// last counts an eighth.
///
/// A client that is refused because others hold it is told to come again after this time, and not after a whole lease.
///
/// ```
/// use std::time::Duration;
/// use layer_http::TypicalHold;
///
/// let typical = TypicalHold::default();
/// assert_eq!(typical.get(), None);
/// typical.learn(Duration::from_millis(80));
/// typical.learn(Duration::from_millis(160));
/// assert_eq!(typical.get(), Some(Duration::from_millis(90)));
/// ```
#[derive(Debug, Default)]
pub struct TypicalHold {
    /// In microseconds. 0: nothing was given back so far.
    micros: AtomicU64,
}

impl TypicalHold {
    /// Adds one that was held for the time `held`. Of two at once one may be lost, which an average bears.
    pub fn learn(&self, held: Duration) {
        let micros = u64::try_from(held.as_micros()).unwrap_or(u64::MAX);
        let before = self.micros.load(Relaxed);
        let after = match before {
            0 => micros,
            _ => before - before / 8 + micros / 8,
        };
        self.micros.store(after.max(1), Relaxed);
    }

    /// Returns the average. `None`: nothing is known.
    pub fn get(&self) -> Option<Duration> {
        match self.micros.load(Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_counts_whole_and_the_others_an_eighth() {
        let micros = Duration::from_micros;
        let typical = TypicalHold::default();
        assert_eq!(typical.get(), None);
        typical.learn(micros(800));
        assert_eq!(typical.get(), Some(micros(800)));
        typical.learn(micros(1_600));
        assert_eq!(typical.get(), Some(micros(900)));
        for _ in 0..100 {
            typical.learn(Duration::ZERO);
        }
        assert!((micros(1)..micros(10)).contains(&typical.get().unwrap()));
        typical.learn(Duration::MAX);
        typical.learn(Duration::MAX);
    }
}
