use std::{
    future::Future,
    time::{Duration, Instant},
};

use crate::{
    Context, Op, Protocol, Reply, Scratch, SharedStore, Store, StoreError, StoreInfo, wrap::Timeout,
};

/// The calls of one layer to its store, with one limit for all of them.
///
/// It runs a [`Protocol`] in one of two ways:
///
/// - [`run_now`](Self::run_now) for a store that answers at once, such as memory. It never waits.
/// - [`run`](Self::run) for a store that waits. All operations of one talk share one deadline.
///
/// A layer tries `run_now` first. If that returns `None`, the protocol has stopped before an operation that has to wait, and
/// `run` goes on from there.
///
/// ```
/// use std::time::Duration;
///
/// use layer_store::{Caller, MemoryStore, Op, SharedStore};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let caller = Caller::new(SharedStore::new(MemoryStore::new()), "example");
/// assert_eq!(caller.limit(), Duration::from_millis(100));
/// caller.call(&Op::Ping).await?.into_pong()?;
/// # Ok::<_, layer_store::StoreError>(())
/// # }).unwrap();
/// ```
///
/// # Defaults
///
/// A talk takes at most the store's own limit of a call ([`StoreInfo::call_limit`]). If the store has none, 100 ms.
#[derive(Clone, Debug)]
pub struct Caller {
    store: SharedStore,
    /// The store with a limit of its own, for calls that wait.
    bounded: SharedStore,
    context: Context,
    limit: Duration,
}

impl Caller {
    /// Makes a caller with the default limit. `source` names the layer in metrics, such as `cache`.
    pub fn new(store: SharedStore, source: &'static str) -> Self {
        Self::with_limit(store, source, DEFAULT_LIMIT)
    }

    /// Makes a caller that uses `limit` if the store has no limit of its own.
    ///
    /// # Panics
    ///
    /// If `limit` is zero.
    #[track_caller]
    pub fn with_limit(store: SharedStore, source: &'static str, limit: Duration) -> Self {
        assert!(
            !limit.is_zero(),
            "a limit of zero lets no call through: write such as Duration::from_millis(100)"
        );
        let bounded = match store.info().call_limit {
            Some(_) => store.clone(),
            None => Timeout::new(store.clone(), limit).into(),
        };
        Self {
            limit: bounded.info().call_limit.unwrap_or(limit),
            context: Context::new(source),
            bounded,
            store,
        }
    }

    /// Returns the store.
    pub const fn store(&self) -> &SharedStore {
        &self.store
    }

    /// Returns the properties of the store, without a call.
    pub fn info(&self) -> StoreInfo {
        self.bounded.info()
    }

    /// Returns the longest time of a talk.
    pub const fn limit(&self) -> Duration {
        self.limit
    }

    /// Returns the deadline of a talk that begins now, on tokio's clock. `None` if the limit is too long for any clock.
    pub fn deadline(&self) -> Option<Instant> {
        self.context.within(self.limit).deadline
    }

    /// Applies one operation if the store needs no waiting. `None` means that nothing was done.
    #[inline]
    pub fn call_now(&self, op: &Op<'_>) -> Option<Result<Reply, StoreError>> {
        self.store.call_now(op, &self.context)
    }

    /// Applies one operation and waits for its reply, within the limit.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub fn call<'a>(
        &'a self,
        op: &'a Op<'a>,
    ) -> impl Future<Output = Result<Reply, StoreError>> + Send + 'a {
        self.call_by(op, None)
    }

    /// Applies one operation and waits for its reply until `deadline`, and at most for the store's own limit of a call.
    ///
    /// `None`: for that limit alone.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn call_by<'a>(
        &'a self,
        op: &'a Op<'a>,
        deadline: Option<Instant>,
    ) -> Result<Reply, StoreError> {
        match self.call_now(op) {
            Some(reply) => reply,
            // The bounded store: a store without a limit of its own could hang.
            None => {
                let context = Context {
                    deadline,
                    ..self.context
                };
                self.bounded.call(op, &context).await
            }
        }
    }

    /// Runs `protocol` to its end if the store needs no waiting.
    ///
    /// `None` means that it stopped before an operation that has to wait. That one was not done. [`run`](Self::run) goes on
    /// with it.
    #[inline]
    pub fn run_now<P: Protocol>(&self, protocol: &mut P) -> Option<P::Output> {
        loop {
            let reply = self.call_now(&protocol.ask(&mut Scratch::default()))?;
            if let Some(output) = protocol.take(reply) {
                return Some(output);
            }
        }
    }

    /// Runs `protocol` to its end. All of its operations share one deadline, [`limit`](Self::limit) from now.
    ///
    /// # Cancel safety
    ///
    /// The operation under way when the future is dropped may or may not have been applied.
    pub async fn run<P: Protocol + Send + Sync>(&self, protocol: &mut P) -> P::Output {
        self.run_by(protocol, self.deadline()).await
    }

    /// Runs `protocol` to its end under a deadline that it shares with others.
    ///
    /// `None`: each operation has the store's own limit.
    ///
    /// # Cancel safety
    ///
    /// The operation under way when the future is dropped may or may not have been applied.
    pub async fn run_by<P: Protocol + Send + Sync>(
        &self,
        protocol: &mut P,
        deadline: Option<Instant>,
    ) -> P::Output {
        loop {
            // The scratch and the operation borrow the protocol, and end before it takes the reply.
            let reply = {
                let mut scratch = Scratch::default();
                let op = protocol.ask(&mut scratch);
                self.call_by(&op, deadline).await
            };
            if let Some(output) = protocol.take(reply) {
                return output;
            }
        }
    }
}

