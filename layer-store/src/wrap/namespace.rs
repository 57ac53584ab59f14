use crate::{Context, Key, Op, Prefix, Reply, Store, StoreError, StoreInfo, Watch, key::Within};

/// Puts a [`Prefix`] before every key, so that several users of one store cannot meet.
///
/// The prefix stands before the hash tag and moves no key to another slot. Namespaces nest, and their order counts. An
/// operation over up to four keys allocates nothing more here.
#[derive(Clone, Debug)]
pub struct Namespace<T> {
    inner: T,
    prefix: Prefix,
}

impl<T: Store> Namespace<T> {
    /// Puts `prefix` before every key of `inner`.
    pub const fn new(inner: T, prefix: Prefix) -> Self {
        Self { inner, prefix }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<T: Store> Store for Namespace<T> {
    async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
        let within = Within::new(&self.prefix, outer(op));
        let keys = Keys::of(op, &within);
        let batch = keys.batch(op);
        self.inner.call(&keys.put_into(op, &batch), cx).await
    }

    #[inline]
    fn call_now(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        let within = Within::new(&self.prefix, outer(op));
        let keys = Keys::of(op, &within);
        let batch = keys.batch(op);
        self.inner.call_now(&keys.put_into(op, &batch), cx)
    }

    fn watch(&self, key: &Key<'_>) -> Watch {
        let within = Within::new(&self.prefix, key.prefix());
        self.inner.watch(&key.within(&within))
    }

    fn info(&self) -> StoreInfo {
        self.inner.info()
    }
}

/// The keys of one operation behind the prefix.
#[expect(
    clippy::large_enum_variant,
    reason = "it stays on the stack, and a box would be the allocation it avoids"
)]
enum Keys<'a> {
    None,
    One(Key<'a>),
    /// Filled up with the last.
    Few([Key<'a>; FEW], usize),
    Many(Vec<Key<'a>>),
    Batch(Vec<Self>),
}

impl<'a> Keys<'a> {
    #[inline]
    fn of(op: &Op<'a>, within: &'a Within<'a>) -> Self {
        match op {
            Op::Ping => Self::None,
            Op::Get(key) | Op::Set { key, .. } | Op::Delete { key, .. } | Op::Touch { key, .. } => {
                Self::One(key.within(within))
            }
            Op::GetMany(keys) | Op::DeleteMany(keys) | Op::Run { keys, .. } => {
                Self::of_slice(keys, within)
            }
            // A batch within a batch is refused by every store, whatever stands in it.
            Op::Batch(ops) => Self::Batch(
                ops.iter()
                    .map(|op| match op {
                        Op::Batch(_) => Self::None,
                        op => Self::of(op, within),
                    })
                    .collect(),
            ),
        }
    }

    #[inline]
    fn of_slice(keys: &'a [Key<'a>], within: &'a Within<'a>) -> Self {
        match keys {
            [] => Self::None,
            [key] => Self::One(key.within(within)),
            [.., last] if keys.len() <= FEW => Self::Few(
                std::array::from_fn(|i| keys.get(i).unwrap_or(last).within(within)),
                keys.len(),
            ),
            keys => Self::Many(keys.iter().map(|key| key.within(within)).collect()),
        }
    }

    /// The operations of a batch with these keys. Of anything else: none.
    #[inline]
    fn batch<'b>(&'b self, op: &Op<'b>) -> Vec<Op<'b>>
    where
        'a: 'b,
    {
        match (self, op) {
            (Self::Batch(keys), Op::Batch(ops)) => {
                let mapped = keys.iter().zip(*ops);
                mapped.map(|(keys, op)| keys.put_into(op, &[])).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The operation with these keys.
    #[inline]
    fn put_into<'b>(&'b self, op: &Op<'b>, batch: &'b [Op<'b>]) -> Op<'b>
    where
        'a: 'b,
    {
        match (*op, self.as_slice()) {
            (Op::Get(_), [key]) => Op::Get(key),
            (
                Op::Set {
                    value,
                    expiry,
                    cond,
                    class,
                    ..
                },
                [key],
            ) => Op::Set {
                key,
                value,
                expiry,
                cond,
                class,
            },
            (Op::Delete { if_equals, .. }, [key]) => Op::Delete { key, if_equals },
            (
                Op::Touch {
                    ttl, only_longer, ..
                },
                [key],
            ) => Op::Touch {
                key,
                ttl,
                only_longer,
            },
            (Op::GetMany(_), keys) => Op::GetMany(keys),
            (Op::DeleteMany(_), keys) => Op::DeleteMany(keys),
            (Op::Run { program, args, .. }, keys) => Op::Run {
                program,
                keys,
                args,
            },
            (Op::Batch(_), _) => Op::Batch(batch),
            (Op::Ping | Op::Get(_) | Op::Set { .. } | Op::Delete { .. } | Op::Touch { .. }, _) => {
                Op::Ping
            }
        }
    }

    #[inline]
    fn as_slice(&self) -> &[Key<'a>] {
        match self {
            Self::None | Self::Batch(_) => &[],
            Self::One(key) => std::slice::from_ref(key),
            Self::Few(keys, len) => &keys[..*len],
            Self::Many(keys) => keys,
        }
    }
}

/// The prefixes that wrappers further out have added. They are the same on all keys of an operation, since whoever built
/// the keys added none.
fn outer<'a>(op: &Op<'a>) -> Option<&'a Within<'a>> {
    match op {
        Op::Ping => None,
        Op::Get(key) | Op::Set { key, .. } | Op::Delete { key, .. } | Op::Touch { key, .. } => {
            key.prefix()
        }
        Op::GetMany(keys) | Op::DeleteMany(keys) | Op::Run { keys, .. } => keys.first()?.prefix(),
        Op::Batch(ops) => ops.iter().find_map(outer),
    }
}

/// Keys that need no allocation.
const FEW: usize = 4;
