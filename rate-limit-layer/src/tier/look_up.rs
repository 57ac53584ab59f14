use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use layer_store::Identity;

use crate::Quota;

/// Finds the tier of a client by its identity, such as in a database: see [`Policy::tier_look_up`](crate::Policy::tier_look_up).
///
/// Answers are kept in memory, [`capacity`](Self::capacity) of them. One is given out for as long as it is fresh, and also after that while
/// one request asks anew in the background. However many requests of one identity come, it is looked up once at a time, and at most 64
/// identities are at once.
///
/// A look-up that fails, panics or does not end before its [`deadline`](Self::deadline) changes nothing: a client whose tier was known keeps
/// it, another one has the policy's own quota. It is looked up again after a second. An event at warn tells of the first failure, the
/// second, the fourth, and so on.
///
/// ```
/// use std::time::Duration;
/// use rate_limit_layer::{Identity, Quota, TierLookUp};
///
/// # #[derive(Clone)] struct Database;
/// # impl Database {
/// #     async fn requests_per_minute(&self, _: Identity<'static>) -> Result<Option<u64>, std::io::Error> { Ok(None) }
/// # }
/// # let database = Database;
/// let look_up = TierLookUp::new(move |key: Identity<'static>| {
///     let database = database.clone();
///     async move {
///         let limit = database.requests_per_minute(key).await?;
///         Ok::<_, std::io::Error>(limit.filter(|limit| *limit > 0).map(Quota::per_minute))
///     }
/// });
/// let look_up = look_up.fresh_for(Duration::from_secs(300)).capacity(100_000);
/// # let _ = look_up;
/// ```
#[derive(Clone)]
#[must_use]
pub struct TierLookUp {
    ask: Arc<Ask>,
    pub(super) fresh_for: Duration,
    pub(super) deadline: Duration,
    pub(super) capacity: usize,
}

/// A look-up, and the text of its error.
type Ask = dyn Fn(Identity<'static>) -> Asking + Send + Sync;
pub(super) type Asking = Pin<Box<dyn Future<Output = Result<Option<Quota>, String>> + Send>>;

impl TierLookUp {
    /// Makes a look-up. It returns the quota of a client's tier, or `None` for one that has the policy's own quota, which is kept as an answer
    /// too.
    pub fn new<F, Fut, E>(look_up: F) -> Self
    where
        F: Fn(Identity<'static>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Quota>, E>> + Send + 'static,
        E: fmt::Display,
    {
        let ask = move |identity| {
            let asking = look_up(identity);
            let asking = async move { asking.await.map_err(|error| error.to_string()) };
            Box::pin(asking) as Asking
        };
        Self {
            ask: Arc::new(ask),
            fresh_for: Duration::from_secs(60),
            deadline: Duration::from_millis(250),
            capacity: 10_000,
        }
    }

    /// Sets how long an answer is given out without asking again. Default 1 minute.
    ///
    /// A client that changes its tier has the new one after this time, with the request after the one that asks. See
    /// [`Limiter::forget_tier`](crate::Limiter::forget_tier) for at once.
    pub const fn fresh_for(mut self, fresh_for: Duration) -> Self {
        self.fresh_for = fresh_for;
        self
    }

    /// Sets how long a look-up may take. Default 250 ms.
    ///
    /// Only a request of a client that is not known waits for it.
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets how many answers are kept, rounded up to eight times a power of two. Default 10,000, which take at most 3 MB.
    ///
    /// If there are more clients, those without a tier are forgotten first, and of the others those that did not come for the longest
    /// time.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub const fn capacity(mut self, capacity: usize) -> Self {
        assert!(
            capacity > 0,
            "without a place for answers each request would be a look-up: write at least 1"
        );
        self.capacity = capacity;
        self
    }

    pub(super) fn ask(&self, identity: Identity<'static>) -> Asking {
        (self.ask)(identity)
    }
}

impl fmt::Debug for TierLookUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TierLookUp")
            .field("fresh_for", &self.fresh_for)
            .field("deadline", &self.deadline)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
