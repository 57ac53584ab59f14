use std::{
    future::Future,
    time::{Duration, Instant},
};

use crate::{
    Context, Key, MemoryStore, Op, Protocol, Reply, Retention, Scratch, SharedStore, Store,
    StoreError, StoreInfo, Transaction,
    wrap::{Timeout, allowance},
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
///
/// An operation of 4 KiB or more moves the deadline of its talk by 1 ms for each KB that it sends
/// ([`Op::size`]), the time that 1 MB/s takes. A talk that writes a value of 4 MB has 4.1 s.
#[derive(Clone, Debug)]
pub struct Caller {
    store: SharedStore,
    /// The store with a limit of its own, for calls that wait.
    bounded: SharedStore,
    /// The store itself, if it is in memory and nothing is round it.
    memory: Option<MemoryStore>,
    context: Context,
    limit: Duration,
    answers_now: bool,
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
        let info = store.info();
        let bounded = match info.call_limit {
            Some(_) => store.clone(),
            None => Timeout::new(store.clone(), limit).into(),
        };
        Self {
            limit: bounded.info().call_limit.unwrap_or(limit),
            context: Context::new(source),
            answers_now: info.answers_now,
            memory: store.as_memory().cloned(),
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

    /// Returns true if the store answers nearly always without waiting, as memory does
    /// ([`StoreInfo::answers_now`]). It costs nothing.
    ///
    /// If it is false, a layer makes no keys for [`call_now`](Self::call_now) or [`run_now`](Self::run_now), and waits at once.
    #[inline]
    pub const fn answers_now(&self) -> bool {
        self.answers_now
    }

    /// Applies one operation if the store needs no waiting. `None` means that nothing was done.
    #[inline]
    pub fn call_now(&self, op: &Op<'_>) -> Option<Result<Reply, StoreError>> {
        self.store.call_now(op, &self.context)
    }

    /// Runs a program's twin on the entry of one key, where it lies. `None` means that nothing was done.
    ///
    /// For the most frequent run of a program: a [`Program`](crate::Program) over one key, on a [`MemoryStore`] that nothing is
    /// wrapped round. Neither an operation nor a reply is made, and the compiler sees the twin. `twin` does what the program's twin
    /// does with its arguments, and `retention` is the program's.
    ///
    /// It returns `None` for every other store, for a key that has no entry yet, for a value on the heap, and for a store with a
    /// bound in bytes. Then ask [`call_now`](Self::call_now).
    ///
    /// ```
    /// use layer_store::{
    ///     Caller, IdentityRef, Key, KeySpace, MemoryStore, Op, Output, Program, Retention, Transaction, Ttl, Value,
    /// };
    ///
    /// fn count(transaction: &mut Transaction<'_>) -> i64 {
    ///     let number = 1 + transaction.get(0).and_then(Value::as_int).unwrap_or(0);
    ///     transaction.set(0, Value::int(number), Ttl::MAX);
    ///     number
    /// }
    ///
    /// static COUNT: Program = Program::new("count", "return redis.call('INCR', KEYS[1])", Retention::Pinned, |transaction, _| {
    ///     Output::ints(&[count(transaction)])
    /// });
    ///
    /// let caller = Caller::new(MemoryStore::new().into(), "example");
    /// let space = KeySpace::new("visits", "");
    /// let key = Key::new(&space, IdentityRef::Int(7));
    /// assert_eq!(caller.run_in_place(&key, Retention::Pinned, count), None); // the key is new
    /// let op = Op::Run { program: &COUNT, keys: &[key], args: &[] };
    /// assert!(caller.call_now(&op).unwrap().is_ok());
    /// assert_eq!(caller.run_in_place(&key, Retention::Pinned, count), Some(2));
    /// ```
    #[inline]
    pub fn run_in_place<R>(
        &self,
        key: &Key<'_>,
        retention: Retention,
        twin: impl FnOnce(&mut Transaction<'_>) -> R,
    ) -> Option<R> {
        self.memory.as_ref()?.run_in_place(key, retention, twin)
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
    /// `None`: for that limit alone. Both are longer for an operation of 4 KiB or more.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn call_by<'a>(
        &'a self,
        op: &'a Op<'a>,
        deadline: Option<Instant>,
    ) -> Result<Reply, StoreError> {
        self.call_until(op, moved(deadline, op)).await
    }

    async fn call_until<'a>(
        &'a self,
        op: &'a Op<'a>,
        deadline: Option<Instant>,
    ) -> Result<Reply, StoreError> {
        // A store over a network would take the operation apart twice.
        if self.answers_now
            && let Some(reply) = self.call_now(op)
        {
            return reply;
        }
        let context = Context {
            deadline,
            ..self.context
        };
        // The bounded store: a store without a limit of its own could hang.
        self.bounded.call(op, &context).await
    }

    /// Runs `protocol` to its end if the store needs no waiting.
    ///
    /// `None` means that it stopped before an operation that has to wait. That one was not done. [`run`](Self::run) goes on
    /// with it. A store that does not say that it [answers at once](Self::answers_now) is not asked.
    #[inline]
    pub fn run_now<P: Protocol>(&self, protocol: &mut P) -> Option<P::Output> {
        if !self.answers_now {
            return None;
        }
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
    /// `None`: each operation has the store's own limit. An operation of 4 KiB or more moves the deadline, for itself and for
    /// those that follow it.
    ///
    /// # Cancel safety
    ///
    /// The operation under way when the future is dropped may or may not have been applied.
    pub async fn run_by<P: Protocol + Send + Sync>(
        &self,
        protocol: &mut P,
        mut deadline: Option<Instant>,
    ) -> P::Output {
        loop {
            // The scratch and the operation borrow the protocol, and end before it takes the reply.
            let reply = {
                let mut scratch = Scratch::default();
                let op = protocol.ask(&mut scratch);
                deadline = moved(deadline, &op);
                self.call_until(&op, deadline).await
            };
            if let Some(output) = protocol.take(reply) {
                return output;
            }
        }
    }
}

/// Returns the deadline of a talk, moved by the time that the bytes of `op` take.
fn moved(deadline: Option<Instant>, op: &Op<'_>) -> Option<Instant> {
    let deadline = deadline?;
    // A deadline beyond the clock's end stays where it is.
    Some(
        deadline
            .checked_add(allowance(op.size()))
            .unwrap_or(deadline),
    )
}

/// The limit of a talk if the store has none.
const DEFAULT_LIMIT: Duration = Duration::from_millis(100);

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use super::*;
    use crate::{
        Condition, ErrorKind, Expiry, IdentityRef, Key, KeySpace, MemoryStore, Retention, Value,
        conformance::{Fault, FaultInjector},
    };

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

    /// Writes a value, and pings.
    struct WriteAndPing<'a>(Option<Op<'a>>);

    impl Protocol for WriteAndPing<'_> {
        type Output = Result<(), StoreError>;

        fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
            self.0.unwrap_or(Op::Ping)
        }

        fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
            match (self.0.take(), reply) {
                (Some(_), Ok(_)) => None,
                (_, reply) => Some(reply.map(drop)),
            }
        }
    }

    /// At 8 Mbit/s the value of 4 MB takes 4 s. What follows it in the talk still has its time.
    #[tokio::test(start_paused = true)]
    async fn a_large_operation_moves_the_deadline_of_its_talk() {
        let (ms, space) = (Duration::from_millis, KeySpace::new("data", "s"));
        let key = Key::new(&space, IdentityRef::Int(1));
        let value = Value::from(vec![0; 4_000_000 - 64]);
        let set = Op::Set {
            key: &key,
            value: &value,
            expiry: Expiry::NEVER,
            condition: Condition::Always,
            retention: Retention::Evictable,
        };
        let (caller, store) = caller();
        store.inject_by(move |op| match op {
            Op::Ping => Some(Fault::Hang),
            _ => Some(Fault::Delay(ms(4_000))),
        });
        let begun = tokio::time::Instant::now();
        let error = caller.run(&mut WriteAndPing(Some(set))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(begun.elapsed(), ms(4_100));

        store.hang();
        for with_deadline in [false, true] {
            let begun = tokio::time::Instant::now();
            let deadline = caller.deadline().filter(|_| with_deadline);
            let error = caller.call_by(&set, deadline).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout);
            assert_eq!(begun.elapsed(), ms(4_100));
        }
        let begun = tokio::time::Instant::now();
        let soon = (begun + ms(20)).into_std();
        let error = caller.call_by(&set, Some(soon)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadline);
        assert_eq!(begun.elapsed(), ms(4_020));
    }

    #[tokio::test]
    async fn what_waits_anyhow_is_not_tried_without_waiting() {
        /// Answers a call without waiting, though it says that it does not.
        struct Modest;

        impl Store for Modest {
            async fn call<'a>(
                &'a self,
                _: &'a Op<'a>,
                _: &'a Context,
            ) -> Result<Reply, StoreError> {
                Ok(Reply::Pong)
            }

            fn call_now(&self, _: &Op<'_>, _: &Context) -> Option<Result<Reply, StoreError>> {
                panic!("not asked for")
            }

            fn info(&self) -> StoreInfo {
                StoreInfo::new("modest")
            }
        }

        let modest = Caller::new(SharedStore::new(Modest), "test");
        assert!(!modest.answers_now());
        assert!(modest.run_now(&mut Pings(1)).is_none());
        modest.call(&Op::Ping).await.unwrap();
        modest.run(&mut Pings(1)).await.unwrap();
        let memory = MemoryStore::new();
        assert!(Caller::new(memory.clone().into(), "test").answers_now());
        let networked = FaultInjector::new(memory).networked();
        assert!(!Caller::new(networked.into(), "test").answers_now());
    }

    #[test]
    #[should_panic(expected = "a limit of zero lets no call through")]
    fn a_limit_of_zero_is_a_mistake() {
        let _ = Caller::with_limit(MemoryStore::new().into(), "test", Duration::ZERO);
    }
}
