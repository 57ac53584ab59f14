use std::{num::NonZeroU32, time::Duration};

use crate::{ConfigError, KeyPrefix, MemoryStore};

/// The options of [`connect_with`](crate::connect_with): limits for a store that is reached over a network, the size of one
/// in memory, and a prefix for the keys.
///
/// ```
/// use std::time::Duration;
///
/// use layer_store::Options;
///
/// let patient = Options::new().deadline(Duration::from_millis(250)).open_for(Duration::from_secs(60));
/// let small = Options::new().capacity(10_000).prefix("shop");
/// # let _ = (patient, small);
/// ```
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
    /// Makes the default options.
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

    /// Sets the longest time of a call, and of `connect` itself. Default 100 ms. A `memory://` store ignores it.
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets the number of failed calls in a row that open the circuit breaker. Default 5.
    pub const fn open_after(mut self, failures: u32) -> Self {
        self.open_after = failures;
        self
    }

    /// Sets the time from the opening of the circuit breaker to its first ping. Default 1 s.
    pub const fn open_for(mut self, open_for: Duration) -> Self {
        self.open_for = open_for;
        self
    }

    /// Sets the number of entries of a `memory://` store. Default 1,000,000.
    ///
    /// Entries are counted, not bytes. For a cache of 1 MB responses set it to the megabytes that you can spare.
    pub const fn capacity(mut self, entries: usize) -> Self {
        self.capacity = entries;
        self
    }

    /// Puts `prefix` and a colon before every key, so that several applications can share one server. Default none.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Trusts these certificate authorities, in PEM, beside the public ones. Default none.
    #[cfg(feature = "redis-tls")]
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_pem = Some(pem.into());
        self
    }

    /// Checks the options.
    pub(super) fn checked(self) -> Result<Checked, ConfigError> {
        let zero = |what: &str, instead: &str| {
            ConfigError::new(format!("{what} of zero cannot work: write {instead}"))
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
                "an empty prefix does not separate anything: write a name, or leave `prefix` out",
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

/// Options that can work.
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
        let least = Options::new()
            .deadline(Duration::from_nanos(1))
            .open_after(1)
            .open_for(Duration::from_nanos(1))
            .capacity(1)
            .prefix("a");
        assert!(least.checked().is_ok());
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let options = Options::new().checked().unwrap();
        assert_eq!(options.deadline, Duration::from_millis(100));
        assert_eq!(options.open_after.get(), 5);
        assert_eq!(options.open_for, Duration::from_secs(1));
        assert_eq!(options.capacity, 1_000_000);
        assert!(options.prefix.is_none());
        #[cfg(feature = "redis-tls")]
        assert!(options.ca_pem.is_none());
    }
}
