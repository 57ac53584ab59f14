use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use layer_store::Identity;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
    time::{Instant, timeout},
};
use tracing::Instrument;

use super::look_up::TierLookUp;
use crate::Quota;

/// The answers of a [`TierLookUp`]: a bounded number of them, in buckets of a few.
pub(crate) struct Answers {
    look_up: TierLookUp,
    policy: Arc<str>,
    buckets: Box<[Mutex<Vec<Entry>>]>,
    /// The look-ups that may be under way.
    room: Semaphore,
    failures: AtomicU64,
}

/// The tier of one client, as far as it is known.
struct Entry {
    key: u128,
    answer: Option<Answer>,
    /// The look-up under way.
    asking: Option<Asking>,
    /// No look-up begins before.
    not_before: Instant,
    used_at: Instant,
}

#[derive(Clone, Copy)]
struct Answer {
    /// `None`: the client has no tier.
    tier: Option<Quota>,
    stale_at: Instant,
}

/// The end of a look-up under way: `Some` with the tier.
pub(crate) type Asking = watch::Receiver<Option<Option<Quota>>>;

/// The reply to a request.
pub(crate) enum Told {
    /// The tier, or none.
    Tier(Option<Quota>),
    /// The look-up has to be waited for.
    Wait(Asking),
}

impl Answers {
    pub(super) fn new(look_up: TierLookUp, policy: Arc<str>) -> Self {
        let buckets = look_up.capacity.div_ceil(WAYS).next_power_of_two();
        Self {
            look_up,
            policy,
            buckets: (0..buckets).map(|_| Mutex::default()).collect(),
            room: Semaphore::new(MAX_LOOK_UPS),
            failures: AtomicU64::new(0),
        }
    }

    /// Tells the tier of a client by the bits of its key, and begins a look-up if one is needed.
    pub(crate) fn tell(self: &Arc<Self>, key: u128, identity: &Identity<'_>) -> Told {
        let now = Instant::now();
        let mut bucket = self.lock(key);
        let entry = find_or_add(&mut bucket, key, now);
        entry.used_at = now;
        // ## Asking => failed
        // Its task has ended without an answer: it panicked, or its runtime is gone.
        if let Some(asking) = &entry.asking
            && asking.has_changed().is_err()
        {
            entry.asking = None;
            entry.not_before = now + RETRY;
        }
        // ## Unknown | stale => asking
        let is_fresh = entry.answer.is_some_and(|answer| now < answer.stale_at);
        if !is_fresh && entry.asking.is_none() && now >= entry.not_before {
            entry.asking = self.ask(key, identity);
        }
        match (entry.answer, &entry.asking) {
            // ## Known => told, also if it is stale
            (Some(answer), _) => Told::Tier(answer.tier),
            // ## Unknown => the first answer is waited for
            (None, Some(asking)) => Told::Wait(asking.clone()),
            // ## Failed => no tier
            (None, None) => Told::Tier(None),
        }
    }

    /// Waits for the end of a look-up. One that fails tells no tier.
    pub(crate) async fn wait(mut asking: Asking) -> Option<Quota> {
        match asking.wait_for(Option::is_some).await {
            Ok(told) => told.flatten(),
            Err(_) => None,
        }
    }

    /// Forgets what is known of a client.
    pub(crate) fn forget(&self, key: u128) {
        self.lock(key).retain(|entry| entry.key != key);
    }

    /// Begins a look-up in a task of its own: a request that leaves does not end it. `None`: there is no runtime for it.
    fn ask(self: &Arc<Self>, key: u128, identity: &Identity<'_>) -> Option<Asking> {
        let runtime = Handle::try_current().ok()?;
        let (sender, receiver) = watch::channel(None);
        let (this, identity) = (self.clone(), identity.clone().into_owned());
        let look_up = async move {
            let answer = this.look_up(identity).await;
            let _ = sender.send(Some(this.settle(key, answer)));
        };
        runtime.spawn(look_up.in_current_span());
        Some(receiver)
    }

    async fn look_up(&self, identity: Identity<'static>) -> Result<Option<Quota>, String> {
        let deadline = self.look_up.deadline;
        let answer = timeout(deadline, async {
            // The room is never closed.
            let _place = self.room.acquire().await.ok();
            self.look_up.ask(identity).await
        });
        let late = |_| Err(format!("no answer within {deadline:?}"));
        answer.await.unwrap_or_else(late)
    }

    /// Keeps the end of a look-up, and returns the tier that the client has then.
    fn settle(&self, key: u128, answer: Result<Option<Quota>, String>) -> Option<Quota> {
        let now = Instant::now();
        let mut bucket = self.lock(key);
        let Some(entry) = bucket.iter_mut().find(|entry| entry.key == key) else {
            return answer.ok().flatten();
        };
        entry.asking = None;
        match answer {
            Ok(tier) => {
                let fresh_for = self.look_up.fresh_for.min(FOR_EVER);
                let stale_at = now + fresh_for;
                entry.answer = Some(Answer { tier, stale_at });
                tier
            }
            Err(error) => {
                entry.not_before = now + RETRY;
                let known = entry.answer.and_then(|answer| answer.tier);
                drop(bucket);
                self.tell_failed(&error);
                known
            }
        }
    }

    fn tell_failed(&self, error: &str) {
        let failures = self.failures.fetch_add(1, Relaxed) + 1;
        if failures.is_power_of_two() {
            tracing::warn!(
                policy = &*self.policy,
                error,
                failures,
                "the tier of a client was not found out: it keeps the one that is known, or has the policy's own quota"
            );
        }
    }

    fn lock(&self, key: u128) -> MutexGuard<'_, Vec<Entry>> {
        let bucket = &self.buckets[key as usize & (self.buckets.len() - 1)];
        // No panic leaves an entry half written.
        bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    const fn new(key: u128, now: Instant) -> Self {
        Self {
            key,
            answer: None,
            asking: None,
            not_before: now,
            used_at: now,
        }
    }

    fn has_tier(&self) -> bool {
        self.answer.is_some_and(|answer| answer.tier.is_some())
    }
}

fn find_or_add(bucket: &mut Vec<Entry>, key: u128, now: Instant) -> &mut Entry {
    let place = match bucket.iter().position(|entry| entry.key == key) {
        Some(place) => place,
        None if bucket.len() < WAYS => {
            bucket.push(Entry::new(key, now));
            bucket.len() - 1
        }
        None => {
            // A flood of keys that nobody knows pushes itself out, and no client that has a tier.
            let by_use = |place: &usize| (bucket[*place].has_tier(), bucket[*place].used_at);
            let place = (0..WAYS).min_by_key(by_use).unwrap_or(0);
            bucket[place] = Entry::new(key, now);
            place
        }
    };
    &mut bucket[place]
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers")
            .field("look_up", &self.look_up)
            .finish_non_exhaustive()
    }
}

/// The answers of a bucket.
const WAYS: usize = 8;
/// The most look-ups under way.
const MAX_LOOK_UPS: usize = 64;
/// Longer than a process runs, and short enough to be added to its time.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 86_400);
/// The time after a failure until the next look-up of a client.
const RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
