use std::fmt;

use super::{fingerprint::RecordName, record::RunId};

/// The key and the attempt of an idempotent run, in its request's extensions, for a handler that writes them beside its effect.
///
/// A table with a unique index on [`record`](Self::record) lets the effect check for itself, whatever the store forgets. With
/// the feature `axum` it is an extractor:
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::{Router, routing::post};
/// use lock_layer::{ClientScope, IdempotencyContext, IdempotencyLayer, store::{MemoryStore, SharedStore}};
///
/// async fn pay(run: IdempotencyContext) -> String {
///     // INSERT INTO payments (record, ..) VALUES ($1, ..) ON CONFLICT (record) DO NOTHING
///     format!("payment for key {}, record {}", run.key(), run.record())
/// }
///
/// let store = SharedStore::new(MemoryStore::new());
/// let once = IdempotencyLayer::at_most_once(store, ClientScope::global());
/// let app: Router = Router::new().route("/payments", post(pay).layer(once));
/// # }
/// ```
#[derive(Clone)]
pub struct IdempotencyContext {
    key: Box<str>,
    record: RecordName,
    run: RunId,
}

impl IdempotencyContext {
    pub(super) fn new(key: Box<[u8]>, record: RecordName, run: RunId) -> Self {
        let key = String::from_utf8(key.into())
            .unwrap_or_else(|bytes| String::from_utf8_lossy(bytes.as_bytes()).into());
        Self {
            key: key.into(),
            record,
            run,
        }
    }

    /// Returns the key that the client sent, or that was derived from its request.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the name of the record: 22 characters made from client, method, route and key. All attempts have it in common.
    pub fn record(&self) -> &str {
        self.record.as_str()
    }

    /// Returns the name of this attempt: 22 characters. Another run of the request has another one.
    pub fn attempt(&self) -> &str {
        self.run.attempt()
    }
}

impl fmt::Debug for IdempotencyContext {
    /// Hides the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyContext").finish_non_exhaustive()
    }
}
