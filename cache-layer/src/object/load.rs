//! Getting an object: it is found, another call loads it, or this one does.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::{
    codec::Codec, load_plan::LoadPlan, nesting, object_cache::ObjectCache, shared_error::ErrorTerms,
};
use crate::{
    flight::{FlightEnd, FlightKey},
    join::{MAX_ROUNDS, Turn, join_flight},
    plan::tell_failed,
    stats::count,
    stored::{
        address::Address,
        entry::{Entry, EntryKind},
        lookup::Found,
    },
};

impl<T, C: Codec<T>> ObjectCache<T, C> {
    /// Finds the object in the store or with another call, or the right to load and store it.
    pub(super) async fn plan<E>(
        &self,
        address: &Address,
        key: &FlightKey,
        errors: Option<&ErrorTerms<E>>,
    ) -> LoadPlan<T, E> {
        let shared = &self.shared;
        for _ in 0..MAX_ROUNDS {
            // ## Look up => (Found | Failed | Load | Wait)
            let Some(mut found) = self.look_up(address).await else {
                return LoadPlan::Load(None);
            };
            if let Some(value) = self.read(&found) {
                Self::tell("hit", &shared.stats.hits);
                return LoadPlan::Found(value);
            }
            if let Some(errors) = errors
                && let Some(error) = shared.errors.recall(key, errors, &found.observed)
            {
                Self::tell("collapsed", &shared.stats.collapsed);
                return LoadPlan::Failed(error);
            }
            // A call inside of the load of its own object would wait for itself.
            let loads = nesting::loads(shared);
            if loads.contains(key) {
                return LoadPlan::Load(None);
            }
            // Objects have no variants and no credentials.
            let turn = join_flight(shared, address, key.clone(), false, &mut found).await;
            let follower = match turn {
                Turn::Fill(fill) => return LoadPlan::Load(Some(fill)),
                // Not counted as an error of the store: the lookup succeeded.
                Turn::StoreDown => return LoadPlan::Load(None),
                Turn::LookAgain => continue,
                Turn::Wait(follower) => follower,
            };
            // ## Wait => (Found | Load | Look up)
            let Some(_wait) = shared.waits.begin(loads, key) else {
                return LoadPlan::Load(None);
            };
            match follower.end().await {
                FlightEnd::Shared(entry) => {
                    let object = entry.body.object();
                    if let Some(value) = object.and_then(|object| self.decode(&object)) {
                        Self::tell("collapsed", &shared.stats.collapsed);
                        return LoadPlan::Found(value);
                    }
                }
                FlightEnd::Abandoned => {}
                FlightEnd::NotShared | FlightEnd::TooLong => return LoadPlan::Load(None),
            }
        }
        LoadPlan::Load(None)
    }

    /// Looks up. `None`: the store failed, or a purge is outstanding, while which nothing may be served.
    pub(super) async fn look_up(&self, address: &Address) -> Option<Found> {
        let shared = &self.shared;
        let found = match shared.purger.settle().await {
            true => {
                let found = shared.look_up(address, &HeaderMap::new()).await;
                found.inspect_err(tell_failed).ok()
            }
            false => None,
        };
        if found.is_none() {
            count(&shared.stats.store_errors);
        }
        found
    }

    /// Reads the object that was found. `None`: there is none, or the codec cannot read it.
    pub(super) fn read(&self, found: &Found) -> Option<T> {
        let object = found.entry.as_ref().ok().and_then(object);
        object.and_then(|object| self.decode(&object))
    }

    fn decode(&self, object: &Bytes) -> Option<T> {
        let decoded = self.codec.decode(object).map_err(Into::into);
        decoded
            .inspect_err(|error| tracing::debug!(%error, "an object cannot be read"))
            .ok()
    }
}

/// Returns the object of an entry. `None` if the entry is a response.
fn object(entry: &Arc<Entry>) -> Option<Bytes> {
    match entry.head.kind {
        EntryKind::Object => Some(entry.body.clone()),
        EntryKind::Http { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_response_is_no_object() {
        let head = crate::testing::head(Duration::from_secs(60));
        let none = HeaderMap::new();
        let bytes =
            crate::stored::codec::EntryWriter::new(0).finish(b"a", &head, &none, &none, &[], &[]);
        let entry = Entry::read(&bytes.into(), b"a").unwrap();
        assert_eq!(object(&entry), None);
    }
}
