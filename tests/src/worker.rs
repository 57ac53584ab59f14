//! What the program `lock-worker` writes, and its tests read.

use std::time::Duration;

/// A line that a worker writes. Times are in microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A task has waited for a unit.
    Waited {
        /// When it asked.
        asked: u64,
        /// When it had the lock, or a refusal.
        answered: u64,
    },
    /// A task has believed in its lock from the grant until the last time that it looked.
    Held {
        /// The unit.
        unit: String,
        /// The fencing token.
        fence: u64,
        /// A moment after the grant.
        from: u64,
        /// The last look.
        until: u64,
    },
    /// The work of a key has run from its beginning to its end.
    Ran {
        /// The key.
        key: String,
        /// The beginning.
        from: u64,
        /// The end.
        until: u64,
    },
    /// A key has this result, by its first run or by a repetition.
    Got {
        /// The key.
        key: String,
        /// The result.
        result: String,
    },
}

impl Event {
    /// Writes it to stdout.
    pub fn tell(&self) {
        println!("{}", self.line());
    }

    fn line(&self) -> String {
        match self {
            Self::Waited { asked, answered } => format!("waited {asked} {answered}"),
            Self::Held {
                unit,
                fence,
                from,
                until,
            } => format!("held {unit} {fence} {from} {until}"),
            Self::Ran { key, from, until } => format!("ran {key} {from} {until}"),
            Self::Got { key, result } => format!("got {key} {result}"),
        }
    }

    /// Reads a line. Returns `None` for one that is no event, or not a whole one.
    pub fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let event = match words.next()? {
            "waited" => Self::Waited {
                asked: words.next()?.parse().ok()?,
                answered: words.next()?.parse().ok()?,
            },
            "held" => Self::Held {
                unit: words.next()?.into(),
                fence: words.next()?.parse().ok()?,
                from: words.next()?.parse().ok()?,
                until: words.next()?.parse().ok()?,
            },
            "ran" => Self::Ran {
                key: words.next()?.into(),
                from: words.next()?.parse().ok()?,
                until: words.next()?.parse().ok()?,
            },
            "got" => Self::Got {
                key: words.next()?.into(),
                result: words.next()?.into(),
            },
            _ => return None,
        };
        Some(event)
    }
}

/// The lease of the worker's locks.
pub const LEASE: Duration = Duration::from_millis(900);
/// The longest time that it waits for one.
pub const WAIT: Duration = Duration::from_millis(400);
