use std::{error::Error, fmt, sync::Arc};

/// The error of a store operation: its [kind](Self::kind), and its [effect](Self::effect) on the store.
///
/// [`source()`](Error::source) leads to the original error, such as the `io::Error` of a refused connection. A server's own
/// text is not shown where it could repeat a key.
///
/// ```
/// use layer_store::{Effect, ErrorKind, StoreError};
///
/// let error = StoreError::not_applied(ErrorKind::Throttled).with_source("3 requests too many");
/// assert_eq!((error.kind(), error.effect()), (ErrorKind::Throttled, Effect::NotApplied));
/// assert_eq!(error.to_string(), "the store asks for fewer calls");
/// assert_eq!(error.report().to_string(), "the store asks for fewer calls: 3 requests too many");
/// ```
#[derive(Clone, Debug)]
pub struct StoreError {
    kind: ErrorKind,
    effect: Effect,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The kind of a [`StoreError`]: it tells a caller what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store cannot be reached, is starting or failing over, or its circuit breaker is open.
    Unavailable,
    /// The store did not reply within its own limit on a call.
    Timeout,
    /// The caller's deadline, shorter than the store's own limit, has passed.
    Deadline,
    /// This process is too busy: the call was not sent in time, or its reply was not read in time. The store is not to blame,
    /// so this is no outage and never opens a circuit breaker.
    Overloaded,
    /// The store asks for fewer calls.
    Throttled,
    /// The store is at its capacity and all of its entries are pinned. This is not an outage.
    Full,
    /// The value is larger than the store takes.
    TooLarge,
    /// The store rejected the operation: a value of another type, a missing permission, an impossible argument.
    Rejected,
    /// The keys of one program have different tags.
    CrossTag,
    /// The store does not support the operation.
    Unsupported,
    /// The stored value or the reply has a form that no operation of ours writes.
    Corrupt,
}

impl ErrorKind {
    /// Returns a short name for metrics and spans, such as `unavailable` or `too_large`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Deadline => "deadline",
            Self::Overloaded => "overloaded",
            Self::Throttled => "throttled",
            Self::Full => "full",
            Self::TooLarge => "too_large",
            Self::Rejected => "rejected",
            Self::CrossTag => "cross_tag",
            Self::Unsupported => "unsupported",
            Self::Corrupt => "corrupt",
        }
    }
}

/// The effect of a failed operation on the store. Retries and fallbacks decide on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The operation was not applied and may be repeated.
    NotApplied,
    /// The operation may have been applied: it was sent, and no valid reply came.
    Unknown,
}

impl ErrorKind {
    /// Returns true if the store is to blame. An operation that this process or its caller could not wait for says nothing of
    /// the store, and one that the store refuses shows that it is there.
    pub(crate) const fn is_outage(self) -> bool {
        match self {
            Self::Unavailable | Self::Timeout | Self::Throttled => true,
            Self::Deadline
            | Self::Overloaded
            | Self::Full
            | Self::TooLarge
            | Self::Rejected
            | Self::CrossTag
            | Self::Unsupported
            | Self::Corrupt => false,
        }
    }
}

impl StoreError {
    /// Makes the error of an operation that was not applied.
    pub const fn not_applied(kind: ErrorKind) -> Self {
        Self {
            kind,
            effect: Effect::NotApplied,
            source: None,
        }
    }

    /// Makes the error of an operation that may have been applied.
    pub const fn unknown(kind: ErrorKind) -> Self {
        Self {
            kind,
            effect: Effect::Unknown,
            source: None,
        }
    }

    /// Sets the original error, which [`source()`](Error::source) returns.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Returns the error with another kind, and the effect and source that it has.
    pub(crate) fn with_kind(self, kind: ErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// Returns the error with another effect, and the kind and source that it has.
    pub(crate) fn with_effect(self, effect: Effect) -> Self {
        Self { effect, ..self }
    }

    /// Returns the error and its sources as one text, joined by `: `. For a line of a log.
    pub fn report(&self) -> impl fmt::Display {
        Report(self)
    }

    /// Returns the kind, which tells a caller what to do.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the effect on the store: not applied, or unknown.
    pub const fn effect(&self) -> Effect {
        self.effect
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            ErrorKind::Unavailable => "the store is unavailable",
            ErrorKind::Timeout => "the store did not reply in time",
            ErrorKind::Deadline => "the caller's deadline has passed",
            ErrorKind::Overloaded => "this process has too many calls under way",
            ErrorKind::Throttled => "the store asks for fewer calls",
            ErrorKind::Full => "the store is full",
            ErrorKind::TooLarge => "the value is larger than the store takes",
            ErrorKind::Rejected => "the store rejected the operation",
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

/// The error of a setting that cannot work. Its text says what to write instead.
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

impl ConfigError {
    /// Returns the error and its sources as one text, joined by `: `. For a line of a log.
    pub fn report(&self) -> impl fmt::Display {
        Report(self)
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

/// Displays an error and its sources, joined by `: `.
pub(crate) struct Report<'a>(pub(crate) &'a (dyn Error + 'static));

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_if_it_may_have_been_applied() {
        let not_applied = StoreError::not_applied(ErrorKind::Full);
        assert_eq!(
            (not_applied.kind(), not_applied.effect()),
            (ErrorKind::Full, Effect::NotApplied)
        );
        assert_eq!(not_applied.to_string(), "the store is full");
        assert!(not_applied.source().is_none());
        let unknown = StoreError::unknown(ErrorKind::Timeout);
        assert_eq!(
            (unknown.kind(), unknown.effect()),
            (ErrorKind::Timeout, Effect::Unknown)
        );
        assert_eq!(
            unknown.to_string(),
            "the store did not reply in time; the operation may have been applied"
        );
    }

    #[test]
    fn every_kind_has_a_text_of_its_own() {
        use ErrorKind::*;
        let kinds = [
            Unavailable,
            Timeout,
            Deadline,
            Throttled,
            Full,
            TooLarge,
            Rejected,
            CrossTag,
            Unsupported,
            Corrupt,
        ];
        let mut texts: Vec<_> = kinds
            .iter()
            .map(|kind| StoreError::not_applied(*kind).to_string())
            .collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), kinds.len());
    }

    #[test]
    fn a_report_has_all_sources() {
        let inner = StoreError::not_applied(ErrorKind::Throttled).with_source("too many");
        let outer = StoreError::unknown(ErrorKind::Rejected).with_source(inner);
        assert_eq!(
            outer.report().to_string(),
            "the store rejected the operation; the operation may have been applied: \
             the store asks for fewer calls: too many"
        );
        let error = ConfigError::new("write `memory://`");
        assert_eq!(error.report().to_string(), "write `memory://`");
        assert_eq!(error.to_string(), "write `memory://`");
        assert!(error.source().is_none());
    }

    #[cfg(feature = "redis")]
    #[test]
    fn a_setting_keeps_its_source() {
        let error = ConfigError::new("write a port").with_source("not a number");
        assert_eq!(error.source().unwrap().to_string(), "not a number");
        assert_eq!(error.report().to_string(), "write a port: not a number");
    }
}
