use std::{num::NonZeroU64, time::Duration};

use crate::ConfigError;

/// How long a value lives: for ever, as long as what it replaces, or a [`Ttl`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Expiry(u64);

/// A time to live: at least 1, whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(NonZeroU64);

impl Expiry {
    /// The value never expires.
    pub const NEVER: Self = Self(u64::MAX);
    /// The value keeps the expiry of the one that it replaces; a new one never expires.
    pub const KEEP: Self = Self(0);

    /// The time to live, unless it is [`NEVER`](Self::NEVER) or [`KEEP`](Self::KEEP).
    pub const fn ttl(self) -> Option<Ttl> {
        match self {
            Self::NEVER => None,
            Self(millis) => Ttl::from_millis(millis),
        }
    }
}

impl From<Ttl> for Expiry {
    fn from(ttl: Ttl) -> Self {
        Self(ttl.as_millis())
    }
}

impl Ttl {
    /// The longest: about 142,000 years, what a 62-bit count of microseconds reaches with room for today.
    pub const MAX: Self = match Self::from_millis(1 << 52) {
        Some(ttl) => ttl,
        None => panic!("2^52 is not zero"),
    };

    /// So many milliseconds, cut at [`MAX`](Self::MAX). `None` if that is zero.
    pub const fn from_millis(millis: u64) -> Option<Self> {
        let millis = if millis > 1 << 52 { 1 << 52 } else { millis };
        match NonZeroU64::new(millis) {
            Some(millis) => Some(Self(millis)),
            None => None,
        }
    }

    /// In milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0.get()
    }

    /// As a duration.
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.as_millis())
    }
}

impl TryFrom<Duration> for Ttl {
    type Error = ConfigError;

    /// Drops what is below a millisecond.
    ///
    /// # Errors
    ///
    /// Less than a millisecond: never rounded up in silence.
    fn try_from(duration: Duration) -> Result<Self, ConfigError> {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self::from_millis(millis).ok_or_else(|| {
            ConfigError::new(format!(
                "a time to live of {duration:?} is too short: write at least Duration::from_millis(1)"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_live_below_a_millisecond_is_an_error() {
        assert!(Ttl::try_from(Duration::from_micros(999)).is_err());
        assert!(Ttl::try_from(Duration::ZERO).is_err());
        assert_eq!(
            Ttl::try_from(Duration::from_micros(1_999)).unwrap(),
            Ttl::from_millis(1).unwrap()
        );
        assert_eq!(Ttl::try_from(Duration::MAX).unwrap(), Ttl::MAX);
    }
}
