use crate::algorithm::{
    gcra::{Rate, SLACK},
    span::Span,
    usage::{Blocked, Count, Usage},
};

/// The knowledge that this process has of one key under one limit: numbers in, numbers out.
///
/// Two debts of the key are known, and both are at most what the key owes in truth:
///
/// - **own**: what this process has charged the key for requests that it let through, from the time before their commands
///   were sent. Others can only have charged more.
/// - **reported**: the debt that the store reported last, counted from before the command was sent. The store read its clock
///   later, so the debt has been paid back further by then than is assumed here.
///
/// A request whose command is under way is **pending**. While the store counts everything it refuses nobody, as it may still be
/// refused itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    opened_at: u64,
    /// The time at which the debts below are owed, in microseconds.
    at: u64,
    own: Span,
    /// The time of the charge since which `own` is not zero.
    busy_since: u64,
    /// True if `own` has a charge that the store has not counted.
    unseen: bool,
    /// The price of all pending requests.
    pending: Span,
    /// What was charged to this process's share of the quota ([`FailureMode::Local`](crate::FailureMode::Local)).
    share: Span,
    reported: Span,
    /// The price of the charges that the report is about. `None`: of all, as it is the debt itself.
    reported_price: Option<Span>,
    /// How much longer than the report refuses a client has to wait: of a block, whose limit has no room when it ends.
    reported_longer: u64,
    /// The time before the command was sent that reported.
    reported_at: u64,
    /// How much later its reply came. The debt may be owed for so much longer than it is counted here.
    reply_took: u64,
    /// True if a request is on its way to ask anew, shortly before the report is too old.
    asking: bool,
}

/// A request under way: when it was sent, and which account has it among its pending ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    price: Span,
    pub(crate) sent_at: u64,
    opened_at: u64,
}

/// What the store reported of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    debt: Span,
    /// The price of the charges that it is about. `None`: of all.
    price: Option<Span>,
    /// How much longer than it refuses a client has to wait, in microseconds.
    longer: u64,
}

impl Report {
    /// Makes the report of a debt.
    pub(crate) const fn debt(debt: Span) -> Self {
        Self {
            debt,
            price: None,
            longer: 0,
        }
    }

    /// Makes the report of a reply to a command about `price`.
    ///
    /// GCRA's debt refuses a charge of any price. The other algorithms tell until when another charge of that price is refused. It is
    /// kept as the debt that refuses it for as long, and refuses no other: a smaller one may pass before, and a larger one only
    /// the store can tell a time.
    pub(crate) fn of(usage: Usage, rate: Rate, price: Span) -> Self {
        match usage {
            Usage::Debt(debt) => Self::debt(debt),
            Usage::Count(Count { wait: 0, .. }) => Self::debt(Span::ZERO),
            Usage::Count(Count { wait, .. }) => Self::refusing(rate, price, wait),
            Usage::Blocked(_) => Self::of_block(usage, rate, price),
        }
    }

    /// Makes the report of a reply to a command about `price`, of a limit with a block: only while that goes on is anything believed.
    ///
    /// It refuses until the end of the block, also if the limit has no room for the price then.
    pub(crate) fn of_block(usage: Usage, rate: Rate, price: Span) -> Self {
        match usage {
            Usage::Debt(_) | Usage::Count(_) => Self::debt(Span::ZERO),
            Usage::Blocked(Blocked { block, wait, .. }) => Self {
                longer: wait.saturating_sub(block),
                ..Self::refusing(rate, price, block)
            },
        }
    }

    /// Makes the report that refuses charges of `price` for so long.
    fn refusing(rate: Rate, price: Span, micros: u64) -> Self {
        Self {
            debt: rate.sum(rate.difference(rate.full(), price), Span::of_micros(micros)),
            price: Some(price),
            longer: 0,
        }
    }
}

/// The reason why an account refuses a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    /// What the key owes.
    pub(crate) debt: Span,
    /// The microseconds until the charge may be made.
    pub(crate) retry_after: u64,
}

