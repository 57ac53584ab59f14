use std::{collections::VecDeque, fmt};

use layer_store::{Cursor, Identity, Op, Scan, StoreError};

use super::{
    config::IdempotencyConfig,
    fingerprint::RecordName,
    handle::{FoundRecord, IdempotencyHandle, RunState},
};

/// Walks through the records that wait for a person, one by one. Made by
/// [`IdempotencyHandle::walk_orphans`](crate::IdempotencyHandle::walk_orphans).
///
/// It asks the server for its keys page by page, and holds one page of names.
pub struct Orphans {
    handle: IdempotencyHandle,
    /// Names of records whose state is not known yet.
    names: VecDeque<RecordName>,
    next: Option<Cursor>,
}

impl Orphans {
    pub(super) fn new(handle: IdempotencyHandle) -> Self {
        Self {
            handle,
            names: VecDeque::new(),
            next: Some(Cursor::default()),
        }
    }

    /// Returns the next record, or `None` after the last. One may come twice if the server has grown or shrunk meanwhile, and one
    /// that was there all the time comes at least once.
    ///
    /// # Errors
    ///
    /// The store did not reply within 500 ms. The walk goes on from there with the next call.
    ///
    /// # Cancel safety
    ///
    /// A dropped future loses no record.
    pub async fn next(&mut self) -> Result<Option<FoundRecord>, StoreError> {
        loop {
            while let Some(name) = self.names.front() {
                let found = self.handle.look(*name).await?;
                self.names.pop_front();
                if let Some(found) = found
                    && found.state() == RunState::OutcomeUnknown
                {
                    return Ok(Some(found));
                }
            }
            let Some(from) = self.next else {
                return Ok(None);
            };
            self.turn_page(from).await?;
        }
    }

    async fn turn_page(&mut self, from: Cursor) -> Result<(), StoreError> {
        let config: &IdempotencyConfig = self.handle.config();
        let scan = Scan::new(&config.records).from(from);
        let page = config.caller.call(&Op::Scan(&scan)).await?.into_page()?;
        let names = page.keys.iter().filter_map(|key| match key.identity() {
            Some(Identity::Text(name)) => RecordName::read(&name),
            _ => None,
        });
        self.names.extend(names);
        self.next = page.next;
        Ok(())
    }
}

impl fmt::Debug for Orphans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orphans")
            .field("is_at_end", &(self.next.is_none() && self.names.is_empty()))
            .finish_non_exhaustive()
    }
}
