use layer_store::{
    Caller, Condition, ErrorKind, IdentityRef, Key, KeySpace, Op, Reply, Retention, StoreError,
    Ttl, Value,
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
        let name = Value::from(incarnation.unwrap_or_default().to_string());
        let space = KeySpace::new("stamp", "incarnation");
        let key = Key::new(&space, IdentityRef::Text(b""));
        let known = self.caller.call(&Op::Get(&key)).await?.into_value()?;
        if known.as_ref() != Some(&name) {
            // ## Another server, or one that has forgotten: nothing of before is valid
            let everything = PurgeScope::everything();
            let stamps: Vec<_> = everything.iter().flat_map(PurgeScope::keys).collect();
            self.caller.call(&Op::DeleteMany(&stamps)).await?;
            let write = Op::Set {
                key: &key,
                value: &name,
                expiry: LIFE.into(),
                condition: Condition::Always,
                retention: Retention::Evictable,
            };
            self.caller.call(&write).await.and_then(Reply::into_set)?;
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
}

/// After it, or if it is evicted, the next process to connect makes all entries invalid. That costs misses.
const LIFE: Ttl = Ttl::from_millis(30 * 24 * 3_600 * 1_000).expect("30 days are not zero");

#[cfg(test)]
mod tests {
    use layer_store::{Context, MemoryStore, SharedStore, Store, StoreInfo, Watch};
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
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

    #[tokio::test]
    async fn a_store_that_does_not_tell_is_not_checked() {
        let store = SharedStore::new(MemoryStore::new());
        let check = OldDataCheck::new(Caller::new(store, "test"));
        assert!(check.is_done());
        check.run().await.unwrap();
    }
}
