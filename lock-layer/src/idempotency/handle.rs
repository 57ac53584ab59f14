use std::{fmt, sync::Arc, time::Duration};

use http::{Method, StatusCode};
use layer_store::{Condition, Identity, IdentityRef, Key, Op, Reply, Retention, StoreError, Value};

use super::{
    claim::NOT_BEGUN_LIFE,
    client_scope::Client,
    config::IdempotencyConfig,
    fingerprint::{RecordName, Route, name_of},
    orphans::Orphans,
    record::{Record, RecordState, RunId},
};
use crate::inspect::Inspect;

/// Finds the records of a layer and settles those that wait for a person, for operators.
///
/// ```
/// use http::{Method, StatusCode};
/// use lock_layer::{ClientScope, IdempotencyLayer, RecordAddress, RunState, store::{MemoryStore, SharedStore}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let store = SharedStore::new(MemoryStore::new());
/// let records = IdempotencyLayer::at_most_once(store, ClientScope::global()).handle();
///
/// // A client says that its key answers 409.
/// let address = RecordAddress::new("ada", Method::POST, "/cars/{id}/bookings", "key 1");
/// if let Some(found) = records.find(&address).await? {
///     println!("{:?}, since {:?}", found.state(), found.age());
///     match found.state() {
///         // The booking is in the database: repetitions learn that it is done.
///         RunState::OutcomeUnknown => records.mark_done(&found, StatusCode::CREATED).await?,
///         // It is not: the next request with the key runs.
///         _ => records.forget(&found).await?,
///     };
/// }
/// # Ok::<_, lock_layer::store::StoreError>(())
/// # }).unwrap();
/// ```
///
/// # Errors
///
/// All methods return those of the store, which replies within 500 ms or fails.
#[derive(Clone)]
pub struct IdempotencyHandle {
    config: Arc<IdempotencyConfig>,
}

/// The name of a record: the client, method, route and key of its request.
#[derive(Clone, Debug)]
pub struct RecordAddress<'a> {
    client: Client<'a>,
    host: Option<&'a str>,
    method: Method,
    route: Route<'a>,
    key: &'a str,
}

/// A record, as it was when it was found.
#[derive(Clone)]
pub struct FoundRecord {
    name: RecordName,
    value: Value,
    run: Option<RunId>,
    state: RunState,
    age: Duration,
    ends_in: Duration,
}

/// The state of a run, as its record tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunState {
    /// It is claimed, and has not begun. The claim ends by itself within a second.
    NotBegun,
    /// It is under way.
    Running,
    /// It was begun, and whether it took effect is not known: it broke off, or is overdue since its process died.
    OutcomeUnknown,
    /// It is done, and its response is replayed.
    Completed(StatusCode),
    /// It is done, and its response was not kept.
    BodyNotKept(StatusCode),
    /// The record is of another version of this crate, or is none.
    Unreadable,
}

impl<'a> RecordAddress<'a> {
    /// Makes the address of a request: the client that the scope identified (`""` in a global scope), the method, the pattern
    /// of the route such as `/cars/{id}/bookings`, and the key without quotes.
    pub fn new(
        client: impl Into<Identity<'a>>,
        method: Method,
        route: &'a str,
        key: &'a str,
    ) -> Self {
        Self {
            client: Client::Named(client.into()),
            host: None,
            method,
            route: Route::Pattern(route),
            key,
        }
    }

    /// Says that the scope did not name the client: it is an address, or what [`ClientScope::or`](crate::ClientScope::or)
    /// found.
    #[must_use]
    pub fn by_address(mut self) -> Self {
        let (Client::Named(identity) | Client::Peer(identity)) = self.client;
        self.client = Client::Peer(identity);
        self
    }

    /// Names the host, for a scope with [`per_host`](crate::ClientScope::per_host): in lower case, without port 80 or 443.
    #[must_use]
    pub fn host(mut self, host: &'a str) -> Self {
        self.host = Some(host);
        self
    }

    /// Says that the route is a path: the service has no axum router, or the layer is around all of it.
    #[must_use]
    pub fn by_path(mut self) -> Self {
        let (Route::Pattern(route) | Route::Path(route)) = self.route;
        self.route = Route::Path(route);
        self
    }

