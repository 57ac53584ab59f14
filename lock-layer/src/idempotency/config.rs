use std::{borrow::Cow, sync::Arc, time::Duration};

use http::Method;
use layer_http::{
    RequestHead,
    grpc::{ClientProtocol, MethodPaths},
};
use layer_store::{Caller, Clock, IdentityRef, Key, KeySpace, SharedStore, Ttl};

use super::{
    client_scope::{ClientScope, Scoped},
    fingerprint::{RecordName, record_name},
    interrupted::InterruptedRuns,
    key::KeySource,
    local_copies::LocalCopies,
    outcome::IdempotencyRefusal,
    payload::PayloadRule,
    record::Record,
    replay_headers::ReplayHeaders,
    retry_policy::RetryPolicy,
    unkept_types::UnkeptTypes,
};
use crate::{retry::CALLER_LIMIT, tracker::RunTracker};

/// The settings that all services of one layer share.
#[derive(Clone)]
pub(super) struct IdempotencyConfig {
    pub(super) caller: Caller,
    pub(super) client_scope: ClientScope,
    pub(super) retry_policy: RetryPolicy,
    pub(super) methods: Arc<[Method]>,
    /// The paths of the methods of gRPC whose calls need a key. `None`: all.
    pub(super) grpc_methods: Option<MethodPaths>,
    pub(super) key: KeySource,
    pub(super) payload: PayloadRule,
    pub(super) replay_headers: ReplayHeaders,
    pub(super) unkept_types: UnkeptTypes,
    pub(super) local_copies: Option<Arc<LocalCopies>>,
    /// The longest time that a repetition waits for the first request. Zero: it does not.
    pub(super) wait: Duration,
    /// In bytes.
    pub(super) max_request_body: usize,
    /// In bytes.
    pub(super) max_response_body: usize,
    /// The life of a record, if it was set.
    keep_for: Option<Ttl>,
    /// The time that a run is expected to take, if it was set.
    expected_run: Option<Ttl>,
    pub(super) records: KeySpace,
    pub(super) clock: Clock,
    pub(super) tracker: RunTracker,
    pub(super) interrupted: Arc<InterruptedRuns>,
    pub(super) enabled: bool,
}

/// A record, and the key for which it is.
pub(super) struct NamedRecord {
    pub(super) name: RecordName,
    /// `None`: it stands in the header, and only a run needs it.
    pub(super) key: Option<Box<[u8]>>,
}

/// The record that a request needs.
pub(super) enum RecordNeed {
    /// None: the request passes.
    Nothing,
    /// This one. `None`: the one that its message names, which has to be read first.
    Record(Option<NamedRecord>),
    /// It cannot be told. The request is refused.
    Refused(IdempotencyRefusal),
}

impl IdempotencyConfig {
    pub(super) fn new(
        store: SharedStore,
        client_scope: ClientScope,
        retry_policy: RetryPolicy,
    ) -> Self {
        Self {
            caller: Caller::with_limit(store, "idempotency", CALLER_LIMIT),
            client_scope,
            retry_policy,
            methods: Arc::new([Method::POST, Method::PATCH]),
            grpc_methods: None,
            key: KeySource::default(),
            payload: PayloadRule::bytes(),
            replay_headers: ReplayHeaders::default(),
            unkept_types: UnkeptTypes::default(),
            local_copies: None,
            wait: Duration::ZERO,
            max_request_body: MIB,
            max_response_body: MIB,
            keep_for: None,
            expected_run: None,
            records: KeySpace::new("record", "http"),
            clock: Clock::system(),
            tracker: RunTracker::new(),
            interrupted: Arc::default(),
            enabled: true,
        }
    }

    /// Keeps copies of records that are done, of at most so many bytes in all, and believes each for `time`.
    ///
    /// # Panics
    ///
    /// If one of them is zero.
    #[track_caller]
    pub(super) fn set_local_copies(&mut self, bytes: usize, time: Duration) {
        assert!(
            bytes > 0 && !time.is_zero(),
            "local_copies of no bytes, or believed for no time, are none: write some, such as 1 << 20 and Duration::from_secs(5)"
        );
        self.local_copies = Some(Arc::new(LocalCopies::new(bytes, time)));
    }

