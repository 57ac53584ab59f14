use std::{error::Error, fmt, sync::Arc};

/// Why an operation failed, and whether it may have happened all the same.
#[derive(Clone, Debug)]
pub struct StoreError {
    kind: ErrorKind,
    effect: Effect,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// What a caller can do about a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store is gone, starting, failing over, or shut off by an open breaker.
    Unavailable,
    /// The store did not answer within its own limit on a call.
    Timeout,
    /// The caller's deadline, shorter than the store's own limit, has passed.
    Deadline,
    /// The store asks for fewer calls.
    Throttled,
    /// The store is at its bound and everything in it is pinned. Not an outage.
    Full,
    /// The value is larger than the store takes.
    TooLarge,
    /// The store refused the operation: a wrong type, a missing right, an impossible argument.
    Rejected,
    /// The keys of one program have different tags.
    CrossTag,
    /// This store cannot do that.
    Unsupported,
    /// What stands under the key, or what the server replied, is not ours.
    Corrupt,
}

/// Whether a failed operation may have been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It was not: it may be repeated.
    NotApplied,
    /// It may have been: the request was sent and no reply came.
    Unknown,
}

impl StoreError {
    /// An operation that was not applied.
    pub const fn not_applied(kind: ErrorKind) -> Self {
        Self {
            kind,
            effect: Effect::NotApplied,
            source: None,
        }
    }

    /// An operation that may have been applied.
    pub const fn unknown(kind: ErrorKind) -> Self {
        Self {
            kind,
            effect: Effect::Unknown,
            source: None,
        }
    }

    /// Keeps the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// What the caller can do about it.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the operation may have been applied.
    pub const fn effect(&self) -> Effect {
        self.effect
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            ErrorKind::Unavailable => "the store is unavailable",
            ErrorKind::Timeout => "the store did not answer in time",
            ErrorKind::Deadline => "the caller's deadline has passed",
            ErrorKind::Throttled => "the store asks for fewer calls",
            ErrorKind::Full => "the store is full",
            ErrorKind::TooLarge => "the value is larger than the store takes",
            ErrorKind::Rejected => "the store refused the operation",
            ErrorKind::CrossTag => "the keys of one program have different tags",
            ErrorKind::Unsupported => "the store does not support the operation",
            ErrorKind::Corrupt => "the stored value or the reply is not readable",
        })?;
        match self.effect {
            Effect::NotApplied => Ok(()),
            Effect::Unknown => f.write_str("; the operation may have been applied"),
        }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}

/// A setting that cannot work, with what to write instead.
#[derive(Clone, Debug)]
pub struct ConfigError {
    message: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl ConfigError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            source: None,
        }
    }

    #[cfg(feature = "redis")]
    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}
