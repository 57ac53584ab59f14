use crate::{
    algorithm::usage::Usage,
    check::decision::{Debt, Excess},
    ledger::{
        Ledger,
        account::{Account, Pending, Report, Shortage},
    },
    policy::{
        FailureMode,
        costs::Costs,
        limit::Limit,
        limit_set::{LimitSet, MAX_POLICIES},
    },
};

/// The charges of one request in a [`Ledger`], from before its first command until it passes or not.
///
/// Dropped before [`admitted`](Self::admitted), they are all taken back: the request does not pass.
pub(crate) struct Reservation<'a> {
    ledger: &'a Ledger,
    limits: &'a [Limit],
    costs: Costs,
    /// The limits that count the request.
    members: LimitSet,
    keys: [u128; MAX_POLICIES],
    /// For each limit at which the request is pending, what was sent.
    sent: [Option<Pending>; MAX_POLICIES],
    /// The limits that were charged, by the store or without it.
    charged: LimitSet,
}

impl<'a> Reservation<'a> {
    /// Makes a reservation of a request that is not sent yet.
    pub(crate) fn new(
        ledger: &'a Ledger,
        limits: &'a [Limit],
        keys: impl Iterator<Item = (usize, u128)>,
        costs: Costs,
    ) -> Self {
        let mut this = Self {
            ledger,
            limits,
            costs,
            members: LimitSet::default(),
            keys: [0; MAX_POLICIES],
            sent: [None; MAX_POLICIES],
            charged: LimitSet::default(),
        };
        for (limit, key) in keys {
            this.keys[limit] = key;
            this.members |= LimitSet::one(limit);
        }
        this
    }

    /// Returns the limits that count the request, and the bits of its keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (usize, u128)> + Clone {
        self.members.iter().map(|limit| (limit, self.keys[limit]))
    }

    /// Makes the request pending, as its commands are about to be sent. An error: it cannot pass.
    pub(crate) fn send(&mut self) -> Result<(), Excess> {
        let now = self.ledger.clock.now();
        // ## Asked => refused | on to the store
        // All accounts are looked at before one is changed: a refusal names every limit that refuses.
        self.ledger
            .look_at(self.limits, self.keys(), &self.costs, now)?;
        for limit in self.members.iter() {
            let rate = self.limits[limit].rate;
            let price = rate.price(self.costs.of(limit));
            let sent = self.account(limit, now, |account| account.send(rate, price));
            self.sent[limit] = Some(sent);
        }
        Ok(())
    }

    /// Learns the debts that a program replied, and charges their limits if it did.
    pub(crate) fn learn(&mut self, charged: bool, debts: impl Iterator<Item = Debt>) {
        let now = self.ledger.clock.now();
        for Debt { limit, usage } in debts {
            let Some(sent) = self.sent[limit] else {
                continue;
            };
            let rate = self.limits[limit].rate;
            let price = rate.price(self.costs.of(limit));
            let report = match self.limits[limit].block {
                None => Report::of(usage, rate, price),
                Some(_) => Report::of_block(usage, rate, price),
            };
            self.account(limit, now, |account| {
                account.learn(rate, report, sent.sent_at);
                if charged {
                    account.charge(rate, sent);
                }
            });
            if charged {
                self.charged |= LimitSet::one(limit);
                self.sent[limit] = None;
            }
        }
    }

    /// Lets the request pass `members` without the store, as far as the ledger allows it.
    pub(crate) fn admit_unseen(&mut self, members: LimitSet) -> Result<(), Excess> {
        let now = self.ledger.clock.now();
        let mut excess = None;
        for limit in members.iter() {
            let (rate, mode) = (self.limits[limit].rate, self.limits[limit].mode());
            let (sent, price) = (self.sent[limit].take(), rate.price(self.costs.of(limit)));
            let admitted = self.account(limit, now, |account| {
                // It does not stand in its own way.
                if let Some(sent) = sent {
                    account.end(rate, sent);
                }
                match mode {
                    _ if price.is_zero() => Ok(()),
                    FailureMode::Local(instances) => {
                        account.admit_share(rate, price, instances.get())
                    }
                    FailureMode::Open | FailureMode::Closed => account.admit_unseen(rate, price),
                }
            });
            match admitted {
                Ok(()) => self.charged |= LimitSet::one(limit),
                Err(shortage) => Excess::add(&mut excess, shortage.of(limit)),
            }
        }
        excess.map_or(Ok(()), Err)
    }

    /// Keeps all charges: the request passes.
    pub(crate) fn admitted(&mut self) {
        self.charged = LimitSet::default();
    }

    fn account<T>(&self, limit: usize, now: u64, f: impl FnOnce(&mut Account) -> T) -> T {
        let (limit, key) = (&self.limits[limit], self.keys[limit]);
        self.ledger.table.open(limit, key, now, f)
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let now = self.ledger.clock.now();
        for (limit, key) in self.keys() {
            let rate = self.limits[limit].rate;
            let price = rate.price(self.costs.of(limit));
            let (sent, charged) = (self.sent[limit], self.charged.contains(limit));
            self.ledger
                .table
                .find(&self.limits[limit], key, now, |account| {
                    if let Some(sent) = sent {
                        account.end(rate, sent);
                    }
                    if charged {
                        account.refund(rate, price);
                    }
                });
        }
    }
}

impl Shortage {
    pub(super) const fn of(self, limit: usize) -> Excess {
        Excess {
            debt: Debt {
                limit,
                usage: Usage::Debt(self.debt),
            },
            violated: LimitSet::one(limit),
            retry_after: self.retry_after,
        }
    }
}
