//! Every case on the memory store, and what only a store without trouble cannot show.

mod cases;

use cache_layer::store::MemoryStore;

all_cases!(async { cases::apart(MemoryStore::new()) });
