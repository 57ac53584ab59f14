use std::future::Future;

use crate::{
    Arg, Condition, Context, Key, Op, Output, Program, Reply, Retention, Store, StoreError, Ttl,
    Value,
};

/// Typed methods over [`Store::call`], each one round trip. They ask [`Store::call_now`] first.
///
/// # Errors
///
/// Those of the store, and [`ErrorKind::Corrupt`] if it replies something that is no answer to the question.
///
/// # Cancel safety
///
/// A dropped future may or may not have been applied.
pub trait StoreExt: Store {
    /// Applies `op`, without waiting if the store needs none.
    fn apply(
        &self,
        op: &Op<'_>,
        cx: &Context,
    ) -> impl Future<Output = Result<Reply, StoreError>> + Send {
        async move {
            match self.call_now(op, cx) {
                Some(result) => result,
                None => self.call(op, cx).await,
            }
        }
    }

    /// Reads a value.
    fn get(
        &self,
        cx: &Context,
        key: &Key<'_>,
    ) -> impl Future<Output = Result<Option<Value>, StoreError>> + Send {
        async move { self.apply(&Op::Get(key), cx).await?.into_value() }
    }

    /// Reads several values, not as of one instant.
    fn get_many(
        &self,
        cx: &Context,
        keys: &[Key<'_>],
    ) -> impl Future<Output = Result<Vec<Option<Value>>, StoreError>> + Send {
        async move {
            let reply = self.apply(&Op::GetMany(keys), cx).await?;
            reply.into_values(keys.len())
        }
    }

    /// Writes an evictable value.
    fn put(
        &self,
        cx: &Context,
        key: &Key<'_>,
        value: &Value,
        ttl: Ttl,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        async move {
            let set = set(
                self,
                cx,
                key,
                value,
                ttl,
                Condition::Always,
                Retention::Evictable,
            );
            set.await.map(drop)
        }
    }

    /// Writes a pinned value if nothing stands there. `Some`: the value that does.
    fn put_if_absent(
        &self,
        cx: &Context,
        key: &Key<'_>,
        value: &Value,
        ttl: Ttl,
    ) -> impl Future<Output = Result<Option<Value>, StoreError>> + Send {
        async move {
            match set(
                self,
                cx,
                key,
                value,
                ttl,
                Condition::Absent,
                Retention::Pinned,
            )
            .await?
            {
                (true, _) => Ok(None),
                (false, Some(existing)) => Ok(Some(existing)),
                (false, None) => Err(Reply::unexpected()),
            }
        }
    }

    /// Replaces `old` by `new`, pinned. Whether `old` stood there.
    fn compare_and_set(
        &self,
        cx: &Context,
        key: &Key<'_>,
        old: &Value,
        new: &Value,
        ttl: Ttl,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        async move {
            let set = set(
                self,
                cx,
                key,
                new,
                ttl,
                Condition::Equals(old),
                Retention::Pinned,
            );
            set.await.map(|(applied, _)| applied)
        }
    }

    /// Deletes a value. Whether there was one.
    fn delete(
        &self,
        cx: &Context,
        key: &Key<'_>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        async move {
            let op = Op::Delete {
                key,
                if_equals: None,
            };
            Ok(self.apply(&op, cx).await?.into_count()? > 0)
        }
    }

    /// Deletes a value if it is `old`. Whether it was.
    fn compare_and_delete(
        &self,
        cx: &Context,
        key: &Key<'_>,
        old: &Value,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        async move {
            let op = Op::Delete {
                key,
                if_equals: Some(old),
            };
            Ok(self.apply(&op, cx).await?.into_count()? > 0)
        }
    }

    /// Deletes several values in the order given. How many there were.
    fn delete_many(
        &self,
        cx: &Context,
        keys: &[Key<'_>],
    ) -> impl Future<Output = Result<u64, StoreError>> + Send {
        async move { self.apply(&Op::DeleteMany(keys), cx).await?.into_count() }
    }

    /// Moves a value's expiry. Whether it was moved.
    fn touch(
        &self,
        cx: &Context,
        key: &Key<'_>,
        ttl: Ttl,
        only_longer: bool,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        async move {
            let op = Op::Touch {
                key,
                ttl,
                only_longer,
            };
            Ok(self.apply(&op, cx).await?.into_count()? > 0)
        }
    }

    /// Runs a program.
    fn run(
        &self,
        cx: &Context,
        program: &'static Program,
        keys: &[Key<'_>],
        args: &[Arg<'_>],
    ) -> impl Future<Output = Result<Output, StoreError>> + Send {
        async move {
            let op = Op::Run {
                program,
                keys,
                args,
            };
            self.apply(&op, cx).await?.into_output()
        }
    }

    /// Runs operations in order, not atomically: a reply or an error for each.
    fn batch(
        &self,
        cx: &Context,
        ops: &[Op<'_>],
    ) -> impl Future<Output = Result<Vec<Result<Reply, StoreError>>, StoreError>> + Send {
        async move {
            let reply = self.apply(&Op::Batch(ops), cx).await?;
            reply.into_batch(ops.len())
        }
    }

    /// Asks for a sign of life.
    fn ping(&self, cx: &Context) -> impl Future<Output = Result<(), StoreError>> + Send {
        async move { self.apply(&Op::Ping, cx).await?.into_pong() }
    }
}

impl<St: Store + ?Sized> StoreExt for St {}

async fn set<St: Store + ?Sized>(
    store: &St,
    cx: &Context,
    key: &Key<'_>,
    value: &Value,
    ttl: Ttl,
    condition: Condition<'_>,
    retention: Retention,
) -> Result<(bool, Option<Value>), StoreError> {
    let op = Op::Set {
        key,
        value,
        expiry: ttl.into(),
        condition,
        retention,
    };
    store.apply(&op, cx).await?.into_set()
}
