use std::{
    error::Error,
    fmt, mem, slice,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use layer_http::RequestHead;
use layer_store::{
    Context, ErrorKind, Identity, IdentityRef, Key, Op, Output, Reply, SharedStore, Store,
    StoreError, StoreExt,
};

use crate::{
    InvalidCost, Reason,
    command::{Claims, Group},
    limit::{Bucket, Claim, NoClaim},
    limit_set::{MOST, Set},
    policy::FailureMode,
    program::CHARGE,
    verdict::{Account, Outcome, Refusal},
};

/// Policies over a store: the check itself, for [`Limiter`](crate::Limiter) and layer alike.
pub(crate) struct Core {
    store: SharedStore,
    /// The same store for calls that wait, which end in time whatever it does.
    waiting: SharedStore,
    buckets: Arc<[Bucket]>,
    /// How long a check may take, however many commands it needs.
    budget: Duration,
    /// Whether somebody else tells of an outage.
    has_breaker: bool,
    /// How often a check failed that nobody else tells of.
    unchecked: AtomicU64,
}

/// How long a check may take where the store sets no limit of its own.
const BUDGET: Duration = Duration::from_millis(100);
const CX: Context = Context::new("ratelimit");

impl Core {
    pub(crate) fn new(store: SharedStore, buckets: Arc<[Bucket]>) -> Self {
        let waiting = store.clone().limited(BUDGET);
        let info = waiting.info();
        Self {
            store,
            waiting,
            buckets,
            budget: info.call_limit.unwrap_or(BUDGET),
            has_breaker: info.health.breaker.is_some(),
            unchecked: AtomicU64::new(0),
        }
    }

    pub(crate) fn with(&self, bucket: Bucket) -> Self {
        let mut names = self.buckets.iter().map(|bucket| &bucket.name);
        assert!(
            names.all(|name| *name != bucket.name),
            "two policies named {:?} would share their buckets: write .named(..) on one of them",
            bucket.name
        );
        assert!(
            self.buckets.len() < MOST,
            "at most {MOST} policies stand together: write a second layer"
        );
        let buckets = self.buckets.iter().cloned().chain([bucket]).collect();
        Self::new(self.store.clone(), buckets)
    }

    pub(crate) fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// Whether every policy can ever allow `cost` requests at once.
    pub(crate) fn allows(&self, cost: u32) -> Result<(), InvalidCost> {
        if cost == 0 {
            return Err(InvalidCost::zero());
        }
        for bucket in &*self.buckets {
            let burst = bucket.quota.capacity();
            if burst < cost {
                return Err(InvalidCost::over(cost, bucket.name.clone(), burst));
            }
        }
        Ok(())
    }

    /// Charges a request, if there is one policy, by the peer's address, and the store needs no waiting. `None`: nothing was
    /// charged, ask [`check_now`](Self::check_now).
    #[inline]
    pub(crate) fn check_peer_now(&self, head: &RequestHead<'_>, cost: u32) -> Option<Outcome> {
        let [bucket] = &*self.buckets else {
            return None;
        };
        let identity = bucket.extract_peer(head)?;
        self.charge_one_now(bucket, identity.as_ref(), cost)
    }

    /// Charges a request, if the store needs no waiting. `None`: nothing was charged, ask [`check`](Self::check).
    pub(crate) fn check_now(
        &self,
        head: &RequestHead<'_>,
        cost: u32,
    ) -> Option<Result<Outcome, NoClaim>> {
        if let [bucket] = &*self.buckets
            && let Some(identity) = bucket.extract(head)
        {
            return self.charge_one_now(bucket, identity.as_ref(), cost).map(Ok);
        }
        match self.claims(head) {
            Ok(claims) => self.charge_now(&claims, cost).map(Ok),
            Err(no_claim) => Some(Err(no_claim)),
        }
    }

    #[inline]
    fn charge_one_now(
        &self,
        bucket: &Bucket,
        subject: IdentityRef<'_>,
        cost: u32,
    ) -> Option<Outcome> {
        let key = bucket.key(subject, false);
        let op = Op::Run {
            program: &CHARGE,
            keys: slice::from_ref(&key),
            args: &bucket.args(bucket.rate.price(cost) as i64),
        };
        let reply = self.store.call_now(&op, &CX);
        if let Some(Ok(Reply::Output(output))) = &reply
            && let Some(&[1, debt]) = output.inline_ints()
        {
            // Numbers own nothing: what is left to drop is known to be nothing.
            mem::forget(reply);
            let debt = debt as u64;
            return Some(Outcome::Admitted(Some(Account { bucket: 0, debt })));
        }
        let outcome = self.read(&reply?, Set::one(0), cost);
        Some(outcome.unwrap_or(Outcome::Admitted(None)))
    }

    /// Charges a request, waiting for the store.
    pub(crate) async fn check(
        &self,
        head: &RequestHead<'_>,
        cost: u32,
    ) -> Result<Outcome, NoClaim> {
        let claims = self.claims(head)?;
        Ok(self.charge(&claims, cost).await)
    }

    /// A claim of every policy on the same subject.
    pub(crate) fn claims_of<'a>(&self, identity: Identity<'a>) -> Claims<'a> {
        let mut claims = Claims::default();
        for bucket in 0..self.buckets.len() {
            claims.push(Claim {
                bucket,
                fallback: false,
                identity: identity.clone(),
            });
        }
        claims
    }

    /// Charges claims, if the store needs no waiting. `None`: nothing was charged, ask [`charge`](Self::charge).
    pub(crate) fn charge_now(&self, claims: &Claims<'_>, cost: u32) -> Option<Outcome> {
        let mut check = Unfinished::new(self, claims, cost);
        while let Some(group) = Group::next(&self.buckets, claims, check.tally.seen) {
            let args = group.args(&self.buckets, |rate| rate.price(cost) as i64);
            let reply = self.store.call_now(&group.op(&args), &CX)?;
            if let Some(outcome) = self.count(&mut check.tally, &group, &reply, cost) {
                return Some(outcome);
            }
        }
        Some(Outcome::Admitted(check.finish().tightest))
    }

    /// Charges claims, a command for each subject among them, all within one deadline.
    pub(crate) async fn charge(&self, claims: &Claims<'_>, cost: u32) -> Outcome {
        let cx = CX.within(self.budget);
        let mut check = Unfinished::new(self, claims, cost);
        while let Some(group) = Group::next(&self.buckets, claims, check.tally.seen) {
            let args = group.args(&self.buckets, |rate| rate.price(cost) as i64);
            let reply = self.waiting.apply(&group.op(&args), &cx).await;
            if let Some(outcome) = self.count(&mut check.tally, &group, &reply, cost) {
                return outcome;
            }
        }
        Outcome::Admitted(check.finish().tightest)
    }

    /// How a subject stands with each policy.
    pub(crate) async fn peek(&self, identity: &Identity<'_>) -> Result<Vec<Account>, StoreError> {
        let keys: Vec<_> = self.keys(identity.as_ref(), false).collect();
        let args: Vec<_> = self
            .buckets
            .iter()
            .flat_map(|bucket| bucket.args(0))
            .collect();
        let data = self.waiting.run(&CX, &CHARGE, &keys, &args).await?;
        (0..keys.len())
            .map(|index| Account::read(&data, index + 1, index).ok_or_else(corrupt))
            .collect()
    }

    /// Forgets what a subject was charged.
    pub(crate) async fn reset(&self, identity: &Identity<'_>) -> Result<(), StoreError> {
        let subject = identity.as_ref();
        let named = self.keys(subject, false);
        let keys: Vec<_> = named.chain(self.keys(subject, true)).collect();
        self.waiting.delete_many(&CX, &keys).await.map(drop)
    }

    fn claims<'a>(&self, head: &RequestHead<'a>) -> Result<Claims<'a>, NoClaim> {
        let mut claims = Claims::default();
        for (index, bucket) in self.buckets.iter().enumerate() {
            match bucket.claim(index, head) {
                Ok(claim) => claims.push(claim),
                Err(NoClaim::Skip) => {}
                Err(no_claim) => return Err(no_claim),
            }
        }
        Ok(claims)
    }

    fn keys<'a>(
        &'a self,
        subject: IdentityRef<'a>,
        fallback: bool,
    ) -> impl Iterator<Item = Key<'a>> {
        let buckets = self.buckets.iter();
        buckets.map(move |bucket| bucket.key(subject, fallback))
    }

    /// Adds a group's reply. `Some`: the check ends with it.
    fn count(
        &self,
        tally: &mut Tally,
        group: &Group<'_>,
        reply: &Result<Reply, StoreError>,
        cost: u32,
    ) -> Option<Outcome> {
        tally.seen |= group.members();
        match self.read(reply, group.members(), cost)? {
            Outcome::Admitted(account) => {
                tally.charged |= group.members();
                tally.tightest = [tally.tightest, account]
                    .into_iter()
                    .flatten()
                    .min_by_key(|account| self.remaining(*account));
                None
            }
            refused => Some(refused),
        }
    }

    /// What a reply to a charge of these buckets, in their order, means. `None`: it was not made, and they may pass without.
    #[inline]
    fn read(&self, reply: &Result<Reply, StoreError>, members: Set, cost: u32) -> Option<Outcome> {
        match reply {
            Ok(Reply::Output(data)) => match data.int(0) {
                Some(1) => match self.tightest(data, members) {
                    Some(account) => Some(Outcome::Admitted(Some(account))),
                    None => self.failed(&corrupt(), members),
                },
                Some(0) => match self.refusal(data, members, cost) {
                    Some(refusal) => Some(Outcome::Refused(refusal)),
                    None => self.failed(&corrupt(), members),
                },
                _ => self.failed(&corrupt(), members),
            },
            Ok(_) => self.failed(&corrupt(), members),
            Err(error) => self.failed(error, members),
        }
    }

    /// Of the accounts in a reply, the one with the fewest requests left.
    #[inline]
    fn tightest(&self, data: &Output, members: Set) -> Option<Account> {
        members
            .iter()
            .enumerate()
            .filter_map(|(place, bucket)| Account::read(data, place + 1, bucket))
            .min_by_key(|account| self.remaining(*account))
    }

    /// Which of the accounts in a reply refuse, and until when the last of them does.
    fn refusal(&self, data: &Output, members: Set, cost: u32) -> Option<Refusal> {
        let mut refusal: Option<Refusal> = None;
        for (place, bucket) in members.iter().enumerate() {
            let account = Account::read(data, place + 1, bucket)?;
            let rate = self.buckets[bucket].rate;
            let retry_after = rate.retry_after(account.debt, rate.price(cost));
            if retry_after == 0 {
                continue;
            }
            let mut violated = refusal.map_or(Set::default(), |refusal| refusal.violated);
            violated |= Set::one(bucket);
            let latest = refusal.filter(|other| other.retry_after >= retry_after);
            let (account, retry_after) = latest.map_or((account, retry_after), |other| {
                (other.account, other.retry_after)
            });
            refusal = Some(Refusal {
                account,
                violated,
                retry_after,
            });
        }
        refusal
    }

    fn remaining(&self, account: Account) -> u64 {
        self.buckets[account.bucket].rate.remaining(account.debt)
    }

    /// What becomes of a charge that was not made. `None`: its policies let it pass.
    #[cold]
    fn failed(&self, error: &StoreError, members: Set) -> Option<Outcome> {
        let closed = |bucket: usize| self.buckets[bucket].mode == FailureMode::Closed;
        let closed = members.iter().any(closed);
        let reason = match error.kind() {
            ErrorKind::Full => Reason::StoreFull,
            _ => Reason::StoreDown,
        };
        tracing::debug!(kind = ?error.kind(), closed, "rate limit not checked");
        if !self.is_told_of(error.kind()) {
            self.tell(error, closed);
        }
        closed.then_some(Outcome::Unavailable(reason))
    }

    /// Whether a breaker tells of such failures, once they are an outage.
    const fn is_told_of(&self, kind: ErrorKind) -> bool {
        self.has_breaker
            && matches!(
                kind,
                ErrorKind::Unavailable
                    | ErrorKind::Timeout
                    | ErrorKind::Throttled
                    | ErrorKind::Deadline
            )
    }

    /// Warns of the first such failure and then at each doubling of their number, so that no limit is off in silence.
    fn tell(&self, error: &StoreError, closed: bool) {
        let times = self.unchecked.fetch_add(1, Relaxed) + 1;
        if !times.is_power_of_two() {
            return;
        }
        match error.kind() {
            ErrorKind::Full => tracing::warn!(
                times,
                closed,
                "the store of a rate limit is full of what it must keep: give it a larger capacity"
            ),
            kind => tracing::warn!(
                ?kind,
                error = error.source().map(tracing::field::display),
                times,
                closed,
                "a rate limit is not checked: its store does not do what it is asked"
            ),
        }
    }

    /// Gives back what these buckets were charged. It is not waited for: a refund that is lost costs its subject one request,
    /// for as long as that takes to be earned again.
    fn refund(&self, claims: &Claims<'_>, charged: Set, cost: u32) {
        let mut seen = !charged;
        while let Some(group) = Group::next(&self.buckets, claims, seen) {
            seen |= group.members();
            let args = group.args(&self.buckets, |rate| -(rate.price(cost) as i64));
            if self.store.call_now(&group.op(&args), &CX).is_none() {
                self.refund_later(claims, group.members(), cost);
            }
        }
    }

    fn refund_later(&self, claims: &Claims<'_>, members: Set, cost: u32) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (store, buckets) = (self.waiting.clone(), self.buckets.clone());
        let claims = claims.to_owned();
        runtime.spawn(async move {
            if let Some(group) = Group::next(&buckets, &claims, !members) {
                let args = group.args(&buckets, |rate| -(rate.price(cost) as i64));
                if let Err(error) = store.call(&group.op(&args), &CX).await {
                    tracing::debug!(kind = ?error.kind(), "rate limit not refunded");
                }
            }
        });
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.buckets.iter().map(|bucket| &bucket.name).collect();
        f.debug_struct("Core")
            .field("store", &self.store)
            .field("policies", &names)
            .finish_non_exhaustive()
    }
}

/// How far a check over several groups has come.
#[derive(Default)]
struct Tally {
    seen: Set,
    charged: Set,
    tightest: Option<Account>,
}

/// A check under way. Dropped unfinished, because it was refused, has to wait, or nobody waits for it any more, it gives back what
/// it charged.
struct Unfinished<'a, 'b> {
    core: &'a Core,
    claims: &'a Claims<'b>,
    cost: u32,
    tally: Tally,
}

impl<'a, 'b> Unfinished<'a, 'b> {
    fn new(core: &'a Core, claims: &'a Claims<'b>, cost: u32) -> Self {
        Self {
            core,
            claims,
            cost,
            tally: Tally::default(),
        }
    }

    fn finish(mut self) -> Tally {
        mem::take(&mut self.tally)
    }
}

impl Drop for Unfinished<'_, '_> {
    fn drop(&mut self) {
        self.core.refund(self.claims, self.tally.charged, self.cost);
    }
}

fn corrupt() -> StoreError {
    StoreError::unknown(ErrorKind::Corrupt)
}