/// The limit of a talk if the store has none.
const DEFAULT_LIMIT: Duration = Duration::from_millis(100);

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use super::*;
    use crate::{ErrorKind, MemoryStore, conformance::FaultInjector};

    /// Pings a number of times.
    struct Pings(u32);

    impl Protocol for Pings {
        type Output = Result<(), StoreError>;

        fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
            Op::Ping
        }

        fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
            self.0 -= 1;
            match reply.and_then(Reply::into_pong) {
                Ok(()) if self.0 > 0 => None,
                result => Some(result),
            }
        }
    }

    fn caller() -> (Caller, FaultInjector<MemoryStore>) {
        let store = FaultInjector::new(MemoryStore::new());
        let caller = Caller::new(SharedStore::new(store.clone()), "test");
        (caller, store)
    }

    #[tokio::test(start_paused = true)]
    async fn a_talk_that_could_not_end_now_goes_on_where_it_stopped() {
        let (caller, store) = caller();
        let mut talk = Pings(2);
        assert!(caller.run_now(&mut talk).unwrap().is_ok());
        assert_eq!(store.take_calls(), ["ping", "ping"]);

        let mut talk = Pings(3);
        store.delay(Duration::from_millis(1));
        assert!(caller.run_now(&mut talk).is_none());
        assert_eq!(talk.0, 3);
        caller.run(&mut talk).await.unwrap();
        assert_eq!(talk.0, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_operations_of_a_talk_share_one_deadline() {
        let (caller, store) = caller();
        store.delay(Duration::from_millis(60));
        let begun = tokio::time::Instant::now();
        let error = caller.run(&mut Pings(3)).await.unwrap_err();
        assert!(matches!(
            error.kind(),
            ErrorKind::Deadline | ErrorKind::Timeout
        ));
        assert_eq!(begun.elapsed(), Duration::from_millis(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_single_call_ends_within_the_limit() {
        let (caller, store) = caller();
        store.hang();
        let begun = tokio::time::Instant::now();
        assert!(caller.call(&Op::Ping).await.is_err());
        assert_eq!(begun.elapsed(), Duration::from_millis(100));
    }

    #[tokio::test(start_paused = true)]
    async fn the_store_s_own_limit_comes_before_the_caller_s() {
        let ms = Duration::from_millis;
        let (default, store) = caller();
        assert_eq!(
            (default.limit(), default.info().call_limit),
            (ms(100), Some(ms(100)))
        );
        let own = Caller::with_limit(store.clone().into(), "test", ms(30));
        assert_eq!(own.limit(), ms(30));
        let quick = Caller::with_limit(Timeout::new(store.clone(), ms(7)).into(), "test", ms(30));
        assert_eq!(
            (quick.limit(), quick.info().call_limit),
            (ms(7), Some(ms(7)))
        );
        assert_eq!(quick.store().info().call_limit, Some(ms(7)));
        assert_eq!(default.store().info().call_limit, None);
        let now = tokio::time::Instant::now().into_std();
        assert_eq!(quick.deadline(), Some(now + ms(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_shared_with_others_ends_a_talk() {
        let (caller, store) = caller();
        store.hang();
        let begun = tokio::time::Instant::now();
        let deadline = begun + Duration::from_millis(40);
        let error = caller
            .run_by(&mut Pings(1), Some(deadline.into_std()))
            .await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Deadline);
        assert_eq!(begun.elapsed(), Duration::from_millis(40));
        assert!(caller.run_by(&mut Pings(1), None).await.is_err());
        assert_eq!(begun.elapsed(), Duration::from_millis(140));
    }

    #[test]
    #[should_panic(expected = "a limit of zero lets no call through")]
    fn a_limit_of_zero_is_a_mistake() {
        let _ = Caller::with_limit(MemoryStore::new().into(), "test", Duration::ZERO);
    }
}
