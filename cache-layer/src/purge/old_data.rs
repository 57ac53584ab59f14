use layer_store::{
    Arg, Caller, Condition, ErrorKind, IdentityRef, Key, KeySpace, Op, Output, Program, Reply,
    Retention, StoreError, Transaction, Ttl, Value,
};
use parking_lot::Mutex;

use crate::purge::scope::PurgeScope;

/// The check that a store has not come back with old data.
///
/// A server that was restarted from a snapshot, or a replica that took over, may hold stamps that purges have destroyed, and
/// with them entries that nobody may see. So the first process that meets another server than the one whose name lies in the
/// store makes all entries invalid, and writes the name of the new one.
///
/// A store that does not tell which server it leads to ([`StoreInfo::incarnation`](layer_store::StoreInfo::incarnation)) is
/// not checked.
#[derive(Debug)]
pub(crate) struct OldDataCheck {
    caller: Caller,
    /// The server that was checked last.
    checked: Mutex<Option<u64>>,
    /// One checks for all.
    turn: tokio::sync::Mutex<()>,
}

impl OldDataCheck {
    pub(crate) fn new(caller: Caller) -> Self {
        Self {
            caller,
            checked: Mutex::new(None),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Returns true if the replies that have come so far are from a server that was checked.
    pub(crate) fn is_done(&self) -> bool {
        match self.caller.info().incarnation {
            None => true,
            incarnation => *self.checked.lock() == incarnation,
        }
    }

    /// Checks the server to which the store leads now.
    ///
    /// # Errors
    ///
    /// Those of the store. Nothing may be served then.
    pub(crate) async fn run(&self) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let incarnation = self.caller.info().incarnation;
        if self.is_done() {
            return Ok(());
        }
        let name = incarnation.unwrap_or_default().to_string();
        if self.rename(&name).await? {
            tracing::debug!("the store leads to another server: all entries are invalid");
        }
        // A server that was replaced meanwhile is checked by the next lookup.
        match self.caller.info().incarnation == incarnation {
            true => {
                *self.checked.lock() = incarnation;
                Ok(())
            }
            false => Err(StoreError::not_applied(ErrorKind::Unavailable)),
        }
    }

    /// Makes all entries invalid, unless the store has the server's `name` already. Returns true if it had not.
    ///
    /// In one atomic step: of several processes that meet a server at once, one does it. If a second one did, it would end the
    /// fills that have begun meanwhile, and their pages would be asked for twice.
    async fn rename(&self, name: &str) -> Result<bool, StoreError> {
        let space = KeySpace::new("stamp", "incarnation");
        let key = Key::new(&space, IdentityRef::Text(b""));
        let everything = PurgeScope::everything();
        let stamps = everything.iter().flat_map(PurgeScope::keys);
        let keys: Vec<_> = [key].into_iter().chain(stamps).collect();
        let rename = Op::Run {
            program: &RENAME,
            keys: &keys,
            args: &[
                Arg::Int(LIFE.as_millis() as i64),
                Arg::Bytes(name.as_bytes()),
            ],
        };
        let reply = self.caller.call(&rename).await;
        match reply.and_then(Reply::into_output) {
            Ok(output) => Ok(output.int(0) == Some(1)),
            // ## A user who may not run scripts => one command after the other
            // Another process may do it at the same time. That costs misses.
            Err(error) if error.kind() == ErrorKind::Rejected => {
                self.rename_in_steps(&keys, name).await
            }
            Err(error) => Err(error),
        }
    }

    async fn rename_in_steps(&self, keys: &[Key<'_>], name: &str) -> Result<bool, StoreError> {
        let name = Value::from(name);
        let known = self.caller.call(&Op::Get(&keys[0])).await?.into_value()?;
        if known.as_ref() == Some(&name) {
            return Ok(false);
        }
        self.caller.call(&Op::DeleteMany(&keys[1..])).await?;
        let write = Op::Set {
            key: &keys[0],
            value: &name,
            expiry: LIFE.into(),
            condition: Condition::Always,
            retention: Retention::Evictable,
        };
        self.caller.call(&write).await.and_then(Reply::into_set)?;
        Ok(true)
    }
}

/// Makes all entries invalid, unless the store has a server's name already. Keys, arguments and reply are described at the head
/// of `lua/rename.lua`.
pub(crate) static RENAME: Program = Program::new(
    "stamp_rename",
    include_str!("lua/rename.lua"),
    Retention::Evictable,
    rename,
)
// `GET` and `SET`; `DEL` for each stamp.
.billed(2, 1);

fn rename(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let [Arg::Int(life), Arg::Bytes(name)] = args else {
        return Output::ints(&[0]);
    };
    let has_name = |value: &Value| value.with_bytes(|value| value == *name);
    if transaction.get(0).is_some_and(has_name) {
        return Output::ints(&[0]);
    }
    for stamp in 1..transaction.len() {
        transaction.delete(stamp);
    }
    let life = Ttl::from_millis((*life).max(1) as u64).unwrap_or(LIFE);
    transaction.set(0, Value::from(*name), life);
    Output::ints(&[1])
}

/// After it, or if it is evicted, the next process to connect makes all entries invalid. That costs misses.
const LIFE: Ttl = Ttl::from_millis(30 * 24 * 3_600 * 1_000).expect("30 days are not zero");

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    };

