use std::fmt;

use crate::{Context, Op, Reply, Store, StoreError, owned_op::OwnedOp};

/// The request of a [`StoreService`](super::StoreService): an operation that owns its keys and arguments, and its context.
///
/// The prefixes that [wrappers](crate::wrap::Prefix) further out have put before the keys are kept. Values are shared, not
/// copied.
///
/// ```
/// use layer_store::{Context, Identity, Key, KeySpace, Op, service::StoreRequest};
///
/// let request = {
///     let space = KeySpace::new("data", "seats");
///     let ada = Identity::from("ada");
///     StoreRequest::new(&Op::Get(&Key::new(&space, ada.as_ref())), Context::new("example"))
/// };
/// assert!(request.with_op(|op| matches!(op, Op::Get(_))));
/// assert_eq!(request.context().source, "example");
/// ```
#[derive(Clone)]
pub struct StoreRequest {
    op: OwnedOp,
    context: Context,
}

impl StoreRequest {
    /// Makes a request that applies `op`.
    pub fn new(op: &Op<'_>, context: Context) -> Self {
        Self {
            op: OwnedOp::of(op),
            context,
        }
    }

    /// Returns the context: who asks, and the deadline.
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// Sets the context.
    #[must_use]
    pub fn with_context(self, context: Context) -> Self {
        Self { context, ..self }
    }

    /// Lends the operation to `read`, such as to choose what a middleware does with it.
    pub fn with_op<T>(&self, read: impl FnOnce(&Op<'_>) -> T) -> T {
        self.op.with(read)
    }

    /// Applies the operation to `store`.
    pub(super) async fn send<T: Store>(&self, store: &T) -> Result<Reply, StoreError> {
        let prefix = self.op.prefix();
        let parts = self.op.parts(prefix.as_ref());
        let batch = parts.batch();
        let op = parts.op(&batch);
        store.call(&op, &self.context).await
    }
}

impl fmt::Debug for StoreRequest {
    /// Shows the operation's name alone: its keys and values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreRequest")
            .field("op", &self.op.name())
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Arg, Condition, Expiry, IdentityRef, Key, KeyPrefix, KeySpace, MemoryStore, Output,
        Program, Retention, Scan, Ttl, Value,
        wrap::{
            Prefix,
            fake::{Fake, Mode},
        },
    };

    const CX: Context = Context::new("test");
    static NOTHING: Program = Program::new("nothing", "return {}", Retention::Pinned, |_, _| {
        Output::new()
    });

