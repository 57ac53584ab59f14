use std::sync::Arc;

use layer_store::{Identity, SharedStore, StoreError};

use super::{permit::Permit, permits::Permits};
use crate::{InFlightPolicy, InFlightRefusal, check::partition::Partition};

/// An in-flight limit without HTTP: for job workers, websockets, or an identity in a request's body.
///
/// Clones share everything. All limiters and layers of one name on one store count together, in all processes.
///
/// ```
/// use rate_limit_layer::{InFlightLimiter, InFlightRefusal, MaxInFlight, store::MemoryStore};
///
/// # async fn render() {}
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let reports = InFlightLimiter::new(MemoryStore::new(), MaxInFlight::new(5).name("reports").fail_closed());
/// match reports.try_acquire("tenant-7").await {
///     Ok(permit) => {
///         render().await;
///         drop(permit);
///     }
///     Err(InFlightRefusal::LimitReached(reached)) => println!("try again in {:?}", reached.retry_after()),
///     Err(refusal) => println!("not checked: {refusal}"),
/// }
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct InFlightLimiter {
    permits: Arc<Permits>,
}

impl InFlightLimiter {
    /// Makes a limiter over a store: a `SharedStore`, a `MemoryStore` or a `RedisStore`.
    ///
    /// The policy's extractor is not used: the caller names the identity.
    pub fn new(store: impl Into<SharedStore>, policy: InFlightPolicy) -> Self {
        Self {
            permits: Arc::new(Permits::new(store.into(), &policy)),
        }
    }

    /// Takes a permit for `identity`, if fewer than the limit are held. It does not wait for one.
    ///
    /// It takes at most 100 ms, or the limit that [`Options::deadline`](layer_store::Options::deadline) sets.
    ///
    /// # Errors
    ///
    /// [`InFlightRefusal::LimitReached`]; or [`InFlightRefusal::Unavailable`] if the store is down and the policy fails closed.
    ///
    /// # Cancel safety
    ///
    /// A permit that a dropped call has taken is given back.
    pub async fn try_acquire(
        &self,
        identity: impl Into<Identity<'_>>,
    ) -> Result<Permit, InFlightRefusal> {
        let partition = partition(identity.into());
        match self.permits.take_now(&partition) {
            Some(result) => result,
            None => self.permits.take(partition.into_owned()).await,
        }
    }

    /// Returns how many of `identity` are in flight, over all processes, and changes nothing.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn in_flight(&self, identity: impl Into<Identity<'_>>) -> Result<u32, StoreError> {
        self.permits.count(&partition(identity.into())).await
    }

    /// Returns what all clones share.
    pub(crate) const fn permits(&self) -> &Arc<Permits> {
        &self.permits
    }
}

const fn partition(identity: Identity<'_>) -> Partition<'_> {
    Partition {
        identity,
        fallback: false,
    }
}