    use layer_store::{
        Context, Effect, MemoryStore, SharedStore, Store, StoreInfo, Watch,
        conformance::{Fault, FaultInjector},
    };

    use super::*;

    /// A store that tells which server it leads to.
    struct Named(MemoryStore, Arc<AtomicU64>);

    impl Store for Named {
        async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
            self.0.call(op, cx).await
        }

        fn watch(&self, key: &Key<'_>) -> Watch {
            self.0.watch(key)
        }

        fn info(&self) -> StoreInfo {
            let mut info = self.0.info();
            info.answers_now = false;
            info.incarnation = Some(self.1.load(SeqCst));
            info
        }
    }

    fn check(memory: &MemoryStore, server: &Arc<AtomicU64>) -> OldDataCheck {
        let store = SharedStore::new(Named(memory.clone(), server.clone()));
        OldDataCheck::new(Caller::new(store, "test"))
    }

    /// Puts a stamp under everything, as a reader plants it.
    async fn plant(memory: &MemoryStore) {
        for scope in PurgeScope::everything() {
            for key in scope.keys() {
                let value = Value::from("1aaaaaaaaaaa");
                let set = Op::Set {
                    key: &key,
                    value: &value,
                    expiry: LIFE.into(),
                    condition: Condition::Always,
                    retention: Retention::Evictable,
                };
                memory.call(&set, &Context::new("test")).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn the_first_process_to_meet_another_server_makes_all_entries_invalid() {
        let (memory, server) = (MemoryStore::new(), Arc::new(AtomicU64::new(1)));
        let (here, there) = (check(&memory, &server), check(&memory, &server));
        assert!(!here.is_done());
        plant(&memory).await;
        here.run().await.unwrap();
        assert!(here.is_done() && !there.is_done());
        // Only its name is left. The next process finds it, and destroys nothing.
        assert_eq!(memory.len(), 1);
        plant(&memory).await;
        there.run().await.unwrap();
        assert!(there.is_done());
        assert_eq!(memory.len(), 3);
        // Another server, with the data of the first.
        server.store(2, SeqCst);
        assert!(!here.is_done() && !there.is_done());
        there.run().await.unwrap();
        assert_eq!(memory.len(), 1);
        here.run().await.unwrap();
        assert!(here.is_done());
    }

    /// A store of one process. After its first reply another process checks the server too, and plants stamps for a fill.
    struct Overtaken {
        inner: Named,
        other: OldDataCheck,
        is_over: AtomicBool,
    }

    impl Store for Overtaken {
        async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
            let reply = self.inner.call(op, cx).await;
            if !self.is_over.swap(true, SeqCst) {
                self.other.run().await.unwrap();
                plant(&self.inner.0).await;
            }
            reply
        }

        fn info(&self) -> StoreInfo {
            self.inner.info()
        }
    }

    #[tokio::test]
    async fn of_two_processes_at_once_one_makes_all_entries_invalid() {
        let (memory, server) = (MemoryStore::new(), Arc::new(AtomicU64::new(1)));
        let overtaken = Overtaken {
            other: check(&memory, &server),
            inner: Named(memory.clone(), server),
            is_over: AtomicBool::new(false),
        };
        let check = OldDataCheck::new(Caller::new(SharedStore::new(overtaken), "test"));
        check.run().await.unwrap();
        assert_eq!(
            memory.len(),
            3,
            "the name and the stamps of the other's fill"
        );
    }

    #[tokio::test]
    async fn a_store_that_runs_no_programs_is_checked_in_steps() {
        let (memory, server) = (MemoryStore::new(), Arc::new(AtomicU64::new(1)));
        let refusing = FaultInjector::new(Named(memory.clone(), server));
        refusing.inject_by(|op| {
            let rejected = Fault::Fail(ErrorKind::Rejected, Effect::NotApplied);
            matches!(op, Op::Run { .. }).then_some(rejected)
        });
        let check = || OldDataCheck::new(Caller::new(SharedStore::new(refusing.clone()), "test"));
        plant(&memory).await;
        check().run().await.unwrap();
        assert_eq!(memory.len(), 1, "the name alone");
        plant(&memory).await;
        check().run().await.unwrap();
        assert_eq!(memory.len(), 3);
    }

    #[tokio::test]
    async fn a_store_that_does_not_tell_is_not_checked() {
        let store = SharedStore::new(MemoryStore::new());
        let check = OldDataCheck::new(Caller::new(store, "test"));
        assert!(check.is_done());
        check.run().await.unwrap();
    }
}
