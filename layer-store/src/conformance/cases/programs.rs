use std::time::Duration;

use super::{CX, CaseResult, LONG, Names, Trial, life, set, text};
use crate::{
    Arg, Condition, Effect, ErrorKind, Expiry, Key, StoreError, StoreExt, Value,
    conformance::programs::{LIMITED, LOOK, STAMP, TRANSFER, WRITE},
};

/// 64 tasks that ask 16 times each get as many units as the limit allows, and each unit once.
pub async fn a_program_never_exceeds_its_limit(trial: &Trial) -> CaseResult {
    const LIMIT: i64 = 500;
    let names = Names::fresh();
    let results = trial
        .race(64, |_, store| {
            let names = names.clone();
            async move {
                let mut counts = Vec::new();
                for _ in 0..16 {
                    let key = names.key("limited");
                    let args = [Arg::Int(LIMIT), TTL];
                    let reply = store.run(&CX, &LIMITED, &[key], &args).await?;
                    if reply.int(0) == Some(1) {
                        counts.extend(reply.int(1));
                    }
                }
                Ok::<_, StoreError>(counts)
            }
        })
        .await;
    let mut counts = Vec::new();
    for result in results {
        counts.extend(result?);
    }
    counts.sort_unstable();
    assert!(
        counts.iter().copied().eq(1..=LIMIT),
        "{} passed a limit of {LIMIT}",
        counts.len()
    );
    Ok(())
}

/// While 32 tasks move amounts between two accounts, the sum of both stays the same.
pub async fn a_program_over_two_keys_keeps_their_sum(trial: &Trial) -> CaseResult {
    let names = Names::fresh();
    let store = trial.store();
    let accounts = [names.unit("a"), names.unit("b")];
    for key in &accounts {
        store.put(&CX, key, &Value::pair(100, 0), LONG).await?;
    }
    let results = trial
        .race(32, |racer, store| {
            let names = names.clone();
            async move {
                let mut keys = [names.unit("a"), names.unit("b")];
                if racer % 2 == 1 {
                    keys.reverse();
                }
                for amount in 1..=16 {
                    let args = [Arg::Int(amount), TTL];
                    store.run(&CX, &TRANSFER, &keys, &args).await?;
                }
                Ok(())
            }
        })
        .await;
    results.into_iter().collect::<CaseResult>()?;
    let mut sum = 0;
    for value in store.get_many(&CX, &accounts).await?.iter().flatten() {
        sum += value.as_pair().expect("an account is a number").0;
    }
    assert_eq!(sum, 200);
    Ok(())
}

/// While tasks move amounts between two accounts, a program that looks at both always sees the whole sum.
pub async fn a_program_sees_no_other_half_done(trial: &Trial) -> CaseResult {
    let names = Names::fresh();
    let store = trial.store();
    let accounts = [names.unit("a"), names.unit("b")];
    store
        .put(&CX, &accounts[0], &Value::pair(100, 0), LONG)
        .await?;
    let results = trial
        .race(16, |racer, store| {
            let names = names.clone();
            async move {
                let keys = [names.unit("a"), names.unit("b")];
                for _ in 0..16 {
                    if racer < 4 {
                        let (from, to) = match racer % 2 {
                            0 => (keys[0], keys[1]),
                            _ => (keys[1], keys[0]),
                        };
                        let args = [Arg::Int(7), TTL];
                        store.run(&CX, &TRANSFER, &[from, to], &args).await?;
                    } else {
                        let seen = store.run(&CX, &LOOK, &keys, &[]).await?;
                        let amount = |index| seen.value(index).and_then(Value::as_pair);
                        let sum = [0, 2].map(|index| amount(index).unwrap_or_default().0);
                        assert_eq!(sum.iter().sum::<u64>(), 100, "{sum:?}");
                    }
                }
                Ok(())
            }
        })
        .await;
    results.into_iter().collect()
}

