use std::future::Future;

use crate::{Context, Key, Op, Reply, StoreError, StoreInfo, Watch};

/// A place for counters, stored responses and locks: applies an [`Op`] and gives its [`Reply`].
///
/// # Contract
///
/// - One [`Op`] is one round trip. It is atomic, except where [`Op::GetMany`], [`Op::DeleteMany`] and [`Op::Batch`] say
///   otherwise.
/// - An expired value is absent, to every operation. Times to live are whole milliseconds.
/// - A clone of the store sees what this one wrote, and so does another process on the same server.
/// - All keys of one program share a tag. A program over two tags fails with
///   [`ErrorKind::CrossTag`](crate::ErrorKind::CrossTag) on every store, also on those that could run it, so that a test on
///   memory finds what a Cluster would refuse.
/// - `call` ends by itself. A store that is reached over a network honours [`Context::deadline`], or has a
///   [`wrap::Timeout`](crate::wrap::Timeout) round it that does.
/// - The operation of a dropped `call` may or may not be applied. Other calls go on.
///
/// [`conformance`](crate::conformance) (feature `test-util`) tests a store against this contract.
///
/// # What `call_now` owes
///
/// [`call_now`](Self::call_now) exists for stores that need no waiting, such as memory. Without it every request would
/// allocate a future. A store that provides it keeps these rules:
///
/// - It never blocks on I/O and never awaits.
/// - `Some(Ok(_))` means that the operation was applied, once. `Some(Err(_))` is the result of the call, too.
/// - `None` means that nothing was done and nothing will be. The caller then uses [`call`](Self::call).
/// - It may return `None` at one time and `Some` at another.
///
/// # Writing a store
///
/// A store needs `call` and `info`. This one, on a map, is complete. [`Transaction`](crate::Transaction) runs the twin of a
/// program, so a store without Lua needs no code for any particular program.
///
/// ```
/// use std::{collections::HashMap, sync::{Arc, Mutex}};
///
/// use layer_store::{
///     Clock, Condition, Context, ErrorKind, Expiry, Key, ListedKey, Op, Page, Reply, Slot, Store, StoreError, StoreInfo,
///     Transaction, Value,
/// };
///
/// #[derive(Clone, Default)]
/// struct MapStore(Arc<Mutex<HashMap<Vec<u8>, Slot>>>);
///
/// impl Store for MapStore {
///     async fn call<'a>(&'a self, op: &'a Op<'a>, _: &'a Context) -> Result<Reply, StoreError> {
///         self.apply(op)
///     }
///
///     fn info(&self) -> StoreInfo {
///         StoreInfo::new("map")
///     }
/// }
///
/// impl MapStore {
///     fn apply(&self, op: &Op<'_>) -> Result<Reply, StoreError> {
///         op.check()?; // the rules that hold on every store
///         if let Op::Batch(ops) = op {
///             return Ok(Reply::Batch(ops.iter().map(|op| self.apply(op)).collect()));
///         }
///         let now = Clock::system().now();
///         let mut map = self.0.lock().unwrap();
///         let slot = |map: &HashMap<_, Slot>, key| map.get(&text(key)).cloned().unwrap_or(Slot::absent());
///         let get = |map: &_, key| slot(map, key).get(now).cloned();
///         Ok(match *op {
///             Op::Ping => Reply::Pong,
///             Op::Get(key) => Reply::Value(get(&map, key)),
///             Op::GetMany(keys) => Reply::Values(keys.iter().map(|key| get(&map, key)).collect()),
///             Op::Set { key, value, expiry, condition, .. } => {
///                 let existing = get(&map, key);
///                 let applied = match condition {
///                     Condition::Always => true,
///                     Condition::Absent => existing.is_none(),
///                     Condition::Equals(old) => existing.as_ref() == Some(old),
///                     _ => return Err(StoreError::not_applied(ErrorKind::Unsupported)),
///                 };
///                 if !applied {
///                     return Ok(Reply::Set { applied, existing });
///                 }
///                 let expires = match expiry.ttl() {
///                     Some(ttl) => Some(now + ttl.as_millis() * 1_000),
///                     None if expiry == Expiry::KEEP && existing.is_some() => slot(&map, key).expires(),
///                     None => None,
///                 };
///                 map.insert(text(key), Slot::until(value.clone(), expires));
///                 Reply::Set { applied, existing: None }
///             }
///             Op::Delete { key, if_equals } => {
///                 let goes = get(&map, key).is_some_and(|value| if_equals.is_none_or(|old| value == *old));
///                 Reply::Count(u64::from(goes && map.remove(&text(key)).is_some()))
///             }
///             Op::DeleteMany(keys) => {
///                 let mut delete = |key| get(&map, key).is_some() && map.remove(&text(key)).is_some();
///                 Reply::Count(keys.iter().filter(|key| delete(key)).count() as u64)
///             }
///             Op::Touch { key, ttl, only_longer } => {
///                 let (old, ends) = (slot(&map, key).expires(), now + ttl.as_millis() * 1_000);
///                 let Some(value) = get(&map, key) else { return Ok(Reply::Count(0)) };
///                 if only_longer && old.is_none_or(|old| old >= ends) {
///                     return Ok(Reply::Count(0));
///                 }
///                 map.insert(text(key), Slot::until(value, Some(ends)));
///                 Reply::Count(1)
///             }
///             Op::Add { key, delta, ttl, max } => {
///                 let rejected = || StoreError::not_applied(ErrorKind::Rejected);
///                 let old = get(&map, key);
///                 let number = old.as_ref().map_or(Some(0), Value::as_int).ok_or_else(rejected)?;
///                 let sum = number.checked_add(delta).ok_or_else(rejected)?;
///                 let applied = max.is_none_or(|max| sum <= max);
///                 if applied {
///                     let expires = match old {
///                         Some(_) => slot(&map, key).expires(),
///                         None => ttl.map(|ttl| now + ttl.as_millis() * 1_000),
///                     };
///                     map.insert(text(key), Slot::until(Value::int(sum), expires));
///                 }
///                 Reply::Added { applied, value: if applied { sum } else { number } }
///             }
///             Op::Scan(scan) => {
///                 // All in one page, which is well for a small map. A large one goes on at `scan.cursor()`.
///                 let mut page = Page::default();
///                 let alive = map.iter().filter(|(_, slot)| slot.get(now).is_some());
///                 page.keys.extend(alive.filter_map(|(text, _)| ListedKey::from_text(scan, text)));
///                 Reply::Page(page.into())
///             }
///             Op::Run { program, keys, args } => {
///                 let mut slots: Vec<_> = keys.iter().map(|key| slot(&map, key)).collect();
///                 let mut transaction = Transaction::new(now, &mut slots);
///                 let output = program.run(&mut transaction, args);
///                 let written = transaction.written();
///                 for (i, slot) in slots.into_iter().enumerate().filter(|(i, _)| written >> i & 1 == 1) {
///                     map.insert(text(&keys[i]), slot);
///                 }
///                 Reply::Output(output)
///             }
///             _ => return Err(StoreError::not_applied(ErrorKind::Unsupported)),
///         })
///     }
/// }
///
/// fn text(key: &Key<'_>) -> Vec<u8> {
///     let mut text = Vec::new();
///     key.render(&mut text);
///     text
/// }
///
/// // In the tests: layer_store::conformance_tests!(async { MapStore::default() });
/// # for case in layer_store::conformance::CASES {
/// #     case.test(async { MapStore::default() });
/// # }
/// ```
///
/// # Wrapping a store
///
/// A wrapper has all four methods and passes on what it does not change. The lint makes sure that none is forgotten, which
/// would replace the inner store's `call_now` or `watch` by the default.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use layer_store::{Context, Key, Op, Reply, Store, StoreError, StoreInfo, Watch};
///
/// /// Counts the calls.
/// struct Counted<T> {
///     inner: T,
///     calls: AtomicU64,
/// }
///
/// #[deny(clippy::missing_trait_methods)]
/// impl<T: Store> Store for Counted<T> {
///     async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
///         self.calls.fetch_add(1, Ordering::Relaxed);
///         self.inner.call(op, cx).await
///     }
///
///     fn call_now(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
///         // `None` is not a call: `call` follows and is counted.
///         let result = self.inner.call_now(op, cx)?;
///         self.calls.fetch_add(1, Ordering::Relaxed);
///         Some(result)
///     }
///
///     fn watch(&self, key: &Key<'_>) -> Watch {
///         self.inner.watch(key)
///     }
///
///     fn info(&self) -> StoreInfo {
///         self.inner.info()
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `Store`",
    note = "`SharedStore::new(MemoryStore::new())` is one; `store::connect(url)` gives one, `redis://` needs the feature `redis`"
)]
pub trait Store: Send + Sync + 'static {
    /// Applies `op` and waits for its reply.
    ///
    /// # Errors
    ///
    /// Each [`StoreError`] says what the caller can do ([`kind`](StoreError::kind)) and if the operation may have been
    /// applied ([`effect`](StoreError::effect)).
    ///
    /// # Cancel safety
    ///
    /// A dropped future may or may not have been applied.
    fn call<'a>(
        &'a self,
        op: &'a Op<'a>,
        cx: &'a Context,
    ) -> impl Future<Output = Result<Reply, StoreError>> + Send + 'a;

    /// Applies `op` and returns its reply, if that needs no waiting.
    ///
    /// `None` means that nothing was done: use [`call`](Self::call). `Some(Err(_))` is the result of the call. By default
    /// `None`.
    fn call_now(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        let _ = (op, cx);
        None
    }

    /// Returns hints that a key changed. A hint may be late or lost, so every user has a timer too.
    ///
    /// By default none comes. A store that sends hints keeps [`Watchers`](crate::Watchers), and sets
    /// [`StoreInfo::watches`].
    fn watch(&self, key: &Key<'_>) -> Watch {
        let _ = key;
        Watch::never()
    }

    /// Returns the properties of this store, without a call.
    fn info(&self) -> StoreInfo;
}
