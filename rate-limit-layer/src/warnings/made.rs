use std::{fmt, panic::Location, sync::Arc};

use layer_store::SharedStore;
use tokio::time::Instant;

use super::{
    registry::{Bucket, Registry},
    warn_of,
};

/// The record of a limiter in the registry of the process, for as long as the limiter or a clone of it lives.
pub(crate) struct Made {
    store: usize,
    /// `None`: no other policy can have it by chance, or there are too many to watch.
    bucket: Option<Bucket>,
    /// That of the policies that the limiter had before.
    before: Option<Arc<Self>>,
}

impl Made {
    /// Notes that a limiter was made, and warns if there is something wrong with it.
    pub(crate) fn limiter(
        store: &SharedStore,
        policy: &Arc<str>,
        is_alone: bool,
        place: &'static Location<'static>,
    ) -> Arc<Self> {
        if Registry::of_process().count(place, policy, Instant::now()) {
            warn_of!(
                "limiter-per-request",
                policy = &**policy,
                place = %place,
                "many rate limiters with one policy are made at one place: make one when the application starts, and clone it"
            );
        }
        Arc::new(Self {
            store: store.id(),
            bucket: enter(store.id(), policy, is_alone),
            before: None,
        })
    }

    /// Notes that the limiter has one more policy.
    pub(crate) fn and(self: Arc<Self>, policy: &Arc<str>, is_alone: bool) -> Arc<Self> {
        Arc::new(Self {
            store: self.store,
            bucket: enter(self.store, policy, is_alone),
            before: Some(self),
        })
    }

    /// Returns the number of the limiter's store.
    pub(crate) const fn store(&self) -> usize {
        self.store
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(bucket) = &self.bucket {
            Registry::of_process().leave(bucket);
        }
    }
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Made")
            .field("bucket", &self.bucket)
            .field("before", &self.before)
            .finish()
    }
}

fn enter(store: usize, policy: &Arc<str>, is_alone: bool) -> Option<Bucket> {
    if is_alone {
        return None;
    }
    let bucket = (store, policy.clone());
    let entered = Registry::of_process().enter(&bucket);
    if entered == Some(true) {
        warn_of!(
            "shared-bucket",
            policy = &**policy,
            "two rate limits without names share one bucket, so that requests of one use up the other: write .name(..) on each"
        );
    }
    entered.map(|_| bucket)
}
