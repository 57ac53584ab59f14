use crate::{
    Arg, Condition, Cursor, Expiry, Key, KeyPrefix, KeySpace, Op, Program, Retention, Scan, Ttl,
    Value,
    key::{OwnedKey, PrefixChain},
};

/// An operation that owns what it carries, to be applied after the call that it came with.
///
/// [`with`](Self::with) lends an [`Op`]. A future that keeps the operation lends it in steps, each of which borrows the one
/// before: [`prefix`](Self::prefix), [`parts`](Self::parts), [`batch`](Parts::batch), [`op`](Parts::op).
#[derive(Clone)]
pub(crate) struct OwnedOp {
    keys: Box<[OwnedKey]>,
    /// The prefixes that wrappers further out have put before each key, as one.
    prefix: Option<KeyPrefix>,
    action: Action,
}

/// The action on the keys.
#[derive(Clone)]
enum Action {
    Get,
    GetMany,
    Set {
        value: Value,
        expiry: Expiry,
        condition: OwnedCondition,
        retention: Retention,
    },
    Delete {
        if_equals: Option<Value>,
    },
    DeleteMany,
    Touch {
        ttl: Ttl,
        only_longer: bool,
    },
    Add {
        delta: i64,
        ttl: Option<Ttl>,
        max: Option<i64>,
    },
    Scan {
        space: KeySpace,
        cursor: Cursor,
        limit: u32,
    },
    Run {
        program: &'static Program,
        args: Box<[OwnedArg]>,
    },
    Batch(Box<[OwnedOp]>),
    Ping,
}

#[derive(Clone)]
enum OwnedCondition {
    Always,
    Absent,
    Equals(Value),
}

#[derive(Clone)]
enum OwnedArg {
    Int(i64),
    Bytes(Box<[u8]>),
}

/// The borrowed parts of an operation.
pub(crate) struct Parts<'a> {
    action: &'a Action,
    keys: Vec<Key<'a>>,
    args: Vec<Arg<'a>>,
    scan: Option<Scan<'a>>,
    batch: Vec<Self>,
}

impl OwnedOp {
    pub(crate) fn of(op: &Op<'_>) -> Self {
        Self {
            prefix: op.prefix().map(PrefixChain::joined),
            ..Self::without_prefix(op)
        }
    }

    fn without_prefix(op: &Op<'_>) -> Self {
        let (keys, action): (&[Key<'_>], _) = match *op {
            Op::Get(key) => (std::slice::from_ref(key), Action::Get),
            Op::GetMany(keys) => (keys, Action::GetMany),
            Op::Set {
                key,
                value,
                expiry,
                condition,
                retention,
            } => {
                let set = Action::Set {
                    value: value.clone(),
                    expiry,
                    condition: OwnedCondition::of(condition),
                    retention,
                };
                (std::slice::from_ref(key), set)
            }
            Op::Delete { key, if_equals } => {
                let if_equals = if_equals.cloned();
                (std::slice::from_ref(key), Action::Delete { if_equals })
            }
            Op::DeleteMany(keys) => (keys, Action::DeleteMany),
            Op::Touch {
                key,
                ttl,
                only_longer,
            } => {
                let touch = Action::Touch { ttl, only_longer };
                (std::slice::from_ref(key), touch)
            }
            Op::Add {
                key,
                delta,
                ttl,
                max,
            } => (std::slice::from_ref(key), Action::Add { delta, ttl, max }),
            Op::Scan(scan) => {
                let (space, cursor, limit) = scan.parts();
                let space = space.clone();
                let scan = Action::Scan {
                    space,
                    cursor,
                    limit,
                };
                (&[], scan)
            }
            Op::Run {
                program,
                keys,
                args,
            } => {
                let args = args.iter().map(OwnedArg::of).collect();
                (keys, Action::Run { program, args })
            }
            // Every store refuses a batch within a batch, so what the inner one holds does not matter.
            Op::Batch(ops) => {
                let ops = ops.iter().map(|op| match op {
                    Op::Batch(_) => Self::without_prefix(&Op::Batch(&[])),
                    op => Self::without_prefix(op),
                });
                (&[], Action::Batch(ops.collect()))
            }
            Op::Ping => (&[], Action::Ping),
        };
        Self {
            keys: keys.iter().map(OwnedKey::of).collect(),
            prefix: None,
            action,
        }
    }

    /// Lends the operation to `read`.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&Op<'_>) -> T) -> T {
        let prefix = self.prefix();
        let parts = self.parts(prefix.as_ref());
        read(&parts.op(&parts.batch()))
    }

