use std::{error::Error, fmt, num::NonZeroU32, sync::Arc, time::Duration};

use http::StatusCode;
use layer_http::KeyExtractor;

use crate::{FailureMode, policy::check_name};

/// The number of requests of one identity that may be in flight at once, over all processes.
///
/// A request is in flight from its call until its response's body has ended. It becomes a policy by naming what happens while
/// the store is down: [`fail_open`](Self::fail_open), [`fail_closed`](Self::fail_closed) or [`fail_local`](Self::fail_local),
/// which come last.
///
/// ```
/// use http::StatusCode;
/// use rate_limit_layer::{MaxInFlight, header};
///
/// let reports = MaxInFlight::new(5).name("reports").by(header("x-api-key")).fail_open();
/// let whole_service = MaxInFlight::new(200)
///     .by(rate_limit_layer::key_fn(|_| Some("all".into())))
///     .status(StatusCode::SERVICE_UNAVAILABLE)
///     .fail_local(4);
/// assert_eq!(reports.limit(), 5);
/// # let _ = whole_service;
/// ```
///
/// # Defaults
///
/// | setting | default |
/// | --- | --- |
/// | identity | the peer's address, IPv6 by its /64 |
/// | name | the limit's text, such as `5-in-flight` |
/// | lease | 30 s |
/// | status of a refusal | 429 |
#[derive(Clone)]
#[must_use = "write .fail_open(), .fail_closed() or .fail_local(instances)"]
pub struct MaxInFlight {
    limit: u32,
    name: Option<Arc<str>>,
    extractor: Option<Arc<dyn KeyExtractor>>,
    lease: Duration,
    status: StatusCode,
}

/// A [`MaxInFlight`] with a failure mode, for an [`InFlightLayer`](crate::InFlightLayer) or an
/// [`InFlightLimiter`](crate::InFlightLimiter).
#[derive(Clone)]
#[must_use]
pub struct InFlightPolicy {
    pub(super) max: MaxInFlight,
    pub(super) mode: FailureMode,
}

/// The error of a limit that cannot be kept. Its text says what to write instead.
///
/// ```
/// use rate_limit_layer::MaxInFlight;
///
/// let error = MaxInFlight::try_new(5_000).unwrap_err();
/// assert!(error.to_string().contains("write at most 1000"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidMaxInFlight {
    limit: u32,
}

impl MaxInFlight {
    /// Lets `limit` requests of one identity be in flight at once.
    ///
    /// # Panics
    ///
    /// If `limit` is zero or above 1,000. In a `const` that is an error of the compiler.
    #[track_caller]
    pub const fn new(limit: u32) -> Self {
        assert!(
            limit > 0,
            "a limit of zero lets no request through: write 1 or more"
        );
        assert!(
            limit <= MAX_LIMIT,
            "each permit is a record in the store: write at most 1000, or count by a finer identity, such as (route(), ..)"
        );
        Self::of(limit)
    }

    /// Lets `limit` requests of one identity be in flight at once, for a number that is not known before.
    ///
    /// # Errors
    ///
    /// `limit` is zero or above 1,000.
    pub const fn try_new(limit: u32) -> Result<Self, InvalidMaxInFlight> {
        match limit {
            1..=MAX_LIMIT => Ok(Self::of(limit)),
            _ => Err(InvalidMaxInFlight { limit }),
        }
    }

