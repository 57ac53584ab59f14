use std::{error::Error, fmt, time::Duration};

use tokio::time::{Instant, timeout_at};

use crate::{Context, ErrorKind, Key, Op, Reply, Store, StoreError, StoreInfo, Watch};

/// Ends every call at its own limit, or at the caller's [deadline](Context::deadline) if that comes first.
///
/// | What ran out | Error | Counts for a [`Breaker`](super::Breaker) |
/// | --- | --- | --- |
/// | the limit | [`Timeout`](ErrorKind::Timeout), outcome unknown | yes |
/// | the limit, while the store was still receiving | the same | no: the store lives, the answer is long |
/// | the caller's deadline | [`Deadline`](ErrorKind::Deadline), outcome unknown | no |
/// | the caller's deadline, before the call | `Deadline`, not applied | no |
///
/// A deadline that leaves a call at least nine tenths of the limit is taken for the limit. So a caller may set one deadline
/// of [`call_limit`](StoreInfo::call_limit) for a check of several calls, and a store that hangs is still found out.
///
/// An answer from [`call_now`](Store::call_now) costs no look at the clock.
///
/// # Panics
///
/// [`call`](Store::call) needs a tokio runtime with a timer.
#[derive(Clone, Debug)]
pub struct Timeout<T> {
    inner: T,
    limit: Duration,
}

impl<T: Store> Timeout<T> {
    /// Gives each call of `inner` this long.
    pub const fn new(inner: T, limit: Duration) -> Self {
        Self { inner, limit }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<T: Store> Store for Timeout<T> {
    async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
        let end = End::of(
            Instant::now(),
            self.limit,
            cx.deadline.map(Instant::from_std),
        )?;
        let received = self.inner.info().received;
        match timeout_at(end.at, self.inner.call(op, cx)).await {
            Ok(result) => result,
            Err(_) => Err(end.error(self.inner.info().received != received)),
        }
    }

    #[inline]
    fn call_now(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        self.inner.call_now(op, cx)
    }

    fn watch(&self, key: &Key<'_>) -> Watch {
        self.inner.watch(key)
    }

    fn info(&self) -> StoreInfo {
        let mut info = self.inner.info();
        let inner = info.call_limit.unwrap_or(Duration::MAX);
        info.call_limit = Some(self.limit.min(inner));
        info
    }
}

/// The source of a [`Timeout`](ErrorKind::Timeout) that says nothing against the store: bytes came in during the call.
#[derive(Debug)]
pub(crate) struct StillReceiving;

impl fmt::Display for StillReceiving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the store was still sending when the limit on the call ran out")
    }
}

impl Error for StillReceiving {}

/// When a call ends, and by whose will.
struct End {
    at: Instant,
    by: By,
}

enum By {
    Limit,
    Caller,
}

impl End {
    fn of(now: Instant, limit: Duration, deadline: Option<Instant>) -> Result<Self, StoreError> {
        // A limit beyond the clock's range is none.
        let own = now.checked_add(limit).unwrap_or(now + FAR);
        let Some(deadline) = deadline.filter(|deadline| *deadline < own) else {
            return Ok(Self {
                at: own,
                by: By::Limit,
            });
        };
        let left = deadline.saturating_duration_since(now);
        if left.is_zero() {
            return Err(StoreError::not_applied(ErrorKind::Deadline));
        }
        let by = match left >= limit.saturating_sub(limit / 10) {
            true => By::Limit,
            false => By::Caller,
        };
        Ok(Self { at: deadline, by })
    }

    fn error(&self, receiving: bool) -> StoreError {
        match self.by {
            By::Caller => StoreError::unknown(ErrorKind::Deadline),
            By::Limit if receiving => {
                StoreError::unknown(ErrorKind::Timeout).with_source(StillReceiving)
            }
            By::Limit => StoreError::unknown(ErrorKind::Timeout),
        }
    }
}

/// A year.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
