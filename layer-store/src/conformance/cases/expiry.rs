use std::time::Duration;

use super::{CX, CaseResult, LONG, Names, Trial, life, ms, set};
use crate::{Condition, Expiry, StoreExt, Value, conformance::programs::LOOK};

/// A value is there until its time to live has passed, and not after; to the millisecond where time is exact.
pub async fn a_value_ends_to_the_millisecond(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let [short, long] = ["short", "long"].map(|identity| names.key(identity));
    store.put(&CX, &short, &"1".into(), ms(40)).await?;
    store.put(&CX, &long, &"2".into(), LONG).await?;
    if trial.is_exact() {
        trial.pass(Duration::from_micros(39_999)).await;
        assert_eq!(store.get(&CX, &short).await?, Some("1".into()));
        trial.pass(Duration::from_micros(1)).await;
    } else {
        // A server may count from the start of its own millisecond.
        trial.pass(Duration::from_millis(42)).await;
    }
    assert_eq!(store.get(&CX, &short).await?, None);
    assert_eq!(store.get(&CX, &long).await?, Some("2".into()));
    Ok(())
}

/// An expired value is absent to reads, conditions, deletions and programs.
pub async fn an_expired_value_is_absent_to_every_operation(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let key = names.key("expired");
    let old = Value::from("old");
    // Each round begins with another operation, so that none depends on an earlier one that removed the value.
    for way in 0..8 {
        store.put(&CX, &key, &old, ms(5)).await?;
        trial.pass(Duration::from_millis(7)).await;
        match way {
            0 => assert_eq!(store.get(&CX, &key).await?, None),
            1 => assert_eq!(store.get_many(&CX, &[key]).await?, [None]),
            2 => {
                let put = store.put_if_absent(&CX, &key, &"new".into(), LONG).await?;
                assert_eq!(put, None);
            }
            3 => {
                let replaced = set(store, &key, "new", LONG, Condition::Equals(&old)).await?;
                assert_eq!(replaced, (false, None));
            }
            4 => assert!(!store.compare_and_delete(&CX, &key, &old).await?),
            5 => assert_eq!(store.delete_many(&CX, &[key]).await?, 0),
            6 => assert!(!store.touch(&CX, &key, LONG, false).await?),
            _ => {
                let seen = store.run(&CX, &LOOK, &[key], &[]).await?;
                assert_eq!((seen.value(0), seen.int(1)), (None, Some(-2)));
            }
        }
    }
    Ok(())
}

/// A time to live is neither rounded to seconds nor lost.
pub async fn a_time_to_live_is_kept_in_milliseconds(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let key = names.key("precise");
    store.put(&CX, &key, &"1".into(), ms(10_999)).await?;
    // Rounded to seconds it were 10,000 or 11,000.
    let put = life(store, &key).await?;
    assert!((10_001..=10_999).contains(&put), "{put} ms of 10999 left");
    set(store, &key, "2", ms(20_999), Condition::Always).await?;
    let set = life(store, &key).await?;
    assert!((20_001..=20_999).contains(&set), "{set} ms of 20999 left");
    store.touch(&CX, &key, ms(30_999), false).await?;
    let touched = life(store, &key).await?;
    assert!(
        (30_001..=30_999).contains(&touched),
        "{touched} ms of 30999 left"
    );
    Ok(())
}

/// A later write sets its own expiry: shorter, longer or none.
pub async fn a_write_sets_the_expiry_anew(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let key = names.key("anew");
    set(store, &key, "1", LONG, Condition::Always).await?;
    set(store, &key, "2", ms(60_000), Condition::Always).await?;
    assert!((1..=60_000).contains(&life(store, &key).await?));
    set(store, &key, "3", Expiry::NEVER, Condition::Always).await?;
    assert_eq!(life(store, &key).await?, -1);
    set(store, &key, "4", ms(60_000), Condition::Equals(&"3".into())).await?;
    assert!((1..=60_000).contains(&life(store, &key).await?));
    Ok(())
}

/// [`Expiry::KEEP`] changes the value and not its end; over nothing, the value never ends.
pub async fn keep_leaves_the_expiry_alone(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let [ends, never, fresh] = ["ends", "never", "fresh"].map(|identity| names.key(identity));
    set(store, &ends, "1", ms(60_000), Condition::Always).await?;
    set(store, &ends, "2", Expiry::KEEP, Condition::Always).await?;
    assert!((1..=60_000).contains(&life(store, &ends).await?));
    set(
        store,
        &ends,
        "3",
        Expiry::KEEP,
        Condition::Equals(&"2".into()),
    )
    .await?;
    assert!((1..=60_000).contains(&life(store, &ends).await?));
    assert_eq!(store.get(&CX, &ends).await?, Some("3".into()));

    set(store, &never, "1", Expiry::NEVER, Condition::Always).await?;
    set(store, &never, "2", Expiry::KEEP, Condition::Always).await?;
    assert_eq!(life(store, &never).await?, -1);
    set(store, &fresh, "1", Expiry::KEEP, Condition::Absent).await?;
    assert_eq!(life(store, &fresh).await?, -1);
    for key in [ends, never, fresh] {
        store.delete(&CX, &key).await?;
    }
    Ok(())
}

/// A write whose condition does not hold moves neither value nor expiry.
pub async fn a_refused_write_changes_nothing(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let key = names.key("refused");
    set(store, &key, "1", ms(60_000), Condition::Always).await?;
    for expiry in [LONG.into(), ms(1_000).into(), Expiry::NEVER] {
        let (applied, _) = set(store, &key, "2", expiry, Condition::Absent).await?;
        assert!(!applied);
        let (applied, _) = set(store, &key, "2", expiry, Condition::Equals(&"0".into())).await?;
        assert!(!applied);
        let left = life(store, &key).await?;
        assert!((30_000..=60_000).contains(&left), "{left} ms of 60000 left");
    }
    assert_eq!(store.get(&CX, &key).await?, Some("1".into()));
    Ok(())
}

/// `touch` moves the end in both directions, also that of a value that had none, and says whether there was a value.
pub async fn touch_moves_the_expiry(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let [key, absent] = ["touched", "absent"].map(|identity| names.key(identity));
    set(store, &key, "1", Expiry::NEVER, Condition::Always).await?;
    for ttl in [60_000, 600_000, 30_000] {
        assert!(store.touch(&CX, &key, ms(ttl), false).await?);
        let left = life(store, &key).await?;
        let wanted = ttl as i64 / 2..=ttl as i64;
        assert!(wanted.contains(&left), "{left} ms of {ttl} left");
    }
    assert_eq!(store.get(&CX, &key).await?, Some("1".into()));
    assert!(!store.touch(&CX, &absent, LONG, false).await?);
    assert!(!store.touch(&CX, &absent, LONG, true).await?);
    assert_eq!(store.get(&CX, &absent).await?, None);
    Ok(())
}

/// `touch` with `only_longer` leaves a value alone that lives longer, or for ever.
pub async fn touch_only_longer_never_shortens(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let [key, never] = ["touched", "never"].map(|identity| names.key(identity));
    set(store, &key, "1", ms(60_000), Condition::Always).await?;
    assert!(!store.touch(&CX, &key, ms(1_000), true).await?);
    assert!(life(store, &key).await? > 30_000);
    assert!(store.touch(&CX, &key, LONG, true).await?);
    assert!(life(store, &key).await? > 60_000);

    set(store, &never, "1", Expiry::NEVER, Condition::Always).await?;
    assert!(!store.touch(&CX, &never, LONG, true).await?);
    assert_eq!(life(store, &never).await?, -1);
    store.delete(&CX, &never).await?;
    Ok(())
}