    /// Returns the operation's name, for logs.
    #[cfg(feature = "tower")]
    pub(crate) const fn name(&self) -> &'static str {
        match self.action {
            Action::Get => "Get",
            Action::GetMany => "GetMany",
            Action::Set { .. } => "Set",
            Action::Delete { .. } => "Delete",
            Action::DeleteMany => "DeleteMany",
            Action::Touch { .. } => "Touch",
            Action::Add { .. } => "Add",
            Action::Scan { .. } => "Scan",
            Action::Run { .. } => "Run",
            Action::Batch(_) => "Batch",
            Action::Ping => "Ping",
        }
    }

    /// Lends the prefixes.
    pub(crate) fn prefix(&self) -> Option<PrefixChain<'_>> {
        let prefix = self.prefix.as_ref()?;
        Some(PrefixChain::new(prefix, None))
    }

    /// Lends the parts, behind the prefixes.
    pub(crate) fn parts<'a>(&'a self, prefix: Option<&'a PrefixChain<'a>>) -> Parts<'a> {
        let (mut args, mut scan, mut batch) = (Vec::new(), None, Vec::new());
        match &self.action {
            Action::Run { args: owned, .. } => args.extend(owned.iter().map(OwnedArg::lend)),
            Action::Scan {
                space,
                cursor,
                limit,
            } => {
                let plain = Scan::new(space).from(*cursor).limit(*limit);
                scan = Some(match prefix {
                    None => plain,
                    Some(prefix) => plain.within(prefix),
                });
            }
            Action::Batch(ops) => batch.extend(ops.iter().map(|op| op.parts(prefix))),
            _ => {}
        }
        Parts {
            action: &self.action,
            keys: self.keys.iter().map(|key| key.lend(prefix)).collect(),
            args,
            scan,
            batch,
        }
    }
}

impl Parts<'_> {
    /// Lends the operations of a batch. For any other operation: none.
    pub(crate) fn batch(&self) -> Vec<Op<'_>> {
        self.batch.iter().map(|part| part.op(&[])).collect()
    }

    /// Lends the operation.
    pub(crate) fn op<'b>(&'b self, batch: &'b [Op<'b>]) -> Op<'b> {
        match (self.action, &*self.keys) {
            (Action::Get, [key]) => Op::Get(key),
            (Action::GetMany, keys) => Op::GetMany(keys),
            (
                Action::Set {
                    value,
                    expiry,
                    condition,
                    retention,
                },
                [key],
            ) => Op::Set {
                key,
                value,
                expiry: *expiry,
                condition: condition.lend(),
                retention: *retention,
            },
            (Action::Delete { if_equals }, [key]) => Op::Delete {
                key,
                if_equals: if_equals.as_ref(),
            },
            (Action::DeleteMany, keys) => Op::DeleteMany(keys),
            (Action::Touch { ttl, only_longer }, [key]) => Op::Touch {
                key,
                ttl: *ttl,
                only_longer: *only_longer,
            },
            (Action::Add { delta, ttl, max }, [key]) => Op::Add {
                key,
                delta: *delta,
                ttl: *ttl,
                max: *max,
            },
            (Action::Run { program, .. }, keys) => Op::Run {
                program,
                keys,
                args: &self.args,
            },
            (Action::Batch(_), _) => Op::Batch(batch),
            // An operation that was made from one with a key has it.
            _ => self.scan.as_ref().map_or(Op::Ping, Op::Scan),
        }
    }
}

impl OwnedCondition {
    fn of(condition: Condition<'_>) -> Self {
        match condition {
            Condition::Always => Self::Always,
            Condition::Absent => Self::Absent,
            Condition::Equals(value) => Self::Equals(value.clone()),
        }
    }

    const fn lend(&self) -> Condition<'_> {
        match self {
            Self::Always => Condition::Always,
            Self::Absent => Condition::Absent,
            Self::Equals(value) => Condition::Equals(value),
        }
    }
}

impl OwnedArg {
    fn of(arg: &Arg<'_>) -> Self {
        match *arg {
            Arg::Int(number) => Self::Int(number),
            Arg::Bytes(bytes) => Self::Bytes(bytes.into()),
        }
    }

    fn lend(&self) -> Arg<'_> {
        match self {
            Self::Int(number) => Arg::Int(*number),
            Self::Bytes(bytes) => Arg::Bytes(bytes),
        }
    }
}
