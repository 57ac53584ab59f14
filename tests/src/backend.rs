use layer_store::{MemoryStore, Options, SharedStore};

use crate::{RedisServer, redis_server::patient_store};

/// A kind of store that a story runs on.
#[derive(Debug)]
pub enum Backend {
    /// The memory of this process.
    Memory(MemoryStore),
    /// A server of its own.
    Redis(RedisServer),
}

impl Backend {
    /// Returns an empty one of each kind.
    pub fn all() -> [Self; 2] {
        [
            Self::Memory(MemoryStore::new()),
            Self::Redis(RedisServer::start()),
        ]
    }

    /// Runs a story on the store of each kind. Checks that no key stays for ever.
    ///
    /// # Panics
    ///
    /// Panics if the story does, or if it leaves a key that never expires.
    pub async fn on_each(story: impl AsyncFn(SharedStore)) {
        for backend in Self::all() {
            story(backend.store().await).await;
            backend.assert_keys_end();
        }
    }

    /// Returns the store as one process sees it: on Redis, over a connection of its own, with a deadline of 10 s a call.
    ///
    /// # Panics
    ///
    /// Panics if the server does not run.
    pub async fn store(&self) -> SharedStore {
        match self {
            Self::Memory(store) => SharedStore::new(store.clone()),
            Self::Redis(server) => patient_store(server, Options::new()).await,
        }
    }

    /// Returns the store as several processes see it.
    ///
    /// # Panics
    ///
    /// Panics if the server does not run.
    pub async fn stores(&self, count: usize) -> Vec<SharedStore> {
        let mut stores = Vec::new();
        for _ in 0..count {
            stores.push(self.store().await);
        }
        stores
    }

    /// Checks that Redis has keys, and that each of them expires. Does nothing in memory.
    ///
    /// # Panics
    ///
    /// Panics if there is no key, or one that never expires.
    pub fn every_key_ends(&self) {
        if let Some(keys) = self.assert_keys_end() {
            assert!(keys > 0);
        }
    }

    /// Returns the number of keys on Redis.
    fn assert_keys_end(&self) -> Option<usize> {
        let Self::Redis(server) = self else {
            return None;
        };
        let keys: Vec<String> = server.command(&["KEYS", "*"]);
        for key in &keys {
            let left: i64 = server.command(&["PTTL", key]);
            // -2: it has expired meanwhile. 0: it ends within this millisecond.
            assert_ne!(left, -1, "{key} never expires");
        }
        Some(keys.len())
    }
}
