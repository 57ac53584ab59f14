//! Every case on the memory store.

mod cases;

use cache_layer::store::MemoryStore;

cache_cases!(async { cases::apart(MemoryStore::new()) });
purge_cases!(async { cases::apart(MemoryStore::new()) });
