use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::{
    Condition, Context, ErrorKind, Expiry, Key, Op, Reply, SharedStore, Store, StoreError,
    StoreInfo, Ttl, Value, Watch,
};

mod bug;
mod run;

pub use self::bug::Bug;

/// A sound store with one [`Bug`], which some case of the kit must catch.
///
/// ```
/// use layer_store::{MemoryStore, conformance::{Bug, BuggyStore}};
///
/// let store = BuggyStore::new(MemoryStore::new(), Bug::NeverExpires);
/// # drop(store);
/// ```
#[derive(Debug)]
pub struct BuggyStore<T> {
    inner: T,
    bug: Bug,
    /// The replies of [`Bug::ShiftsReplies`] to calls that were dropped.
    orphans: Mutex<VecDeque<Reply>>,
    /// Held by the one program that runs, with [`Bug::TearsPrograms`].
    running: tokio::sync::Mutex<()>,
}

impl<T: Store> BuggyStore<T> {
    /// Puts `bug` into `inner`.
    pub fn new(inner: T, bug: Bug) -> Self {
        Self {
            inner,
            bug,
            orphans: Mutex::default(),
            running: tokio::sync::Mutex::default(),
        }
    }

    async fn spoilt(&self, op: Op<'_>, cx: &Context) -> Result<Reply, StoreError> {
        match op {
            Op::Set { .. } => self.set(op, cx).await,
            Op::Delete {
                key,
                if_equals: Some(old),
            } if self.bug == Bug::RacesDeletes => self.compare_then_delete(key, old, cx).await,
            Op::Touch { key, .. } if self.bug == Bug::TouchCreates => {
                let touched = self.inner.call(&op, cx).await?;
                self.create(key, cx).await?;
                Ok(touched)
            }
            Op::GetMany(keys) if self.bug == Bug::MergesRepeated => {
                self.get_each_once(keys, cx).await
            }
            Op::Run {
                program,
                keys,
                args,
            } => self.run(program, keys, args, cx).await,
            Op::Batch(ops) if self.bug == Bug::BatchStops => self.stop_at_error(ops, cx).await,
            Op::Batch(ops) if self.bug == Bug::BatchReadsFirst => self.read_first(ops, cx).await,
            Op::Batch(ops) => self.each(ops, cx).await,
            _ => {
                let reply = self.inner.call(&self.spoil(op), cx).await?;
                Ok(self.spoil_reply(reply))
            }
        }
    }

