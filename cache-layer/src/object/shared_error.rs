use std::{any::Any, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    flight::FlightKey,
    purge::snapshot::{ObservedStamps, StampSnapshot},
    stored::hints::Bounded,
};

/// The errors of loads that are shared for a while, in this process.
///
/// As with a hit-for-miss, two keys with one hash do not get each other's: their stamps differ.
pub(crate) struct SharedErrors(Bounded<SharedError>);

#[derive(Clone)]
struct SharedError {
    error: Arc<dyn Any + Send + Sync>,
    until: Instant,
    /// The stamps that were there before the load. A purge lifts the error.
    snapshot: Arc<StampSnapshot>,
}

/// The terms on which a call shares errors of its type.
pub(super) struct ErrorTerms<E> {
    time: Duration,
    keep: fn(&E) -> Arc<dyn Any + Send + Sync>,
    recall: fn(&(dyn Any + Send + Sync)) -> Option<E>,
}

impl<E: Clone + Send + Sync + 'static> ErrorTerms<E> {
    pub(super) fn new(time: Duration) -> Self {
        Self {
            time,
            keep: |error| Arc::new(error.clone()),
            recall: |error| error.downcast_ref().cloned(),
        }
    }
}

impl SharedErrors {
    pub(crate) fn new(max_len: usize) -> Self {
        Self(Bounded::new(max_len))
    }

    pub(super) fn keep<E>(
        &self,
        key: &FlightKey,
        error: &E,
        terms: &ErrorTerms<E>,
        snapshot: &Arc<StampSnapshot>,
    ) {
        let shared = SharedError {
            error: (terms.keep)(error),
            until: Instant::now() + terms.time,
            snapshot: snapshot.clone(),
        };
        self.0.insert(key, shared);
    }

    /// Returns the error of the last load, if it holds for a call whose lookup saw these stamps.
    pub(super) fn recall<E>(
        &self,
        key: &FlightKey,
        terms: &ErrorTerms<E>,
        observed: &ObservedStamps,
    ) -> Option<E> {
        let shared = self.0.get(key)?;
        if Instant::now() >= shared.until || !observed.confirm(&shared.snapshot) {
            self.0.remove(key);
            return None;
        }
        (terms.recall)(&*shared.error)
    }
}