    /// Keeps a copy of a record that was found, if its run is done.
    pub(super) fn keep_local_copy(&self, name: RecordName, record: &Record) {
        if let Some(copies) = &self.local_copies {
            copies.keep(name, record);
        }
    }

    /// Returns the copy of a record in this process, if there is one.
    pub(super) fn local_copy(&self, name: &RecordName) -> Option<Record> {
        self.local_copies.as_ref()?.get(name)
    }

    /// Returns the life of a record.
    pub(super) fn keep_for(&self) -> Ttl {
        self.keep_for.unwrap_or(DAY)
    }

    /// Returns the time that a run is expected to take.
    pub(super) fn expected_run(&self) -> Ttl {
        let default = HALF_A_MINUTE.min(self.keep_for());
        self.expected_run.unwrap_or(default)
    }

    /// Returns the life of the claim of a run that has begun.
    pub(super) fn claim_life(&self) -> Ttl {
        match self.retry_policy {
            // As long as a record: the claim of a process that died has to outlive every repetition.
            RetryPolicy::AtMostOnce => self.keep_for(),
            RetryPolicy::RetrySafe => self.expected_run(),
        }
    }

    /// Returns true if a claim takes two steps, of which the second begins the run.
    pub(super) fn begins_apart(&self) -> bool {
        self.retry_policy == RetryPolicy::AtMostOnce && !self.caller.answers_now()
    }

    /// Sets the life of a record. An error says why it is not possible.
    pub(super) fn set_keep_for(&mut self, time: Duration) -> Result<(), String> {
        let keep_for = ttl(time, "records")?;
        self.keep_for = Some(keep_for);
        self.check_times()
    }

    /// Sets the time that a run is expected to take. An error says why it is not possible.
    pub(super) fn set_expected_run(&mut self, time: Duration) -> Result<(), String> {
        let expected_run = ttl(time, "a run")?;
        self.expected_run = Some(expected_run);
        self.check_times()
    }

    /// A record that ends before its run does would let the request run twice.
    fn check_times(&self) -> Result<(), String> {
        let (kept, run) = (self.keep_for(), self.expected_run());
        match run <= kept {
            true => Ok(()),
            false => Err(format!(
                "a run of {:?} outlives a record that is kept for {:?}, and its request could run twice: \
                 write a longer keep_for, or a shorter expected_run",
                run.as_duration(),
                kept.as_duration()
            )),
        }
    }

    /// Sets the longest time that a repetition waits. One without end is too long for a clock.
    pub(super) fn set_wait(&mut self, time: Duration) {
        self.wait = time.min(MAX_TIME);
    }

    /// Returns the time, in Unix ms.
    pub(super) fn now(&self) -> u64 {
        self.clock.now() / 1_000
    }

    /// Returns true if a run that was expected to end before `deadline`, in Unix ms, is overdue: its process may have died.
    ///
    /// With `retry_safe` none is. Its claim ends by itself a moment later, as the clock of the store says, and the next
    /// repetition runs.
    pub(super) fn is_overdue(&self, deadline: u64) -> bool {
        self.retry_policy == RetryPolicy::AtMostOnce && self.now() >= deadline
    }

    /// Returns the key of the record with this name.
    pub(super) fn record_key<'a>(&'a self, name: &'a RecordName) -> Key<'a> {
        Key::new(&self.records, IdentityRef::Text(name.as_bytes()))
    }

    /// Decides which record a request needs, before its body is read.
    pub(super) fn record_for(&self, head: &RequestHead<'_>) -> RecordNeed {
        if !self.needs_key(head) {
            return RecordNeed::Nothing;
        }
        if self.key.in_message.is_some() {
            return RecordNeed::Record(None);
        }
        let keeps_key = self.key.derived.is_some();
        need(self.named_record(head, keeps_key, || self.key.read(head)))
    }

