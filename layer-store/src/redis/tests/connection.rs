//! The number of connections, and the moments at which a new one is made.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::mpsc,
    task::Poll,
};

use super::*;
use crate::{Bytes, Object};

#[tokio::test]
async fn many_callers_share_one_attempt_and_one_connection() {
    let server = Server::start(sound).await;
    let store = server.store();
    let mut calls = JoinSet::new();
    for _ in 0..64 {
        let store = store.clone();
        calls.spawn(async move { get(&store).await });
    }
    while let Some(result) = calls.join_next().await {
        assert_eq!(result.unwrap().unwrap(), Some("1".into()));
    }
    assert_eq!(server.connections(), 1);
    assert!(store.info().incarnation.is_some());
    let traffic = store.info().traffic;
    assert_eq!((traffic.connections, traffic.in_flight), (1, 0));
    assert!(traffic.commands >= 64);
}

#[tokio::test]
async fn an_attempt_outlives_the_caller_that_began_it() {
    let server = Server::start(sound).await;
    let store = server.store();
    // Polled once, so that the attempt begins, and dropped.
    poll_once(pin!(get(&store))).await;
    get(&store).await.unwrap();
    assert_eq!(server.connections(), 1);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_lost_connection_is_made_again_by_the_next_call() {
    let closing = Arc::new(Mutex::new(true));
    let server = Server::start({
        let closing = closing.clone();
        move |command| match command.starts_with("GET") && std::mem::take(&mut closing.lock()) {
            true => CLOSE.into(),
            false => sound(command),
        }
    })
    .await;
    let store = server.store();
    assert_eq!(what(&get(&store).await.unwrap_err()), LOST);
    for _ in 0..3 {
        assert!(get(&store).await.is_ok());
    }
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn while_no_attempt_is_due_calls_fail_at_once() {
    let server =
        Server::start(|_| "-LOADING Redis is loading the dataset in memory\r\n".into()).await;
    let store = server.store();
    for attempt in 1..=6 {
        assert_eq!(what(&get(&store).await.unwrap_err()), NOT_SENT);
        assert_eq!(server.connections(), attempt);
        pass(Duration::from_millis(600)).await;
    }
    // The delay is at its longest.
    for _ in 0..10 {
        assert_eq!(what(&get(&store).await.unwrap_err()), NOT_SENT);
        assert_eq!(server.connections(), 7);
    }
}

#[tokio::test]
async fn an_attempt_that_fails_is_no_hint_of_a_change() {
    let server = Server::start(|_| "-LOADING Redis is loading\r\n".into()).await;
    let store = server.store();
    let space = KeySpace::new("data", "s");
    let watch = store.watch(&Key::new(&space, IdentityRef::Int(1)));
    assert_eq!(what(&get(&store).await.unwrap_err()), NOT_SENT);
    assert!(!watch.has_hint());
}

#[tokio::test]
async fn a_replica_is_left_but_not_for_each_refused_write() {
    let server = Server::start(|command| match command.split(' ').next() {
        Some("EVALSHA") => READONLY.into(),
        Some("EVAL") if command.contains(PROGRAM.lua()) => READONLY.into(),
        _ => sound(command),
    })
    .await;
    let store = server.store();
    for _ in 0..5 {
        assert_eq!(what(&run(&store).await.unwrap_err()), NOT_SENT);
    }
    assert_eq!(server.connections(), 2, "the second is a new one already");
    pass(Duration::from_millis(600)).await;
    for _ in 0..5 {
        assert_eq!(what(&run(&store).await.unwrap_err()), NOT_SENT);
    }
    assert_eq!(server.connections(), 3);
    pass(Duration::from_millis(600)).await;
    let space = KeySpace::new("data", "s");
    let keys = [Key::new(&space, IdentityRef::Int(1))];
    let old = crate::Value::from("1");
    let delete = Op::Delete {
        key: &keys[0],
        if_equals: Some(&old),
    };
    let _ = store.batch(&CX, &[delete]).await;
    get(&store).await.unwrap();
    assert_eq!(server.connections(), 3, "only the program is refused here");
    let _ = run(&store).await;
    get(&store).await.unwrap();
    assert_eq!(server.connections(), 4);
}

#[tokio::test]
async fn a_connection_that_went_silent_is_replaced_by_the_next_call() {
    let mute = Arc::new(Mutex::new(false));
    let server = Server::start(with_dead_lines(mute.clone())).await;
    let store = server.store();
    store.ping(&CX).await.unwrap();
    store.ping(&CX).await.unwrap();
    assert_eq!(server.connections(), 1, "answered pings say that it lives");

    *mute.lock() = true;
    assert!(is_silent(&store).await);
    // The next call goes over a new connection, and needs no failure of its own to find that out.
    get(&store).await.unwrap();
    assert_eq!(server.connections(), 2);

    *mute.lock() = true;
    assert!(is_silent(&store).await);
    assert!(is_silent(&store).await);
    assert_eq!(server.connections(), 2, "it is a new one already");
    pass(Duration::from_millis(600)).await;
    get(&store).await.unwrap();
    assert_eq!(server.connections(), 3);
}

/// As when each test has a runtime and all share a store in a `static`.
#[test]
fn calls_that_wait_for_an_attempt_whose_runtime_ends_begin_another_at_once() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let (first, second) = (runtime(), runtime());
    let server = second.block_on(Server::start(sound));
    let store = first.block_on(async { server.store() });
    let (mut begins, mut waits) = (Box::pin(get(&store)), Box::pin(get(&store)));
    first.block_on(poll_once(begins.as_mut()));
    second.block_on(poll_once(waits.as_mut()));
    drop(first);
    let limit = Duration::from_secs(3);
    let ended = second.block_on(async { time::timeout(limit, waits).await });
    ended.expect("it does not wait on").unwrap();
}

/// Begins a call, which has to wait.
async fn poll_once(mut call: Pin<&mut impl Future>) {
    std::future::poll_fn(|cx| {
        assert!(call.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn after_a_long_silence_one_ping_is_sent_for_all_calls() {
    let server = Server::start(sound).await;
    let store = server.store();
    get(&store).await.unwrap();
    server.seen();
    pass(Duration::from_secs(5)).await;
    let mut calls = JoinSet::new();
    for _ in 0..64 {
        let store = store.clone();
        calls.spawn(async move { get(&store).await });
    }
    while let Some(result) = calls.join_next().await {
        result.unwrap().unwrap();
    }
    let seen = server.seen();
    let pings = seen.iter().filter(|command| *command == "PING");
    assert_eq!((pings.count(), seen.len()), (1, 65));
}

#[tokio::test]
async fn a_call_with_little_time_does_not_wait_for_the_check_of_another() {
    let mute = Arc::new(Mutex::new(false));
    let server = Server::start(with_dead_lines(mute.clone())).await;
    let store = server.store();
    get(&store).await.unwrap();
    pass(Duration::from_secs(5)).await;
    *mute.lock() = true;
    // It waits 2 s for the answer to its ping, and the other has not so much.
    let cx = CX.within(Duration::from_secs(6));
    let mut patient = pin!(store.ping(&cx));
    poll_once(patient.as_mut()).await;
    let cx = CX.within(Duration::from_millis(900));
    store.ping(&cx).await.unwrap();
    patient.await.unwrap();
    assert_eq!(server.connections(), 2);
}

/// The replies of a server whose connections go dead, until a new one wakes it.
fn with_dead_lines(mute: Arc<Mutex<bool>>) -> impl Fn(&str) -> String + Send + Sync {
    move |command| match *mute.lock() && !command.starts_with("HELLO") {
        true => String::new(),
        false => {
            *mute.lock() = false;
            sound(command)
        }
    }
}

#[tokio::test]
async fn an_object_is_encoded_while_other_calls_go_on() {
    /// Asks how many commands were sent, as another thread does that sends one.
    struct Asks(RedisStore);
    impl Object for Asks {
        fn encode(&self) -> Bytes {
            let (tell, told) = std::sync::mpsc::channel();
            let store = self.0.clone();
            std::thread::spawn(move || tell.send(store.info().traffic.commands));
            let commands = told.recv_timeout(Duration::from_secs(3));
            commands.expect("no lock is held").to_string().into()
        }

        fn size(&self) -> usize {
            8
        }
    }
    let server = Server::start(sound).await;
    let store = server.store();
    let space = KeySpace::new("data", "s");
    let key = &Key::new(&space, IdentityRef::Int(1));
    let [value, old, other] = [(); 3].map(|()| crate::Value::object(Asks(store.clone())));
    let one = crate::Value::from("1");
    let set = |value, condition| Op::Set {
        key,
        value,
        expiry: crate::Expiry::NEVER,
        condition,
        retention: Retention::Pinned,
    };
    let delete = Op::Delete {
        key,
        if_equals: Some(&other),
    };
    for op in [
        set(&value, crate::Condition::Always),
        set(&one, crate::Condition::Equals(&old)),
        Op::Batch(&[delete]),
    ] {
        // The server knows no scripts. What counts is that it was asked.
        let _ = store.apply(&op, &CX).await;
    }
    assert_eq!(server.seen().len(), 3);
}

/// Makes a call with a short deadline. Returns true if the server gives no sign until then.
async fn is_silent(store: &RedisStore) -> bool {
    let cx = CX.within(Duration::from_millis(20));
    let error = store.ping(&cx).await.unwrap_err();
    error.kind() == ErrorKind::Timeout
}

#[tokio::test]
async fn a_dropped_store_closes_its_connection_and_leaves_no_task() {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let server = Server::start(sound).await;
    tokio::task::yield_now().await;
    let store = server.store();
    get(&store).await.unwrap();
    // Ours, and the server's for it.
    let before = tasks();
    drop(store);
    down_to(before - 2).await;

    // Nor does an attempt under way outlive it.
    let server = Server::start(|_| String::new()).await;
    tokio::task::yield_now().await;
    let before = tasks();
    let store = server.store();
    assert!(
        time::timeout(Duration::from_millis(20), get(&store))
            .await
            .is_err()
    );
    drop(store);
    down_to(before).await;
}

async fn down_to(tasks: usize) {
    let fewer = async {
        while Handle::current().metrics().num_alive_tasks() > tasks {
            tokio::task::yield_now().await;
        }
    };
    time::timeout(Duration::from_secs(5), fewer).await.unwrap();
}

#[test]
fn a_call_while_its_runtime_ends_fails_at_once() {
    /// Calls the store once when it is dropped, as a guard does that gives something back.
    struct CallsAtTheEnd(RedisStore, mpsc::Sender<ErrorKind>);

    impl Drop for CallsAtTheEnd {
        fn drop(&mut self) {
            let _ = self.1.send(error_of_first_poll(&self.0));
        }
    }

    fn error_of_first_poll(store: &RedisStore) -> ErrorKind {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match pin!(store.call(&Op::Ping, &CX)).poll(&mut cx) {
            Poll::Ready(result) => result.unwrap_err().kind(),
            Poll::Pending => panic!("it waits"),
        }
    }

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // Nobody has to listen there.
    let store = runtime.block_on(async { RedisStore::new("redis://127.0.0.1:1").unwrap() });
    let (kinds, kind) = mpsc::channel();
    let guard = CallsAtTheEnd(store.clone(), kinds);
    runtime.block_on(async {
        tokio::spawn(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
    });
    drop(runtime);
    assert_eq!(kind.recv(), Ok(ErrorKind::Unavailable));
    // Outside of any runtime, when that of the store has ended.
    assert_eq!(error_of_first_poll(&store), ErrorKind::Unavailable);
}
