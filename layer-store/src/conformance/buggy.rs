use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::{
    Arg, Clock, Condition, Context, ErrorKind, Expiry, Key, Op, Output, Program, Reply, Retention,
    SharedStore, Slot, Store, StoreError, StoreInfo, Transaction, Ttl, Value, Watch,
    op::check_program,
};

/// A sound store with one [`Bug`], which some case of the kit must catch.
#[derive(Debug)]
pub struct BuggyStore<T> {
    inner: T,
    fault: Bug,
    /// What [`Bug::ShiftsReplies`] owes: a reply for each call that was dropped.
    orphans: Mutex<VecDeque<Reply>>,
}

/// What is wrong with a [`BuggyStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bug {
    /// A compare-and-set does not compare.
    IgnoresEquals,
    /// A put-if-absent reads, and writes later.
    RacesAbsent,
    /// A refused write does not say what stands there.
    HidesExisting,
    /// A refused write moves the expiry all the same.
    RefusedMovesExpiry,
    /// A compare-and-delete does not compare.
    DeletesOthers,
    /// A deletion of several keys stops after the first.
    DeletesFirstOnly,
    /// `only_longer` is ignored.
    TouchShortens,
    /// [`Expiry::KEEP`] forgets the expiry.
    ForgetsExpiry,
    /// A time to live is rounded up to whole seconds.
    CountsSeconds,
    /// Nothing ever expires.
    NeverExpires,
    /// An empty value reads as a missing one.
    HidesEmpty,
    /// Values are kept as UTF-8, with what is none replaced.
    KeepsText,
    /// Reading several keys skips those that are missing.
    SkipsMissing,
    /// A batch stops at the first error.
    BatchStops,
    /// A program reads its keys, and writes them later.
    RacesPrograms,
    /// A program is run again after it was answered.
    RunsTwice,
    /// A program over two tags is run.
    IgnoresTags,
    /// A caller that is dropped leaves its reply to the next one.
    ShiftsReplies,
    /// What is done at once is not answered, so that it is done again.
    ActsUnasked,
}

impl Bug {
    /// Every fault.
    pub const ALL: &[Self] = &[
        Self::IgnoresEquals,
        Self::RacesAbsent,
        Self::HidesExisting,
        Self::RefusedMovesExpiry,
        Self::DeletesOthers,
        Self::DeletesFirstOnly,
        Self::TouchShortens,
        Self::ForgetsExpiry,
        Self::CountsSeconds,
        Self::NeverExpires,
        Self::HidesEmpty,
        Self::KeepsText,
        Self::SkipsMissing,
        Self::BatchStops,
        Self::RacesPrograms,
        Self::RunsTwice,
        Self::IgnoresTags,
        Self::ShiftsReplies,
        Self::ActsUnasked,
    ];
}

impl<T: Store> BuggyStore<T> {
    /// Spoils `inner`.
    pub fn new(inner: T, fault: Bug) -> Self {
        Self {
            inner,
            fault,
            orphans: Mutex::default(),
        }
    }

    async fn spoilt(&self, op: Op<'_>, cx: &Context) -> Result<Reply, StoreError> {
        match op {
            Op::Set { .. } => self.set(op, cx).await,
            Op::Run {
                program,
                keys,
                args,
            } => self.run(program, keys, args, cx).await,
            Op::Batch(ops) if self.fault == Bug::BatchStops => self.batch(ops, cx).await,
            Op::Batch(ops) => self.each(ops, cx).await,
            _ => {
                let reply = self.inner.call(&self.spoil(op), cx).await?;
                Ok(self.spoil_reply(reply))
            }
        }
    }