    fn spoil<'a>(&self, mut op: Op<'a>) -> Op<'a> {
        match (self.bug, &mut op) {
            (Bug::DeletesOthers, Op::Delete { if_equals, .. }) => *if_equals = None,
            (Bug::DeletesFirstOnly, Op::DeleteMany(keys)) => *keys = &keys[..keys.len().min(1)],
            (Bug::TouchShortens, Op::Touch { only_longer, .. }) => *only_longer = false,
            (Bug::CountsSeconds, Op::Touch { ttl, .. }) => *ttl = whole_seconds(*ttl),
            _ => {}
        }
        op
    }

    fn spoil_reply(&self, reply: Reply) -> Reply {
        match (self.bug, reply) {
            (Bug::HidesEmpty, Reply::Value(Some(value))) if value.is_empty() => Reply::Value(None),
            (Bug::SkipsMissing, Reply::Values(mut values)) => {
                values.retain(Option::is_some);
                Reply::Values(values)
            }
            (Bug::ShiftsReplies, reply @ Reply::Value(_)) => {
                let mut orphans = self.orphans.lock();
                match orphans.pop_front() {
                    Some(orphan) => {
                        orphans.push_back(reply);
                        orphan
                    }
                    None => reply,
                }
            }
            (_, reply) => reply,
        }
    }

    async fn set(&self, mut op: Op<'_>, cx: &Context) -> Result<Reply, StoreError> {
        let Op::Set {
            key,
            value,
            expiry,
            condition,
            ..
        } = &mut op
        else {
            unreachable!("only a set comes here");
        };
        let key = *key;
        let spoilt = self.spoil_value(value);
        if let Some(spoilt) = &spoilt {
            *value = spoilt;
        }
        match self.bug {
            Bug::IgnoresEquals if matches!(condition, Condition::Equals(_)) => {
                *condition = Condition::Always
            }
            Bug::RacesAbsent if *condition == Condition::Absent => {
                if let Reply::Value(Some(existing)) = self.inner.call(&Op::Get(key), cx).await? {
                    return Ok(Reply::Set {
                        applied: false,
                        existing: Some(existing),
                    });
                }
                tokio::task::yield_now().await;
                *condition = Condition::Always;
            }
            Bug::ForgetsExpiry if *expiry == Expiry::KEEP => *expiry = Expiry::NEVER,
            Bug::EqualsForgetsExpiry
                if *expiry == Expiry::KEEP && matches!(condition, Condition::Equals(_)) =>
            {
                *expiry = Expiry::NEVER;
            }
            Bug::CountsSeconds => {
                if let Some(ttl) = expiry.ttl() {
                    *expiry = whole_seconds(ttl).into();
                }
            }
            Bug::NeverExpires => *expiry = Expiry::NEVER,
            _ => {}
        }
        let moved = expiry.ttl();
        let mut reply = self.inner.call(&op, cx).await?;
        if let Reply::Set {
            applied: false,
            existing,
        } = &mut reply
        {
            match (self.bug, moved) {
                (Bug::HidesExisting, _) => *existing = None,
                (Bug::RefusedMovesExpiry, Some(ttl)) => {
                    let only_longer = false;
                    let touch = Op::Touch {
                        key,
                        ttl,
                        only_longer,
                    };
                    self.inner.call(&touch, cx).await?;
                }
                _ => {}
            }
        }
        Ok(reply)
    }

    /// Returns the value that is kept instead. `None`: the value itself.
    fn spoil_value(&self, value: &Value) -> Option<Value> {
        value.with_bytes(|bytes| match self.bug {
            Bug::KeepsText => Some(Value::from(&*String::from_utf8_lossy(bytes))),
            Bug::CutsLong => bytes.get(..1 << 16).map(Value::from),
            Bug::CutsAtNul => bytes.split(|byte| *byte == 0).next().map(Value::from),
            Bug::RoundsNumbers => {
                let number: u64 = str::from_utf8(bytes).ok()?.parse().ok()?;
                Some(Value::pair(number as f64 as u64, 0))
            }
            _ => None,
        })
    }

    async fn compare_then_delete(
        &self,
        key: &Key<'_>,
        old: &Value,
        cx: &Context,
    ) -> Result<Reply, StoreError> {
        let value = self.inner.call(&Op::Get(key), cx).await?.into_value()?;
        if value.as_ref() != Some(old) {
            return Ok(Reply::Count(0));
        }
        tokio::task::yield_now().await;
        let delete = Op::Delete {
            key,
            if_equals: None,
        };
        self.inner.call(&delete, cx).await
    }

    async fn create(&self, key: &Key<'_>, cx: &Context) -> Result<(), StoreError> {
        let create = Op::Set {
            key,
            value: &"".into(),
            expiry: Expiry::NEVER,
            condition: Condition::Absent,
            retention: crate::Retention::Evictable,
        };
        self.inner.call(&create, cx).await.map(drop)
    }

    async fn get_each_once(&self, keys: &[Key<'_>], cx: &Context) -> Result<Reply, StoreError> {
        let mut once: Vec<Key<'_>> = Vec::new();
        for key in keys {
            if once.iter().all(|seen| seen.id() != key.id()) {
                once.push(*key);
            }
        }
        self.inner.call(&Op::GetMany(&once), cx).await
    }

    /// Runs the operations one by one, so that each has the bug.
    async fn each(&self, ops: &[Op<'_>], cx: &Context) -> Result<Reply, StoreError> {
        if ops.iter().any(|op| matches!(op, Op::Batch(_))) {
            return self.inner.call(&Op::Batch(ops), cx).await;
        }
        let mut replies = Vec::with_capacity(ops.len());
        for op in ops {
            replies.push(Box::pin(self.spoilt(*op, cx)).await);
        }
        Ok(Reply::Batch(replies))
    }

    async fn stop_at_error(&self, ops: &[Op<'_>], cx: &Context) -> Result<Reply, StoreError> {
        let mut replies = Vec::with_capacity(ops.len());
        let mut failed = false;
        for op in ops {
            let reply = match failed {
                false => self.inner.call(op, cx).await,
                true => Err(StoreError::not_applied(ErrorKind::Rejected)),
            };
            failed = reply.is_err();
            replies.push(reply);
        }
        Ok(Reply::Batch(replies))
    }

    /// Runs the reads of a batch before its writes, and replies in the order that was asked for.
    async fn read_first(&self, ops: &[Op<'_>], cx: &Context) -> Result<Reply, StoreError> {
        let is_read = |op: &Op<'_>| matches!(op, Op::Get(_) | Op::GetMany(_));
        let mut order: Vec<usize> = (0..ops.len()).collect();
        order.sort_by_key(|index| !is_read(&ops[*index]));
        let reordered: Vec<Op<'_>> = order.iter().map(|index| ops[*index]).collect();
        let replies = self.inner.call(&Op::Batch(&reordered), cx).await?;
        let replies = replies.into_batch(ops.len())?;
        let mut in_order: Vec<_> = order.into_iter().zip(replies).collect();
        in_order.sort_by_key(|(index, _)| *index);
        Ok(Reply::Batch(
            in_order.into_iter().map(|(_, reply)| reply).collect(),
        ))
    }

    /// Calls with the keys as they are without prefixes.
    async fn without_prefixes(&self, op: &Op<'_>, cx: &Context) -> Result<Reply, StoreError> {
        let mut op = *op;
        let (one, several);
        match &mut op {
            Op::Get(key)
            | Op::Set { key, .. }
            | Op::Delete { key, .. }
            | Op::Touch { key, .. }
            | Op::Add { key, .. } => {
                one = without_prefix(key);
                *key = &one;
            }
            Op::GetMany(keys) | Op::DeleteMany(keys) | Op::Run { keys, .. } => {
                several = keys.iter().map(without_prefix).collect::<Vec<_>>();
                *keys = &several;
            }
            _ => {}
        }
        self.inner.call(&op, cx).await
    }
}

impl<T: Store> From<BuggyStore<T>> for SharedStore {
    fn from(store: BuggyStore<T>) -> Self {
        Self::new(store)
    }
}

#[deny(clippy::missing_trait_methods)]
impl<T: Store> Store for BuggyStore<T> {
    async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
        let mut waiting = Waiting {
            store: self,
            answered: false,
        };
        // A reply takes time, in which a caller may be dropped.
        tokio::task::yield_now().await;
        waiting.answered = true;
        drop(waiting);
        match self.bug {
            Bug::IgnoresPrefixes => self.without_prefixes(op, cx).await,
            _ => self.spoilt(*op, cx).await,
        }
    }

    fn call_now(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        if self.bug == Bug::ActsUnasked {
            let _ = self.inner.call_now(op, cx);
        }
        None
    }

    fn watch(&self, key: &Key<'_>) -> Watch {
        self.inner.watch(key)
    }

    fn info(&self) -> StoreInfo {
        self.inner.info()
    }
}

/// A call that waits for its reply.
struct Waiting<'a, T: Store> {
    store: &'a BuggyStore<T>,
    answered: bool,
}

impl<T: Store> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        if !self.answered && self.store.bug == Bug::ShiftsReplies {
            self.store.orphans.lock().push_back(Reply::Value(None));
        }
    }
}

fn whole_seconds(ttl: Ttl) -> Ttl {
    Ttl::from_millis(ttl.as_millis().div_ceil(1_000) * 1_000).expect("a second is not zero")
}

fn without_prefix<'a>(key: &Key<'a>) -> Key<'a> {
    let (space, identity, rest) = key.parts();
    Key::new(space, identity).with_rest(rest)
}
