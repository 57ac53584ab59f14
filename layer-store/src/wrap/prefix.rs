use crate::{
    Context, Key, KeyPrefix, Op, Reply, Scan, SharedStore, Store, StoreError, StoreInfo, Watch,
    key::PrefixChain,
};

/// Puts a [`KeyPrefix`] before every key, so that several applications can share one store.
///
/// The prefix is before the hash tag and moves no key to another slot. Prefixes nest, and their order matters. An operation
/// with up to four keys allocates nothing here.
///
/// ```
/// use layer_store::{KeyPrefix, MemoryStore, wrap::Prefix};
///
/// let memory = MemoryStore::new();
/// let shop = Prefix::new(memory.clone(), KeyPrefix::new("shop"));
/// let blog = Prefix::new(memory, KeyPrefix::new("blog"));
/// # drop((shop, blog));
/// ```
#[derive(Clone, Debug)]
pub struct Prefix<T> {
    inner: T,
    prefix: KeyPrefix,
}

impl<T: Store> Prefix<T> {
    /// Puts `prefix` before every key of `inner`.
    pub const fn new(inner: T, prefix: KeyPrefix) -> Self {
        Self { inner, prefix }
    }
}

impl<T: Store> From<Prefix<T>> for SharedStore {
    fn from(store: Prefix<T>) -> Self {
        Self::new(store)
    }
}

#[deny(clippy::missing_trait_methods)]
impl<T: Store> Store for Prefix<T> {
    async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
        let within = PrefixChain::new(&self.prefix, op.prefix());
        let keys = Keys::of(op, &within);
        let batch = keys.batch(op);
        self.inner.call(&keys.put_into(op, &batch), cx).await
    }

    #[inline]
    fn call_now(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        let within = PrefixChain::new(&self.prefix, op.prefix());
        let keys = Keys::of(op, &within);
        let batch = keys.batch(op);
        self.inner.call_now(&keys.put_into(op, &batch), cx)
    }

    fn watch(&self, key: &Key<'_>) -> Watch {
        let within = PrefixChain::new(&self.prefix, key.prefix());
        self.inner.watch(&key.within(&within))
    }

    fn info(&self) -> StoreInfo {
        self.inner.info()
    }
}

