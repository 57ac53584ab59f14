//! Hints of the store that a lock may be gone, so that its holder need not wait for the next renewal to learn of it.

use std::future::pending;

use futures_util::future::select_all;
use layer_store::{Store, Watch};
use tokio::time::{Instant, sleep_until};

use super::{holder::Holder, renewal::Renewal};

/// The hints at the locks of one holder.
///
/// A store sends them for keys that somebody watches, which costs commands. Most locks are given back before that is worth it.
pub(super) enum Hints {
    /// Nobody watches before this time.
    From(Instant),
    /// The locks of all units are watched.
    Watching(Vec<Watch>),
    /// The store sends none.
    Never,
}

impl Hints {
    /// Makes the hints of a lock that begins to be renewed, which is no longer young.
    pub(super) fn new(renewal: Renewal) -> Self {
        Self::From(renewal.grows_up())
    }

    /// Waits for the next hint. It may come without a change.
    ///
    /// # Cancel safety
    ///
    /// A dropped future loses no hint.
    pub(super) async fn next(&mut self, holder: &Holder) {
        loop {
            match self {
                // ## Unwatched => Watching. A change before is not hinted at, so this is a hint.
                Self::From(time) => {
                    sleep_until(*time).await;
                    let caller = &holder.config().caller;
                    // ## Unwatched => Never
                    if !caller.info().watches {
                        *self = Self::Never;
                        continue;
                    }
                    let store = caller.store();
                    let locks = holder.lock_keys();
                    *self = Self::Watching(locks.iter().map(|lock| store.watch(lock)).collect());
                    return;
                }
                Self::Watching(watches) => {
                    let changes = watches.iter_mut().map(|watch| Box::pin(watch.changed()));
                    select_all(changes).await;
                    return;
                }
                Self::Never => pending().await,
            }
        }
    }
}
