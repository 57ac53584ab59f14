use std::{num::NonZeroU64, time::Duration};

use crate::ConfigError;

/// The expiry that a write sets: a [`Ttl`], none, or that of the value it replaces.
///
/// ```
/// use layer_store::{Expiry, Ttl};
///
/// let ttl = Ttl::from_millis(60_000).unwrap();
/// assert_eq!(Expiry::from(ttl).ttl(), Some(ttl));
/// assert_eq!(Expiry::NEVER.ttl(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Expiry(u64);

/// A time to live, in whole milliseconds from 1 to [`MAX`](Self::MAX).
///
/// ```
/// use std::time::Duration;
///
/// use layer_store::Ttl;
///
/// assert_eq!(Ttl::from_millis(1_500).unwrap().as_duration(), Duration::from_millis(1_500));
/// assert_eq!(Ttl::from_millis(0), None);
/// let error = Ttl::try_from(Duration::from_micros(999)).unwrap_err();
/// assert!(error.to_string().contains("write at least Duration::from_millis(1)"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(NonZeroU64);

impl Expiry {
    /// The value never expires.
    pub const NEVER: Self = Self(u64::MAX);
    /// The value keeps the expiry of the one that it replaces; a new one never expires.
    pub const KEEP: Self = Self(0);

    /// Returns the time to live. `None` for [`NEVER`](Self::NEVER) and [`KEEP`](Self::KEEP).
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
    /// The longest time to live: 2^52 ms, about 142,000 years. The end of a value is a 62-bit count of microseconds, which
    /// has room for this and for the time until today.
    pub const MAX: Self = Self::from_millis(1 << 52).expect("2^52 is not zero");

    /// Makes a time to live. A longer one than [`MAX`](Self::MAX) is cut to it. `None` if `millis` is zero.
    pub const fn from_millis(millis: u64) -> Option<Self> {
        let millis = if millis > 1 << 52 { 1 << 52 } else { millis };
        match NonZeroU64::new(millis) {
            Some(millis) => Some(Self(millis)),
            None => None,
        }
    }

    /// Returns the milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0.get()
    }

    /// Returns the time as a duration.
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.as_millis())
    }
}

impl TryFrom<Duration> for Ttl {
    type Error = ConfigError;

    /// Takes the whole milliseconds.
    ///
    /// # Errors
    ///
    /// The duration is shorter than a millisecond. It is not rounded up.
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

    #[test]
    fn a_time_to_live_is_cut_at_the_longest() {
        let max = 1 << 52;
        assert_eq!(Ttl::MAX.as_millis(), max);
        assert_eq!(Ttl::from_millis(max - 1).unwrap().as_millis(), max - 1);
        assert_eq!(Ttl::from_millis(max + 1), Some(Ttl::MAX));
        assert_eq!(Ttl::MAX.as_duration(), Duration::from_millis(max));
    }

    #[test]
    fn an_expiry_has_a_time_to_live_unless_it_is_a_word() {
        let ttl = Ttl::from_millis(7).unwrap();
        assert_eq!(Expiry::from(ttl).ttl(), Some(ttl));
        assert_eq!((Expiry::NEVER.ttl(), Expiry::KEEP.ttl()), (None, None));
    }
}