impl Account {
    /// Opens an account that owes nothing.
    pub(crate) const fn open(now: u64) -> Self {
        Self {
            opened_at: now,
            at: now,
            own: Span::ZERO,
            busy_since: now,
            unseen: false,
            pending: Span::ZERO,
            share: Span::ZERO,
            reported: Span::ZERO,
            reported_price: None,
            reported_longer: 0,
            reported_at: 0,
            reply_took: 0,
            asking: false,
        }
    }

    /// Lets time pay back until `now`. A time in the past changes nothing.
    pub(crate) fn advance(&mut self, parts: u32, now: u64) {
        let elapsed = Span::of_micros(now.saturating_sub(self.at));
        self.at = self.at.max(now);
        for debt in [&mut self.own, &mut self.share, &mut self.reported] {
            *debt = debt.minus(elapsed, parts);
        }
        if self.own.is_zero() {
            self.unseen = false;
        }
    }

    /// Goes on under another quota of GCRA: what is owed is a time. Fractions are dropped if they are of other parts.
    ///
    /// A debt that the store would cut to the new burst is cut here too. A report of such a debt is not believed any more: the store has to
    /// be asked, as it cuts when it is.
    ///
    /// Pending charges were sent under the quota before: they are not known any more.
    pub(crate) fn change_rate(&mut self, rate: Rate, is_of_other_parts: bool) {
        let full = rate.full();
        for debt in [&mut self.own, &mut self.share, &mut self.reported] {
            if is_of_other_parts {
                debt.fraction = 0;
            }
        }
        let is_cut = |debt: Span| debt.micros.saturating_sub(full.micros) >= SLACK;
        for debt in [&mut self.own, &mut self.share] {
            if is_cut(*debt) {
                *debt = full;
            }
        }
        // A time that stands for a debt is another one under another burst.
        if is_cut(self.reported) || self.reported_price.is_some() {
            self.reported = Span::ZERO;
        }
        self.forget_pending();
    }

    /// Forgets all that was counted: under another quota the numbers mean nothing.
    pub(crate) fn begin_anew(&mut self) {
        let (at, opened_at) = (self.at, self.opened_at);
        *self = Self::open(at);
        self.opened_at = opened_at;
        self.forget_pending();
    }

    /// Lets those that are pending end without a change.
    const fn forget_pending(&mut self) {
        self.pending = Span::ZERO;
        self.opened_at = self.opened_at.wrapping_add(1);
    }

    /// Decides if a request of `price` may go to the store. An error: the store would refuse it too.
    ///
    /// `own` refuses only while it has charges that the store has not counted, and pending ones count then: the store would let
    /// them through beside those that it does not know of. What the store has counted, it reports; and after a reset at
    /// another process only the store knows.
    pub(crate) fn admit_to_store(&self, rate: Rate, price: Span) -> Result<(), Shortage> {
        // ## Reported => believed | asked again by one request, while the others go on believing | forgotten
        let reported = match self.age() {
            0..ASK_AFTER => self.reported_to(price),
            ASK_AFTER..BELIEF if self.asking => self.reported_to(price),
            _ => Span::ZERO,
        };
        // The client is told a time after which it surely passes.
        self.allow(rate, self.unseen(rate), reported, price)
            .map_err(|shortage| self.surely(shortage))
    }

    /// As [`admit_to_store`](Self::admit_to_store), but believes no report: another limit's is about another cost, and only the store can
    /// tell the truth over all.
    pub(crate) fn admit_to_ask(&self, rate: Rate, price: Span) -> Result<(), Shortage> {
        allow(rate, self.unseen(rate), price).map_err(|shortage| self.surely(shortage))
    }

    /// Returns true if the report is believed, and is about charges of another price.
    pub(crate) fn is_silent_about(&self, price: Span) -> bool {
        let is_other = self
            .reported_price
            .is_some_and(|reported| reported != price);
        is_other && !self.reported.is_zero() && self.age() < BELIEF
    }

    /// Makes a request pending: its command is about to be sent.
    pub(crate) fn send(&mut self, rate: Rate, price: Span) -> Pending {
        self.pending = rate.sum(self.pending, price);
        self.asking |= self.age() >= ASK_AFTER;
        Pending {
            price,
            sent_at: self.at,
            opened_at: self.opened_at,
        }
    }

