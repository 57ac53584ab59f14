use std::future::Future;

use crate::{
    Arg, Condition, Context, Key, Op, Output, Page, Program, Reply, Retention, Scan, Store,
    StoreError, Ttl, Value,
};

/// A typed method for each operation of a [`Store`]. Each is one round trip, or none if the store needs no waiting.
///
/// ```
/// use layer_store::{Context, Identity, Key, KeySpace, MemoryStore, StoreExt, Ttl};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = MemoryStore::new();
/// let cx = Context::new("example");
/// let seats = KeySpace::new("data", "seats");
/// let seat = Identity::from(7);
/// let key = Key::new(&seats, seat.as_ref());
/// let minute = Ttl::from_millis(60_000).unwrap();
///
/// assert_eq!(store.put_if_absent(&cx, &key, &"ada".into(), minute).await?, None);
/// assert_eq!(store.put_if_absent(&cx, &key, &"bob".into(), minute).await?, Some("ada".into()));
/// assert!(store.compare_and_delete(&cx, &key, &"ada".into()).await?);
/// # Ok::<_, layer_store::StoreError>(())
/// # }).unwrap();
/// ```
///
/// # Errors
///
/// Those of the store, and [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) for a reply of another operation.
///
/// # Cancel safety
///
/// A dropped future may or may not have been applied.
pub trait StoreExt: Store {
    /// Applies `op`. Does not wait if the store needs no waiting.
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

    /// Reads several values, which may be of different instants.
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

    /// Writes a pinned value if the key has none. Returns the existing value if it has one, and `None` if it was written.
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

    /// Writes `new`, pinned, if the value is `old`. Returns true if it was.
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

    /// Deletes a value. Returns true if there was one.
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

    /// Deletes a value if it is `old`. Returns true if it was.
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

    /// Deletes several values in the given order. Returns how many there were.
    fn delete_many(
        &self,
        cx: &Context,
        keys: &[Key<'_>],
    ) -> impl Future<Output = Result<u64, StoreError>> + Send {
        async move { self.apply(&Op::DeleteMany(keys), cx).await?.into_count() }
    }

    /// Changes the expiry of a value. Returns true if it was changed.
    ///
    /// With `only_longer` a value that lives longer already keeps its expiry.
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

    /// Adds to an integer. Returns the sum. `ttl` is that of an integer that this call creates.
    fn add(
        &self,
        cx: &Context,
        key: &Key<'_>,
        delta: i64,
        ttl: Option<Ttl>,
    ) -> impl Future<Output = Result<i64, StoreError>> + Send {
        async move {
            let max = None;
            let op = Op::Add {
                key,
                delta,
                ttl,
                max,
            };
            Ok(self.apply(&op, cx).await?.into_added()?.1)
        }
    }

    /// Adds to an integer, unless the sum would be above `max`. Returns true and the sum, or false and the integer as it is.
    fn add_up_to(
        &self,
        cx: &Context,
        key: &Key<'_>,
        delta: i64,
        ttl: Option<Ttl>,
        max: i64,
    ) -> impl Future<Output = Result<(bool, i64), StoreError>> + Send {
        async move {
            let op = Op::Add {
                key,
                delta,
                ttl,
                max: Some(max),
            };
            self.apply(&op, cx).await?.into_added()
        }
    }

    /// Lists a page of keys, for maintenance.
    fn scan(
        &self,
        cx: &Context,
        scan: &Scan<'_>,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send {
        async move { self.apply(&Op::Scan(scan), cx).await?.into_page() }
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

    /// Runs operations in the given order, not atomically. Returns a reply or an error for each.
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

    /// Checks that the store replies.
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
