use std::sync::Arc;

use crate::{
    detach::detach,
    purge::{purger::Purger, scope::PurgeScope},
};

/// The purge that an unsafe request (`PUT`, `POST`, ..) will need (RFC 9111, section 4.4).
///
/// Dropped before the response came, it purges in the background: the client has left, and the handler may have changed
/// something all the same.
#[derive(Debug)]
pub(crate) struct PendingPurge {
    purger: Arc<Purger>,
    /// `None` once the response came.
    scope: Option<PurgeScope>,
}

impl PendingPurge {
    pub(crate) fn new(purger: Arc<Purger>, scope: PurgeScope) -> Self {
        Self {
            purger,
            scope: Some(scope),
        }
    }

    /// Returns the scope. From now on the caller decides if it is purged.
    pub(crate) fn response_came(mut self) -> Option<PurgeScope> {
        self.scope.take()
    }
}

impl Drop for PendingPurge {
    fn drop(&mut self) {
        if let Some(scope) = self.scope.take() {
            let purger = self.purger.clone();
            detach(async move { purger.purge(&[scope]).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn only_a_request_whose_response_did_not_come_purges_by_itself() {
        let world = World::new();
        let pending = || {
            let purger = world.shared().purger.clone();
            PendingPurge::new(purger, PurgeScope::page("/cars"))
        };
        assert_eq!(pending().response_came(), Some(PurgeScope::page("/cars")));
        assert!(world.store.take_calls().is_empty());
        drop(pending());
        assert_eq!(world.store.take_calls(), ["delete_many"]);
    }
}
