use std::{
    fmt,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use crate::{
    Context, Effect, ErrorKind, Key, Op, Reply, SharedStore, Store, StoreError, StoreInfo, Watch,
};

/// A store for tests of layers: it records its operations and, when a test wants it, fails, hangs, delays or loses replies.
///
/// Clones share the store, the fault and the record, so a test keeps one as a handle. While there is a fault, `call_now`
/// returns `None`, so that callers take the way that waits. A [`networked`](Self::networked) store always does.
///
/// ```
/// use layer_store::{
///     Context, ErrorKind, MemoryStore, Effect, StoreExt,
///     conformance::FaultInjector,
/// };
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = FaultInjector::new(MemoryStore::new());
/// let cx = Context::new("example");
/// store.fail(ErrorKind::Unavailable, Effect::NotApplied);
/// assert_eq!(store.ping(&cx).await.unwrap_err().kind(), ErrorKind::Unavailable);
/// store.heal();
/// store.ping(&cx).await?;
/// assert_eq!(store.calls(), ["ping", "ping"]);
/// # Ok::<_, layer_store::StoreError>(())
/// # }).unwrap();
/// ```
pub struct FaultInjector<T> {
    inner: Arc<T>,
    shared: Arc<Shared>,
    networked: bool,
}

/// The fault of a call to a [`FaultInjector`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The call fails with this error. It is not applied, whatever the effect says.
    Fail(ErrorKind, Effect),
    /// The call is applied and fails, with [`Effect::Unknown`].
    LoseReply(ErrorKind),
    /// The call is not applied and never ends.
    Hang,
    /// The call is applied after this time on tokio's clock.
    Delay(Duration),
}

type Choose = Box<dyn FnMut(&Op<'_>) -> Option<Fault> + Send>;

struct Shared {
    fault: Mutex<Option<Choose>>,
    calls: Mutex<Vec<&'static str>>,
    in_flight: AtomicUsize,
}

impl<T: Store> FaultInjector<T> {
    /// Makes a store without a fault.
    pub fn new(inner: T) -> Self {
        Self {
            inner: Arc::new(inner),
            shared: Arc::new(Shared {
                fault: Mutex::default(),
                calls: Mutex::default(),
                in_flight: AtomicUsize::new(0),
            }),
            networked: false,
        }
    }

    /// Makes `call_now` always return `None`, as for a store that is reached over a network.
    #[must_use]
    pub fn networked(mut self) -> Self {
        self.networked = true;
        self
    }

    /// Makes every call from now on fail, not applied.
    pub fn fail(&self, kind: ErrorKind, effect: Effect) {
        self.inject(Fault::Fail(kind, effect));
    }

    /// Makes every call from now on be applied and fail, with [`Effect::Unknown`].
    pub fn lose_replies(&self, kind: ErrorKind) {
        self.inject(Fault::LoseReply(kind));
    }

    /// Makes every call from now on hang. Such a call does not end, even after [`heal`](Self::heal).
    pub fn hang(&self) {
        self.inject(Fault::Hang);
    }

    /// Makes every call from now on wait first.
    pub fn delay(&self, time: Duration) {
        self.inject(Fault::Delay(time));
    }

    /// Gives every call from now on this fault.
    pub fn inject(&self, fault: Fault) {
        self.inject_by(move |_| Some(fault));
    }

    /// Gives each operation from now on the fault that `choose` returns for it, in the order in which they come.
    pub fn inject_by(&self, choose: impl FnMut(&Op<'_>) -> Option<Fault> + Send + 'static) {
        *self.shared.fault.lock() = Some(Box::new(choose));
    }

    /// Ends the fault: calls from now on succeed.
    pub fn heal(&self) {
        *self.shared.fault.lock() = None;
    }

    /// Returns the names of the operations so far, also of those that failed: `get`, `get_many`, `set`, `delete`,
    /// `delete_many`, `touch`, `add`, `scan`, `run`, `batch` or `ping`.
    pub fn calls(&self) -> Vec<&'static str> {
        self.shared.calls.lock().clone()
    }

    /// Takes the names of the operations since the last time.
    pub fn take_calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.shared.calls.lock())
    }

    /// Returns the number of calls that are under way: begun, not ended and not dropped.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    fn has_fault(&self) -> bool {
        self.shared.fault.lock().is_some()
    }
}

impl<T> Clone for FaultInjector<T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: self.shared.clone(),
            networked: self.networked,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for FaultInjector<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultInjector")
            .field("inner", &self.inner)
            .field("networked", &self.networked)
            .field("calls", &self.shared.calls.lock().len())
            .finish_non_exhaustive()
    }
}

