use std::sync::Once;

use layer_store::{SharedStore, Store};

/// Warns, once per process, if other processes cannot see what is in `store`.
pub(crate) fn warn_unless_shared(store: &SharedStore) {
    static ONCE: Once = Once::new();
    let info = store.info();
    if !info.shared {
        ONCE.call_once(|| {
            tracing::warn!(
                store = info.name,
                "locks and idempotency records are kept in this process alone: \
                 with several processes, connect them to one Redis (REDIS_URL)"
            );
        });
    }
}