/// Programs and operations share their keys, values and expiries; a program's deletion is one.
pub async fn a_program_reads_and_writes_what_operations_do(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let [a, b] = ["a", "b"].map(|rest| names.unit(rest));
    store.put(&CX, &a, &"7".into(), LONG).await?;
    let moved = store
        .run(&CX, &TRANSFER, &[a, b], &[Arg::Int(3), Arg::Int(60_000)])
        .await?;
    assert_eq!(
        (moved.len(), moved.int(0), moved.int(1), moved.int(2)),
        (3, Some(1), Some(4), Some(3))
    );
    assert_eq!(text(store.get(&CX, &b).await?).as_deref(), Some("3"));
    for key in [&a, &b] {
        let left = life(store, key).await?;
        assert!((30_000..=60_000).contains(&left), "{left} ms of 60000 left");
    }
    store
        .run(&CX, &TRANSFER, &[a, b], &[Arg::Int(4), Arg::Int(60_000)])
        .await?;
    assert_eq!(store.get(&CX, &a).await?, None);
    assert_eq!(store.get(&CX, &b).await?, Some(Value::pair(7, 0)));

    set(store, &b, "x", Expiry::NEVER, Condition::Always).await?;
    let seen = store.run(&CX, &LOOK, &[b, a], &[]).await?;
    assert_eq!(seen.len(), 4);
    assert_eq!((seen.value(0), seen.int(1)), (Some(&"x".into()), Some(-1)));
    assert_eq!((seen.value(2), seen.int(3)), (None, Some(-2)));
    // Looking wrote nothing.
    assert_eq!(life(store, &b).await?, -1);
    store.delete(&CX, &b).await?;
    Ok(())
}

/// The last argument and the output may be any bytes, and also none.
pub async fn a_program_takes_and_gives_any_bytes(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let key = names.key("bytes");
    let all: Vec<u8> = (0..=255).collect();
    for bytes in [&all[..], b"", b"\r\n\0", &all.repeat(256)] {
        let reply = store
            .run(&CX, &WRITE, &[key], &[TTL, Arg::Bytes(bytes)])
            .await?;
        assert_eq!(reply.len(), 2);
        assert_eq!(reply.value(0), Some(&Value::from(bytes)));
        assert_eq!(store.get(&CX, &key).await?, Some(Value::from(bytes)));
    }
    Ok(())
}

/// A program reads a time that goes forwards, in microseconds since 1970.
pub async fn a_program_sees_time_pass(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let key = names.key("stamp");
    let mut last = 0;
    for _ in 0..3 {
        let reply = store.run(&CX, &STAMP, &[key], &[TTL]).await?;
        let now = reply.int(0).expect("the time");
        assert_eq!(reply.int(1), Some(last), "the stamp before");
        if last > 0 && trial.is_exact() {
            assert_eq!(now - last, 10_001);
        } else {
            assert!(now - last >= 10_001, "{last} and then {now}");
        }
        last = now;
        trial.pass(Duration::from_micros(10_001)).await;
    }
    Ok(())
}

/// A program over two tags is refused on every store, as on a Cluster, and nothing is done.
pub async fn a_program_needs_one_tag(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let [a, b] = ["a", "b"].map(|identity| names.key(identity));
    store.put(&CX, &a, &"7".into(), LONG).await?;
    let error = store
        .run(&CX, &TRANSFER, &[a, b], &[Arg::Int(3), TTL])
        .await
        .expect_err("two tags are refused");
    assert_eq!(
        (error.kind(), error.effect()),
        (ErrorKind::CrossTag, Effect::NotApplied)
    );
    let read = store.get_many(&CX, &[a, b]).await?;
    assert_eq!(read, [Some("7".into()), None]);
    Ok(())
}

/// A program has 1 to 128 keys, each once.
pub async fn a_program_needs_keys_and_none_twice(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let rests: Vec<_> = (0..129).map(|unit| unit.to_string()).collect();
    let keys: Vec<_> = rests.iter().map(|rest| names.unit(rest)).collect();
    let twice: [Key<'_>; 3] = [keys[0], keys[1], keys[0]];
    let seen = store.run(&CX, &LOOK, &keys[..128], &[]).await?;
    assert_eq!(seen.len(), 256);
    for keys in [&keys[..0], &keys[..], &twice] {
        let error = store
            .run(&CX, &LOOK, keys, &[])
            .await
            .expect_err("no keys, too many or one twice are refused");
        assert_eq!(
            (error.kind(), error.effect()),
            (ErrorKind::Rejected, Effect::NotApplied)
        );
    }
    Ok(())
}

/// Longer than any case runs, as an argument.
const TTL: Arg<'static> = Arg::Int(600_000);