impl<T: Store> From<FaultInjector<T>> for SharedStore {
    fn from(store: FaultInjector<T>) -> Self {
        Self::new(store)
    }
}

#[deny(clippy::missing_trait_methods)]
impl<T: Store> Store for FaultInjector<T> {
    async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
        let _in_flight = InFlight::new(&self.shared.in_flight);
        match self.shared.asked(op) {
            None => self.inner.call(op, cx).await,
            Some(Fault::Fail(kind, Effect::NotApplied)) => Err(StoreError::not_applied(kind)),
            Some(Fault::Fail(kind, Effect::Unknown)) => Err(StoreError::unknown(kind)),
            Some(Fault::LoseReply(kind)) => {
                // An error of the inner store is lost, too.
                let _ = self.inner.call(op, cx).await;
                Err(StoreError::unknown(kind))
            }
            Some(Fault::Hang) => pending().await,
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                self.inner.call(op, cx).await
            }
        }
    }

    fn call_now(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        if self.networked || self.has_fault() {
            return None;
        }
        let reply = self.inner.call_now(op, cx);
        if reply.is_some() {
            self.shared.calls.lock().push(op.name());
        }
        reply
    }

    fn watch(&self, key: &Key<'_>) -> Watch {
        self.inner.watch(key)
    }

    fn info(&self) -> StoreInfo {
        let mut info = self.inner.info();
        info.answers_now &= !self.networked;
        // A call that hangs has no end.
        info.keeps_deadlines = false;
        info
    }
}

impl Shared {
    fn asked(&self, op: &Op<'_>) -> Option<Fault> {
        self.calls.lock().push(op.name());
        self.fault.lock().as_mut()?(op)
    }
}

/// Counts a call until it is dropped.
struct InFlight<'a>(&'a AtomicUsize);

impl<'a> InFlight<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Identity, KeySpace, MemoryStore, StoreExt, Ttl, Value, conformance::unique};

    const CX: Context = Context::new("test");

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_ends_only_by_being_dropped() {
        let store = FaultInjector::new(MemoryStore::new());
        store.hang();
        let call = tokio::time::timeout(Duration::from_secs(1 << 20), store.ping(&CX));
        let ((), result) = tokio::join!(
            async {
                tokio::task::yield_now().await;
                assert_eq!(store.in_flight(), 1);
                store.heal();
            },
            call
        );
        assert!(result.is_err());
        assert_eq!(store.in_flight(), 0);
        store.ping(&CX).await.unwrap();
        assert_eq!(store.take_calls(), ["ping", "ping"]);
        assert_eq!(store.calls(), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delayed_call_takes_exactly_so_long() {
        let store = FaultInjector::new(MemoryStore::new());
        store.delay(Duration::from_millis(70));
        let start = tokio::time::Instant::now();
        store.ping(&CX).await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_millis(70));
    }

    #[tokio::test]
    async fn a_lost_reply_is_applied_and_a_failure_is_not() {
        let space = KeySpace::new("data", &unique());
        let ada = Identity::from("ada");
        let key = Key::new(&space, ada.as_ref());
        let ttl = Ttl::from_millis(60_000).unwrap();
        let store = FaultInjector::new(MemoryStore::new());

        store.fail(ErrorKind::Timeout, Effect::Unknown);
        let error = store.put(&CX, &key, &"1".into(), ttl).await.unwrap_err();
        assert_eq!(error.effect(), Effect::Unknown);
        store.heal();
        assert_eq!(store.get(&CX, &key).await.unwrap(), None);

        store.lose_replies(ErrorKind::Timeout);
        let error = store.put(&CX, &key, &"1".into(), ttl).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(error.effect(), Effect::Unknown);
        store.heal();
        assert_eq!(store.get(&CX, &key).await.unwrap(), Some(Value::from("1")));
    }

    #[tokio::test]
    async fn trouble_can_be_chosen_for_each_operation() {
        let store = FaultInjector::new(MemoryStore::new()).networked();
        assert!(store.call_now(&Op::Ping, &CX).is_none());
        let mut pings = 0;
        store.inject_by(move |op| match op {
            Op::Ping => {
                pings += 1;
                (pings == 2).then_some(Fault::Fail(ErrorKind::Throttled, Effect::NotApplied))
            }
            _ => Some(Fault::Hang),
        });
        store.ping(&CX).await.unwrap();
        store.ping(&CX).await.unwrap_err();
        store.ping(&CX).await.unwrap();
        assert_eq!(store.calls(), ["ping"; 3]);
    }
}
