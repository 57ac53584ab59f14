use std::{sync::Arc, time::Duration};

use layer_store::{Condition, IdentityRef, Key, KeySpace, Op, Reply, Retention, Ttl, Value};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};

use crate::{flight::FlightKey, purge::stamp::tokens, shared::Shared};

/// The right to call the handler for a missing entry, among all processes on one store.
///
/// Only one of them has it. The others wait until it is given back, and then find the entry. It saves calls and nothing else:
/// if it is lost, expires or cannot be asked for, a process calls the handler itself. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct FillLease {
    shared: Arc<Shared>,
    place: Arc<Place>,
    /// `None`: it is another's.
    token: Option<Value>,
}

/// The key of a lease.
#[derive(Debug)]
pub(crate) struct Place {
    space: KeySpace,
    flight: FlightKey,
}

/// The reply to a claim.
#[derive(Debug)]
pub(crate) enum Claim {
    Mine(FillLease),
    /// Another process has it.
    Theirs(Arc<Place>),
    /// The store did not say. Nobody waits.
    Unknown,
}

impl FillLease {
    /// Claims the lease for a flight: `SET key token NX PX 5000`. Sent once.
    pub(crate) async fn claim(
        shared: &Arc<Shared>,
        space: &str,
        flight: &FlightKey,
        deadline: Option<std::time::Instant>,
    ) -> Claim {
        let Some(token) = tokens(1).and_then(|tokens| tokens.into_iter().next()) else {
            return Claim::Unknown;
        };
        let token = Value::from(token.to_vec());
        let lease = Self {
            shared: shared.clone(),
            place: Arc::new(Place {
                space: KeySpace::new("fill", space),
                flight: flight.clone(),
            }),
            token: Some(token.clone()),
        };
        let key = lease.place.key();
        let claim = Op::Set {
            key: &key,
            value: &token,
            expiry: LIFE.into(),
            condition: Condition::Absent,
            retention: Retention::Evictable,
        };
        let reply = shared.caller.call_by(&claim, deadline).await;
        match reply.and_then(Reply::into_set) {
            Ok((true, _)) => Claim::Mine(lease),
            Ok((false, _)) => Claim::Theirs(lease.forget()),
            // It may have been applied. Dropping the lease gives it back.
            Err(_) => Claim::Unknown,
        }
    }

    /// Leaves the key to the one who has it.
    fn forget(mut self) -> Arc<Place> {
        self.token = None;
        self.place.clone()
    }
}

impl Drop for FillLease {
    fn drop(&mut self) {
        let Some(token) = self.token.take() else {
            return;
        };
        let (shared, place) = (self.shared.clone(), self.place.clone());
        // Not polled here: a runtime that is ending, which may be why this is dropped, takes no tasks and has no timers.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            let key = place.key();
            let give_back = Op::Delete {
                key: &key,
                if_equals: Some(&token),
            };
            // If it fails, the lease expires.
            let _ = shared.caller.call(&give_back).await;
        });
    }
}

impl Place {
    fn key(&self) -> Key<'_> {
        Key::new(&self.space, IdentityRef::Text(&self.flight))
    }

    /// Waits until the lease is given back or has expired. Returns false after 5 s, or if the store fails.
    pub(crate) async fn is_free(&self, shared: &Shared) -> bool {
        let key = self.key();
        let read = Op::Get(&key);
        let end = Instant::now() + MAX_WAIT;
        let mut pause = MIN_PAUSE;
        while Instant::now() < end {
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
            let reply = shared.caller.call(&read).await;
            match reply.and_then(Reply::into_value) {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
        false
    }
}

/// A handler that takes longer may run once in each process.
const LIFE: Ttl = Ttl::from_millis(5_000).expect("5 s are not zero");
const MAX_WAIT: Duration = Duration::from_secs(5);
const MIN_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_millis(40);

#[cfg(test)]
mod tests {
    use layer_store::{Effect, ErrorKind, MemoryStore, SharedStore, conformance::FaultInjector};

    use super::*;

    fn process(store: &FaultInjector<MemoryStore>) -> Arc<Shared> {
        Arc::new(Shared::new(SharedStore::new(store.clone())))
    }

    async fn claim(shared: &Arc<Shared>) -> Claim {
        FillLease::claim(shared, "2/cache", &b"flight"[..].into(), None).await
    }

    #[tokio::test(start_paused = true)]
    async fn one_process_has_it_and_the_others_wait_until_it_is_given_back() {
        let store = FaultInjector::new(MemoryStore::new());
        let (here, there) = (process(&store), process(&store));
        let Claim::Mine(lease) = claim(&here).await else {
            panic!("nobody has it");
        };
        let Claim::Theirs(place) = claim(&there).await else {
            panic!("another has it");
        };
        let begun = Instant::now();
        let (is_free, ()) = tokio::join!(place.is_free(&there), async {
            sleep(Duration::from_millis(100)).await;
            drop(lease);
        });
        assert!(is_free && begun.elapsed() <= Duration::from_millis(140));
        assert!(matches!(claim(&there).await, Claim::Mine(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_longer_than_5_s_or_for_a_store_that_fails() {
        let store = FaultInjector::new(MemoryStore::new());
        let (here, there) = (process(&store), process(&store));
        let _lease = claim(&here).await;
        let Claim::Theirs(place) = claim(&there).await else {
            panic!("another has it");
        };
        let begun = Instant::now();
        assert!(!place.is_free(&there).await);
        assert!(begun.elapsed() <= MAX_WAIT + MAX_PAUSE);
        store.fail(ErrorKind::Unavailable, Effect::NotApplied);
        assert!(!place.is_free(&there).await);
        assert!(matches!(claim(&there).await, Claim::Unknown));
    }
}
