use super::{CX, CaseResult, LONG, Names, Trial, life, ms, set, text};
use crate::{Condition, Effect, ErrorKind, Expiry, Key, Store, StoreError, StoreExt, Value};

/// The first `add` creates the integer with its time to live. Later ones do not move it, nor give one to a value that has none.
pub async fn add_sets_the_time_to_live_once(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let [counted, for_ever, kept] = ["counted", "for ever", "kept"].map(|name| names.key(name));
    assert_eq!(store.add(&CX, &counted, 3, Some(ms(60_000))).await?, 3);
    for ttl in [Some(LONG), Some(ms(1_000)), None] {
        store.add(&CX, &counted, 1, ttl).await?;
        let left = life(store, &counted).await?;
        assert!((30_000..=60_000).contains(&left), "{left} ms of 60000 left");
    }
    assert_eq!(text(store.get(&CX, &counted).await?), Some("6".into()));

    assert_eq!(store.add(&CX, &for_ever, 1, None).await?, 1);
    assert_eq!(store.add(&CX, &for_ever, 1, Some(LONG)).await?, 2);
    assert_eq!(life(store, &for_ever).await?, -1);

    set(store, &kept, "41", Expiry::NEVER, Condition::Always).await?;
    assert_eq!(store.add(&CX, &kept, 1, Some(LONG)).await?, 42);
    assert_eq!(life(store, &kept).await?, -1);
    for key in [for_ever, kept] {
        store.delete(&CX, &key).await?;
    }
    Ok(())
}

/// An expired integer is absent: `add` begins at zero again, with a new time to live.
pub async fn add_begins_anew_after_the_expiry(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let key = names.key("ends");
    store.add(&CX, &key, 5, Some(ms(20))).await?;
    trial.pass(ms(20).as_duration()).await;
    if !trial.is_exact() {
        trial.pass(ms(20).as_duration()).await;
    }
    assert_eq!(store.add(&CX, &key, 2, Some(LONG)).await?, 2);
    assert!(life(store, &key).await? > 60_000);
    Ok(())
}

/// A sum above the maximum is not written. The reply tells the integer as it is, which is 0 for an absent key.
pub async fn add_up_to_a_maximum_tells_the_integer(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let key = names.key("bounded");
    let add = |delta, max| store.add_up_to(&CX, &key, delta, Some(ms(60_000)), max);
    assert_eq!(add(4, 3).await?, (false, 0));
    assert_eq!(store.get(&CX, &key).await?, None);
    assert_eq!(add(3, 3).await?, (true, 3));
    assert_eq!(add(1, 3).await?, (false, 3));
    assert_eq!(add(0, 3).await?, (true, 3));
    assert_eq!(add(-2, 3).await?, (true, 1));
    assert_eq!(add(2, 3).await?, (true, 3));
    // Above the maximum counts, in whatever direction the integer moves.
    assert_eq!(add(-1, 1).await?, (false, 3));
    let left = life(store, &key).await?;
    assert!((1..=60_000).contains(&left), "{left} ms of 60000 left");
    Ok(())
}

/// Integers of 64 bits are exact, and go below zero. A sum beyond is rejected and changes nothing.
pub async fn add_beyond_64_bits_changes_nothing(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let [most, least] = ["most", "least"].map(|name| names.key(name));
    assert_eq!(
        store.add(&CX, &most, i64::MAX - 1, Some(LONG)).await?,
        i64::MAX - 1
    );
    assert_eq!(store.add(&CX, &most, 1, Some(LONG)).await?, i64::MAX);
    assert_eq!(store.add(&CX, &least, -5, Some(LONG)).await?, -5);
    assert_eq!(text(store.get(&CX, &least).await?), Some("-5".into()));
    assert_eq!(
        store.add(&CX, &least, i64::MIN + 5, Some(LONG)).await?,
        i64::MIN
    );
    for (key, delta, wanted) in [(most, 1, i64::MAX), (least, -1, i64::MIN)] {
        is_rejected(store.add(&CX, &key, delta, Some(LONG)).await);
        assert_eq!(store.get(&CX, &key).await?, Some(Value::int(wanted)));
        assert_eq!(store.add(&CX, &key, -delta, None).await?, wanted - delta);
    }
    Ok(())
}

/// A value that is no integer in its one decimal form is rejected and stays as it is.
pub async fn add_to_a_text_changes_nothing(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let odd = [
        "",
        "a",
        "-",
        "1a",
        "+1",
        "01",
        "-0",
        " 1",
        "1 ",
        "1.0",
        "1e3",
        "1:2",
        "9223372036854775808",
    ];
    for odd in odd {
        let key = names.key(odd);
        set(store, &key, odd, ms(60_000), Condition::Always).await?;
        is_rejected(store.add(&CX, &key, 1, Some(LONG)).await);
        is_rejected(
            store
                .add_up_to(&CX, &key, 1, Some(LONG), 9)
                .await
                .map(|(_, sum)| sum),
        );
        assert_eq!(text(store.get(&CX, &key).await?), Some(odd.into()));
        let left = life(store, &key).await?;
        assert!((1..=60_000).contains(&left), "{left} ms of 60000 left");
    }
    Ok(())
}

/// An integer that another operation wrote as text is added to, and `add` writes such a text.
pub async fn add_and_other_operations_see_one_integer(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let key = names.key("shared");
    for (written, delta, sum) in [
        ("41", 1, "42"),
        ("-1", 1, "0"),
        ("0", -7, "-7"),
        ("-10", 3, "-7"),
    ] {
        set(store, &key, written, LONG, Condition::Always).await?;
        let added = store.add(&CX, &key, delta, None).await?;
        assert_eq!(added.to_string(), sum);
        let old = Value::from(sum);
        assert!(
            store
                .compare_and_set(&CX, &key, &old, &"1".into(), LONG)
                .await?
        );
    }
    Ok(())
}

/// 64 tasks that add 1 a hundred times each add 6,400, and no two see one sum.
pub async fn adds_of_64_tasks_are_exact(trial: &Trial) -> CaseResult {
    let names = Names::fresh();
    let results = trial
        .race(64, |_, store| {
            let names = names.clone();
            async move {
                let mut sums = Vec::new();
                for _ in 0..100 {
                    sums.push(store.add(&CX, &names.key("sum"), 1, Some(LONG)).await?);
                }
                Ok::<_, StoreError>(sums)
            }
        })
        .await;
    let mut sums = Vec::new();
    for result in results {
        sums.extend(result?);
    }
    sums.sort_unstable();
    assert!(
        sums.into_iter().eq(1..=6_400),
        "a sum is missing or was given twice"
    );
    assert_eq!(read(trial.store(), &names.key("sum")).await?, Some(6_400));
    Ok(())
}

async fn read(store: &impl Store, key: &Key<'_>) -> Result<Option<i64>, StoreError> {
    let value = store.get(&CX, key).await?;
    Ok(value.as_ref().and_then(Value::as_int))
}

fn is_rejected(result: Result<i64, StoreError>) {
    let error = result.expect_err("this cannot be added to");
    assert_eq!(
        (error.kind(), error.effect()),
        (ErrorKind::Rejected, Effect::NotApplied)
    );
}