    /// Lends every kind of operation, with all that it can carry.
    fn each_operation(mut test: impl FnMut(Op<'_>)) {
        let space = KeySpace::new("data", "a name");
        let keys = [
            Key::new(&space, IdentityRef::Int(1)),
            Key::new(&space, IdentityRef::V4(0x7f00_0001)),
            Key::new(&space, IdentityRef::V6(7)).with_rest(b"rest:1"),
            Key::new(&space, IdentityRef::Text(b"ada {x}")).with_rest(b"r"),
        ];
        let (key, value) = (&keys[3], &Value::from("a value of more than a few bytes"));
        let ttl = Ttl::from_millis(1_500).unwrap();
        let scan = Scan::new(&space).limit(7);
        let args = [Arg::Int(-1), Arg::Bytes(b"bytes")];
        let set = |condition, expiry| Op::Set {
            key,
            value,
            expiry,
            condition,
            retention: Retention::Pinned,
        };
        let delete = |if_equals| Op::Delete { key, if_equals };
        let add = |ttl, max| Op::Add {
            key,
            delta: -3,
            ttl,
            max,
        };
        let ops = [
            Op::Ping,
            Op::Get(key),
            Op::GetMany(&keys),
            Op::GetMany(&[]),
            set(Condition::Always, Expiry::NEVER),
            set(Condition::Absent, Expiry::KEEP),
            set(Condition::Equals(value), ttl.into()),
            delete(None),
            delete(Some(value)),
            Op::DeleteMany(&keys[1..]),
            Op::Touch {
                key,
                ttl,
                only_longer: true,
            },
            add(None, Some(9)),
            add(Some(ttl), None),
            Op::Scan(&scan),
            Op::Run {
                program: &NOTHING,
                keys: &keys[2..3],
                args: &args,
            },
        ];
        ops.iter().for_each(|op| test(*op));
        test(Op::Batch(&ops));
        test(Op::Batch(&[]));
        test(Op::Batch(&[Op::Ping, Op::Batch(&[])]));
    }

    #[test]
    fn a_request_lends_the_operation_that_it_was_made_from() {
        each_operation(|op| {
            let request = StoreRequest::new(&op, CX).clone();
            request.with_op(|lent| {
                // The texts have everything but what is secret.
                assert_eq!(format!("{lent:?}"), format!("{op:?}"));
                assert_eq!(lent.size(), op.size());
                assert_eq!(texts(lent), texts(&op));
            });
        });
    }

    /// A store compares ids, and renders texts: both must be those of the original.
    #[test]
    fn the_prefixes_of_wrappers_further_out_survive() {
        /// Passes a request on as it was lent.
        struct Requests(Fake);

        impl Store for Requests {
            async fn call<'a>(
                &'a self,
                op: &'a Op<'a>,
                cx: &'a Context,
            ) -> Result<Reply, StoreError> {
                let request = StoreRequest::new(op, *cx);
                request.with_op(|lent| assert_eq!(ids(lent), ids(op)));
                request.send(&self.0).await
            }

            fn info(&self) -> crate::StoreInfo {
                self.0.info()
            }
        }

        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.unwrap();
        for prefixes in [&[][..], &["a"], &["a", "b"], &["a", "b", "c"]] {
            each_operation(|op| {
                let (direct, requests) = (Fake::new(Mode::Reply), Fake::new(Mode::Reply));
                let mut plain = crate::SharedStore::new(direct.clone());
                let mut through = crate::SharedStore::new(Requests(requests.clone()));
                for prefix in prefixes {
                    plain = Prefix::new(plain, KeyPrefix::new(prefix)).into();
                    through = Prefix::new(through, KeyPrefix::new(prefix)).into();
                }
                runtime.block_on(async {
                    plain.call(&op, &CX).await.unwrap();
                    through.call(&op, &CX).await.unwrap();
                });
                assert_eq!(requests.sent(), direct.sent());
            });
        }
    }

    /// Wrappers inside and outside put their prefixes in the same order as without the service.
    #[tokio::test]
    async fn a_value_is_found_with_and_without_requests_between() {
        use crate::{
            StoreExt,
            service::{ServiceStore, StoreService},
        };
        let memory = MemoryStore::new();
        let prefix = |text| KeyPrefix::new(text);
        let inner = Prefix::new(Prefix::new(memory, prefix("a")), prefix("b"));
        let direct = Prefix::new(Prefix::new(inner.clone(), prefix("c")), prefix("d"));
        let service = ServiceStore::new(StoreService::new(inner));
        let through = Prefix::new(Prefix::new(service, prefix("c")), prefix("d"));
        let space = KeySpace::new("data", "s");
        let key = Key::new(&space, IdentityRef::Int(1)).with_rest(b"rest");
        let ttl = Ttl::from_millis(60_000).unwrap();
        direct.put(&CX, &key, &"1".into(), ttl).await.unwrap();
        assert_eq!(through.get(&CX, &key).await.unwrap(), Some("1".into()));
    }

    #[test]
    fn a_request_shows_no_key_and_no_value() {
        each_operation(|op| {
            let request = StoreRequest::new(&op, CX);
            let text = format!("{request:?}");
            assert!(!text.contains("ada") && !text.contains("value"), "{text}");
            let other = request.with_context(Context::new("other"));
            assert_eq!(other.context().source, "other");
        });
    }

    fn keys<'a>(op: &Op<'a>) -> Vec<Key<'a>> {
        match op {
            Op::Get(key)
            | Op::Set { key, .. }
            | Op::Delete { key, .. }
            | Op::Touch { key, .. }
            | Op::Add { key, .. } => vec![**key],
            Op::GetMany(keys) | Op::DeleteMany(keys) | Op::Run { keys, .. } => keys.to_vec(),
            Op::Batch(ops) => ops.iter().flat_map(keys).collect(),
            Op::Scan(_) | Op::Ping => Vec::new(),
        }
    }

    fn texts(op: &Op<'_>) -> Vec<Vec<u8>> {
        let text = |key: Key<'_>| {
            let mut text = Vec::new();
            key.render(&mut text);
            text
        };
        keys(op).into_iter().map(text).collect()
    }

    fn ids(op: &Op<'_>) -> Vec<[u64; 2]> {
        keys(op).into_iter().map(|key| key.id()).collect()
    }
}
