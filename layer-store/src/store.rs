use std::future::Future;

use crate::{Context, Key, Op, Reply, StoreError, StoreInfo, Watch};

/// Where counters, cached answers and locks are kept.
///
/// # Contract
///
/// - One [`Op`] is one round trip, and atomic, but for what [`Op::GetMany`], [`Op::DeleteMany`] and [`Op::Batch`] say.
/// - An expired value is absent, to every operation alike. Times are whole milliseconds.
/// - A clone of a store, or another process on the same server, sees what this one wrote.
/// - All keys of one program share a tag; another tag is [`ErrorKind::CrossTag`](crate::ErrorKind::CrossTag) on every
///   store, so that tests on memory catch what a Cluster would refuse.
/// - `call` ends by itself: a store that is reached over a network honours [`Context::deadline`], which
///   [`wrap::Timeout`](crate::wrap::Timeout) does for it.
/// - A dropped `call` future may or may not have been applied, and disturbs no other call.
///
/// [`conformance`](crate::conformance) (feature `test-util`) holds a backend to it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `Store`",
    note = "`SharedStore::new(MemoryStore::new())` is one; `store::connect(url)` gives one, `redis://` needs the feature `redis`"
)]
pub trait Store: Send + Sync + 'static {
    /// Applies `op` and waits for its reply.
    fn call<'a>(
        &'a self,
        op: &'a Op<'a>,
        cx: &'a Context,
    ) -> impl Future<Output = Result<Reply, StoreError>> + Send + 'a;

    /// The answer, if it needs no waiting: a memory store always has it, an open breaker too.
    ///
    /// `None` means that nothing was done: use [`call`](Self::call). `Some(Err(_))` is an answer.
    fn call_now(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        let _ = (op, cx);
        None
    }

    /// Hints that a key changed. A hint may be late or lost, so every user keeps a timer.
    fn watch(&self, key: &Key<'_>) -> Watch {
        let _ = key;
        Watch::never()
    }

    /// What is known of this store without asking it anything.
    fn info(&self) -> StoreInfo;
}