    const fn of(limit: u32) -> Self {
        Self {
            limit,
            name: None,
            extractor: None,
            lease: DEFAULT_LEASE,
            status: StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// Sets the name in the headers and in the store. Default: the limit's text, such as `5-in-flight`.
    ///
    /// Limits with one name on one store count together, across layers and processes.
    ///
    /// # Panics
    ///
    /// As [`Policy::name`](crate::Policy::name) does.
    #[track_caller]
    pub fn name(mut self, name: &str) -> Self {
        check_name(name);
        self.name = Some(name.into());
        self
    }

    /// Sets the identity to count by, as [`Policy::by`](crate::Policy::by) does. Default: the peer's address.
    pub fn by(mut self, extractor: impl KeyExtractor) -> Self {
        self.extractor = Some(Arc::new(extractor));
        self
    }

    /// Sets after which time the permits of a process that has died are free. Default 30 s.
    ///
    /// A process renews its permits at each third of it, with one command for all permits of an identity. A short lease frees
    /// them sooner, and costs more commands. All processes should have one lease. During a rollout that makes it more than three
    /// times shorter, permits of older processes may be free too early.
    ///
    /// Over a memory store there is no lease: its permits end with this process.
    ///
    /// # Panics
    ///
    /// If it is below a second or above a day.
    #[track_caller]
    pub const fn lease(mut self, lease: Duration) -> Self {
        assert!(
            lease.as_millis() >= 1_000 && lease.as_millis() <= 86_400_000,
            "a lease is renewed at each third of it: write a second to a day, such as Duration::from_secs(30)"
        );
        self.lease = lease;
        self
    }

    /// Sets the status of a refusal: 429, or 503 for a limit that protects the service and not one client from another. Default
    /// 429.
    ///
    /// # Panics
    ///
    /// If it is another status.
    #[track_caller]
    pub fn status(mut self, status: StatusCode) -> Self {
        assert!(
            status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE,
            "a refusal is temporary: write StatusCode::TOO_MANY_REQUESTS or StatusCode::SERVICE_UNAVAILABLE, not {status}"
        );
        self.status = status;
        self
    }

    /// Makes a policy that lets requests pass while the store is down, in each process as many at once as the limit allows.
    pub const fn fail_open(self) -> InFlightPolicy {
        self.with(FailureMode::Open)
    }

    /// Makes a policy that answers requests 503 while the store is down.
    pub const fn fail_closed(self) -> InFlightPolicy {
        self.with(FailureMode::Closed)
    }

    /// Makes a policy that shares its limit out while the store is down: each process lets one part in `instances` pass, and at
    /// least 1.
    ///
    /// # Panics
    ///
    /// If `instances` is zero.
    #[track_caller]
    pub const fn fail_local(self, instances: u32) -> InFlightPolicy {
        match NonZeroU32::new(instances) {
            Some(instances) => self.with(FailureMode::Local(instances)),
            None => panic!("a limit is shared out among at least one process: write 1 or more"),
        }
    }

    const fn with(self, mode: FailureMode) -> InFlightPolicy {
        InFlightPolicy { max: self, mode }
    }
}

impl InFlightPolicy {
    /// Returns the limit.
    pub const fn limit(&self) -> u32 {
        self.max.limit
    }

    /// Returns what happens while the store is down.
    pub const fn failure_mode(&self) -> FailureMode {
        self.mode
    }

    pub(super) fn name(&self) -> Arc<str> {
        let name = self.max.name.clone();
        name.unwrap_or_else(|| format!("{}-in-flight", self.max.limit).into())
    }

    pub(super) fn extractor(&self) -> Option<Arc<dyn KeyExtractor>> {
        self.max.extractor.clone()
    }

    pub(super) const fn lease(&self) -> Duration {
        self.max.lease
    }

    pub(super) const fn status(&self) -> StatusCode {
        self.max.status
    }

    /// Returns how many may be in flight in this process at once while the store is down.
    pub(super) fn share(&self) -> u32 {
        match self.mode {
            FailureMode::Open => self.max.limit,
            FailureMode::Local(instances) => (self.max.limit / instances).max(1),
            FailureMode::Closed => 0,
        }
    }
}

impl fmt::Debug for MaxInFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaxInFlight")
            .field("limit", &self.limit)
            .field("name", &self.name)
            .field("lease", &self.lease)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for InFlightPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlightPolicy")
            .field("max", &self.max)
            .field("mode", &self.mode)
            .finish()
    }
}

impl fmt::Display for InvalidMaxInFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limit {
            0 => f.write_str("a limit of zero lets no request through: write 1 or more"),
            limit => write!(
                f,
                "a limit of {limit} in flight is too large, as each permit is a record in the store: write at most {MAX_LIMIT}, or count by a finer identity"
            ),
        }
    }
}

impl Error for InvalidMaxInFlight {}

/// The largest limit: 24 KB in the store.
const MAX_LIMIT: u32 = 1_000;
const DEFAULT_LEASE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_1_to_1000_and_an_error_says_so() {
        for (limit, valid) in [(0, false), (1, true), (1_000, true), (1_001, false)] {
            assert_eq!(MaxInFlight::try_new(limit).is_ok(), valid, "{limit}");
            let made = std::panic::catch_unwind(|| MaxInFlight::new(limit));
            assert_eq!(made.is_ok(), valid, "{limit}");
        }
        let text = MaxInFlight::try_new(0).unwrap_err().to_string();
        assert!(text.contains("write 1 or more"), "{text}");
    }

    #[test]
    fn the_defaults_are_those_of_the_page() {
        let policy = MaxInFlight::new(5).fail_open();
        assert_eq!(&*policy.name(), "5-in-flight");
        assert_eq!(policy.lease(), Duration::from_secs(30));
        assert_eq!(policy.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(policy.extractor().is_none());
    }

    #[test]
    fn a_share_is_one_part_and_at_least_one() {
        let max = || MaxInFlight::new(10);
        assert_eq!(max().fail_open().share(), 10);
        assert_eq!(max().fail_local(3).share(), 3);
        assert_eq!(max().fail_local(11).share(), 1);
        assert_eq!(max().fail_closed().share(), 0);
    }

    #[test]
    #[should_panic(expected = "write a second to a day")]
    fn a_lease_too_short_to_be_renewed_panics() {
        let _ = MaxInFlight::new(1).lease(Duration::from_millis(999));
    }

    #[test]
    #[should_panic(expected = "not 404")]
    fn a_refusal_of_another_status_panics() {
        let _ = MaxInFlight::new(1).status(StatusCode::NOT_FOUND);
    }
}
