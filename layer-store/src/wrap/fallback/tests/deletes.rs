//! No delete is lost.

use std::{future::Future, pin::pin, task::Waker};

use super::*;

fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut cx = std::task::Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut cx) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_delete_whose_reply_was_lost_is_replayed() {
    for fault in [
        Fault::LoseReply(ErrorKind::Timeout),
        Fault::Fail(ErrorKind::Timeout, Effect::Unknown),
    ] {
        let (server, store) = bare();
        let spaces = Spaces::new();
        let key = spaces.stamp(1);
        put(&store, &key, "old").await;
        server.stop(fault);
        store.delete_many(&CX, &[key]).await.unwrap();
        server.start();
        // It was applied, perhaps, and another process wrote the key since: the replay deletes too much, and never too little.
        put(&server.memory, &key, "old").await;
        until_back(&store).await;
        assert_eq!(get(&store, &key).await, None);
        assert_eq!(server.asked().len(), 3 + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_is_dropped_on_its_way_is_sent_again_without_an_outage() {
    let (server, store) = bare();
    let spaces = Spaces::new();
    let key = spaces.stamp(1);
    put(&store, &key, "old").await;
    server.stop(Fault::Hang);
    assert!(poll_once(store.delete(&CX, &key)).is_none());
    server.start();
    assert!(!store.info().degraded);
    assert!(
        get(&store, &key).await.is_some(),
        "nobody was told that it is gone"
    );
    sleep(MS).await;
    assert_eq!(get(&store, &key).await, None);
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    // Nor is anything else sent again.
    server.stop(Fault::Hang);
    assert!(poll_once(store.get(&CX, &key)).is_none());
    assert!(poll_once(store.delete(&CX, &spaces.lock(1))).is_none());
    sleep(SECOND).await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_delete_that_cannot_be_sent_again_begins_an_outage() {
    let (server, store) = bare();
    let spaces = Spaces::new();
    let key = spaces.stamp(1);
    put(&store, &key, "old").await;
    server.stop(Fault::Hang);
    assert!(poll_once(store.delete(&CX, &key)).is_none());
    server.stop(REFUSED);
    sleep(MS).await;
    assert!(store.info().degraded);
    assert_eq!(get(&store, &key).await, None);
    server.start();
    until_back(&store).await;
    assert_eq!(get(&store, &key).await, None);
}

/// The replay takes 3 s here. All deletes of this time are sent at once, or it would never end.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_returning_gets_each_delete_at_once() {
    let (server, store) = bare();
    let spaces = Spaces::new();
    for number in 0..301 {
        put(&server.memory, &spaces.entry(number), "old").await;
    }
    server.stop(REFUSED);
    for number in 0..300 {
        store.delete(&CX, &spaces.entry(number)).await.unwrap();
    }
    server.stop(Fault::Delay(SECOND));
    sleep(SECOND + MS * 200).await;
    assert_eq!(store.shared.state.phase(), Phase::Returning);
    let late = spaces.entry(300);
    assert!(store.call_now(&Op::DeleteMany(&[late]), &CX).is_none());
    store.delete(&CX, &late).await.unwrap();
    assert!(store.info().degraded);
    assert_eq!(get(&server.memory, &late).await, None);
    assert_eq!(get(&store, &spaces.entry(299)).await, None);
    sleep(SECOND * 2).await;
    assert!(!store.info().degraded);
    for number in 0..301 {
        assert_eq!(get(&server.memory, &spaces.entry(number)).await, None);
    }
    // 128, 128 and 44, and the late one.
    assert_eq!(
        server
            .asked()
            .iter()
            .filter(|op| op.starts_with("delete many"))
            .count(),
        4
    );
}

#[tokio::test(start_paused = true)]
async fn a_delete_of_a_returning_store_is_kept_if_it_fails_or_is_dropped() {
    for dropped in [false, true] {
        let (server, store) = bare();
        let spaces = Spaces::new();
        for number in 0..201 {
            put(&server.memory, &spaces.entry(number), "old").await;
        }
        server.stop(REFUSED);
        for number in 0..200 {
            store.delete(&CX, &spaces.entry(number)).await.unwrap();
        }
        server.stop(Fault::Delay(SECOND));
        sleep(SECOND + MS * 200).await;
        assert_eq!(store.shared.state.phase(), Phase::Returning);
        let late = spaces.entry(200);
        server.stop(REFUSED);
        if dropped {
            server.stop(Fault::Hang);
            assert!(poll_once(store.delete(&CX, &late)).is_none());
        } else {
            store.delete(&CX, &late).await.unwrap();
            assert_eq!(store.shared.state.phase(), Phase::Away);
        }
        server.start();
        until_back(&store).await;
        for number in 0..201 {
            assert_eq!(get(&store, &spaces.entry(number)).await, None);
        }
    }
}

/// A purge of a tag deletes two stamps, and the order matters.
#[tokio::test(start_paused = true)]
async fn deletes_are_replayed_in_order_each_key_once() {
    let (server, store) = bare();
    let spaces = Spaces::new();
    server.stop(REFUSED);
    let (epoch, a, b) = (spaces.stamp(0), spaces.stamp(1), spaces.stamp(2));
    store.delete_many(&CX, &[epoch, a]).await.unwrap();
    store.delete_many(&CX, &[epoch, b]).await.unwrap();
    store.delete(&CX, &a).await.unwrap();
    server.start();
    server.asked();
    until_back(&store).await;
    assert_eq!(
        server.asked(),
        ["delete many {int:0}:stamp:s, {int:1}:stamp:s, {int:2}:stamp:s"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_program_over_a_stamp_deletes_it_and_one_over_a_limit_does_not() {
    let (server, store) = bare();
    let spaces = Spaces::new();
    for key in [spaces.stamp(1), spaces.limit(1), spaces.entry(1)] {
        put(&server.memory, &key, "7").await;
    }
    server.stop(REFUSED);
    for key in [spaces.stamp(1), spaces.limit(1), spaces.entry(1)] {
        charge(&store, key).await.unwrap();
    }
    server.start();
    until_back(&store).await;
    assert_eq!(get(&store, &spaces.stamp(1)).await, None);
    assert_eq!(get(&store, &spaces.limit(1)).await, Some("7".into()));
    assert_eq!(get(&store, &spaces.entry(1)).await, Some("7".into()));
}

#[tokio::test(start_paused = true)]
async fn a_delete_of_a_certain_value_is_replayed_if_the_memory_had_it() {
    let (server, store) = bare();
    let spaces = Spaces::new();
    let (had, other) = (spaces.entry(1), spaces.entry(2));
    for key in [&had, &other] {
        put(&server.memory, key, "old").await;
    }
    server.stop(REFUSED);
    put(&store, &had, "new").await;
    let new = Value::from("new");
    assert!(store.compare_and_delete(&CX, &had, &new).await.unwrap());
    assert!(!store.compare_and_delete(&CX, &other, &new).await.unwrap());
    // Also in a batch.
    let third = spaces.entry(3);
    put(&server.memory, &third, "old").await;
    put(&store, &third, "new").await;
    let compared = Op::Delete {
        key: &third,
        if_equals: Some(&new),
    };
    let batch = [Op::Get(&had), compared];
    store.call(&Op::Batch(&batch), &CX).await.unwrap();
    server.start();
    until_back(&store).await;
    assert_eq!(get(&store, &had).await, None);
    assert_eq!(get(&store, &third).await, None);
    assert_eq!(get(&store, &other).await, Some("old".into()));
}
