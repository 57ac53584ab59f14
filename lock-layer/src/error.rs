use std::{error::Error, fmt, time::Duration};

use layer_store::StoreError;

use crate::locks::MOST_UNITS;

/// Why a lock was not taken. A handler may return it: it is the response that [`LockLayer`](crate::LockLayer) gives.
///
/// | Variant | Status | |
/// | --- | --- | --- |
/// | `Busy` | 409 | `Retry-After` |
/// | `Unavailable` | 503 | `Retry-After: 1` |
/// | `NoUnits`, `TooManyUnits` | 400 | |
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AcquireError {
    /// Somebody else holds one of the units.
    Busy(Busy),
    /// The store did not say whether the units are free. Nothing is held.
    Unavailable(StoreError),
    /// No unit was named.
    NoUnits,
    /// More than 64 units were named, which is what one atomic step can take.
    TooManyUnits {
        /// How many.
        given: usize,
    },
}

/// Somebody else holds what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy {
    wait: Duration,
    title: &'static str,
}

impl Busy {
    pub(crate) const fn new(wait: Duration, title: &'static str) -> Self {
        Self { wait, title }
    }

    /// When the lease of whoever holds it ends, if it is not renewed: at the latest then, if that process has died.
    pub const fn retry_after(&self) -> Duration {
        self.wait
    }

    pub(crate) const fn title(&self) -> &'static str {
        self.title
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("somebody else holds one of the units")
    }
}

impl Error for Busy {}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(busy) => busy.fmt(f),
            Self::Unavailable(_) => f.write_str("the store did not say whether the units are free"),
            Self::NoUnits => f.write_str("no unit was named: name at least one"),
            Self::TooManyUnits { given } => write!(
                f,
                "{given} units were named: name at most {MOST_UNITS}, which is what one atomic step can take"
            ),
        }
    }
}

impl Error for AcquireError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unavailable(error) => Some(error),
            Self::Busy(_) | Self::NoUnits | Self::TooManyUnits { .. } => None,
        }
    }
}

impl From<Busy> for AcquireError {
    fn from(busy: Busy) -> Self {
        Self::Busy(busy)
    }
}
