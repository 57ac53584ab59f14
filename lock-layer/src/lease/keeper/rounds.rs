//! The round trips of a [`Keeper`](super::Keeper): each for several locks, and of a bounded size.

use std::sync::Arc;

use tokio::time::Instant;

use crate::lease::{
    extend::Extend, holder::Holder, keeping::Lent, still_held::StillHeld, together::Together,
};
/// The end of a round trip.
pub(super) enum Talked {
    /// Each lock, and if it may still be relied on.
    Renewed(Vec<(u64, Lent, bool)>),
    /// Those that are not there.
    Gone(Vec<u64>),
}

/// Looks at locks: one round trip.
pub(super) async fn look(looks: Vec<(u64, Arc<Holder>, u64)>) -> Talked {
    let Some((_, first, _)) = looks.first() else {
        return Talked::Gone(Vec::new());
    };
    let still_held = looks
        .iter()
        .map(|(_, holder, fence)| StillHeld::new(holder, *fence));
    let mut together = Together(still_held.collect());
    let replies = first.config().caller.run(&mut together).await;
    let gone = looks
        .iter()
        .zip(replies)
        .filter_map(|((number, ..), reply)| {
            // Of a store that fails nothing is known. The next renewal is due soon enough.
            matches!(reply, Ok(false)).then_some(*number)
        });
    Talked::Gone(gone.collect())
}

/// Renews locks: one round trip.
pub(super) async fn renew(locks: Vec<(u64, Lent)>) -> Talked {
    let sent = Instant::now();
    // A lock that its holder no longer relies on must not be renewed.
    let (ended, mut held): (Vec<_>, Vec<_>) = locks
        .into_iter()
        .partition(|(_, lock)| lock.renewal.has_ended(sent));
    let holders: Vec<_> = held
        .iter()
        .map(|(_, lock)| (lock.holder.clone(), lock.fence))
        .collect();
    let deadline = held.iter().map(|(_, lock)| lock.renewal.deadline()).max();
    let replies = match holders.first() {
        None => Vec::new(),
        Some((first, _)) => {
            let extends = holders
                .iter()
                .map(|(holder, fence)| Extend::new(holder, *fence));
            let mut together = Together(extends.collect());
            // The latest: one that ends soon must not cut the time of the others. Its holder is told by its own deadline.
            let deadline = deadline.map(Instant::into_std);
            first.config().caller.run_by(&mut together, deadline).await
        }
    };
    let now = Instant::now();
    let ended = ended
        .into_iter()
        .map(|(number, lock)| (number, lock, false));
    let held = held.drain(..).zip(replies);
    let held = held.map(|((number, mut lock), reply)| {
        let is_held = lock.take(reply, sent, now);
        (number, lock, is_held)
    });
    Talked::Renewed(held.chain(ended).collect())
}

/// Splits what is due into round trips of a bounded size.
pub(super) fn rounds<T>(due: Vec<T>, units: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut rounds: Vec<Vec<T>> = Vec::new();
    let mut taken = 0;
    for one in due {
        let wants = units(&one);
        match rounds.last_mut() {
            Some(round) if round.len() < MAX_LOCKS && taken + wants <= MAX_UNITS => {
                taken += wants;
                round.push(one);
            }
            _ => {
                taken = wants;
                rounds.push(vec![one]);
            }
        }
    }
    rounds
}

/// The most locks of a round trip, and the most units, unless one lock has more. A server does nothing else meanwhile for about a
/// millisecond.
const MAX_LOCKS: usize = 64;
const MAX_UNITS: usize = 256;