/// The keys of one operation, behind the prefix.
#[expect(
    clippy::large_enum_variant,
    reason = "it stays on the stack, and a box would be the allocation it avoids"
)]
enum Keys<'a> {
    None,
    One(Key<'a>),
    /// The keys and their number. The rest of the array repeats the last key.
    Few([Key<'a>; FEW], usize),
    Many(Vec<Key<'a>>),
    Scan(Scan<'a>),
    Batch(Vec<Self>),
}

impl<'a> Keys<'a> {
    #[inline]
    fn of(op: &Op<'a>, within: &'a PrefixChain<'a>) -> Self {
        match op {
            Op::Ping => Self::None,
            Op::Get(key)
            | Op::Set { key, .. }
            | Op::Delete { key, .. }
            | Op::Touch { key, .. }
            | Op::Add { key, .. } => Self::One(key.within(within)),
            Op::Scan(scan) => Self::Scan(scan.within(within)),
            Op::GetMany(keys) | Op::DeleteMany(keys) | Op::Run { keys, .. } => {
                Self::of_slice(keys, within)
            }
            // Every store refuses a batch within a batch, so its keys do not matter.
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
    fn of_slice(keys: &'a [Key<'a>], within: &'a PrefixChain<'a>) -> Self {
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

    /// Returns the operations of a batch with these keys. For any other operation: none.
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

    /// Returns the operation with these keys.
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
                    condition,
                    retention,
                    ..
                },
                [key],
            ) => Op::Set {
                key,
                value,
                expiry,
                condition,
                retention,
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
            (
                Op::Add {
                    delta, ttl, max, ..
                },
                [key],
            ) => Op::Add {
                key,
                delta,
                ttl,
                max,
            },
            (Op::Scan(_), _) => match self {
                Self::Scan(scan) => Op::Scan(scan),
                _ => Op::Ping,
            },
            (Op::GetMany(_), keys) => Op::GetMany(keys),
            (Op::DeleteMany(_), keys) => Op::DeleteMany(keys),
            (Op::Run { program, args, .. }, keys) => Op::Run {
                program,
                keys,
                args,
            },
            (Op::Batch(_), _) => Op::Batch(batch),
            (
                Op::Ping
                | Op::Get(_)
                | Op::Set { .. }
                | Op::Delete { .. }
                | Op::Touch { .. }
                | Op::Add { .. },
                _,
            ) => Op::Ping,
        }
    }

    #[inline]
    fn as_slice(&self) -> &[Key<'a>] {
        match self {
            Self::None | Self::Batch(_) | Self::Scan(_) => &[],
            Self::One(key) => std::slice::from_ref(key),
            Self::Few(keys, len) => &keys[..*len],
            Self::Many(keys) => keys,
        }
    }
}

/// An operation with at most this many keys allocates nothing.
const FEW: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Condition, Expiry, IdentityRef, KeySpace, MemoryStore, Output, Program, Retention,
        StoreExt, Ttl, Value,
        wrap::fake::{Fake, Mode},
    };

    static NOTHING: Program = Program::new("nothing", "return {}", Retention::Pinned, |_, _| {
        Output::ints(&[])
    });

    #[tokio::test]
    async fn every_key_of_every_operation_is_behind_the_prefix() {
        let space = KeySpace::new("data", "s");
        let keys: Vec<_> = (0..6)
            .map(|i| Key::new(&space, IdentityRef::Int(i)))
            .collect();
        let key = &keys[0];
        let value = Value::from("v");
        let ttl = Ttl::from_millis(1).unwrap();
        let set = Op::Set {
            key,
            value: &value,
            expiry: Expiry::NEVER,
            condition: Condition::Always,
            retention: Retention::Evictable,
        };
        let scan = Scan::new(&space);
        let one = [
            Op::Get(key),
            set,
            Op::Delete {
                key,
                if_equals: Some(&value),
            },
            Op::Touch {
                key,
                ttl,
                only_longer: true,
            },
            Op::Add {
                key,
                delta: 1,
                ttl: None,
                max: None,
            },
            Op::Scan(&scan),
        ];
        let several = |len: usize| {
            let keys = &keys[..len];
            [
                Op::GetMany(keys),
                Op::DeleteMany(keys),
                Op::Run {
                    program: &NOTHING,
                    keys,
                    args: &[],
                },
            ]
        };
        let inner = several(2);
        let batch = [one[0], inner[2], Op::Ping, set];
        let nested = [one[0], Op::Batch(&one)];

        let mut ops = one.to_vec();
        ops.extend((0..=6).flat_map(several));
        ops.extend([
            Op::Ping,
            Op::Batch(&batch),
            Op::Batch(&[]),
            Op::Batch(&nested),
        ]);
        let cx = Context::new("test");
        for op in &ops {
            let plain = Fake::new(Mode::Now);
            plain.call(op, &cx).await.unwrap();
            let mut expected = plain.sent().concat().replace('{', "app:{");
            if let Op::Batch([_, Op::Batch(_)]) = op {
                // Refused by every store; what matters is that it stays a batch within one.
                expected = "batch get app:{int:0}:data:s, batch ".into();
            }
            let fake = Fake::new(Mode::Now);
            let store = Prefix::new(fake.clone(), KeyPrefix::new("app"));
            store.call(op, &cx).await.unwrap();
            assert_eq!(fake.sent(), [expected.clone()]);
            store.call_now(op, &cx).unwrap().unwrap();
            assert_eq!(fake.sent(), [expected]);
        }
        let fake = Fake::new(Mode::Reply);
        drop(Prefix::new(fake.clone(), KeyPrefix::new("app")).watch(key));
        assert_eq!(fake.sent(), ["watch app:{int:0}:data:s"]);
    }

    #[tokio::test]
    async fn prefixes_nest_in_order() {
        let fake = Fake::new(Mode::Reply);
        let store = Prefix::new(
            Prefix::new(fake.clone(), KeyPrefix::new("inner")),
            KeyPrefix::new("outer"),
        );
        let space = KeySpace::new("data", "s");
        let keys = [1, 2].map(|i| Key::new(&space, IdentityRef::Int(i)));
        store.get_many(&Context::new("test"), &keys).await.unwrap();
        assert_eq!(
            fake.sent(),
            ["get many inner:outer:{int:1}:data:s, inner:outer:{int:2}:data:s"]
        );
    }

    #[tokio::test]
    async fn two_prefixes_on_one_store_do_not_meet() {
        let memory = MemoryStore::new();
        let cx = Context::new("test");
        let space = KeySpace::new("data", "s");
        let key = Key::new(&space, IdentityRef::Int(1));
        let ttl = Ttl::from_millis(60_000).unwrap();
        let a = Prefix::new(memory.clone(), KeyPrefix::new("a"));
        let b = Prefix::new(memory.clone(), KeyPrefix::new("b"));
        a.put(&cx, &key, &"of a".into(), ttl).await.unwrap();
        assert_eq!(a.get(&cx, &key).await.unwrap(), Some("of a".into()));
        assert_eq!(b.get(&cx, &key).await.unwrap(), None);
        assert_eq!(memory.get(&cx, &key).await.unwrap(), None);
    }
}
