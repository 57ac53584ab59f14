use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use layer_store::{Key, Op, StoreError, StoreExt};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::{
    purge::scope::Scope,
    shared::{CONTEXT, Core},
};

/// Purges that did not reach the store. Nothing is served from the cache before they have.
#[derive(Debug, Default)]
pub(crate) struct FailedPurges {
    outstanding: Mutex<Outstanding>,
    any: AtomicBool,
    /// Only one repeats them at a time; others do without the cache.
    repeating: tokio::sync::Mutex<()>,
    in_background: AtomicBool,
}

#[derive(Debug, Default)]
struct Outstanding {
    scopes: Vec<Scope>,
    /// Changes with every failure: what failed while others were repeated stays.
    version: u64,
}

impl FailedPurges {
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.any.load(SeqCst)
    }

    fn add(&self, scopes: &[Scope]) {
        let mut outstanding = self.outstanding.lock();
        outstanding.version += 1;
        for scope in scopes {
            if !outstanding.scopes.contains(scope) {
                outstanding.scopes.push(scope.clone());
            }
        }
        if outstanding.scopes.len() > MOST {
            outstanding.scopes = Scope::everything().into();
        }
        self.any.store(true, SeqCst);
    }
}

impl Core {
    /// Destroys the stamps of `scopes`, in this order. What fails is remembered.
    pub(crate) async fn purge(self: &Arc<Self>, scopes: &[Scope]) -> Result<(), StoreError> {
        let result = self.destroy(scopes).await;
        if let Err(error) = &result {
            tracing::warn!(%error, scopes = scopes.len(), "a purge failed and will be repeated");
            self.failed.add(scopes);
            self.repeat_in_background();
        }
        result
    }

    /// Repeats what failed. Whether nothing is outstanding any more.
    pub(crate) async fn settle_purges(&self) -> bool {
        if !self.failed.any() {
            return true;
        }
        let Ok(_alone) = self.failed.repeating.try_lock() else {
            return false;
        };
        let (scopes, version) = {
            let outstanding = self.failed.outstanding.lock();
            (outstanding.scopes.clone(), outstanding.version)
        };
        if self.destroy(&scopes).await.is_err() {
            return false;
        }
        let mut outstanding = self.failed.outstanding.lock();
        if outstanding.version != version {
            return false;
        }
        outstanding.scopes.clear();
        self.failed.any.store(false, SeqCst);
        true
    }

    async fn destroy(&self, scopes: &[Scope]) -> Result<(), StoreError> {
        let keys: Vec<Key<'_>> = scopes.iter().flat_map(Scope::keys).collect();
        let op = Op::DeleteMany(&keys);
        self.waiting.apply(&op, &CONTEXT).await.map(drop)
    }

    fn repeat_in_background(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if self.failed.in_background.swap(true, SeqCst) {
            return;
        }
        let core = Arc::downgrade(self);
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(REPEAT_EVERY).await;
                let Some(core) = core.upgrade() else { return };
                if core.settle_purges().await {
                    core.failed.in_background.store(false, SeqCst);
                    // One may have failed between the two lines above and found this task still there.
                    if core.failed.any() {
                        core.repeat_in_background();
                    }
                    return;
                }
            }
        });
    }
}

/// Scopes; beyond it everything is purged.
const MOST: usize = 64;
const REPEAT_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_its_bound_everything_is_outstanding() {
        let failed = FailedPurges::default();
        for i in 0..MOST {
            failed.add(&[Scope::page(&format!("/{i}")), Scope::page("/0")]);
        }
        assert_eq!(failed.outstanding.lock().scopes.len(), MOST);
        failed.add(&[Scope::tag("t")]);
        assert_eq!(failed.outstanding.lock().scopes, Scope::everything());
        assert!(failed.any());
    }
}
