use std::{
    pin::pin,
    task::{Context as Task, Waker},
    time::Duration,
};

use tokio::time::timeout;

use super::{CX, CaseResult, LONG, Names, Trial, set};
use crate::{
    Arg, Condition, Key, KeyPrefix, Store, StoreError, StoreExt, Watch,
    conformance::{programs::LIMITED, unique},
    wrap::Prefix,
};

/// A watch is told of each way to change its key, also of a change that came before it waits.
///
/// A store whose [`StoreInfo::watches`](crate::StoreInfo::watches) is false sends no hint at all.
pub async fn a_watch_hints_at_every_change(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let key = names.key("watched");
    let mut watch = store.watch(&key);
    for change in ["set", "add", "run", "delete", "put", "delete many", "batch"] {
        hint(store, &mut watch, &key, change).await?;
    }
    Ok(())
}

/// Each of several watches of one key gets its hints, and goes on when another is dropped.
pub async fn every_watch_of_a_key_gets_the_hint(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let key = names.key("watched");
    let [mut first, mut second, dropped] = [0; 3].map(|_| store.watch(&key));
    drop(dropped);
    hint(store, &mut first, &key, "set").await?;
    hint(store, &mut second, &key, "set").await?;
    drop(first);
    hint(store, &mut second, &key, "delete").await
}

/// A watch through a prefix is one of the key behind the prefix.
pub async fn a_watch_goes_through_a_prefix(trial: &Trial) -> CaseResult {
    let names = Names::fresh();
    let key = names.key("watched");
    let store = Prefix::new(trial.store().clone(), KeyPrefix::new(&unique()));
    let mut watch = store.watch(&key);
    hint(&store, &mut watch, &key, "set").await?;
    hint(&store, &mut watch, &key, "run").await
}

/// Changes the key until the watch is told, as a hint may be lost. Or shows that it never is, if the store says so.
async fn hint(store: &impl Store, watch: &mut Watch, key: &Key<'_>, by: &str) -> CaseResult {
    if !store.info().watches {
        change(store, key, by).await?;
        let task = &mut Task::from_waker(Waker::noop());
        let hinted = pin!(watch.changed()).poll(task).is_ready();
        assert!(!hinted, "a store that does not watch sent a hint");
        return Ok(());
    }
    for _ in 0..TRIES {
        change(store, key, by).await?;
        if timeout(SOON, watch.changed()).await.is_ok() {
            return Ok(());
        }
    }
    panic!("no hint at a change by {by}");
}

async fn change(store: &impl Store, key: &Key<'_>, by: &str) -> Result<(), StoreError> {
    let args = [Arg::Int(i64::MAX), Arg::Int(600_000)];
    match by {
        "set" => drop(set(store, key, "1", LONG, Condition::Always).await?),
        "put" => store.put(&CX, key, &"2".into(), LONG).await?,
        "add" => drop(store.add(&CX, key, 1, Some(LONG)).await?),
        "run" => drop(store.run(&CX, &LIMITED, &[*key], &args).await?),
        // There is something to delete at the second try too.
        "delete" => {
            store.put(&CX, key, &"3".into(), LONG).await?;
            store.delete(&CX, key).await?;
        }
        "delete many" => {
            store.put(&CX, key, &"4".into(), LONG).await?;
            store.delete_many(&CX, &[*key]).await?;
        }
        _ => {
            let add = crate::Op::Add {
                key,
                delta: 1,
                ttl: Some(LONG),
                max: None,
            };
            store.batch(&CX, &[add]).await?;
        }
    }
    Ok(())
}

/// A hint of a store over a network comes within this time.
const SOON: Duration = Duration::from_millis(200);
const TRIES: usize = 20;
