use std::future::Future;

use crate::{
    Arg, Class, Cond, Context, Data, ErrorKind, Key, Op, Program, Reply, Store, StoreError, Ttl,
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
        async move {
            match self.apply(&Op::Get(key), cx).await? {
                Reply::Value(value) => Ok(value),
                _ => Err(odd()),
            }
        }
    }

    /// Reads several values, not as of one instant.
    fn get_many(
        &self,
        cx: &Context,
        keys: &[Key<'_>],
    ) -> impl Future<Output = Result<Vec<Option<Value>>, StoreError>> + Send {
        async move {
            match self.apply(&Op::GetMany(keys), cx).await? {
                Reply::Values(values) if values.len() == keys.len() => Ok(values),
                _ => Err(odd()),
            }
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
            let set = set(self, cx, key, value, ttl, Cond::Always, Class::Evictable);
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
            match set(self, cx, key, value, ttl, Cond::Absent, Class::Pinned).await? {
                (true, _) => Ok(None),
                (false, Some(existing)) => Ok(Some(existing)),
                (false, None) => Err(odd()),
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
            let set = set(self, cx, key, new, ttl, Cond::Equals(old), Class::Pinned);
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
            count(self.apply(&op, cx).await?).map(|count| count > 0)
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
            count(self.apply(&op, cx).await?).map(|count| count > 0)
        }
    }

    /// Deletes several values in the order given. How many there were.
    fn delete_many(
        &self,
        cx: &Context,
        keys: &[Key<'_>],
    ) -> impl Future<Output = Result<u64, StoreError>> + Send {
        async move { count(self.apply(&Op::DeleteMany(keys), cx).await?) }
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
            count(self.apply(&op, cx).await?).map(|count| count > 0)
        }
    }

    /// Runs a program.
    fn run(
        &self,
        cx: &Context,
        program: &'static Program,
        keys: &[Key<'_>],
        args: &[Arg<'_>],
    ) -> impl Future<Output = Result<Data, StoreError>> + Send {
        async move {
            let op = Op::Run {
                program,
                keys,
                args,
            };
            match self.apply(&op, cx).await? {
                Reply::Data(data) => Ok(data),
                _ => Err(odd()),
            }
        }
    }

    /// Runs operations in order, not atomically: a reply or an error for each.
    fn batch(
        &self,
        cx: &Context,
        ops: &[Op<'_>],
    ) -> impl Future<Output = Result<Vec<Result<Reply, StoreError>>, StoreError>> + Send {
        async move {
            match self.apply(&Op::Batch(ops), cx).await? {
                Reply::Batch(replies) if replies.len() == ops.len() => Ok(replies),
                _ => Err(odd()),
            }
        }
    }

    /// Asks for a sign of life.
    fn ping(&self, cx: &Context) -> impl Future<Output = Result<(), StoreError>> + Send {
        async move {
            match self.apply(&Op::Ping, cx).await? {
                Reply::Pong => Ok(()),
                _ => Err(odd()),
            }
        }
    }
}

impl<St: Store + ?Sized> StoreExt for St {}

async fn set<St: Store + ?Sized>(
    store: &St,
    cx: &Context,
    key: &Key<'_>,
    value: &Value,
    ttl: Ttl,
    cond: Cond<'_>,
    class: Class,
) -> Result<(bool, Option<Value>), StoreError> {
    let op = Op::Set {
        key,
        value,
        expiry: ttl.into(),
        cond,
        class,
    };
    match store.apply(&op, cx).await? {
        Reply::Set { applied, existing } => Ok((applied, existing)),
        _ => Err(odd()),
    }
}

fn count(reply: Reply) -> Result<u64, StoreError> {
    match reply {
        Reply::Count(count) => Ok(count),
        _ => Err(odd()),
    }
}

/// A reply of another operation: it may have been applied.
fn odd() -> StoreError {
    StoreError::unknown(ErrorKind::Corrupt)
}
