//! Who waits for which units in this process, in the order in which they came.

use std::{
    collections::HashMap,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use layer_store::Identity;
use tokio::sync::Notify;

use super::holder::Holder;

/// The waiters, and the holders that have waited, of all groups of one [`Locks`](crate::Locks).
///
/// A waiter has its *turn* when nobody who came before it wants one of its units, or holds it. It keeps its place for as long as
/// it holds them. Only waiters at their turn ask the store, so one asks for each lock, whatever their number, and the first that
/// came is the first that is served.
#[derive(Default)]
pub(super) struct WaitingRoom {
    groups: Mutex<HashMap<Identity<'static>, Vec<Waiter>>>,
}

struct Waiter {
    holder: Arc<Holder>,
    /// Told when somebody before it has left.
    moved: Arc<Notify>,
}

/// A place in the waiting room, until it is dropped.
pub(super) struct Place {
    room: Arc<WaitingRoom>,
    holder: Arc<Holder>,
    moved: Arc<Notify>,
}

impl WaitingRoom {
    /// Takes the last place.
    pub(super) fn join(self: &Arc<Self>, holder: &Arc<Holder>) -> Place {
        let moved = Arc::new(Notify::new());
        let waiter = Waiter {
            holder: holder.clone(),
            moved: moved.clone(),
        };
        let group = holder.group().clone();
        self.groups().entry(group).or_default().push(waiter);
        Place {
            room: self.clone(),
            holder: holder.clone(),
            moved,
        }
    }

    /// Removes a waiter, and tells those who came after it.
    fn leave(&self, holder: &Arc<Holder>) {
        let mut groups = self.groups();
        let Some(waiters) = groups.get_mut(holder.group()) else {
            return;
        };
        if let Some(at) = waiters
            .iter()
            .position(|waiter| Arc::ptr_eq(&waiter.holder, holder))
        {
            waiters.remove(at);
            let later = waiters.iter().skip(at);
            for waiter in later.filter(|waiter| waiter.holder.overlaps(holder)) {
                waiter.moved.notify_one();
            }
        }
        if waiters.is_empty() {
            groups.remove(holder.group());
        }
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<Identity<'static>, Vec<Waiter>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits for the turn.
    pub(super) async fn turn(&self) {
        loop {
            let mut moved = pin!(self.moved.notified());
            // Before the look: who leaves after it is heard of.
            moved.as_mut().enable();
            if self.is_turn() {
                return;
            }
            moved.await;
        }
    }

    fn is_turn(&self) -> bool {
        let groups = self.room.groups();
        let waiters = groups.get(self.holder.group());
        let mut before = waiters
            .into_iter()
            .flatten()
            .take_while(|waiter| !Arc::ptr_eq(&waiter.holder, &self.holder));
        before.all(|waiter| !waiter.holder.overlaps(&self.holder))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.leave(&self.holder);
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}

impl fmt::Debug for WaitingRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitingRoom")
            .field("groups", &self.groups().len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use layer_store::{MemoryStore, SharedStore};

    use super::*;
    use crate::Locks;

    #[tokio::test]
    async fn a_turn_comes_when_nobody_before_wants_one_of_the_units() {
        let locks = Locks::new(SharedStore::new(MemoryStore::new()));
        let holder = |group: &str, units: &[&str]| locks.group(group).holder(units).unwrap();
        let room = Arc::new(WaitingRoom::default());
        let has_turn = |place: &Place| place.turn().now_or_never().is_some();
        let first = room.join(&holder("car:7", &["1", "2"]));
        let second = room.join(&holder("car:7", &["2", "3"]));
        let third = room.join(&holder("car:7", &["3"]));
        let apart = room.join(&holder("car:7", &["4"]));
        let elsewhere = room.join(&holder("car:8", &["1"]));
        assert!(has_turn(&first) && has_turn(&apart) && has_turn(&elsewhere));
        assert!(!has_turn(&second) && !has_turn(&third));
        // One in the middle leaves: the next still waits for nobody but those before it.
        drop(second);
        assert!(has_turn(&third));
        let last = room.join(&holder("car:7", &["1", "3"]));
        drop(first);
        assert!(!has_turn(&last));
        let (turn, ()) = tokio::join!(last.turn().map(|()| true), async { drop(third) });
        assert!(turn);
        drop((last, apart, elsewhere));
        assert_eq!(format!("{room:?}"), "WaitingRoom { groups: 0 }");
    }
}
