//! Who waits for whom: a queue for each identity, in the order of arrival.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use layer_store::Identity;
use tokio::time::Instant;

/// The queues of a limiter. An identity has one as long as somebody waits for it or is first.
#[derive(Default)]
pub(crate) struct Queues {
    by_identity: Mutex<HashMap<Identity<'static>, Queue>>,
}

/// Those who wait for one identity. The one with the lowest ticket is first: it alone asks the store.
#[derive(Debug, Default)]
struct Queue {
    waiters: BTreeMap<Ticket, Waiter>,
    /// The deadlines of those who wait for their turn to come, so that a later time of the first finds who is late.
    deadlines: BTreeSet<(Instant, Ticket)>,
    next: Ticket,
    /// When the first asks again. `None`: it is asking, or has not asked yet.
    asks_again: Option<Instant>,
}

#[derive(Debug)]
struct Waiter {
    deadline: Instant,
    waker: Option<Waker>,
}

type Ticket = u64;

/// A place in the queue of one identity, until it is dropped.
pub(super) struct Place<'a> {
    queues: &'a Queues,
    identity: Identity<'static>,
    ticket: Ticket,
}

/// The end of a wait for one's turn: nobody can pass before this time, and it is past the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Late(pub(super) Instant);

impl Queues {
    /// Takes the last place.
    pub(super) fn join(&self, identity: Identity<'static>, deadline: Instant) -> Place<'_> {
        let mut queues = self.lock();
        let queue = queues.entry(identity.clone()).or_default();
        let ticket = queue.next;
        queue.next += 1;
        let waiter = Waiter {
            deadline,
            waker: None,
        };
        queue.waiters.insert(ticket, waiter);
        queue.deadlines.insert((deadline, ticket));
        drop(queues);
        Place {
            queues: self,
            identity,
            ticket,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Identity<'static>, Queue>> {
        // Nothing that can panic runs under the lock but the allocator.
        self.by_identity
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Returns ready once this place is the first, or can only come too late.
    pub(super) fn poll_first(&self, waker: &Waker) -> Poll<Result<(), Late>> {
        self.with(|queue| {
            let (first, _) = queue
                .waiters
                .first_key_value()
                .expect("this place is in it");
            if *first == self.ticket {
                return Poll::Ready(Ok(()));
            }
            let waiter = queue.waiters.get_mut(&self.ticket);
            let waiter = waiter.expect("this place is in it");
            // The first passes no earlier, and all others after it.
            if let Some(at) = queue.asks_again.filter(|at| *at > waiter.deadline) {
                return Poll::Ready(Err(Late(at)));
            }
            waiter.waker = Some(waker.clone());
            // Again, if it was late under a first that has left since.
            queue.deadlines.insert((waiter.deadline, self.ticket));
            Poll::Pending
        })
    }

    /// Tells, as the first, when the store is asked again. Wakes those whose deadline is earlier.
    pub(super) fn ask_again_at(&self, at: Instant) {
        let late = self.with(|queue| {
            queue.asks_again = Some(at);
            let in_time = queue.deadlines.split_off(&(at, 0));
            let late = std::mem::replace(&mut queue.deadlines, in_time);
            let wakers = late.iter().filter_map(|(_, ticket)| {
                let waiter = queue.waiters.get_mut(ticket)?;
                waiter.waker.take()
            });
            wakers.collect::<Vec<_>>()
        });
        late.into_iter().for_each(Waker::wake);
    }

    fn with<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queues = self.queues.lock();
        let queue = queues.get_mut(&self.identity);
        change(queue.expect("it has a place until all are dropped"))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queues = self.queues.lock();
        let Some(queue) = queues.get_mut(&self.identity) else {
            return;
        };
        let was_first = queue.waiters.keys().next() == Some(&self.ticket);
        if let Some(waiter) = queue.waiters.remove(&self.ticket) {
            queue.deadlines.remove(&(waiter.deadline, self.ticket));
        }
        // ## First => the next is first, and asks for itself
        let mut next = None;
        if was_first {
            queue.asks_again = None;
            let mut waiters = queue.waiters.values_mut();
            next = waiters.next().and_then(|waiter| waiter.waker.take());
        }
        if queue.waiters.is_empty() {
            queues.remove(&self.identity);
        }
        drop(queues);
        if let Some(next) = next {
            next.wake();
        }
    }
}

impl fmt::Debug for Queues {
    /// Shows how many identities have a queue, and none of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queues = self.lock().len();
        f.debug_struct("Queues").field("queues", &queues).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering::Relaxed},
        },
        task::Wake,
        time::Duration,
    };

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn at(seconds: u64) -> Instant {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *START.get_or_init(Instant::now) + Duration::from_secs(seconds)
    }

    fn poll(place: &Place<'_>) -> Poll<Result<(), Late>> {
        place.poll_first(Waker::noop())
    }

    #[test]
    fn the_first_is_first_and_the_next_is_woken_when_it_leaves() {
        let (queues, woken) = (Queues::default(), Arc::new(Woken::default()));
        let first = queues.join("ada".into(), at(9));
        let second = queues.join("ada".into(), at(9));
        let third = queues.join("ada".into(), at(9));
        let other = queues.join("bob".into(), at(9));
        assert_eq!(poll(&first), Poll::Ready(Ok(())));
        assert_eq!(poll(&other), Poll::Ready(Ok(())));
        assert_eq!(second.poll_first(&woken.clone().into()), Poll::Pending);
        assert_eq!(poll(&third), Poll::Pending);
        // One that leaves from the middle wakes nobody.
        drop(third);
        assert_eq!(woken.0.load(Relaxed), 0);
        drop(first);
        assert_eq!(woken.0.load(Relaxed), 1);
        assert_eq!(poll(&second), Poll::Ready(Ok(())));
        drop((second, other));
        assert_eq!(format!("{queues:?}"), "Queues { queues: 0 }");
    }

    #[test]
    fn who_can_only_come_too_late_is_told_and_nobody_else() {
        let (queues, woken) = (Queues::default(), Arc::new(Woken::default()));
        let first = queues.join("ada".into(), at(9));
        let early = queues.join("ada".into(), at(4));
        let in_time = queues.join("ada".into(), at(5));
        assert_eq!(early.poll_first(&woken.clone().into()), Poll::Pending);
        assert_eq!(in_time.poll_first(&woken.clone().into()), Poll::Pending);
        first.ask_again_at(at(5));
        assert_eq!(woken.0.load(Relaxed), 1);
        assert_eq!(poll(&early), Poll::Ready(Err(Late(at(5)))));
        assert_eq!(poll(&in_time), Poll::Pending);
        // A newcomer is told at once.
        let newcomer = queues.join("ada".into(), at(3));
        assert_eq!(poll(&newcomer), Poll::Ready(Err(Late(at(5)))));
        // When the first has left, nobody knows the time any more.
        drop(first);
        assert_eq!(newcomer.poll_first(&woken.clone().into()), Poll::Pending);
        assert_eq!(poll(&early), Poll::Ready(Ok(())));
        // The next first's time finds it again.
        early.ask_again_at(at(4));
        assert_eq!(woken.0.load(Relaxed), 2);
    }

    proptest! {
        /// In any order of arrivals and departures the first is the one who came first of those who are there, and nothing is left.
        #[test]
        fn first_come_first_served(steps in prop::collection::vec((0_u8..3, 0_usize..8), 1..64)) {
            let queues = Queues::default();
            let mut places: Vec<Place<'_>> = Vec::new();
            for (step, index) in steps {
                match step {
                    0 | 1 => places.push(queues.join("ada".into(), at(index as u64))),
                    _ if places.is_empty() => {}
                    _ => drop(places.remove(index % places.len())),
                }
                for (index, place) in places.iter().enumerate() {
                    prop_assert_eq!(poll(place).is_ready(), index == 0);
                }
            }
            drop(places);
            prop_assert!(queues.lock().is_empty());
        }
    }
}