    fn name(&self) -> RecordName {
        let host = self.host.map(str::as_bytes);
        name_of(
            &self.client,
            host,
            &self.method,
            self.route,
            self.key.as_bytes(),
        )
    }
}

impl IdempotencyHandle {
    pub(super) fn new(config: Arc<IdempotencyConfig>) -> Self {
        Self { config }
    }

    /// Finds the record of a request.
    ///
    /// # Errors
    ///
    /// The store did not reply within 500 ms.
    pub async fn find(
        &self,
        address: &RecordAddress<'_>,
    ) -> Result<Option<FoundRecord>, StoreError> {
        self.look(address.name()).await
    }

    /// Finds the record with this name: that of [`IdempotencyContext::record`](crate::IdempotencyContext::record) or
    /// [`FoundRecord::name`]. `None` if there is none, or it is no name.
    ///
    /// # Errors
    ///
    /// The store did not reply within 500 ms.
    pub async fn find_by_name(&self, name: &str) -> Result<Option<FoundRecord>, StoreError> {
        match RecordName::read(name.as_bytes()) {
            Some(name) => self.look(name).await,
            None => Ok(None),
        }
    }

    /// Lists the records that wait for a person: [`RunState::OutcomeUnknown`].
    ///
    /// It walks through all keys of the server, page by page. For maintenance. Where there may be many,
    /// [`walk_orphans`](Self::walk_orphans) returns one after the other.
    ///
    /// # Errors
    ///
    /// The store did not reply within 500 ms to one of the questions.
    pub async fn orphans(&self) -> Result<Vec<FoundRecord>, StoreError> {
        let mut orphans = Vec::<FoundRecord>::new();
        let mut walk = self.walk_orphans();
        while let Some(found) = walk.next().await? {
            if orphans.iter().all(|other| other.name != found.name) {
                orphans.push(found);
            }
        }
        Ok(orphans)
    }

    /// Walks through the records that wait for a person, one by one, with as much memory as a page of them takes.
    ///
    /// ```
    /// use lock_layer::{Idempotent, store::{MemoryStore, SharedStore}};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let jobs = Idempotent::at_most_once(SharedStore::new(MemoryStore::new()));
    /// let records = jobs.handle();
    /// let mut orphans = records.walk_orphans();
    /// while let Some(found) = orphans.next().await? {
    ///     println!("{} since {:?}", found.name(), found.age());
    /// }
    /// # Ok::<_, lock_layer::store::StoreError>(())
    /// # }).unwrap();
    /// ```
    pub fn walk_orphans(&self) -> Orphans {
        Orphans::new(self.clone())
    }

    /// Records that the request is done: repetitions get 409 `body-not-kept` with this status, and do not run. Returns false if
    /// the record has changed since it was found, or was that of a run that had [not begun](RunState::NotBegun).
    ///
    /// # Errors
    ///
    /// The store did not reply within 500 ms. The record may have been written all the same.
    pub async fn mark_done(
        &self,
        found: &FoundRecord,
        status: StatusCode,
    ) -> Result<bool, StoreError> {
        let Some(run) = found.run.filter(|_| found.state != RunState::NotBegun) else {
            return Ok(false);
        };
        self.forget_copy(found);
        let value = Value::from(run.body_not_kept(status));
        let op = Op::Set {
            key: &self.key(&found.name),
            value: &value,
            expiry: self.config.keep_for().into(),
            condition: Condition::Equals(&found.value),
            retention: Retention::Pinned,
        };
        let reply = self.config.caller.call(&op).await;
        reply.and_then(Reply::into_set).map(|(done, _)| done)
    }

