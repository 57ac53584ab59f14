use std::time::Instant;

use tokio::{sync::oneshot, time::timeout_at};

use crate::{
    algorithm::{gcra::Rate, span::Span},
    check::outage::Unavailable,
};

/// The outcome for a request that waits for a charge which takes it along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// It passes. The debt is what its key owes beside those that were charged with it and after it. `None`: the store did not answer.
    Passes(Option<Span>),
    /// The store failed, and the policy fails closed.
    Fails(Unavailable),
}

/// A request that waits, on the list of its key.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) cost: u64,
    sender: oneshot::Sender<Share>,
}

/// The place of a request on the list of its key. Dropped, it gives the place up.
#[derive(Debug)]
pub(crate) struct Place(oneshot::Receiver<Share>);

impl Waiting {
    pub(super) fn new(cost: u64) -> (Self, Place) {
        let (sender, receiver) = oneshot::channel();
        (Self { cost, sender }, Place(receiver))
    }

    /// Returns true if the request has left.
    pub(super) fn has_left(&self) -> bool {
        self.sender.is_closed()
    }
}

impl Place {
    /// Waits for the charge. `None`: the request is to be charged alone, as it is late, or as too little is left for all.
    pub(crate) async fn share(&mut self, deadline: Option<Instant>) -> Option<Share> {
        match deadline {
            Some(deadline) => match timeout_at(deadline.into(), &mut self.0).await {
                Ok(share) => share.ok(),
                Err(_) => self.leave(),
            },
            None => (&mut self.0).await.ok(),
        }
    }

    /// Gives the place up, and returns what came before that and was not taken.
    pub(crate) fn leave(&mut self) -> Option<Share> {
        self.0.close();
        self.0.try_recv().ok()
    }
}

/// The requests that one charge takes along, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Along(Vec<Waiting>);

impl Along {
    /// Takes the first of those who wait, as many as fit. Those that do not are told to ask alone.
    pub(super) fn of(waiting: &mut Vec<Waiting>, fit: u64) -> Self {
        let mut left = fit;
        let takes = |waiting: &Waiting| match left.checked_sub(waiting.cost) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        };
        Self(
            std::mem::take(waiting)
                .into_iter()
                .take_while(takes)
                .collect(),
        )
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the cost of all.
    pub(crate) fn cost(&self) -> u64 {
        self.0.iter().map(|waiting| waiting.cost).sum()
    }

    /// Lets all pass, if their key owes this and nothing was charged after them. Returns the cost of those that have left.
    pub(crate) fn pass(self, rate: Rate, debt: Option<Span>) -> u64 {
        let mut later = self.cost();
        let mut unused = 0;
        for Waiting { cost, sender } in self.0 {
            later -= cost;
            let debt = debt.map(|debt| rate.difference(debt, rate.price(later)));
            if sender.send(Share::Passes(debt)).is_err() {
                unused += cost;
            }
        }
        unused
    }

    /// Refuses all, as the store failed.
    pub(crate) fn fail(self, reason: Unavailable) {
        for waiting in self.0 {
            // Whoever has left is told nothing.
            let _ = waiting.sender.send(Share::Fails(reason));
        }
    }
}
