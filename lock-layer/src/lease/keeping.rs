use std::{
    mem,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{guard::Stop, held_lock::HeldLock};

/// A held lock, in the hands of its guard, or of its [keeper](super::keeper::Keeper) while that renews it.
///
/// So no renewal is under way when a guard gives its lock back: while there is one, the guard leaves word, and the keeper gives
/// the lock back after it.
pub(super) struct Keeping(Mutex<Hands>);

enum Hands {
    /// The guard has it, and nothing is under way.
    Guard(HeldLock),
    /// The keeper renews it. The guard may have left word how it ends.
    Keeper(Option<Stop>),
    /// It has ended, or is being given back.
    Nobody,
}

/// The lock of a guard that ends.
pub(super) enum Ending {
    /// The guard ends it.
    Here(HeldLock),
    /// The keeper ends it, as the guard has left word.
    Later,
    /// It has ended already, or the guard has left word before.
    Ended,
}

/// A lock in the hands of its keeper. It goes back to its guard when this is dropped.
pub(super) struct Lent {
    keeping: Arc<Keeping>,
    /// `None` once it was returned or lost.
    lock: Option<HeldLock>,
}

impl Keeping {
    pub(super) fn new(lock: HeldLock) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Hands::Guard(lock))))
    }

    /// Ends the lock, for its guard. `word` is for the keeper, if that has it.
    pub(super) fn end(&self, word: impl FnOnce() -> Stop) -> Ending {
        let mut hands = self.hands();
        match mem::replace(&mut *hands, Hands::Nobody) {
            // ## Held => Ending
            Hands::Guard(lock) => Ending::Here(lock),
            // ## Being renewed => Ending, after the renewal
            Hands::Keeper(None) => {
                *hands = Hands::Keeper(Some(word()));
                Ending::Later
            }
            // Its first word stands.
            Hands::Keeper(first) => {
                *hands = Hands::Keeper(first);
                Ending::Ended
            }
            Hands::Nobody => Ending::Ended,
        }
    }

    /// Looks at the lock, if its guard has it.
    pub(super) fn look<T>(&self, look: impl FnOnce(&HeldLock) -> T) -> Option<T> {
        match &*self.hands() {
            Hands::Guard(lock) => Some(look(lock)),
            Hands::Keeper(_) | Hands::Nobody => None,
        }
    }

    /// Lends the lock to its keeper. `None`: it has ended.
    pub(super) fn lend(self: &Arc<Self>) -> Option<Lent> {
        let mut hands = self.hands();
        match mem::replace(&mut *hands, Hands::Keeper(None)) {
            // ## Held => Being renewed
            Hands::Guard(lock) => Some(Lent {
                keeping: self.clone(),
                lock: Some(lock),
            }),
            other => {
                *hands = other;
                None
            }
        }
    }

    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lent {
    /// Returns a lock that is still held. If its guard has left word meanwhile, that and the lock are the caller's.
    pub(super) fn give_back(mut self) -> Option<(HeldLock, Stop)> {
        let lock = self.lock.take()?;
        let mut hands = self.keeping.hands();
        match mem::replace(&mut *hands, Hands::Nobody) {
            // ## Being renewed => Ending, by the keeper
            Hands::Keeper(Some(word)) => Some((lock, word)),
            // ## Being renewed => Held
            _ => {
                *hands = Hands::Guard(lock);
                None
            }
        }
    }

    /// Takes a lock that is lost, and the word that its guard has left.
    pub(super) fn lose(mut self) -> Option<(HeldLock, Option<Stop>)> {
        let lock = self.lock.take()?;
        // ## Being renewed => Lost
        match mem::replace(&mut *self.keeping.hands(), Hands::Nobody) {
            Hands::Keeper(word) => Some((lock, word)),
            Hands::Guard(_) | Hands::Nobody => Some((lock, None)),
        }
    }
}

impl Deref for Lent {
    type Target = HeldLock;

    fn deref(&self) -> &HeldLock {
        self.lock.as_ref().expect(LENT)
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut HeldLock {
        self.lock.as_mut().expect(LENT)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // The keeper's runtime has ended. A guard that has left word learns that it was not heard.
        if let Some(lock) = self.lock.take() {
            let lent = Self {
                keeping: self.keeping.clone(),
                lock: Some(lock),
            };
            drop(lent.give_back());
        }
    }
}

const LENT: &str = "a lock is lent until it is given back, which takes this";