    /// Charges a pending request: the store has counted it.
    pub(crate) fn charge(&mut self, rate: Rate, pending: Pending) {
        self.end(rate, pending);
        if self.own.is_zero() {
            self.busy_since = pending.sent_at;
            self.own = rate.after(pending.price, self.at.saturating_sub(pending.sent_at));
        } else {
            // One that was sent before: what it had paid back by then is not owed.
            let before = self.busy_since.saturating_sub(pending.sent_at);
            self.own = rate.sum(self.own, rate.after(pending.price, before));
        }
    }

    /// Ends a pending request that the store did not count.
    pub(crate) fn end(&mut self, rate: Rate, pending: Pending) {
        if self.opened_at == pending.opened_at {
            self.pending = rate.difference(self.pending, pending.price);
        }
    }

    /// Takes back a charge that was made for a request that does not pass after all, also from the store's report: it is being
    /// refunded there.
    pub(crate) fn refund(&mut self, rate: Rate, price: Span) {
        self.own = rate.difference(self.own, price);
        self.reported = rate.difference(self.reported, price);
    }

    /// Charges a request that passes without the store, if this process has let fewer through than the quota allows. Pending ones
    /// count: the store may let them through.
    pub(crate) fn admit_unseen(&mut self, rate: Rate, price: Span) -> Result<(), Shortage> {
        let reported = if self.age() < BELIEF {
            self.reported_to(price)
        } else {
            Span::ZERO
        };
        self.allow(rate, self.let_through(rate), reported, price)?;
        if self.own.is_zero() {
            self.busy_since = self.at;
        }
        self.own = rate.sum(self.own, price);
        self.unseen = true;
        Ok(())
    }

    /// As [`admit_unseen`](Self::admit_unseen), for one of `instances` processes that share the quota out.
    ///
    /// A request costs the share `instances` times its price: that is a burst and a rate of one part each. A share of less than
    /// one request lets one through and then waits until it has been earned.
    pub(crate) fn admit_share(
        &mut self,
        rate: Rate,
        price: Span,
        instances: u32,
    ) -> Result<(), Shortage> {
        let share_price = rate.times(price, instances);
        let most = rate.full().max(share_price);
        let owed = rate.sum(self.share, share_price);
        if owed > most {
            return Err(Shortage {
                debt: self.share.min(rate.full()),
                retry_after: rate.difference(owed, most).ceil_micros(),
            });
        }
        self.admit_unseen(rate, price)?;
        self.share = owed;
        Ok(())
    }

    /// Learns what the store reported to a command that was sent after `sent_at`.
    pub(crate) fn learn(&mut self, rate: Rate, report: Report, sent_at: u64) {
        let took = self.at.saturating_sub(sent_at);
        let debt = rate.after(report.debt, took);
        if sent_at >= self.reported_at {
            (self.reported, self.reported_at, self.asking) = (debt, sent_at, false);
            self.reported_price = report.price;
            self.reported_longer = report.longer;
            self.reply_took = took;
        } else if self.reported_price == report.price {
            // An older command that was answered later: both debts are owed, so the larger one is.
            self.reported = self.reported.max(debt);
            self.reported_longer = self.reported_longer.max(report.longer);
            self.reply_took = self.reply_took.max(took);
        }
    }

    /// Returns what is known to be owed. What is blocked by it leaves the table last.
    pub(crate) fn owed(&self) -> Span {
        self.own.max(self.reported)
    }

    /// Returns the price of what is pending.
    #[cfg(test)]
    pub(crate) const fn under_way(&self) -> Span {
        self.pending
    }

    /// Returns what this process has let through, and what it may be about to.
    const fn let_through(&self, rate: Rate) -> Span {
        rate.sum(self.own, self.pending)
    }

    /// Returns what may refuse beside the store: what was let through, as long as the store has not counted all of it.
    const fn unseen(&self, rate: Rate) -> Span {
        match self.unseen {
            true => self.let_through(rate),
            false => Span::ZERO,
        }
    }

    const fn surely(&self, shortage: Shortage) -> Shortage {
        Shortage {
            retry_after: shortage.retry_after + self.reply_took,
            ..shortage
        }
    }

