use std::{error::Error, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use layer_http::BoxError;
use layer_store::Clock;

use crate::{
    body::buffer::FillBuffer,
    detach::{Detached, detach},
    fill::{
        commit::{Fill, FillEnd},
        lease::FillLease,
    },
    flight::{FlightKey, Leader},
    http::{freshness::Freshness, reuse::StaleTerms},
    join::{PendingFill, plant},
    purge::{
        scope::PurgeScope,
        snapshot::{ObservedStamps, StampSnapshot},
    },
    shared::Shared,
    stored::{
        address::Address,
        entry::{EntryHead, EntryKind},
    },
};

/// The error of [`ObjectCache::insert`](crate::ObjectCache::insert). The object is not stored.
#[derive(Debug)]
#[non_exhaustive]
pub enum InsertError {
    /// There are more than 16 tags, or one is longer than 256 bytes. Nothing was changed.
    Tags,
    /// The codec cannot write the value. Nothing was changed.
    Codec(BoxError),
    /// The store takes no value of this size. The object from before is not served any more.
    TooLarge,
    /// The store failed. The object from before is not served by this instance, as after a purge that
    /// [failed](crate::PurgeError::Store).
    Store,
}

/// An object on its way into the store.
pub(super) struct NewObject {
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Clock,
    pub(super) address: Arc<Address>,
    pub(super) key: FlightKey,
    pub(super) ttl: Duration,
    pub(super) object: Bytes,
}

impl NewObject {
    /// Stores what was loaded under a fill, without waiting for the store.
    pub(super) fn store_loaded(self, fill: PendingFill) {
        let object = self.object.clone();
        let fill = self.fill(fill.snapshot, fill.leader, fill.lease);
        // One that lives for no time is for its own caller.
        if fill.ttl().is_none() {
            return fill.not_shared();
        }
        fill.share(&FillBuffer::complete(object.clone(), None));
        detach(async move { fill.commit(&[object], HeaderMap::new()).await });
    }

    /// Replaces what is under the key, to its end even if the caller is dropped. `scope` is that of the key.
    pub(super) async fn insert(self, scope: PurgeScope) -> Result<(), InsertError> {
        match detach(self.replace(scope)) {
            Detached::Done(result) => result,
            Detached::Running(task) => task.await.unwrap_or(Err(InsertError::Store)),
            Detached::Lost => Err(InsertError::Store),
        }
    }

    /// The stamp of the key is deleted first and planted anew. So a load that began earlier, and may have read an older value,
    /// is not valid when it is stored.
    async fn replace(self, scope: PurgeScope) -> Result<(), InsertError> {
        let purged = self.shared.purger.purge(&[scope]).await;
        purged.map_err(|_was_logged| InsertError::Store)?;
        // No lookup comes before it, and only the reply to the purge tells which server this is.
        let checked = self.shared.check_old_data().await;
        checked.map_err(|_not_asked| InsertError::Store)?;
        let deadline = self.shared.caller.deadline();
        let mut observed = ObservedStamps::unread(&self.address);
        let snapshot = plant(&self.shared, &self.address, &mut observed, deadline).await;
        let snapshot = Arc::new(snapshot.ok_or(InsertError::Store)?);
        let object = self.object.clone();
        let fill = self.fill(snapshot, Leader::alone(), None);
        match fill.commit(&[object], HeaderMap::new()).await {
            // What lives for no time is gone already.
            FillEnd::Stored | FillEnd::Expired => Ok(()),
            FillEnd::TooLarge => Err(InsertError::TooLarge),
            FillEnd::StoreDown | FillEnd::Tags => Err(InsertError::Store),
        }
    }

    fn fill(self, snapshot: Arc<StampSnapshot>, leader: Leader, lease: Option<FillLease>) -> Fill {
        let head = EntryHead {
            kind: EntryKind::Object,
            received_at: self.clock.now() / 1_000,
            freshness: Freshness::given(self.ttl),
            terms: StaleTerms::default(),
        };
        Fill {
            shared: self.shared,
            clock: self.clock,
            address: self.address,
            key: self.key,
            snapshot,
            leader,
            lease,
            head,
            headers: HeaderMap::new(),
            makes_etag: false,
            tags: Vec::new(),
            variant: None,
        }
    }
}

impl fmt::Display for InsertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tags => "an object has at most 16 tags of at most 256 bytes",
            Self::Codec(_) => "the codec cannot write the object",
            Self::TooLarge => "the store takes no object of this size",
            Self::Store => "the object did not reach the store",
        })
    }
}

impl Error for InsertError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Codec(error) => Some(&**error),
            Self::Tags | Self::TooLarge | Self::Store => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codec_s_error_is_the_source() {
        let error = InsertError::Codec("13 is not written".into());
        assert_eq!(error.to_string(), "the codec cannot write the object");
        assert_eq!(error.source().unwrap().to_string(), "13 is not written");
        assert!(InsertError::Store.source().is_none());
    }
}
