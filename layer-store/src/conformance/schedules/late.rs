use crate::{
    Arg, Condition, Expiry, Identity, IdentityRef, Key, KeySpace, Op, Program, Retention, Ttl,
    Value,
};

/// An operation that borrows nothing, because its caller has given up before it arrives.
#[derive(Debug)]
pub(super) enum LateOp {
    Set {
        key: LateKey,
        value: Value,
        expiry: Expiry,
        condition: LateCondition,
        retention: Retention,
    },
    Delete {
        key: LateKey,
        if_equals: Option<Value>,
    },
    DeleteMany(Vec<LateKey>),
    Touch {
        key: LateKey,
        ttl: Ttl,
        only_longer: bool,
    },
    Add {
        key: LateKey,
        delta: i64,
        ttl: Option<Ttl>,
        max: Option<i64>,
    },
    Run {
        program: &'static Program,
        keys: Vec<LateKey>,
        args: Vec<LateArg>,
    },
}

#[derive(Debug)]
pub(super) struct LateKey {
    space: KeySpace,
    identity: Identity<'static>,
    rest: Box<[u8]>,
}

#[derive(Debug)]
pub(super) enum LateCondition {
    Always,
    Absent,
    Equals(Value),
}

#[derive(Debug)]
pub(super) enum LateArg {
    Int(i64),
    Bytes(Box<[u8]>),
}

impl LateOp {
    /// Copies an operation. A batch becomes its operations, as it is not atomic. One that changes nothing becomes none.
    pub(super) fn of(op: &Op<'_>) -> Vec<Self> {
        match *op {
            Op::Batch(ops) => ops.iter().flat_map(Self::of).collect(),
            _ => Self::one(op).into_iter().collect(),
        }
    }

    fn one(op: &Op<'_>) -> Option<Self> {
        Some(match *op {
            Op::Set {
                key,
                value,
                expiry,
                condition,
                retention,
            } => Self::Set {
                key: LateKey::of(key),
                value: value.clone(),
                expiry,
                condition: match condition {
                    Condition::Always => LateCondition::Always,
                    Condition::Absent => LateCondition::Absent,
                    Condition::Equals(old) => LateCondition::Equals(old.clone()),
                },
                retention,
            },
            Op::Delete { key, if_equals } => Self::Delete {
                key: LateKey::of(key),
                if_equals: if_equals.cloned(),
            },
            Op::DeleteMany(keys) => Self::DeleteMany(keys.iter().map(LateKey::of).collect()),
            Op::Touch {
                key,
                ttl,
                only_longer,
            } => Self::Touch {
                key: LateKey::of(key),
                ttl,
                only_longer,
            },
            Op::Add {
                key,
                delta,
                ttl,
                max,
            } => Self::Add {
                key: LateKey::of(key),
                delta,
                ttl,
                max,
            },
            Op::Run {
                program,
                keys,
                args,
            } => Self::Run {
                program,
                keys: keys.iter().map(LateKey::of).collect(),
                args: args.iter().map(LateArg::of).collect(),
            },
            Op::Get(_) | Op::GetMany(_) | Op::Scan(_) | Op::Ping | Op::Batch(_) => return None,
        })
    }

    /// Lends the operation to `apply`.
    pub(super) fn with<T>(&self, apply: impl FnOnce(&Op<'_>) -> T) -> T {
        match self {
            Self::Set {
                key,
                value,
                expiry,
                condition,
                retention,
            } => apply(&Op::Set {
                key: &key.lend(),
                value,
                expiry: *expiry,
                condition: match condition {
                    LateCondition::Always => Condition::Always,
                    LateCondition::Absent => Condition::Absent,
                    LateCondition::Equals(old) => Condition::Equals(old),
                },
                retention: *retention,
            }),
            Self::Delete { key, if_equals } => apply(&Op::Delete {
                key: &key.lend(),
                if_equals: if_equals.as_ref(),
            }),
            Self::DeleteMany(keys) => {
                let keys: Vec<_> = keys.iter().map(LateKey::lend).collect();
                apply(&Op::DeleteMany(&keys))
            }
            Self::Touch {
                key,
                ttl,
                only_longer,
            } => apply(&Op::Touch {
                key: &key.lend(),
                ttl: *ttl,
                only_longer: *only_longer,
            }),
            Self::Add {
                key,
                delta,
                ttl,
                max,
            } => apply(&Op::Add {
                key: &key.lend(),
                delta: *delta,
                ttl: *ttl,
                max: *max,
            }),
            Self::Run {
                program,
                keys,
                args,
            } => {
                let keys: Vec<_> = keys.iter().map(LateKey::lend).collect();
                let args: Vec<_> = args.iter().map(LateArg::lend).collect();
                apply(&Op::Run {
                    program,
                    keys: &keys,
                    args: &args,
                })
            }
        }
    }
}

impl LateKey {
    fn of(key: &Key<'_>) -> Self {
        let (space, identity, rest) = key.parts();
        Self {
            space: space.clone(),
            identity: match identity {
                IdentityRef::V4(address) => Identity::V4(address),
                IdentityRef::V6(network) => Identity::V6(network),
                IdentityRef::Int(number) => Identity::Int(number),
                IdentityRef::Text(text) => Identity::from(text.to_vec()),
            },
            rest: rest.into(),
        }
    }

    fn lend(&self) -> Key<'_> {
        Key::new(&self.space, self.identity.as_ref()).with_rest(&self.rest)
    }
}

impl LateArg {
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