    /// Returns what is known from the report for a charge of `price`.
    fn reported_to(&self, price: Span) -> Span {
        match self.reported_price {
            Some(reported) if reported != price => Span::ZERO,
            _ => self.reported,
        }
    }

    /// Decides by what this process knows itself, and by what was reported.
    fn allow(&self, rate: Rate, own: Span, reported: Span, price: Span) -> Result<(), Shortage> {
        let Err(shortage) = allow(rate, own.max(reported), price) else {
            return Ok(());
        };
        let retry_after = match rate.retry_after(reported, price) {
            0 => shortage.retry_after,
            wait => shortage.retry_after.max(wait + self.reported_longer),
        };
        Err(Shortage {
            retry_after,
            ..shortage
        })
    }

    /// Returns the age of the report.
    const fn age(&self) -> u64 {
        self.at - self.reported_at
    }
}

fn allow(rate: Rate, debt: Span, price: Span) -> Result<(), Shortage> {
    match rate.retry_after(debt, price) {
        0 => Ok(()),
        retry_after => Err(Shortage { debt, retry_after }),
    }
}

/// The time for which a report is believed, in microseconds: a reset at another process is seen after it.
const BELIEF: u64 = 1_000_000;
/// The age at which one request of a blocked key asks the store anew, so that not all of them do a moment later.
const ASK_AFTER: u64 = 900_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Quota;

    /// 10 a second, and 10 at once: a request costs 0.1 s.
    const RATE: Rate = Quota::per_second(10).rate();
    const PRICE: Span = RATE.price(1);
    const MICROS: u64 = PRICE.micros;
    const NOW: u64 = 1_767_225_600_000_000;

    fn at(mut account: Account, now: u64) -> Account {
        account.advance(RATE.parts(), now);
        account
    }

    #[test]
    fn a_pending_request_refuses_nobody_while_the_store_counts_everything() {
        let mut account = Account::open(NOW);
        let mut sent = Vec::new();
        for _ in 0..100 {
            assert_eq!(account.admit_to_store(RATE, PRICE), Ok(()));
            sent.push(account.send(RATE, PRICE));
        }
        // But it takes the place of one that would pass without the store, and of all others from then on.
        assert!(account.admit_unseen(RATE, PRICE).is_err());
        for pending in sent.drain(..91) {
            account.end(RATE, pending);
        }
        assert_eq!(account.admit_unseen(RATE, PRICE), Ok(()));
        assert!(account.admit_to_store(RATE, PRICE).is_err());
    }

    #[test]
    fn a_report_is_believed_for_a_second_and_one_request_asks_before() {
        let mut account = Account::open(NOW);
        account.learn(RATE, Report::debt(RATE.price(10)), NOW);
        let shortage = Shortage {
            debt: RATE.price(10),
            retry_after: 100_000,
        };
        assert_eq!(account.admit_to_store(RATE, PRICE), Err(shortage));
        // After 0.9 s all but one request are earned again, so a larger one is refused.
        let large = RATE.price(10);
        let late = at(account, NOW + 899_999);
        assert!(late.admit_to_store(RATE, large).is_err());
        let mut late = at(account, NOW + 900_000);
        assert_eq!(late.admit_to_store(RATE, large), Ok(()));
        late.send(RATE, large);
        assert!(
            late.admit_to_store(RATE, large).is_err(),
            "one asks, the others wait"
        );
        let later = at(late, NOW + 999_999);
        assert!(later.admit_to_store(RATE, large).is_err());
        let later = at(late, NOW + 1_000_000);
        assert_eq!(later.admit_to_store(RATE, large), Ok(()));
        // The answer counts from its own time.
        late.learn(RATE, Report::debt(RATE.price(10)), NOW + 900_000);
        let later = at(late, NOW + 1_799_999);
        assert!(later.admit_to_store(RATE, large).is_err());
    }

    #[test]
    fn the_newest_report_counts_and_an_older_one_only_if_it_is_larger() {
        let mut account = Account::open(NOW + 10);
        account.learn(RATE, Report::debt(RATE.price(10)), NOW + 5);
        account.learn(RATE, Report::debt(RATE.price(3)), NOW + 4);
        assert!(account.admit_to_store(RATE, PRICE).is_err());
        account.learn(RATE, Report::debt(RATE.price(3)), NOW + 6);
        assert_eq!(account.admit_to_store(RATE, PRICE), Ok(()));
        account.learn(RATE, Report::debt(RATE.price(10)), NOW + 4);
        assert!(account.admit_to_store(RATE, PRICE).is_err());
    }

    #[test]
    fn what_a_window_tells_of_a_cost_refuses_that_cost_alone_and_for_as_long() {
        let mut account = Account::open(NOW);
        let five = RATE.price(5);
        let told = |wait| {
            Usage::Count(Count {
                wait,
                ..Count::default()
            })
        };
        account.learn(RATE, Report::of(told(420_000), RATE, five), NOW);
        let later = at(account, NOW + 20_000);
        let shortage = later.admit_to_store(RATE, five).unwrap_err();
        assert_eq!(shortage.retry_after, 400_000);
        assert_eq!(later.admit_to_store(RATE, PRICE), Ok(()));
        assert_eq!(later.admit_to_store(RATE, RATE.price(6)), Ok(()));
        assert!(
            at(account, NOW + 419_999)
                .admit_to_store(RATE, five)
                .is_err()
        );
        assert_eq!(
            at(account, NOW + 420_000).admit_to_store(RATE, five),
            Ok(())
        );
        // A later reply about another cost takes its place, and an older one does not.
        account.advance(RATE.parts(), NOW + 20);
        account.learn(RATE, Report::of(told(700_000), RATE, PRICE), NOW + 10);
        account.learn(RATE, Report::of(told(900_000), RATE, five), NOW + 9);
        assert_eq!(account.admit_to_store(RATE, five), Ok(()));
        assert!(account.admit_to_store(RATE, PRICE).is_err());
        account.learn(RATE, Report::of(told(0), RATE, PRICE), NOW + 11);
        assert_eq!(account.admit_to_store(RATE, PRICE), Ok(()));
    }

    #[test]
    fn of_a_limit_with_a_block_only_the_block_is_believed_and_no_longer_than_it_goes_on() {
        let count = |wait| {
            Usage::Count(Count {
                wait,
                ..Count::default()
            })
        };
        for usage in [Usage::Debt(RATE.price(10)), count(700_000)] {
            let mut account = Account::open(NOW);
            account.learn(RATE, Report::of_block(usage, RATE, PRICE), NOW);
            assert_eq!(account.admit_to_store(RATE, PRICE), Ok(()));
        }
        // Another 0.5 s, and 0.6 s until the limit has room.
        let usage = count(600_000).blocked_for(500_000, RATE, 1);
        let mut account = Account::open(NOW + 10_000);
        account.learn(RATE, Report::of_block(usage, RATE, PRICE), NOW);
        let shortage = account.admit_to_store(RATE, PRICE).unwrap_err();
        assert_eq!(shortage.retry_after, 600_000);
        assert_eq!(account.admit_to_store(RATE, RATE.price(2)), Ok(()));
        let later = at(account, NOW + 499_999);
        assert!(later.admit_to_store(RATE, PRICE).is_err());
        let later = at(account, NOW + 500_000);
        assert_eq!(later.admit_to_store(RATE, PRICE), Ok(()));
        // Under another burst the same number would be another time.
        account.change_rate(Quota::per_second(10).burst(9).rate(), false);
        assert_eq!(account.admit_to_store(RATE, PRICE), Ok(()));
    }

    #[test]
    fn a_client_is_told_a_time_after_which_the_store_surely_lets_it_pass() {
        // Sent at NOW, answered 30 ms later: the store has read its clock at some time between.
        let mut account = Account::open(NOW + 30_000);
        account.learn(RATE, Report::debt(RATE.price(10)), NOW);
        let shortage = account.admit_to_store(RATE, PRICE).unwrap_err();
        assert_eq!(shortage.retry_after, MICROS);
    }

    #[test]
    fn what_passed_through_the_store_leaves_less_for_those_that_pass_without() {
        let mut account = Account::open(NOW);
        for _ in 0..7 {
            let pending = account.send(RATE, PRICE);
            account.charge(RATE, pending);
        }
        for left in [true, true, true, false] {
            assert_eq!(account.admit_unseen(RATE, PRICE).is_ok(), left);
        }
        // The store has counted 7 and would let it pass. All in all 10 have passed.
        assert!(account.admit_to_store(RATE, PRICE).is_err());
        let later = at(account, NOW + 100_000);
        assert_eq!(later.admit_to_store(RATE, PRICE), Ok(()));
    }

    #[test]
    fn while_the_store_counts_everything_it_alone_refuses() {
        let mut account = Account::open(NOW);
        for _ in 0..10 {
            let pending = account.send(RATE, PRICE);
            account.charge(RATE, pending);
        }
        // Another process may have reset the key.
        assert_eq!(account.admit_to_store(RATE, PRICE), Ok(()));
    }

    #[test]
    fn a_charge_counts_from_the_time_at_which_it_was_sent() {
        let mut account = Account::open(NOW);
        let first = account.send(RATE, PRICE);
        let mut later = at(account, NOW + MICROS / 4);
        later.charge(RATE, first);
        assert_eq!(later.owed().micros, MICROS - MICROS / 4);
        // One that was sent before an idle time, and is answered after it.
        let mut account = Account::open(NOW);
        let first = account.send(RATE, PRICE);
        let mut later = at(account, NOW + 2 * MICROS);
        let second = later.send(RATE, PRICE);
        later.charge(RATE, second);
        later.charge(RATE, first);
        assert_eq!(later.owed(), PRICE, "the first is long paid back");
        later.refund(RATE, PRICE);
        assert_eq!(later.owed(), Span::ZERO);
    }

    /// Sent at once, and answered one after the other: only the first has begun to be paid back.
    #[test]
    fn charges_that_were_sent_at_once_are_owed_in_full() {
        let mut account = Account::open(NOW);
        let sent = [0; 8].map(|_| account.send(RATE, PRICE));
        for (later, pending) in sent.into_iter().enumerate() {
            account.advance(RATE.parts(), NOW + 20_000 + later as u64);
            account.charge(RATE, pending);
        }
        assert_eq!(account.owed().micros, 8 * MICROS - 20_007);
    }

    #[test]
    fn a_request_of_a_forgotten_account_ends_nobody_elses() {
        let stranger = Account::open(NOW - 1).send(RATE, PRICE);
        let mut account = Account::open(NOW);
        account.send(RATE, PRICE);
        account.end(RATE, stranger);
        assert_eq!(account.let_through(RATE), PRICE);
    }

    #[test]
    fn a_share_is_one_part_of_the_burst_and_of_the_rate() {
        let mut account = Account::open(NOW);
        for passes in [true, true, false] {
            assert_eq!(account.admit_share(RATE, PRICE, 4).is_ok(), passes);
        }
        let shortage = account.admit_share(RATE, PRICE, 4).unwrap_err();
        assert_eq!(
            shortage.retry_after,
            RATE.price(12).micros - RATE.full().micros
        );
        let mut later = at(account, NOW + shortage.retry_after - 1);
        assert!(later.admit_share(RATE, PRICE, 4).is_err());
        let mut later = at(account, NOW + shortage.retry_after);
        assert!(later.admit_share(RATE, PRICE, 4).is_ok());
    }

    #[test]
    fn a_share_of_less_than_one_request_lets_one_through_in_its_time() {
        let mut account = Account::open(NOW);
        assert!(account.admit_share(RATE, PRICE, 30).is_ok());
        let shortage = account.admit_share(RATE, PRICE, 30).unwrap_err();
        assert_eq!(shortage.retry_after, RATE.price(30).micros);
        let mut later = at(account, NOW + shortage.retry_after);
        assert!(later.admit_share(RATE, PRICE, 30).is_ok());
    }

    #[test]
    fn time_does_not_run_backwards() {
        let mut account = Account::open(NOW);
        account.learn(RATE, Report::debt(RATE.price(10)), NOW);
        let earlier = at(account, NOW - 500_000);
        assert_eq!(
            earlier.admit_to_store(RATE, PRICE).unwrap_err().debt,
            RATE.price(10)
        );
    }
}