    fn spoil<'a>(&self, mut op: Op<'a>) -> Op<'a> {
        match (self.fault, &mut op) {
            (Bug::DeletesOthers, Op::Delete { if_equals, .. }) => *if_equals = None,
            (Bug::DeletesFirstOnly, Op::DeleteMany(keys)) => *keys = &keys[..keys.len().min(1)],
            (Bug::TouchShortens, Op::Touch { only_longer, .. }) => *only_longer = false,
            (Bug::CountsSeconds, Op::Touch { ttl, .. }) => *ttl = whole_seconds(*ttl),
            _ => {}
        }
        op
    }

    fn spoil_reply(&self, reply: Reply) -> Reply {
        match (self.fault, reply) {
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
        let lossy;
        match self.fault {
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
            Bug::CountsSeconds => {
                if let Some(ttl) = expiry.ttl() {
                    *expiry = whole_seconds(ttl).into();
                }
            }
            Bug::NeverExpires => *expiry = Expiry::NEVER,
            Bug::KeepsText => {
                lossy = value.with_bytes(|bytes| Value::from(&*String::from_utf8_lossy(bytes)));
                *value = &lossy;
            }
            _ => {}
        }
        let moved = expiry.ttl();
        let mut reply = self.inner.call(&op, cx).await?;
        if let Reply::Set {
            applied: false,
            existing,
        } = &mut reply
        {
            match (self.fault, moved) {
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

    async fn run(
        &self,
        program: &'static Program,
        keys: &[Key<'_>],
        args: &[Arg<'_>],
        cx: &Context,
    ) -> Result<Reply, StoreError> {
        let op = Op::Run {
            program,
            keys,
            args,
        };
        match self.fault {
            // What only looks has nothing to race for.
            Bug::RacesPrograms if program.retention() == Retention::Pinned => {
                check_program(keys)?;
                self.run_apart(program, keys, args, cx).await
            }
            Bug::RunsTwice => {
                let reply = self.inner.call(&op, cx).await?;
                self.inner.call(&op, cx).await?;
                Ok(reply)
            }
            Bug::IgnoresTags => match self.inner.call(&op, cx).await {
                Err(error) if error.kind() == ErrorKind::CrossTag => {
                    self.run_apart(program, keys, args, cx).await
                }
                result => result,
            },
            _ => self.inner.call(&op, cx).await,
        }
    }

    /// Reads, runs the twin, and writes, with others in between.
    async fn run_apart(
        &self,
        program: &'static Program,
        keys: &[Key<'_>],
        args: &[Arg<'_>],
        cx: &Context,
    ) -> Result<Reply, StoreError> {
        let now = Clock::system().now();
        let mut slots = Vec::with_capacity(keys.len());
        for key in keys {
            slots.push(match self.inner.call(&Op::Get(key), cx).await? {
                Reply::Value(Some(value)) => Slot::until(value, None),
                _ => Slot::absent(),
            });
        }
        tokio::task::yield_now().await;
        let mut transaction = Transaction::new(now, &mut slots);
        let data: Output = program.run(&mut transaction, args);
        let written = transaction.written();
        for (index, (key, slot)) in keys.iter().zip(&slots).enumerate() {
            if written & (1 << index) != 0 {
                tokio::task::yield_now().await;
                self.write_back(key, slot, program, now, cx).await?;
            }
        }
        Ok(Reply::Output(data))
    }

    async fn write_back(
        &self,
        key: &Key<'_>,
        slot: &Slot,
        program: &Program,
        now: u64,
        cx: &Context,
    ) -> Result<(), StoreError> {
        let ttl = |expires: u64| Ttl::from_millis((expires - now).div_ceil(1_000));
        let op = match slot.get(now) {
            Some(value) => Op::Set {
                key,
                value,
                expiry: slot
                    .expires()
                    .and_then(ttl)
                    .map_or(Expiry::NEVER, Expiry::from),
                condition: Condition::Always,
                retention: program.retention(),
            },
            None => Op::Delete {
                key,
                if_equals: None,
            },
        };
        self.inner.call(&op, cx).await.map(drop)
    }

    /// One by one, so that each is spoilt in its own way.
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

    async fn batch(&self, ops: &[Op<'_>], cx: &Context) -> Result<Reply, StoreError> {
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
        // A reply takes its time, in which a caller may go.
        tokio::task::yield_now().await;
        waiting.answered = true;
        drop(waiting);
        self.spoilt(*op, cx).await
    }

    fn call_now(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        if self.fault == Bug::ActsUnasked {
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

/// A call on its way.
struct Waiting<'a, T: Store> {
    store: &'a BuggyStore<T>,
    answered: bool,
}

impl<T: Store> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        if !self.answered && self.store.fault == Bug::ShiftsReplies {
            self.store.orphans.lock().push_back(Reply::Value(None));
        }
    }
}

fn whole_seconds(ttl: Ttl) -> Ttl {
    Ttl::from_millis(ttl.as_millis().div_ceil(1_000) * 1_000).expect("a second is not zero")
}
