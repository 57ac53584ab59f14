use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{runtime::Handle, task::AbortHandle, time::Instant};

use super::token::Token;
use crate::check::partition::Partition;

/// The permits that this process holds over a store behind a network, by the bits of their keys.
///
/// What is in here is renewed. What is not, ends with its lease.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<Table>);

#[derive(Debug, Default)]
pub(crate) struct Table {
    keys: HashMap<u128, Holding>,
    /// The task that renews, and the runtime that it was begun on.
    keeper: Option<(AbortHandle, Handle)>,
}

/// The permits of one key.
#[derive(Debug)]
struct Holding {
    partition: Partition<'static>,
    tokens: Vec<Token>,
    /// Requests whose take is under way. The store may let them through.
    pending: u32,
    renew_at: Instant,
    /// True while a renewal is under way. It puts back what is gone, so nothing may be given back meanwhile.
    is_renewing: bool,
    /// What is still to be given back, until when.
    returned: Vec<(Token, Instant)>,
}

/// The work of the keeper for one key: renew, then give back.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) bits: u128,
    pub(crate) partition: Partition<'static>,
    pub(crate) renew: Vec<Token>,
    pub(crate) give_back: Vec<Token>,
}

impl Held {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Table> {
        // Every method leaves the table whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Returns how many permits of a key this process holds.
    pub(crate) fn held(&self, bits: u128) -> usize {
        self.keys.get(&bits).map_or(0, |key| key.tokens.len())
    }

    /// Begins a take.
    pub(crate) fn begin(&mut self, bits: u128, partition: &Partition<'static>, renew_at: Instant) {
        let holding = self.keys.entry(bits).or_insert_with(|| Holding {
            partition: partition.clone(),
            tokens: Vec::new(),
            pending: 0,
            renew_at,
            is_renewing: false,
            returned: Vec::new(),
        });
        holding.pending += 1;
    }

    /// Ends a take that has no permit.
    pub(crate) fn cancel(&mut self, bits: u128) {
        if let Some(holding) = self.keys.get_mut(&bits) {
            holding.pending = holding.pending.saturating_sub(1);
        }
        self.tidy(bits);
    }

    /// Ends a take that has a permit.
    pub(crate) fn hold(&mut self, bits: u128, token: Token, renew_at: Instant) {
        if let Some(holding) = self.keys.get_mut(&bits) {
            holding.pending = holding.pending.saturating_sub(1);
            // The renewal of all tokens is due when that of the first one is.
            if holding.tokens.is_empty() {
                holding.renew_at = renew_at;
            }
            holding.tokens.push(token);
        }
    }

    /// Ends a take that the store did not answer with a permit, if this process may hold one more of `share`. Otherwise the take
    /// is still to be [cancelled](Self::cancel). Takes under way count: the store may let them through.
    pub(crate) fn hold_unseen(
        &mut self,
        bits: u128,
        token: Token,
        share: u32,
        renew_at: Instant,
    ) -> bool {
        let Some(holding) = self.keys.get(&bits) else {
            return false;
        };
        let others = holding.tokens.len() + holding.pending.saturating_sub(1) as usize;
        if others >= share as usize {
            return false;
        }
        self.hold(bits, token, renew_at);
        true
    }

    /// Takes a permit out that has ended. Returns true if it is to be given back at once. Otherwise the keeper does it, at `until`
    /// at the latest.
    pub(crate) fn take_out(&mut self, bits: u128, token: Token, until: Instant) -> bool {
        let Some(holding) = self.keys.get_mut(&bits) else {
            return true;
        };
        if let Some(place) = holding.tokens.iter().position(|held| *held == token) {
            holding.tokens.swap_remove(place);
        }
        if holding.is_renewing {
            holding.returned.push((token, until));
            return false;
        }
        self.tidy(bits);
        true
    }

    /// Keeps what could not be given back, for the keeper to try again.
    pub(crate) fn not_given_back(
        &mut self,
        bits: u128,
        partition: &Partition<'static>,
        tokens: &[Token],
        until: Instant,
    ) {
        self.begin(bits, partition, until);
        if let Some(holding) = self.keys.get_mut(&bits) {
            let tokens = tokens.iter().map(|token| (*token, until));
            holding.returned.extend(tokens);
        }
        self.cancel(bits);
    }

    /// Returns what the keeper is to do now. `None`: nothing is held, and the keeper ends.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Vec<Due>> {
        if self.keys.is_empty() {
            self.keeper = None;
            return None;
        }
        let due = self.keys.iter_mut().filter_map(|(bits, holding)| {
            // There is one keeper. A renewal that still seems to be under way ended with the runtime of another.
            holding.is_renewing = false;
            let renew = match holding.renew_at <= now {
                true => holding.tokens.clone(),
                false => Vec::new(),
            };
            let give_back = holding.returned(now);
            if renew.is_empty() && give_back.is_empty() {
                return None;
            }
            holding.is_renewing = !renew.is_empty();
            Some(Due {
                bits: *bits,
                partition: holding.partition.clone(),
                renew,
                give_back,
            })
        });
        let due = due.collect();
        self.keys.retain(|_, holding| !holding.is_idle());
        Some(due)
    }

    /// Ends a renewal, and returns what was to be given back meanwhile. `renew_at`: when the next one is due; `None` if this one
    /// failed and is to be tried again.
    pub(crate) fn renewed(
        &mut self,
        bits: u128,
        now: Instant,
        renew_at: Option<Instant>,
    ) -> Vec<Token> {
        let Some(holding) = self.keys.get_mut(&bits) else {
            return Vec::new();
        };
        holding.is_renewing = false;
        holding.renew_at = renew_at.unwrap_or(holding.renew_at);
        let returned = holding.returned(now);
        self.tidy(bits);
        returned
    }

    /// Begins the keeper, if none runs. A keeper ends with its runtime.
    pub(crate) fn keep(&mut self, runtime: &Handle, begin: impl FnOnce() -> AbortHandle) {
        let keeper = self.keeper.as_ref();
        if keeper.is_none_or(|(task, _)| task.is_finished()) {
            self.keeper = Some((begin(), runtime.clone()));
        }
    }

    /// Returns the keeper's runtime.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        self.keeper.as_ref().map(|(_, runtime)| runtime.clone())
    }

    fn tidy(&mut self, bits: u128) {
        if self.keys.get(&bits).is_some_and(Holding::is_idle) {
            self.keys.remove(&bits);
        }
    }
}

impl Holding {
    const fn is_idle(&self) -> bool {
        self.tokens.is_empty() && self.pending == 0 && !self.is_renewing && self.returned.is_empty()
    }

    /// Takes what is to be given back. What has ended by itself is left out.
    fn returned(&mut self, now: Instant) -> Vec<Token> {
        let returned = self.returned.drain(..);
        returned
            .filter(|(_, until)| *until > now)
            .map(|(token, _)| token)
            .collect()
    }
}
