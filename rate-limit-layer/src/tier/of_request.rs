use layer_http::{RequestHead, Resolved};
use layer_store::Identity;

use super::{
    Find,
    answers::{Answers, Asking, Told},
    quotas::Quotas,
};
use crate::{
    check::Checker,
    policy::{limit::Limit, limit_set::MAX_POLICIES},
};

/// Whom the quotas are for.
#[derive(Clone, Copy)]
pub(crate) enum Client<'c, 'a> {
    Request(&'c RequestHead<'a>),
    Identity(&'c Identity<'a>),
}

impl Checker {
    /// Returns the quotas of a client. `None`: a look-up has to be waited for.
    pub(crate) fn quotas_now(&self, client: Client<'_, '_>) -> Option<Quotas> {
        let mut quotas = self.live().get();
        for (index, limit) in self.limits().iter().enumerate() {
            match tell(limit, client) {
                Told::Tier(tier) => choose(&mut quotas, index, limit, tier),
                Told::Wait(_) => return None,
            }
        }
        Some(quotas)
    }

    /// Returns the quotas of a client, and waits for look-ups. All of them are under way at once.
    pub(crate) async fn quotas(&self, client: Client<'_, '_>) -> Quotas {
        let mut quotas = self.live().get();
        let mut waiting = [const { None::<Asking> }; MAX_POLICIES];
        for (index, limit) in self.limits().iter().enumerate() {
            match tell(limit, client) {
                Told::Tier(tier) => choose(&mut quotas, index, limit, tier),
                Told::Wait(asking) => waiting[index] = Some(asking),
            }
        }
        for ((index, limit), asking) in self.limits().iter().enumerate().zip(waiting) {
            if let Some(asking) = asking {
                let tier = Answers::wait(asking).await;
                choose(&mut quotas, index, limit, tier);
            }
        }
        quotas
    }

    /// Forgets the tiers that were found for an identity.
    pub(crate) fn forget_tier(&self, identity: &Identity<'_>) {
        for limit in self.limits().iter() {
            if let Some(tiers) = &limit.tiers
                && let Find::LookUp(answers) = &tiers.find
            {
                answers.forget(limit.by.key(identity.as_ref(), false).bits());
            }
        }
    }
}

/// Asks for the tier of a client under one limit.
fn tell(limit: &Limit, client: Client<'_, '_>) -> Told {
    let Some(tiers) = &limit.tiers else {
        return Told::Tier(None);
    };
    let of_identity = |answers, identity: &Identity<'_>| {
        let key = limit.by.key(identity.as_ref(), false);
        Answers::tell(answers, key.bits(), identity)
    };
    match (&tiers.find, client) {
        (Find::Head(tier_of), Client::Request(head)) => Told::Tier(tier_of(head)),
        // There is no head.
        (Find::Head(_), Client::Identity(_)) => Told::Tier(None),
        (Find::LookUp(answers), Client::Identity(identity)) => of_identity(answers, identity),
        (Find::LookUp(answers), Client::Request(head)) => match limit.by.resolve(head) {
            Resolved::Found(identity) => of_identity(answers, &identity),
            // What stands in for an identity is nobody that a tier was given to.
            _ => Told::Tier(None),
        },
    }
}

fn choose(quotas: &mut Quotas, index: usize, limit: &Limit, tier: Option<crate::Quota>) {
    if let Some(tiers) = &limit.tiers
        && let Some(tier) = tiers.fitting(tier, limit.quota, &limit.name)
    {
        quotas.set(index, tier);
    }
}
