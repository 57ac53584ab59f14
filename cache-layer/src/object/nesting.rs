//! Loads inside of loads, and the waits that would never end.
//!
//! A load may ask for another object, and may have to wait for the load of that one in another task. If that load waits for
//! the first one in its turn, both wait for ever. So each load is known to the future that runs it, and each wait of a load is
//! noted while it lasts. One that would close a ring does not begin: its call loads for itself.
//!
//! A load that waits in a task that it spawned is not known there. Such a ring ends after the longest wait of a follower.

use std::{future::Future, sync::Arc};

use crate::{flight::FlightKey, shared::Shared};

tokio::task_local! {
    static LOADING: Arc<Loading>;
}

/// A load that this future runs in, and the ones around it.
struct Loading {
    shared: Arc<Shared>,
    key: FlightKey,
    outer: Option<Arc<Self>>,
}

/// Runs the load of an object. Calls inside of it know that they are.
pub(super) async fn inside<F: Future>(
    shared: &Arc<Shared>,
    key: FlightKey,
    load: impl FnOnce() -> F,
) -> F::Output {
    let loading = Loading {
        shared: shared.clone(),
        key,
        outer: LOADING.try_with(Arc::clone).ok(),
    };
    let load = async move { load().await };
    LOADING.scope(Arc::new(loading), load).await
}

/// Returns the loads of this cache that the current future runs in.
pub(super) fn loads(shared: &Arc<Shared>) -> Vec<FlightKey> {
    let mut loads = Vec::new();
    let mut next = LOADING.try_with(Arc::clone).ok();
    while let Some(loading) = next {
        if Arc::ptr_eq(&loading.shared, shared) {
            loads.push(loading.key.clone());
        }
        next = loading.outer.clone();
    }
    loads
}
