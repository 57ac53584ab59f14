use std::{collections::VecDeque, sync::Arc};

use tokio::time::Instant;

use super::keeping::Keeping;

/// The young locks of one runtime, in the order in which they grow up.
///
/// They have one lease, so those that came first grow up first.
#[derive(Default)]
pub(super) struct Nursery {
    /// `None`: the lock has ended.
    queue: VecDeque<Option<(Instant, Arc<Keeping>)>>,
    /// The number of the first.
    first: u64,
}

impl Nursery {
    /// Takes a lock in, which grows up at `due`. Returns its number.
    pub(super) fn admit(&mut self, lock: Arc<Keeping>, due: Instant) -> u64 {
        self.queue.push_back(Some((due, lock)));
        self.first + self.queue.len() as u64 - 1
    }

    /// Lets a lock go that has ended. Returns false if it is here no more.
    pub(super) fn leave(&mut self, number: u64) -> bool {
        let at = number.checked_sub(self.first).map(|at| at as usize);
        let Some(place) = at.and_then(|at| self.queue.get_mut(at)) else {
            return false;
        };
        *place = None;
        while let Some(None) = self.queue.front() {
            self.pop();
        }
        true
    }

    /// Returns the number of the next lock that is grown up at `now`, and the lock.
    pub(super) fn grown(&mut self, now: Instant) -> Option<(u64, Arc<Keeping>)> {
        while self.next_due().is_none_or(|due| due <= now) && !self.queue.is_empty() {
            let number = self.first;
            if let Some((_, lock)) = self.pop() {
                return Some((number, lock));
            }
        }
        None
    }

    /// Returns the time at which the first grows up.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let (due, _) = self.queue.front()?.as_ref()?;
        Some(*due)
    }

    /// Lets all go.
    pub(super) fn clear(&mut self) {
        self.first += self.queue.len() as u64;
        self.queue.clear();
    }

    fn pop(&mut self) -> Option<(Instant, Arc<Keeping>)> {
        self.first += 1;
        self.queue.pop_front().flatten()
    }
}
