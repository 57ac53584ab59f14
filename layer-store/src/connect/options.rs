use std::{num::NonZeroU32, time::Duration};

use crate::{ConfigError, KeyPrefix, MemoryStore};

/// How a store that is reached over a network is guarded, how much one in memory holds, and what stands before the keys.
///
/// # Defaults
///
/// | Option | Default |
/// | --- | --- |
/// | [`deadline`](Self::deadline) | 100 ms |
/// | [`open_after`](Self::open_after) | 5 failures |
/// | [`open_for`](Self::open_for) | 1 s |
/// | [`capacity`](Self::capacity) | 1,000,000 entries |
/// | [`prefix`](Self::prefix) | none |
/// | `ca_pem` (feature `redis-tls`) | the public roots alone |
#[derive(Clone, Debug)]
#[must_use]
pub struct Options {
    deadline: Duration,
    open_after: u32,
    open_for: Duration,
    capacity: usize,
    pub(super) prefix: Option<String>,
    #[cfg(feature = "redis-tls")]
    ca_pem: Option<Vec<u8>>,
}

impl Options {
    /// The defaults.
    pub const fn new() -> Self {
        Self {
            deadline: Duration::from_millis(100),
            open_after: 5,
            open_for: Duration::from_secs(1),
            capacity: MemoryStore::DEFAULT_CAPACITY,
            prefix: None,
            #[cfg(feature = "redis-tls")]
            ca_pem: None,
        }
    }

    /// The longest that a call, and `connect` itself, may take. A `MemoryStore` has none.
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How many calls in a row must fail for the breaker to open.
    pub const fn open_after(mut self, failures: u32) -> Self {
        self.open_after = failures;
        self
    }

    /// How long the breaker stays open before it asks for the first time whether the store is back.
    pub const fn open_for(mut self, open_for: Duration) -> Self {
        self.open_for = open_for;
        self
    }

    /// How many entries a `memory://` store holds. It counts entries and not bytes: for cached answers of up to a megabyte
    /// write as many as there are megabytes to spare.
    pub const fn capacity(mut self, entries: usize) -> Self {
        self.capacity = entries;
        self
    }

    /// Puts `prefix` and a colon before every key, as several applications on one server need it.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Trusts these certificate authorities, in PEM, beside the public ones.
    #[cfg(feature = "redis-tls")]
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_pem = Some(pem.into());
        self
    }

    /// The same, if it can work.
    pub(super) fn checked(self) -> Result<Checked, ConfigError> {
        let zero = |what: &str, instead: &str| {
            ConfigError::new(format!(
                "{what} of zero lets nothing through: write {instead}"
            ))
        };
        if self.deadline.is_zero() {
            return Err(zero("a deadline", "Duration::from_millis(100)"));
        }
        if self.open_for.is_zero() {
            return Err(zero("an open_for", "Duration::from_secs(1)"));
        }
        if self.capacity == 0 {
            return Err(zero(
                "a capacity",
                "how many entries it may hold, as in 100_000",
            ));
        }
        if self.prefix.as_deref() == Some("") {
            return Err(ConfigError::new(
                "an empty prefix sets nothing apart: write a name, or leave `prefix` out",
            ));
        }
        Ok(Checked {
            deadline: self.deadline,
            open_after: NonZeroU32::new(self.open_after)
                .ok_or_else(|| zero("an open_after", "5"))?,
            open_for: self.open_for,
            capacity: self.capacity,
            prefix: self.prefix.as_deref().map(KeyPrefix::new),
            #[cfg(feature = "redis-tls")]
            ca_pem: self.ca_pem,
        })
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

/// Options that work.
#[cfg_attr(
    not(feature = "redis"),
    expect(dead_code, reason = "only a store over a network needs a guard")
)]
pub(super) struct Checked {
    pub(super) deadline: Duration,
    pub(super) open_after: NonZeroU32,
    pub(super) open_for: Duration,
    pub(super) capacity: usize,
    pub(super) prefix: Option<KeyPrefix>,
    #[cfg(feature = "redis-tls")]
    pub(super) ca_pem: Option<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_zero_are_errors() {
        let all = [
            Options::new().deadline(Duration::ZERO),
            Options::new().open_after(0),
            Options::new().open_for(Duration::ZERO),
            Options::new().capacity(0),
            Options::new().prefix(""),
        ];
        for options in all {
            let error = options.checked().err().unwrap();
            assert!(error.to_string().contains("write"), "{error}");
        }
        assert!(Options::new().checked().is_ok());
    }
}
