use super::{CX, CaseResult, LONG, Names, Trial, set, text};
use crate::{Condition, StoreExt, Value};

/// On a live key `put_if_absent` returns the existing value and leaves it alone.
pub async fn put_if_absent_keeps_the_first_value(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let key = names.key("first");
    let (first, second) = (Value::from("first"), Value::from("second"));
    assert_eq!(store.put_if_absent(&CX, &key, &first, LONG).await?, None);
    let existing = store.put_if_absent(&CX, &key, &second, LONG).await?;
    assert_eq!(existing, Some(first.clone()));
    assert_eq!(store.get(&CX, &key).await?, Some(first.clone()));
    // The same value again is refused too: a claim repeated after a lost reply learns that it holds.
    let existing = store.put_if_absent(&CX, &key, &first, LONG).await?;
    assert_eq!(existing, Some(first));
    store.delete(&CX, &key).await?;
    assert_eq!(store.put_if_absent(&CX, &key, &second, LONG).await?, None);
    Ok(())
}

/// Of 64 that put at once one wins, and the others see its value.
pub async fn put_if_absent_has_one_winner_among_64(trial: &Trial) -> CaseResult {
    for _ in 0..ROUNDS {
        let names = Names::fresh();
        let results = trial
            .race(64, |racer, store| {
                let names = names.clone();
                async move {
                    let own = Value::pair(racer as u64, 0);
                    store
                        .put_if_absent(&CX, &names.key("claim"), &own, LONG)
                        .await
                }
            })
            .await;
        let mut winners = Vec::new();
        let mut seen = Vec::new();
        for (racer, result) in results.into_iter().enumerate() {
            match result? {
                None => winners.push(Value::pair(racer as u64, 0)),
                Some(existing) => seen.push(existing),
            }
        }
        assert_eq!(winners.len(), 1, "one claim wins");
        assert!(seen.iter().all(|value| *value == winners[0]));
        let standing = trial.store().get(&CX, &names.key("claim")).await?;
        assert_eq!(standing.as_ref(), Some(&winners[0]));
    }
    Ok(())
}

/// A compare-and-set is refused on an absent key and on another value, and replies the existing value.
pub async fn compare_and_set_replaces_the_right_value_alone(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let key = names.key("compared");
    let (right, wrong) = (Value::from("right"), Value::from("righ"));

    let absent = set(store, &key, "new", LONG, Condition::Equals(&right)).await?;
    assert_eq!(absent, (false, None));
    assert_eq!(store.get(&CX, &key).await?, None);

    store.put(&CX, &key, &right, LONG).await?;
    let refused = set(store, &key, "new", LONG, Condition::Equals(&wrong)).await?;
    assert_eq!(refused, (false, Some(right.clone())));
    assert_eq!(store.get(&CX, &key).await?, Some(right.clone()));

    let (applied, _) = set(store, &key, "new", LONG, Condition::Equals(&right)).await?;
    assert!(applied);
    assert_eq!(text(store.get(&CX, &key).await?).as_deref(), Some("new"));
    Ok(())
}

/// Of 64 that replace one value at once one wins.
pub async fn compare_and_set_has_one_winner_among_64(trial: &Trial) -> CaseResult {
    for _ in 0..ROUNDS {
        let names = Names::fresh();
        let key = names.key("compared");
        trial.store().put(&CX, &key, &"old".into(), LONG).await?;
        let results = trial
            .race(64, |racer, store| {
                let names = names.clone();
                async move {
                    let own = Value::pair(racer as u64, 0);
                    let key = names.key("compared");
                    store
                        .compare_and_set(&CX, &key, &"old".into(), &own, LONG)
                        .await
                }
            })
            .await;
        let mut winners = Vec::new();
        for (racer, result) in results.into_iter().enumerate() {
            if result? {
                winners.push(Value::pair(racer as u64, 0));
            }
        }
        assert_eq!(winners.len(), 1, "one replacement wins");
        let standing = trial.store().get(&CX, &key).await?;
        assert_eq!(standing.as_ref(), Some(&winners[0]));
    }
    Ok(())
}

/// A compare-and-delete of any other value than the existing one deletes nothing.
pub async fn compare_and_delete_is_for_the_owner(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let key = names.key("owned");
    let (owner, other) = (Value::from("owner"), Value::from("other"));
    assert!(!store.compare_and_delete(&CX, &key, &owner).await?);
    store.put(&CX, &key, &owner, LONG).await?;
    assert!(!store.compare_and_delete(&CX, &key, &other).await?);
    assert!(!store.compare_and_delete(&CX, &key, &"".into()).await?);
    assert_eq!(store.get(&CX, &key).await?, Some(owner.clone()));
    assert!(store.compare_and_delete(&CX, &key, &owner).await?);
    assert!(!store.compare_and_delete(&CX, &key, &owner).await?);
    assert_eq!(store.get(&CX, &key).await?, None);
    Ok(())
}

/// Of 64 that replace or delete one value at once one finds it. Nobody deletes what another one wrote meanwhile.
pub async fn compare_and_delete_deletes_nothing_newer(trial: &Trial) -> CaseResult {
    for _ in 0..ROUNDS {
        let names = Names::fresh();
        let key = names.key("compared");
        let old = Value::from("old");
        trial.store().put(&CX, &key, &old, LONG).await?;
        let results = trial
            .race(64, |racer, store| {
                let names = names.clone();
                async move {
                    let (key, old) = (names.key("compared"), Value::from("old"));
                    match racer % 2 {
                        0 => store.compare_and_delete(&CX, &key, &old).await,
                        _ => {
                            let own = Value::pair(racer as u64, 0);
                            store.compare_and_set(&CX, &key, &old, &own, LONG).await
                        }
                    }
                }
            })
            .await;
        let mut winners = Vec::new();
        for (racer, result) in results.into_iter().enumerate() {
            if result? {
                winners.push(racer);
            }
        }
        assert_eq!(winners.len(), 1, "one finds the old value");
        let own = Value::pair(winners[0] as u64, 0);
        let standing = trial.store().get(&CX, &key).await?;
        assert_eq!(standing, (winners[0] % 2 == 1).then_some(own));
    }
    Ok(())
}

/// A race is lost by luck too.
const ROUNDS: usize = 8;
