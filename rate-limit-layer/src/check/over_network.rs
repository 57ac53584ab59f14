use std::time::Instant;

use layer_http::RequestHead;
use layer_store::{ErrorKind, StoreError};

use crate::{
    check::{
        Checker,
        charge::Charge,
        decision::{Checked, Decision, Tell},
        unasked::Unasked,
    },
    ledger::{Ledger, reservation::Reservation},
    policy::costs::Costs,
};

impl Checker {
    /// Refuses a request that the ledger knows to be over its quota. `None`: the store has to be asked.
    pub(super) fn refuse_now(
        &self,
        ledger: &Ledger,
        head: &RequestHead<'_>,
        costs: &Costs,
    ) -> Option<Result<Checked, Unasked>> {
        let partitions = match self.partitions(head, costs) {
            Ok(partitions) => partitions,
            Err(unasked) => return Some(Err(unasked)),
        };
        // What was charged in advance passes, whatever the key owes now.
        if let Some(stocks) = &self.stocks
            && let cost @ 1.. = costs.of(0)
            && let Some(admitted) = self.spend_prepaid(stocks, &partitions, cost)
        {
            return Some(Ok(admitted.into()));
        }
        let refused = ledger.look(&self.limits, partitions.bits(&self.limits), costs);
        let excess = refused.err()?;
        let mut guard = self.begin(&partitions, *costs)?;
        let decision = guard.charge.refused_by_ledger(excess);
        Some(Ok(guard.checked(decision, Tell::Refusals)))
    }

    /// Charges a request in the ledger of this process and in a store that has to be waited for.
    pub(super) async fn charge_over_network<'a>(
        &'a self,
        ledger: &'a Ledger,
        charge: &mut Charge<'a>,
        deadline: Option<Instant>,
    ) -> Decision {
        let costs = *charge.costs();
        let keys = charge.partitions().bits(&self.limits);
        let mut reservation = Reservation::new(ledger, &self.limits, keys, costs);
        // ## Asked => at the gate
        let passage = ledger.gates.enter(reservation.keys(), deadline).await;
        if passage.is_none() {
            // ## At the gate => not sent in time
            charge.reserved(reservation);
            return charge.fail(&StoreError::not_applied(ErrorKind::Overloaded));
        }
        // ## At the gate => refused | asking the store
        // Those before it may have learnt that the key owes too much.
        if let Err(excess) = reservation.send() {
            return charge.refused_by_ledger(excess);
        }
        charge.reserved(reservation);
        self.caller.run_by(charge, deadline).await
    }
}