    /// Decides which record a request with this body needs.
    pub(super) fn record_in(
        &self,
        head: &RequestHead<'_>,
        body: &[u8],
    ) -> Result<Option<NamedRecord>, IdempotencyRefusal> {
        self.named_record(head, true, || self.key.read_in(head, body))
    }

    fn needs_key(&self, head: &RequestHead<'_>) -> bool {
        self.enabled && self.methods.contains(head.method) && self.needs_key_by_path(head)
    }

    fn needs_key_by_path(&self, head: &RequestHead<'_>) -> bool {
        let Some(grpc_methods) = &self.grpc_methods else {
            return true;
        };
        let is_listed = || grpc_methods.has(head.path());
        !ClientProtocol::of(head.headers).is_grpc() || is_listed()
    }

    /// Names the record of a request with the key that `read_key` finds.
    fn named_record<'k>(
        &self,
        head: &RequestHead<'_>,
        keeps_key: bool,
        read_key: impl FnOnce() -> Result<Option<Cow<'k, [u8]>>, IdempotencyRefusal>,
    ) -> Result<Option<NamedRecord>, IdempotencyRefusal> {
        let client = match self.client_scope.client(head) {
            Scoped::Client(client) => client,
            Scoped::Skip => return Ok(None),
            Scoped::Refuse => return Err(IdempotencyRefusal::ClientMissing),
            Scoped::Unknown => {
                tracing::error!(
                    "an idempotency key has no client: let ClientScope::by find one, \
                     or serve axum with into_make_service_with_connect_info::<SocketAddr>()"
                );
                return Err(IdempotencyRefusal::ClientUnknown);
            }
        };
        let Some(key) = read_key()? else {
            return Ok(None);
        };
        let host = self.client_scope.host(head);
        let name = record_name(&client, host.as_deref(), head, &key);
        let key = keeps_key.then(|| key.into());
        Ok(Some(NamedRecord { name, key }))
    }
}

fn need(named: Result<Option<NamedRecord>, IdempotencyRefusal>) -> RecordNeed {
    match named {
        Ok(Some(record)) => RecordNeed::Record(Some(record)),
        Ok(None) => RecordNeed::Nothing,
        Err(refusal) => RecordNeed::Refused(refusal),
    }
}

fn ttl(time: Duration, what: &str) -> Result<Ttl, String> {
    if time < MIN_TIME {
        return Err(format!(
            "{time:?} is too short for {what}: write at least Duration::from_secs(1)"
        ));
    }
    if time > MAX_TIME {
        return Err(format!(
            "{time:?} is too long for {what}: write at most ten years, Duration::from_secs(315_360_000)"
        ));
    }
    Ok(Ttl::try_from(time).expect("a second is more than a millisecond"))
}

const MIN_TIME: Duration = Duration::from_secs(1);
/// Ten years.
pub(super) const MAX_TIME: Duration = Duration::from_secs(315_360_000);
const MIB: usize = 1 << 20;
const DAY: Ttl = Ttl::from_millis(24 * 3_600_000).expect("a day is not zero");
const HALF_A_MINUTE: Ttl = Ttl::from_millis(30_000).expect("30 s are not zero");

#[cfg(test)]
mod tests {
    use layer_store::MemoryStore;

    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_crate_page() {
        let config = IdempotencyConfig::new(
            SharedStore::new(MemoryStore::new()),
            ClientScope::global(),
            RetryPolicy::AtMostOnce,
        );
        assert_eq!(config.max_request_body, 1_048_576);
        assert_eq!(config.max_response_body, 1_048_576);
        assert_eq!(config.keep_for().as_millis(), 86_400_000);
        assert_eq!(config.expected_run().as_millis(), 30_000);
        assert_eq!(*config.methods, [Method::POST, Method::PATCH]);
        assert!(config.enabled);
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let request = http::Request::builder().method(method).body(()).unwrap();
            assert!(!config.needs_key(&RequestHead::of(&request)));
        }
    }
}
