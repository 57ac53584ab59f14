#[cfg(feature = "redis-tls")]
use std::fmt;
use std::{num::NonZeroU32, time::Duration};

use crate::{ConfigError, FindingKind, KeyPrefix, MemoryStore, wrap};
#[cfg(feature = "redis")]
use crate::{CredentialsProvider, credentials::SharedProvider};

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
/// | [`connect_timeout`](Self::connect_timeout) | 1 s |
/// | [`open_after`](Self::open_after) | 5 failures |
/// | [`open_for`](Self::open_for) | 1 s |
/// | [`retries`](Self::retries) | 0 |
/// | [`max_in_flight`](Self::max_in_flight) | 1,024 calls |
/// | [`capacity`](Self::capacity) | 1,000,000 entries |
/// | [`max_bytes`](Self::max_bytes) | no bound |
/// | [`fallback`](Self::fallback) | no kind |
/// | [`prefix`](Self::prefix) | none |
/// | [`refuse`](Self::refuse) | nothing |
/// | `credentials` (feature `redis`) | those of the URL |
/// | `ca_pem` (feature `redis-tls`) | the public roots alone |
/// | `client_pem` (feature `redis-tls`) | no certificate of this client |
#[derive(Clone, Debug)]
#[must_use]
pub struct Options {
    deadline: Duration,
    connect_timeout: Duration,
    open_after: u32,
    open_for: Duration,
    retries: u32,
    max_in_flight: usize,
    fallback: Vec<&'static str>,
    capacity: usize,
    max_bytes: usize,
    pub(super) prefix: Option<String>,
    refused: Vec<FindingKind>,
    #[cfg(feature = "redis")]
    credentials: Option<SharedProvider>,
    #[cfg(feature = "redis-tls")]
    ca_pem: Option<Vec<u8>>,
    #[cfg(feature = "redis-tls")]
    client_pem: Option<Pem>,
}

/// A certificate with its key. Not shown by [`Debug`](fmt::Debug).
#[cfg(feature = "redis-tls")]
#[derive(Clone)]
struct Pem(Vec<u8>);

#[cfg(feature = "redis-tls")]
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pem")
    }
}

impl Options {
    /// Makes the default options.
    pub const fn new() -> Self {
        Self {
            deadline: Duration::from_millis(100),
            connect_timeout: CONNECT_TIMEOUT,
            open_after: 5,
            open_for: Duration::from_secs(1),
            retries: 0,
            max_in_flight: 1_024,
            fallback: Vec::new(),
            capacity: MemoryStore::DEFAULT_CAPACITY,
            max_bytes: usize::MAX,
            prefix: None,
            refused: Vec::new(),
            #[cfg(feature = "redis")]
            credentials: None,
            #[cfg(feature = "redis-tls")]
            ca_pem: None,
            #[cfg(feature = "redis-tls")]
            client_pem: None,
        }
    }

    /// Sets the longest time of a call. Default 100 ms. A `memory://` store ignores it.
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets the longest time of `connect` itself, and of each later attempt to connect. Default 1 s. A `memory://` store
    /// ignores it.
    ///
    /// An attempt is the look-up of the name, up to five round trips (TCP, TLS and the greeting), and the
    /// [credentials provider](crate::CredentialsProvider). Raise it for a server that is far away, or whose credentials take
    /// long to get. Calls do not wait longer for it: each ends at its [`deadline`](Self::deadline).
    pub const fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// Sets the number of failed calls in a row that open the circuit breaker. Default 5.
    pub const fn open_after(mut self, failures: u32) -> Self {
        self.open_after = failures;
        self
    }

    /// Sets the time from the opening of the circuit breaker to its first probe. Default 1 s.
    pub const fn open_for(mut self, open_for: Duration) -> Self {
        self.open_for = open_for;
        self
    }

    /// Sets how often a call that failed is repeated, within its [`deadline`](Self::deadline). Default 0.
    ///
    /// Only what was not applied, or does no harm when it is applied twice, is repeated: see [`Retry`](crate::wrap::Retry). A
    /// `memory://` store ignores it.
    pub const fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Sets the most calls that may wait for replies of the server at once. Default 1,024.
    ///
    /// Further calls wait in this process for their turn, and end as [`Overloaded`](crate::ErrorKind::Overloaded) if it does not
    /// come before their deadline. The store itself uses fewer while that is no slower. A `memory://` store ignores it.
    pub const fn max_in_flight(mut self, calls: usize) -> Self {
        self.max_in_flight = calls;
        self
    }

    /// Answers for keys of these kinds from the memory of this process while the server is away. Default none.
    ///
    /// Sensible kinds are `limit`, `entry` and `stamp`: `fallback(["limit", "entry", "stamp"])`. A limit then counts what this
    /// process admits. See [`Fallback`](crate::wrap::Fallback) for what it promises. A `memory://` store ignores it.
    pub fn fallback(mut self, kinds: impl IntoIterator<Item = &'static str>) -> Self {
        self.fallback.extend(kinds);
        self
    }

    /// Sets the number of entries of a `memory://` store. Default 1,000,000.
    pub const fn capacity(mut self, entries: usize) -> Self {
        self.capacity = entries;
        self
    }

