//! More deletes than can be remembered.

use super::*;

async fn overflow(
    max: usize,
    refuse_for: Duration,
) -> (Server, Fallback<FaultInjector<MemoryStore>>, Spaces) {
    let (server, store) = bare();
    let store = store.max_deletes(max).refuse_for(refuse_for);
    let spaces = Spaces::new();
    for number in 0..20 {
        put(&server.memory, &spaces.entry(number), "old").await;
        put(&server.memory, &spaces.stamp(number), "old").await;
    }
    server.stop(REFUSED);
    for number in 0..10 {
        store.delete(&CX, &spaces.entry(number)).await.unwrap();
    }
    server.start();
    (server, store, spaces)
}

#[tokio::test(start_paused = true)]
async fn a_list_that_holds_them_all_refuses_nothing() {
    let (_, store, spaces) = overflow(10, SECOND * 60).await;
    until_back(&store).await;
    assert_eq!(store.handle().refused(), [""; 0]);
    assert_eq!(get(&store, &spaces.entry(9)).await, None);
    assert_eq!(get(&store, &spaces.entry(10)).await, Some("old".into()));
}

#[tokio::test(start_paused = true)]
async fn values_of_the_kind_are_absent_until_they_have_expired() {
    let warnings = warnings();
    let (server, store, spaces) = overflow(9, SECOND * 60).await;
    until_back(&store).await;
    assert_eq!(store.handle().refused(), ["entry"]);
    // Away, back, and what to do.
    assert_eq!(warnings.count(), 3);
    // What was remembered is deleted all the same, for the other processes.
    assert_eq!(get(&server.memory, &spaces.entry(8)).await, None);
    assert_eq!(
        get(&server.memory, &spaces.entry(9)).await,
        Some("old".into())
    );
    for number in 0..20 {
        assert_eq!(get(&store, &spaces.entry(number)).await, None);
    }
    // In every form of a read, and for that kind alone.
    let keys = [spaces.stamp(1), spaces.entry(11), spaces.stamp(2)];
    let old = Some(Value::from("old"));
    let expected = [old.clone(), None, old.clone()];
    assert_eq!(store.get_many(&CX, &keys).await.unwrap(), expected);
    let ops = [Op::Get(&keys[0]), Op::Get(&keys[1]), Op::GetMany(&keys)];
    let reply = store.call(&Op::Batch(&ops), &CX).await.unwrap();
    let mut replies = reply.into_batch(3).unwrap().into_iter().map(Result::unwrap);
    let mut next = || replies.next().unwrap();
    assert_eq!(next().into_value().unwrap(), old);
    assert_eq!(next().into_value().unwrap(), None);
    assert_eq!(next().into_values(3).unwrap(), expected);
    sleep(SECOND * 61).await;
    assert_eq!(get(&store, &spaces.entry(11)).await, old);
    assert_eq!(store.handle().refused(), [""; 0]);
    assert!(!store.shared.state.status().refuses());
}

#[tokio::test(start_paused = true)]
async fn an_operator_can_trust_the_kind_again() {
    let (_, store, spaces) = overflow(0, Duration::MAX).await;
    until_back(&store).await;
    let handle = store.info().health.fallback.unwrap();
    assert_eq!(handle.refused(), ["entry"]);
    handle.trust("stamp");
    assert_eq!(get(&store, &spaces.entry(11)).await, None);
    handle.trust("entry");
    assert_eq!(get(&store, &spaces.entry(11)).await, Some("old".into()));
    assert!(!store.shared.state.status().refuses());
}

/// A user of the server who may read and not delete. Without this rule the store would never come back.
#[tokio::test(start_paused = true)]
async fn a_delete_that_the_store_does_not_accept_makes_its_kind_absent() {
    let (server, store, spaces) = overflow(10, SECOND * 60).await;
    server.stop(Fault::Fail(ErrorKind::Rejected, Effect::NotApplied));
    until_back(&store).await;
    server.start();
    assert_eq!(store.handle().refused(), ["entry"]);
    assert_eq!(get(&store, &spaces.entry(1)).await, None);
    assert_eq!(get(&store, &spaces.stamp(1)).await, Some("old".into()));
}

/// The next outage begins while the kind is refused.
#[tokio::test(start_paused = true)]
async fn the_memory_answers_for_a_refused_kind_too() {
    let (server, store, spaces) = overflow(9, SECOND * 60).await;
    until_back(&store).await;
    server.stop(REFUSED);
    put(&store, &spaces.entry(9), "new").await;
    assert_eq!(get(&store, &spaces.entry(9)).await, Some("new".into()));
    server.start();
    until_back(&store).await;
    assert_eq!(get(&store, &spaces.entry(9)).await, None);
}
