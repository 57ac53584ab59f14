use super::{CX, CaseResult, LONG, Names, Trial};
use crate::{
    Arg, Condition, Effect, ErrorKind, Op, Output, Reply, Retention, StoreExt, Value,
    conformance::programs::LIMITED,
};

/// Each operation sees what those before it did, and has its reply in its place.
pub async fn a_batch_replies_in_order(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let [a, b] = ["a", "b"].map(|identity| names.key(identity));
    let (one, two) = (Value::from("1"), Value::from("2"));
    let put = |key, value, condition| Op::Set {
        key,
        value,
        expiry: LONG.into(),
        condition,
        retention: Retention::Evictable,
    };
    let counter = [names.unit("counter")];
    let args = [Arg::Int(1), Arg::Int(60_000)];
    let count = Op::Run {
        program: &LIMITED,
        keys: &counter,
        args: &args,
    };
    let replies = store
        .batch(
            &CX,
            &[
                Op::Get(&a),
                put(&a, &one, Condition::Always),
                Op::Get(&a),
                put(&a, &two, Condition::Absent),
                put(&a, &two, Condition::Equals(&one)),
                count,
                count,
                Op::GetMany(&[a, b]),
                Op::Touch {
                    key: &a,
                    ttl: LONG,
                    only_longer: false,
                },
                Op::Delete {
                    key: &a,
                    if_equals: Some(&two),
                },
                Op::DeleteMany(&[a, b]),
                Op::Ping,
            ],
        )
        .await?;
    let replies = replies.into_iter().collect::<Result<Vec<_>, _>>()?;
    let applied = Reply::Set {
        applied: true,
        existing: None,
    };
    let refused = Reply::Set {
        applied: false,
        existing: Some(one.clone()),
    };
    let wanted = [
        Reply::Value(None),
        applied.clone(),
        Reply::Value(Some(one)),
        refused,
        applied,
        Reply::Output(Output::ints(&[1, 1])),
        Reply::Output(Output::ints(&[0, 1])),
        Reply::Values(vec![Some(two), None]),
        Reply::Count(1),
        Reply::Count(1),
        Reply::Count(0),
        Reply::Pong,
    ];
    for (at, (reply, wanted)) in replies.iter().zip(&wanted).enumerate() {
        assert!(is_same(reply, wanted), "reply {at}: {reply:?}");
    }
    Ok(())
}

/// An operation that fails has an error in its place, and those behind it are applied.
pub async fn a_batch_goes_on_after_a_failure(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let key = names.key("after");
    let value = Value::from("1");
    let two_tags = [names.key("a"), names.key("b")];
    let args = [Arg::Int(1), Arg::Int(60_000)];
    let failing = Op::Run {
        program: &LIMITED,
        keys: &two_tags,
        args: &args,
    };
    let put = Op::Set {
        key: &key,
        value: &value,
        expiry: LONG.into(),
        condition: Condition::Always,
        retention: Retention::Evictable,
    };
    let replies = store
        .batch(&CX, &[Op::Ping, failing, put, failing, Op::Get(&key)])
        .await?;
    let failed: Vec<_> = replies.iter().map(Result::is_err).collect();
    assert_eq!(failed, [false, true, false, true, false]);
    assert_eq!(store.get(&CX, &key).await?, Some(value));

    let nested = store.batch(&CX, &[Op::Batch(&[Op::Ping])]).await;
    let error = nested.expect_err("a batch holds no batch");
    assert_eq!(
        (error.kind(), error.effect()),
        (ErrorKind::Rejected, Effect::NotApplied)
    );
    Ok(())
}

fn is_same(reply: &Reply, wanted: &Reply) -> bool {
    match (reply, wanted) {
        (Reply::Value(reply), Reply::Value(wanted)) => reply == wanted,
        (Reply::Values(reply), Reply::Values(wanted)) => reply == wanted,
        (
            Reply::Set { applied, existing },
            Reply::Set {
                applied: wanted,
                existing: standing,
            },
        ) => applied == wanted && existing == standing,
        (Reply::Count(reply), Reply::Count(wanted)) => reply == wanted,
        (Reply::Output(reply), Reply::Output(wanted)) => reply == wanted,
        (Reply::Pong, Reply::Pong) => true,
        _ => false,
    }
}
