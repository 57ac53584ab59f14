use crate::{Key, Op, Reply, StoreError};

/// A talk with a store: one or more operations, as a state machine without I/O.
///
/// A protocol returns its next operation and takes the reply, until it has its output. It never calls a store itself, so it
/// is written once for stores that answer at once and for stores that wait, and a test can play any order of replies and
/// errors. [`Caller::run_now`](crate::Caller::run_now) and [`Caller::run`](crate::Caller::run) drive it.
///
/// ```
/// use layer_store::{
///     Caller, IdentityRef, Key, KeySpace, MemoryStore, Op, Protocol, Reply, Scratch, SharedStore, StoreError, Value,
/// };
///
/// /// Reads the names of a person's friends: first who they are, then each of them.
/// enum Friends<'a> {
///     Asking { person: Key<'a>, names: &'a KeySpace },
///     Reading { friends: Vec<u64>, names: &'a KeySpace },
/// }
///
/// impl Protocol for Friends<'_> {
///     type Output = Result<Vec<Option<Value>>, StoreError>;
///
///     fn ask<'r, 's: 'r>(&'s self, scratch: &'r mut Scratch<'s>) -> Op<'r> {
///         match self {
///             Self::Asking { person, .. } => Op::Get(person),
///             Self::Reading { friends, names } => {
///                 let keys = friends.iter().map(|id| Key::new(names, IdentityRef::Int(*id)));
///                 Op::GetMany(scratch.keys(keys))
///             }
///         }
///     }
/// #   fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
/// #       match self {
/// #           Self::Asking { names, .. } => match reply.and_then(Reply::into_value) {
/// #               Ok(Some(value)) => {
/// #                   let friends = value.to_bytes().iter().map(|id| u64::from(id - b'0')).collect();
/// #                   *self = Self::Reading { friends, names };
/// #                   None
/// #               }
/// #               Ok(None) => Some(Ok(Vec::new())),
/// #               Err(error) => Some(Err(error)),
/// #           },
/// #           Self::Reading { friends, .. } => Some(reply.and_then(|reply| reply.into_values(friends.len()))),
/// #       }
/// #   }
/// }
/// # let caller = Caller::new(SharedStore::new(MemoryStore::new()), "example");
/// # let (friends, names) = (KeySpace::new("friends", ""), KeySpace::new("name", ""));
/// # let mut talk = Friends::Asking { person: Key::new(&friends, IdentityRef::Int(1)), names: &names };
/// # assert_eq!(caller.run_now(&mut talk).unwrap().unwrap(), []);
/// ```
pub trait Protocol {
    /// The result of the talk.
    type Output;

    /// Returns the next operation. Called again without a [`take`](Self::take) between, it returns the same one.
    ///
    /// `scratch` is empty. It is room for keys and operations that are made here and are not kept in the protocol.
    fn ask<'r, 's: 'r>(&'s self, scratch: &'r mut Scratch<'s>) -> Op<'r>;

    /// Takes the reply to the operation of [`ask`](Self::ask). `Some` ends the talk. After `None` the next operation follows.
    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output>;
}

/// Room for the keys and operations that an operation borrows. The driver keeps it while the operation is under way.
///
/// It allocates only when something is put in.
#[derive(Debug, Default)]
pub struct Scratch<'s> {
    keys: Vec<Key<'s>>,
    ops: Vec<Op<'s>>,
}

impl<'s> Scratch<'s> {
    /// Keeps keys and lends them.
    pub fn keys(&mut self, keys: impl IntoIterator<Item = Key<'s>>) -> &[Key<'s>] {
        self.keys.extend(keys);
        &self.keys
    }

    /// Keeps the operations of a batch and lends them.
    pub fn ops(&mut self, ops: impl IntoIterator<Item = Op<'s>>) -> &[Op<'s>] {
        self.ops.extend(ops);
        &self.ops
    }
}
