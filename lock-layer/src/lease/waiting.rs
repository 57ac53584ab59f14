//! Takes units that others hold, once they give them back.

use std::{sync::Arc, time::Duration};

use futures_util::future::select_all;
use layer_store::{Store, Watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{acquiring, guard::LockGuard, holder::Holder};
use crate::AcquireError;

/// Takes the holder's units, and waits for them until `wait` is over.
pub(crate) async fn acquire(
    holder: Arc<Holder>,
    wait: Duration,
) -> Result<LockGuard, AcquireError> {
    let acquired = acquire_in_turn(holder, wait).await;
    acquired.inspect_err(AcquireError::tell)
}

async fn acquire_in_turn(holder: Arc<Holder>, wait: Duration) -> Result<LockGuard, AcquireError> {
    // A time without end is too long for a clock.
    let until = Instant::now() + wait.min(LONGEST);
    let place = holder.config().waiting_room.join(&holder);
    // ## Queued => Busy: the time is over.
    if timeout_at(until, place.turn()).await.is_err() {
        return Err(acquiring::busy(&holder, Duration::ZERO).into());
    }
    // Memory watches from now on, so nothing is missed after a look. A store that is far away says so when it watches.
    let answers_now = holder.config().caller.answers_now();
    let mut watches = answers_now.then(|| Watches::of(&holder));
    loop {
        let busy = match acquiring::acquire_quietly(&holder).await {
            Err(AcquireError::Busy(busy)) => busy,
            // ## Turn => Held. The next one's turn comes when this one gives the units back.
            Ok(guard) => {
                holder.keep_place(place);
                // One that was lost meanwhile has left the room already.
                if guard.is_lost() {
                    holder.leave_room();
                }
                return Ok(guard);
            }
            // ## Turn => Unavailable
            Err(error) => return Err(error),
        };
        let now = Instant::now();
        // ## Turn => Busy: the time is over.
        if now >= until {
            return Err(busy.into());
        }
        // ## Turn => Turn: until a hint, or the end of the others' lease.
        let look = now + busy.lease_left().clamp(SOON, LOOK);
        let watches = watches.get_or_insert_with(|| Watches::of(&holder));
        watches.next(until.min(look)).await;
    }
}

/// The watches of the locks of one waiter, which is at its turn.
struct Watches(Vec<Watch>);

impl Watches {
    fn of(holder: &Holder) -> Self {
        let store = holder.config().caller.store();
        let locks = holder.lock_keys();
        Self(locks.iter().map(|lock| store.watch(lock)).collect())
    }

    /// Waits for the next hint, or for `time`.
    async fn next(&mut self, time: Instant) {
        let changes = self.0.iter_mut().map(|watch| Box::pin(watch.changed()));
        tokio::select! {
            _ = select_all(changes) => {}
            () = sleep_until(time) => {}
        }
    }
}

/// How often a waiter asks if no hint comes, and how soon again at the end of the others' lease.
const LOOK: Duration = Duration::from_millis(250);
const SOON: Duration = Duration::from_millis(10);
/// Ten years.
const LONGEST: Duration = Duration::from_secs(315_360_000);
