use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::Extensions;
use layer_store::KeySpace;

use crate::{settings::CacheSettings, shared::Shared};

/// The state that all services of one layer share: the cache and the layer's settings.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) shared: Arc<Shared>,
    pub(crate) settings: CacheSettings,
}

/// A request extension: a service of this cache is at work on the request.
///
/// A second one further in steps aside. It would wait for the first one, which waits for it.
#[derive(Clone)]
struct InsideCache {
    shared: Arc<Shared>,
    space: Arc<KeySpace>,
}

impl Route {
    /// Returns the time, in Unix milliseconds.
    pub(crate) fn now(&self) -> u64 {
        self.settings.clock.now() / 1_000
    }

    pub(crate) fn time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.now())
    }

    /// Marks a request that goes to the handler.
    pub(crate) fn enter(&self, extensions: &mut Extensions) {
        extensions.insert(InsideCache {
            shared: self.shared.clone(),
            space: self.settings.space.clone(),
        });
    }

    /// Returns true if an outer service of this cache is at work on the request.
    pub(crate) fn is_inside(&self, extensions: &Extensions) -> bool {
        let is_same = |outer: &InsideCache| {
            Arc::ptr_eq(&outer.shared, &self.shared)
                && outer.space.name() == self.settings.space.name()
        };
        extensions.get().is_some_and(is_same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, World};

    #[test]
    fn only_a_service_of_the_same_cache_and_name_steps_aside() {
        let (world, other_cache) = (World::new(), World::new());
        let mut extensions = Extensions::new();
        assert!(!world.route.is_inside(&extensions));
        world.route.enter(&mut extensions);
        assert!(world.route.clone().is_inside(&extensions));
        assert!(!other_cache.route.is_inside(&extensions));
        let mut other_name = world.route.clone();
        other_name.settings.rename("other");
        assert!(!other_name.is_inside(&extensions));
    }

    #[test]
    fn the_time_is_in_milliseconds() {
        assert_eq!(World::new().route.now(), NOW / 1_000);
    }
}