    /// Removes the record: the next request with its key runs. Returns false if it has changed since it was found, or was that of
    /// a run that had [not begun](RunState::NotBegun): that one ends by itself, or begins.
    ///
    /// Never forget a run that may have taken effect and must not be repeated.
    ///
    /// # Errors
    ///
    /// The store did not reply within 500 ms. The record may have been removed all the same.
    pub async fn forget(&self, found: &FoundRecord) -> Result<bool, StoreError> {
        if found.state == RunState::NotBegun {
            return Ok(false);
        }
        self.forget_copy(found);
        let op = Op::Delete {
            key: &self.key(&found.name),
            if_equals: Some(&found.value),
        };
        let reply = self.config.caller.call(&op).await;
        reply.and_then(Reply::into_count).map(|count| count > 0)
    }

    pub(super) fn config(&self) -> &IdempotencyConfig {
        &self.config
    }

    pub(super) async fn look(&self, name: RecordName) -> Result<Option<FoundRecord>, StoreError> {
        let keys = [self.key(&name)];
        let mut seen = self.config.caller.run(&mut Inspect(&keys)).await?;
        let Some((value, ends_in)) = seen.pop().flatten() else {
            return Ok(None);
        };
        let record = Record::of(&value);
        let state = record
            .as_ref()
            .map(|record| match self.state(&record.state) {
                RunState::Running if self.has_not_begun(&record.state, ends_in) => {
                    RunState::NotBegun
                }
                state => state,
            });
        let state = state.unwrap_or(RunState::Unreadable);
        let is_claim = matches!(
            record.as_ref().map(|record| &record.state),
            Some(RecordState::InProgress { .. })
        );
        let life = match is_claim {
            _ if state == RunState::NotBegun => NOT_BEGUN_LIFE,
            true => self.config.claim_life(),
            false => self.config.keep_for(),
        };
        Ok(Some(FoundRecord {
            name,
            value,
            run: record.map(|record| record.run),
            state,
            age: life.as_duration().saturating_sub(ends_in),
            ends_in,
        }))
    }

    /// Returns true for the claim of a run that has not begun. That of one that has begun lasts longer; in its last second, it was
    /// written that much earlier.
    fn has_not_begun(&self, state: &RecordState, ends_in: Duration) -> bool {
        let RecordState::InProgress { deadline } = *state else {
            return false;
        };
        let (short, long) = (
            NOT_BEGUN_LIFE.as_duration(),
            self.config.claim_life().as_duration(),
        );
        if !self.config.begins_apart() || ends_in > short {
            return false;
        }
        let written = deadline.saturating_sub(self.config.expected_run().as_millis());
        let age = Duration::from_millis(self.config.now().saturating_sub(written));
        // Clocks differ: it is the nearer of the two lives.
        age + ends_in < (short + long) / 2
    }

    fn forget_copy(&self, found: &FoundRecord) {
        if let Some(copies) = &self.config.local_copies {
            copies.forget(&found.name);
        }
    }

    fn state(&self, state: &RecordState) -> RunState {
        match state {
            RecordState::Claimed => RunState::NotBegun,
            RecordState::InProgress { deadline } if self.config.is_overdue(*deadline) => {
                RunState::OutcomeUnknown
            }
            RecordState::InProgress { .. } => RunState::Running,
            RecordState::Unknown => RunState::OutcomeUnknown,
            RecordState::Completed(response) => RunState::Completed(response.status),
            RecordState::BodyNotKept { status } => RunState::BodyNotKept(*status),
        }
    }

    fn key<'a>(&'a self, name: &'a RecordName) -> Key<'a> {
        Key::new(&self.config.records, IdentityRef::Text(name.as_bytes()))
    }
}

impl FoundRecord {
    /// Returns the name of the record: 22 characters.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Returns the state of the run.
    pub fn state(&self) -> RunState {
        self.state
    }

    /// Returns the time since the record was written, as the settings of this layer tell it. A claim is written again with each
    /// renewal.
    pub fn age(&self) -> Duration {
        self.age
    }

    /// Returns the time until the record ends by itself, and the next request with its key runs.
    pub fn ends_in(&self) -> Duration {
        self.ends_in
    }
}

impl fmt::Debug for FoundRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoundRecord")
            .field("name", &self.name())
            .field("state", &self.state)
            .field("age", &self.age)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for IdempotencyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyHandle")
            .field("store", self.config.caller.store())
            .finish_non_exhaustive()
    }
}