    /// Sets the bytes that the values of a `memory://` store may take. Default: no bound, only the entries are counted.
    ///
    /// See [`MemoryStore::with_bounds`].
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Puts `prefix` and a colon before every key, so that several applications can share one server. Default none.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Makes a finding of this kind an error of `connect`, where it would only be logged. May be called several times. Default
    /// nothing, except for a server that is too old.
    ///
    /// For a store of locks that must not lose any: `.refuse(FindingKind::Eviction)`. A server that is away when `connect` is
    /// called is not refused later.
    pub fn refuse(mut self, kind: FindingKind) -> Self {
        self.refused.push(kind);
        self
    }

    /// Asks `provider` for user and password at each connect, instead of reading them from the URL. Default none.
    ///
    /// For passwords that change while the process runs, and for tokens that expire. See
    /// [`CredentialsProvider`](crate::CredentialsProvider). A `memory://` store ignores it.
    #[cfg(feature = "redis")]
    pub fn credentials(mut self, provider: impl CredentialsProvider) -> Self {
        self.credentials = Some(SharedProvider::new(provider));
        self
    }

    /// Trusts these certificate authorities, in PEM, beside the public ones. Default none.
    #[cfg(feature = "redis-tls")]
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_pem = Some(pem.into());
        self
    }

    /// Shows this certificate to a server that asks for one. Default none.
    ///
    /// It is the content of two PEM files, one after the other: the certificate, followed by those that lead from it to its
    /// authority, and its key. The key must not be encrypted.
    #[cfg(feature = "redis-tls")]
    pub fn client_pem(mut self, cert_and_key: impl Into<Vec<u8>>) -> Self {
        self.client_pem = Some(Pem(cert_and_key.into()));
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
        if self.connect_timeout.is_zero() {
            return Err(zero("a connect_timeout", "Duration::from_secs(1)"));
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
        if self.max_bytes == 0 {
            return Err(zero("a max_bytes", "how many it may take, as in 64 << 20"));
        }
        if self.max_in_flight == 0 {
            return Err(zero("a max_in_flight", "1_024"));
        }
        for kind in &self.fallback {
            if let Some(reason) = wrap::reason_against_fallback(kind) {
                return Err(ConfigError::new(format!(
                    "no fallback for keys of the kind {kind:?}: {reason}"
                )));
            }
        }
        if self.prefix.as_deref() == Some("") {
            return Err(ConfigError::new(
                "an empty prefix does not separate anything: write a name, or leave `prefix` out",
            ));
        }
        Ok(Checked {
            deadline: self.deadline,
            connect_timeout: self.connect_timeout,
            open_after: NonZeroU32::new(self.open_after)
                .ok_or_else(|| zero("an open_after", "5"))?,
            open_for: self.open_for,
            retries: self.retries,
            max_in_flight: self.max_in_flight,
            fallback: self.fallback,
            capacity: self.capacity,
            max_bytes: self.max_bytes,
            prefix: self.prefix.as_deref().map(KeyPrefix::new),
            refused: self.refused,
            #[cfg(feature = "redis")]
            credentials: self.credentials,
            #[cfg(feature = "redis-tls")]
            ca_pem: self.ca_pem,
            #[cfg(feature = "redis-tls")]
            client_pem: self.client_pem.map(|Pem(pem)| pem),
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
    not(any(feature = "redis", test)),
    expect(dead_code, reason = "only a store over a network needs a guard")
)]
pub(super) struct Checked {
    pub(super) deadline: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) open_after: NonZeroU32,
    pub(super) open_for: Duration,
    pub(super) retries: u32,
    pub(super) max_in_flight: usize,
    pub(super) fallback: Vec<&'static str>,
    pub(super) capacity: usize,
    pub(super) max_bytes: usize,
    pub(super) prefix: Option<KeyPrefix>,
    pub(super) refused: Vec<FindingKind>,
    #[cfg(feature = "redis")]
    pub(super) credentials: Option<SharedProvider>,
    #[cfg(feature = "redis-tls")]
    pub(super) ca_pem: Option<Vec<u8>>,
    #[cfg(feature = "redis-tls")]
    pub(super) client_pem: Option<Vec<u8>>,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_cannot_work_are_errors() {
        let all = [
            Options::new().deadline(Duration::ZERO),
            Options::new().connect_timeout(Duration::ZERO),
            Options::new().open_after(0),
            Options::new().open_for(Duration::ZERO),
            Options::new().max_in_flight(0),
            Options::new().capacity(0),
            Options::new().max_bytes(0),
            Options::new().prefix(""),
            Options::new().fallback(["limit", "lock"]),
            Options::new().fallback(["Limit"]),
        ];
        for options in all {
            let error = options.checked().err().unwrap();
            assert!(error.to_string().contains("write"), "{error}");
        }
        let least = Options::new()
            .deadline(Duration::from_nanos(1))
            .connect_timeout(Duration::from_nanos(1))
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
        assert_eq!(options.connect_timeout, Duration::from_secs(1));
        assert_eq!(options.open_after.get(), 5);
        assert_eq!(options.open_for, Duration::from_secs(1));
        assert_eq!(options.capacity, 1_000_000);
        assert!(options.prefix.is_none() && options.refused.is_empty());
        #[cfg(feature = "redis")]
        assert!(options.credentials.is_none());
        #[cfg(feature = "redis-tls")]
        assert!(options.ca_pem.is_none() && options.client_pem.is_none());
    }

    #[cfg(feature = "redis-tls")]
    #[test]
    fn debug_shows_no_key() {
        let options = Options::new().client_pem("hunter2");
        let bytes = format!("{:?}", b"hunter2");
        let shown = format!("{options:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains(&bytes),
            "{shown}"
        );
    }
}
