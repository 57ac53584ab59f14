use std::fmt;

use tracing::{Instrument, Level, Span, debug_span, field, span_enabled};

use crate::{Context, Key, Op, Reply, SharedStore, Store, StoreError, StoreInfo, Watch};

/// Puts a span of `tracing` round each call, at debug level and with the target `layer_store`.
///
/// The span is named `store`. Its fields are `op` ([`Op::name`]), `source` ([`Context::source`]), `backend` (the store's
/// name) and, at its end, `outcome`: `ok` or the [kind of the error](crate::ErrorKind::as_str). No field holds a key.
///
/// It is the outermost wrapper. While nobody listens it costs one look at a number. A reply of [`call_now`](Store::call_now)
/// has a span too, which begins when the reply is there: it shows what was asked, not how long it took.
///
/// ```
/// use layer_store::{MemoryStore, SharedStore, wrap::Traced};
///
/// let store = SharedStore::from(Traced::new(MemoryStore::new()));
/// # drop(store);
/// ```
pub struct Traced<T> {
    inner: T,
    backend: &'static str,
}

impl<T: Store> Traced<T> {
    /// Puts a span round each call of `inner`.
    pub fn new(inner: T) -> Self {
        Self {
            backend: inner.info().name,
            inner,
        }
    }

    fn span(&self, op: &Op<'_>, cx: &Context) -> Span {
        debug_span!(
            target: "layer_store",
            "store",
            op = op.name(),
            source = cx.source,
            backend = self.backend,
            outcome = field::Empty,
        )
    }

    #[cold]
    fn note(&self, op: &Op<'_>, cx: &Context, result: &Result<Reply, StoreError>) {
        let span = self.span(op, cx);
        // Entered, so that the listeners which show spans by their end show this one.
        span.in_scope(|| end(&span, result));
    }
}

impl<T: Store> From<Traced<T>> for SharedStore {
    fn from(store: Traced<T>) -> Self {
        Self::new(store)
    }
}

#[deny(clippy::missing_trait_methods)]
impl<T: Store> Store for Traced<T> {
    async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
        if !is_traced() {
            return self.inner.call(op, cx).await;
        }
        let span = self.span(op, cx);
        let result = self.inner.call(op, cx).instrument(span.clone()).await;
        end(&span, &result);
        result
    }

    #[inline]
    fn call_now(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        let result = self.inner.call_now(op, cx);
        if is_traced()
            && let Some(result) = &result
        {
            self.note(op, cx, result);
        }
        result
    }

    fn watch(&self, key: &Key<'_>) -> Watch {
        self.inner.watch(key)
    }

    fn info(&self) -> StoreInfo {
        self.inner.info()
    }
}

impl<T: fmt::Debug> fmt::Debug for Traced<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Traced").field(&self.inner).finish()
    }
}

/// Returns true if somebody may listen to spans of `layer_store` at debug level.
#[inline]
fn is_traced() -> bool {
    span_enabled!(target: "layer_store", Level::DEBUG)
}

fn end(span: &Span, result: &Result<Reply, StoreError>) {
    let outcome = match result {
        Ok(_) => "ok",
        Err(error) => error.kind().as_str(),
    };
    span.record("outcome", outcome);
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use super::*;
    use crate::{
        ErrorKind, Identity, KeySpace, MemoryStore,
        conformance::Logs,
        wrap::fake::{Fake, Mode},
    };

    const CX: Context = Context::new("cache");

    #[tokio::test]
    async fn a_call_has_a_span_with_its_outcome_and_without_its_key() {
        let logs = Logs::debug("layer_store");
        let fake = Fake::new(Mode::Reply);
        let store = Traced::new(fake.clone());
        let (space, secret) = (KeySpace::new("data", "s"), Identity::from("secret"));
        let key = Key::new(&space, secret.as_ref());
        assert!(store.call_now(&Op::Get(&key), &CX).is_none());
        assert_eq!(logs.take(), [""; 0], "nothing was done");
        store.call(&Op::Get(&key), &CX).await.unwrap();
        let expected = "store op=get source=cache backend=fake outcome=ok";
        assert_eq!(logs.take(), [expected]);

        fake.turn(Mode::Fail(ErrorKind::TooLarge));
        assert!(store.call(&Op::Ping, &CX).await.is_err());
        let expected = "store op=ping source=cache backend=fake outcome=too_large";
        assert_eq!(logs.take(), [expected]);
    }

    #[test]
    fn a_reply_without_waiting_has_a_span_too() {
        let logs = Logs::debug("layer_store");
        let store = Traced::new(MemoryStore::new());
        store.call_now(&Op::Ping, &CX).unwrap().unwrap();
        let expected = "store op=ping source=cache backend=memory outcome=ok";
        assert_eq!(logs.take(), [expected]);
    }

    #[tokio::test]
    async fn no_span_is_made_that_nobody_asked_for() {
        let logs = Logs::at(Level::INFO, "layer_store");
        let store = Traced::new(Fake::new(Mode::Reply));
        store.call(&Op::Ping, &CX).await.unwrap();
        assert!(logs.take().is_empty());
    }
}
