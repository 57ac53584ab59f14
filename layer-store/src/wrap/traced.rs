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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::{
        Event, Metadata, Subscriber,
        field::{Field, Visit},
        span::{Attributes, Id, Record},
    };

    use super::*;
    use crate::{
        ErrorKind, Identity, KeySpace, MemoryStore,
        wrap::fake::{Fake, Mode},
    };

    /// Notes spans and their fields at a level and above.
    #[derive(Clone)]
    struct Spans(Level, Arc<Mutex<Vec<String>>>);

    impl Spans {
        fn at(level: Level) -> (Self, tracing::subscriber::DefaultGuard) {
            let spans = Self(level, Arc::default());
            let guard = tracing::subscriber::set_default(spans.clone());
            (spans, guard)
        }

        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.1.lock())
        }

        fn write(&self, id: &Id, field: &str, value: &str) {
            let mut spans = self.1.lock();
            let span = &mut spans[id.into_u64() as usize - 1];
            span.push_str(&format!(" {field}={value}"));
        }
    }

    impl Subscriber for Spans {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "layer_store" && *metadata.level() <= self.0
        }

        fn new_span(&self, span: &Attributes<'_>) -> Id {
            self.1.lock().push(span.metadata().name().into());
            let id = Id::from_u64(self.1.lock().len() as u64);
            span.record(&mut Fields(self, &id));
            id
        }

        fn record(&self, id: &Id, values: &Record<'_>) {
            values.record(&mut Fields(self, id));
        }

        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, _: &Event<'_>) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    struct Fields<'a>(&'a Spans, &'a Id);

    impl Visit for Fields<'_> {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            self.0.write(self.1, field.name(), &format!("{value:?}"));
        }
    }

    const CX: Context = Context::new("cache");

    #[tokio::test]
    async fn a_call_has_a_span_with_its_outcome_and_without_its_key() {
        let (spans, _guard) = Spans::at(Level::DEBUG);
        let fake = Fake::new(Mode::Reply);
        let store = Traced::new(fake.clone());
        let (space, secret) = (KeySpace::new("data", "s"), Identity::from("secret"));
        let key = Key::new(&space, secret.as_ref());
        assert!(store.call_now(&Op::Get(&key), &CX).is_none());
        assert_eq!(spans.take(), [""; 0], "nothing was done");
        store.call(&Op::Get(&key), &CX).await.unwrap();
        let got = spans.take();
        let expected = r#"store op="get" source="cache" backend="fake" outcome="ok""#;
        assert_eq!(got, [expected]);

        fake.turn(Mode::Fail(ErrorKind::TooLarge));
        assert!(store.call(&Op::Ping, &CX).await.is_err());
        let expected = r#"store op="ping" source="cache" backend="fake" outcome="too_large""#;
        assert_eq!(spans.take(), [expected]);
    }

    #[test]
    fn a_reply_without_waiting_has_a_span_too() {
        let (spans, _guard) = Spans::at(Level::DEBUG);
        let store = Traced::new(MemoryStore::new());
        store.call_now(&Op::Ping, &CX).unwrap().unwrap();
        let expected = r#"store op="ping" source="cache" backend="memory" outcome="ok""#;
        assert_eq!(spans.take(), [expected]);
    }

    #[tokio::test]
    async fn no_span_is_made_that_nobody_asked_for() {
        let (spans, _guard) = Spans::at(Level::INFO);
        let store = Traced::new(Fake::new(Mode::Reply));
        store.call(&Op::Ping, &CX).await.unwrap();
        assert!(spans.take().is_empty());
    }
}
