use std::sync::Arc;

use http::Method;
use layer_http::RequestHead;
use layer_store::{Caller, Clock, KeySpace, SharedStore, Ttl};

use super::{
    client_scope::ClientScope,
    fingerprint::{RecordName, record_name},
    key,
    outcome::IdempotencyRefusal,
    retry_policy::RetryPolicy,
};
use crate::retry::CALLER_LIMIT;

/// The settings that all services of one layer share.
#[derive(Clone)]
pub(super) struct IdempotencyConfig {
    pub(super) caller: Caller,
    pub(super) client_scope: ClientScope,
    pub(super) retry_policy: RetryPolicy,
    pub(super) methods: Arc<[Method]>,
    /// In bytes.
    pub(super) max_request_body: usize,
    /// In bytes.
    pub(super) max_response_body: usize,
    /// The life of a record.
    pub(super) keep_for: Ttl,
    /// The time that an execution is expected to take; the life of a claim that is renewed.
    pub(super) expected_run: Ttl,
    pub(super) records: KeySpace,
    pub(super) clock: Clock,
    pub(super) enabled: bool,
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
            max_request_body: MIB,
            max_response_body: MIB,
            keep_for: DAY,
            expected_run: HALF_A_MINUTE,
            records: KeySpace::new("record", "http"),
            clock: Clock::system(),
            enabled: true,
        }
    }

    /// Returns true if a request with this method needs a key.
    pub(super) fn needs_key(&self, method: &Method) -> bool {
        self.enabled && self.methods.contains(method)
    }

    /// Names the record of a request.
    pub(super) fn record_name(
        &self,
        head: &RequestHead<'_>,
    ) -> Result<RecordName, IdempotencyRefusal> {
        let key = key::read(head.headers)?;
        let Some(client) = self.client_scope.client(head) else {
            tracing::error!(
                "an idempotency key has no client: let ClientScope::by find one, \
                 or serve axum with into_make_service_with_connect_info::<SocketAddr>()"
            );
            return Err(IdempotencyRefusal::ClientUnknown);
        };
        let host = self.client_scope.host(head);
        Ok(record_name(&client, host.as_deref(), head, &key))
    }
}

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
        assert_eq!(config.keep_for.as_millis(), 86_400_000);
        assert_eq!(config.expected_run.as_millis(), 30_000);
        assert_eq!(*config.methods, [Method::POST, Method::PATCH]);
        assert!(config.enabled);
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            assert!(!config.needs_key(&method));
        }
    }
}
