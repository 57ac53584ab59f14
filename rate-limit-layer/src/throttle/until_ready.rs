use std::{future::poll_fn, time::Duration};

use layer_store::Identity;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    ThrottleError,
    queue::{Late, Place},
};
use crate::{Limiter, Standing, Verdict};

/// Waiting for a quota.
impl Limiter {
    /// Waits until `identity` may pass, charges it one request, and returns its standing. Refuses at once if that would be after
    /// `deadline`, a [`std::time::Instant`] or tokio's.
    ///
    /// For clients, jobs and anything else that should be slowed down rather than refused. [`ThrottleLayer`](crate::ThrottleLayer)
    /// does this in front of a service.
    ///
    /// Those who wait for one identity pass in the order of their calls, within this limiter and its clones. A
    /// [`check`](Self::check) does not queue and may come between them, and so may other processes on the store.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use rate_limit_layer::{Limiter, Quota, store::MemoryStore};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let calls = Limiter::new(MemoryStore::new(), Quota::per_second(100).burst(1).fail_open());
    /// let started = Instant::now();
    /// for _ in 0..3 {
    ///     calls.until_ready("api.example", Instant::now() + Duration::from_secs(5)).await?;
    /// }
    /// assert!(started.elapsed() >= Duration::from_millis(20));
    /// # Ok::<_, rate_limit_layer::ThrottleError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`ThrottleError::WaitTooLong`], and [`ThrottleError::Unavailable`] if the store is down and a policy fails closed. If all
    /// fail open, the request passes at once with no standing.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its timer.
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped while it waits costs nothing and gives up its place. One that is dropped, or reaches its deadline, in
    /// the moment in which the store is asked was charged once or not at all. A store in memory has no such moment.
    pub async fn until_ready(
        &self,
        identity: impl Into<Identity<'_>>,
        deadline: impl Into<Instant>,
    ) -> Result<Option<Standing>, ThrottleError> {
        self.until_ready_cost(identity, 1, deadline).await
    }

    /// Waits until `identity` may pass with `cost` requests at once. See [`until_ready`](Self::until_ready).
    ///
    /// While the first in the queue waits for a large cost, smaller ones behind it wait too.
    ///
    /// # Errors
    ///
    /// Those of [`until_ready`](Self::until_ready), and [`ThrottleError::InvalidCost`] if the cost is zero or above the burst of a
    /// policy.
    pub async fn until_ready_cost(
        &self,
        identity: impl Into<Identity<'_>>,
        cost: u64,
        deadline: impl Into<Instant>,
    ) -> Result<Option<Standing>, ThrottleError> {
        let (identity, deadline) = (identity.into(), deadline.into());
        let place = self.queues().join(identity.clone().into_owned(), deadline);
        // ## Queued => first | refused
        first(&place, deadline).await?;
        loop {
            // ## First => admitted | refused | waiting for the store's time
            // An answer that is there at once is taken also after the deadline.
            let check = self.check_cost(identity.clone(), cost);
            let exceeded = match timeout_at(deadline, check).await {
                Ok(verdict) => match verdict? {
                    Verdict::Admitted(standing) => return Ok(standing),
                    Verdict::Unavailable(reason) => {
                        return Err(ThrottleError::Unavailable(reason));
                    }
                    Verdict::Refused(exceeded) => exceeded,
                },
                Err(_) => return Err(too_long(Duration::ZERO)),
            };
            // ## Waiting => first | refused
            let wait = exceeded.retry_after();
            let Some(again) = Instant::now()
                .checked_add(wait)
                .filter(|again| *again <= deadline)
            else {
                return Err(too_long(wait));
            };
            place.ask_again_at(again);
            sleep_until(again).await;
        }
    }
}

/// Waits for the first place.
async fn first(place: &Place<'_>, deadline: Instant) -> Result<(), ThrottleError> {
    let turn = poll_fn(|cx| place.poll_first(cx.waker()));
    match timeout_at(deadline, turn).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Late(at))) => Err(too_long(at.saturating_duration_since(Instant::now()))),
        Err(_) => Err(too_long(Duration::ZERO)),
    }
}

const fn too_long(wait: Duration) -> ThrottleError {
    ThrottleError::WaitTooLong { wait }
}
