use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context as Task, Waker},
};

use super::{CX, CaseResult, LONG, Names, Trial};
use crate::{
    Arg, Condition, Op, Reply, Retention, Store, StoreExt, Value, conformance::programs::LIMITED,
};

/// `call` has the replies of `call_now`, for a caller that never uses the latter.
pub async fn call_replies_without_call_now(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let key = names.key("called");
    let value = Value::from("1");
    let put = Op::Set {
        key: &key,
        value: &value,
        expiry: LONG.into(),
        condition: Condition::Absent,
        retention: Retention::Evictable,
    };
    let reply = store.call(&put, &CX).await?;
    assert!(matches!(reply, Reply::Set { applied: true, .. }));
    let reply = store.call(&Op::Get(&key), &CX).await?;
    assert!(matches!(reply, Reply::Value(Some(read)) if read == value));
    let reply = store.call(&Op::Ping, &CX).await?;
    assert!(matches!(reply, Reply::Pong));
    Ok(())
}

/// If `call_now` returns `None` it has done nothing, and if it returns a reply it was applied once.
pub async fn call_now_without_a_reply_did_nothing(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let keys = [names.key("counted")];
    let args = [Arg::Int(10), Arg::Int(600_000)];
    let count = Op::Run {
        program: &LIMITED,
        keys: &keys,
        args: &args,
    };
    for answered in 1..=3 {
        let reply = match store.call_now(&count, &CX) {
            Some(result) => result?,
            None => store.call(&count, &CX).await?,
        };
        let Reply::Output(data) = reply else {
            panic!("a program replied {reply:?}");
        };
        assert_eq!(data.int(1), Some(answered), "each was counted once");
    }
    Ok(())
}

/// 200 calls are dropped before, while and after they are sent; every other call still has its own reply.
pub async fn dropped_calls_shift_no_reply(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let identities: Vec<_> = (0..64).map(|number| number.to_string()).collect();
    let keys: Vec<_> = identities
        .iter()
        .map(|identity| names.key(identity))
        .collect();
    for (number, key) in keys.iter().enumerate() {
        let own = Value::pair(number as u64, 0);
        store.put(&CX, key, &own, LONG).await?;
    }
    for round in 0..200 {
        let dropped = round % 64;
        drop_after(round % 4, store.call(&Op::Get(&keys[dropped]), &CX)).await;
        drop_after(round % 3, store.call(&Op::GetMany(&keys[..dropped]), &CX)).await;
        let asked = (round * 7 + 1) % 64;
        let read = store.get(&CX, &keys[asked]).await?;
        assert_eq!(read, Some(Value::pair(asked as u64, 0)), "round {round}");
    }
    let results = trial
        .race(64, |racer, store| {
            let names = names.clone();
            async move {
                let identity = racer.to_string();
                let key = names.key(&identity);
                drop_after(racer % 3, store.call(&Op::Get(&key), &CX)).await;
                store.get(&CX, &key).await
            }
        })
        .await;
    for (racer, read) in results.into_iter().enumerate() {
        assert_eq!(read?, Some(Value::pair(racer as u64, 0)));
    }
    Ok(())
}

/// Polls a call once, lets other tasks run `turns` times, and drops the call.
async fn drop_after(turns: usize, call: impl Future) {
    let mut call = pin!(call);
    poll_once(call.as_mut());
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

fn poll_once(call: Pin<&mut impl Future>) {
    let _ = call.poll(&mut Task::from_waker(Waker::noop()));
}
