use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// For how long a permit is usually held: a moving average over the permits of this process, of which the last counts an eighth.
#[derive(Debug, Default)]
pub(crate) struct TypicalHold {
    /// In microseconds. 0: none was given back so far.
    micros: AtomicU64,
}

impl TypicalHold {
    /// Learns of a permit that was held for so long. Of two at once one may be lost, which an average bears.
    pub(crate) fn learn(&self, micros: u64) {
        let before = self.micros.load(Relaxed);
        let after = match before {
            0 => micros,
            _ => before - before / 8 + micros / 8,
        };
        self.micros.store(after.max(1), Relaxed);
    }

    /// Returns the average in microseconds. `None`: nothing is known.
    pub(crate) fn micros(&self) -> Option<u64> {
        match self.micros.load(Relaxed) {
            0 => None,
            micros => Some(micros),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_counts_whole_and_the_others_an_eighth() {
        let typical = TypicalHold::default();
        assert_eq!(typical.micros(), None);
        typical.learn(800);
        assert_eq!(typical.micros(), Some(800));
        typical.learn(1_600);
        assert_eq!(typical.micros(), Some(900));
        for _ in 0..100 {
            typical.learn(0);
        }
        assert!((1..10).contains(&typical.micros().unwrap()));
    }
}
