use tokio::time::{Instant, sleep};
use tracing::Level;

use super::*;
use crate::{
    BreakerState, Condition, Effect, Expiry, IdentityRef, KeySpace, Retention, Value,
    conformance::Logs,
    wrap::{
        Timeout,
        fake::{Fake, Mode},
    },
};

const CX: Context = Context::new("test");
const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn breaker(mode: Mode) -> (Fake, Breaker<Timeout<Fake>>) {
    let fake = Fake::new(mode);
    let limited = Timeout::new(fake.clone(), MS * 100);
    (fake, Breaker::new(limited, Handle::current()))
}

async fn get<T: Store>(store: &T) -> Result<Reply, StoreError> {
    let space = KeySpace::new("data", "s");
    let key = Key::new(&space, IdentityRef::Int(1));
    store.call(&Op::Get(&key), &CX).await
}

async fn set<T: Store>(store: &T) -> Result<Reply, StoreError> {
    let space = KeySpace::new("data", "s");
    let write = Op::Set {
        key: &Key::new(&space, IdentityRef::Int(1)),
        value: &Value::from("1"),
        expiry: Expiry::NEVER,
        condition: Condition::Always,
        retention: Retention::Pinned,
    };
    store.call(&write, &CX).await
}

async fn sets<T: Store>(store: &T, count: usize) {
    for _ in 0..count {
        let _ = set(store).await;
    }
}

fn state<T: Store>(store: &T) -> BreakerState {
    store.info().health.breaker.unwrap().state()
}

async fn gets<T: Store>(store: &T, count: usize) {
    for _ in 0..count {
        let _ = get(store).await;
    }
}

#[tokio::test(start_paused = true)]
async fn five_failures_in_a_row_open_it() {
    for kind in [
        ErrorKind::Unavailable,
        ErrorKind::Timeout,
        ErrorKind::Throttled,
    ] {
        let (fake, store) = breaker(Mode::Fail(kind));
        gets(&store, 4).await;
        assert_eq!(state(&store), BreakerState::Closed);
        gets(&store, 1).await;
        assert_eq!(state(&store), BreakerState::Open);
        assert_eq!(fake.sent().len(), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_ends_the_row() {
    let (fake, store) = breaker(Mode::Fail(ErrorKind::Unavailable));
    for _ in 0..3 {
        gets(&store, 4).await;
        fake.turn(Mode::Reply);
        gets(&store, 1).await;
        fake.turn(Mode::Fail(ErrorKind::Unavailable));
    }
    assert_eq!(state(&store), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_says_nothing_against_the_store_does_not_count() {
    for kind in [
        ErrorKind::Deadline,
        ErrorKind::Overloaded,
        ErrorKind::Full,
        ErrorKind::TooLarge,
        ErrorKind::Rejected,
        ErrorKind::CrossTag,
        ErrorKind::Unsupported,
        ErrorKind::Corrupt,
    ] {
        let (_, store) = breaker(Mode::Fail(kind));
        gets(&store, 20).await;
        assert_eq!(state(&store), BreakerState::Closed, "{kind:?}");
    }
    // An answer that is still arriving.
    let (_, store) = breaker(Mode::Drip);
    gets(&store, 20).await;
    assert_eq!(state(&store), BreakerState::Closed);
    // A caller that gives up, by its deadline or by leaving.
    let (_, store) = breaker(Mode::Hang);
    for _ in 0..20 {
        let soon = CX.until((Instant::now() + MS * 10).into_std());
        let error = store.call(&Op::Ping, &soon).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadline);
        assert!(tokio::time::timeout(MS * 10, get(&store)).await.is_err());
    }
    assert_eq!(state(&store), BreakerState::Closed);
    gets(&store, 5).await;
    assert_eq!(state(&store), BreakerState::Open);
}

/// Each reply comes after its caller has given up.
#[tokio::test(start_paused = true)]
async fn fifty_late_answers_in_a_row_open_it_and_one_in_time_ends_the_row() {
    let (fake, store) = breaker(Mode::Drip);
    gets(&store, 49).await;
    fake.turn(Mode::Reply);
    gets(&store, 1).await;
    fake.turn(Mode::Drip);
    gets(&store, 49).await;
    assert_eq!(state(&store), BreakerState::Closed);
    gets(&store, 1).await;
    assert_eq!(state(&store), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn while_open_nothing_but_a_probe_each_second_is_sent() {
    let (fake, store) = breaker(Mode::Hang);
    gets(&store, 5).await;
    fake.sent();
    let start = Instant::now();
    while start.elapsed() < SECOND * 10 {
        let asked = Instant::now();
        let error = get(&store).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.effect(), Effect::NotApplied);
        let now = store.call_now(&Op::Ping, &CX).unwrap().unwrap_err();
        assert_eq!(now.kind(), ErrorKind::Unavailable);
        assert_eq!(now.effect(), Effect::NotApplied);
        assert_eq!(asked.elapsed(), Duration::ZERO);
        sleep(MS * 50).await;
    }
    let sent = fake.sent();
    assert!((9..=10).contains(&sent.len()), "{sent:?}");
    assert!(sent.iter().all(|op| op == "ping"));
}

#[tokio::test(start_paused = true)]
async fn the_first_probe_waits_for_open_for() {
    let fake = Fake::new(Mode::Hang);
    let limited = Timeout::new(fake.clone(), MS * 100);
    let after = NonZeroU32::new(2).unwrap();
    let store = Breaker::with_limits(limited, Handle::current(), after, SECOND * 60);
    gets(&store, 2).await;
    assert_eq!(state(&store), BreakerState::Open);
    fake.sent();
    sleep(SECOND * 60 - MS).await;
    assert_eq!(fake.sent().len(), 0);
    sleep(MS * 2).await;
    assert_eq!(fake.sent().len(), 1);
    sleep(SECOND).await;
    assert_eq!(fake.sent().len(), 1);
}

/// No clock counts the longest duration from now, and no timer ticks every zero seconds.
#[tokio::test(start_paused = true)]
async fn any_time_until_the_first_ping_can_be_asked_for() {
    let after = NonZeroU32::new(1).unwrap();
    for (open_for, pings) in [(Duration::ZERO, 2), (MS, 2), (Duration::MAX, 0)] {
        let fake = Fake::new(Mode::Reply);
        let store = Breaker::with_limits(fake.clone(), Handle::current(), after, open_for);
        let store = store.opened("test");
        sleep(SECOND * 5).await;
        assert_eq!(fake.sent().len(), pings, "{open_for:?}");
        assert_eq!(state(&store) == BreakerState::Closed, pings > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn two_probes_at_once_close_it() {
    let (fake, store) = breaker(Mode::Hang);
    gets(&store, 5).await;
    fake.turn(Mode::ReplyAfter(MS * 10));
    fake.sent();
    sleep(SECOND + MS * 15).await;
    // The first came back, the second is under way: users still wait.
    assert_eq!(state(&store), BreakerState::HalfOpen);
    assert_eq!(store.info().health.breaker.unwrap().successes(), 1);
    assert!(get(&store).await.is_err());
    sleep(MS * 10).await;
    assert_eq!(state(&store), BreakerState::Closed);
    assert_eq!(fake.sent(), ["ping", "ping"]);
    assert!(get(&store).await.is_ok());
    sleep(SECOND * 5).await;
    assert_eq!(fake.sent().len(), 1, "it probes no longer");
}

#[tokio::test(start_paused = true)]
async fn a_second_probe_that_fails_opens_it_again() {
    let (fake, store) = breaker(Mode::Hang);
    gets(&store, 5).await;
    fake.turn(Mode::ReplyAfter(MS * 10));
    sleep(SECOND + MS * 5).await;
    fake.turn(Mode::Hang);
    sleep(MS * 200).await;
    assert_eq!(state(&store), BreakerState::Open);
    assert_eq!(store.info().health.breaker.unwrap().successes(), 0);
    // One more good probe is not two in a row.
    fake.turn(Mode::ReplyAfter(MS * 10));
    sleep(MS * 810).await;
    assert_eq!(state(&store), BreakerState::HalfOpen);
    sleep(MS * 10).await;
    assert_eq!(state(&store), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn it_opens_again_in_the_next_outage() {
    let (fake, store) = breaker(Mode::Hang);
    for _ in 0..3 {
        gets(&store, 5).await;
        assert_eq!(state(&store), BreakerState::Open);
        fake.turn(Mode::Reply);
        sleep(SECOND + MS).await;
        assert_eq!(state(&store), BreakerState::Closed);
        fake.turn(Mode::Hang);
    }
}

#[tokio::test(start_paused = true)]
async fn one_warning_out_and_one_back() {
    let warnings = Logs::at(Level::WARN, "layer_store");
    let (fake, store) = breaker(Mode::Hang);
    // All at once: none of the late ones warns again.
    tokio::join!(
        gets(&store, 20),
        gets(&store, 20),
        gets(&store, 20),
        gets(&store, 20),
        gets(&store, 20),
        gets(&store, 20),
        gets(&store, 20),
        gets(&store, 20),
    );
    sleep(SECOND * 5).await;
    assert_eq!(warnings.count(), 1);
    fake.turn(Mode::Reply);
    sleep(SECOND * 5).await;
    gets(&store, 20).await;
    assert_eq!(warnings.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_start_during_an_outage_is_open_with_one_warning() {
    let warnings = Logs::at(Level::WARN, "layer_store");
    let (fake, store) = breaker(Mode::Reply);
    let store = store.opened("no answer").opened("asked twice");
    assert_eq!(state(&store), BreakerState::Open);
    assert!(get(&store).await.is_err());
    assert_eq!((fake.sent().len(), warnings.count()), (0, 1));
    sleep(SECOND + MS).await;
    assert_eq!((state(&store), warnings.count()), (BreakerState::Closed, 2));
}

#[tokio::test(start_paused = true)]
async fn a_reset_closes_it_at_once() {
    let (fake, store) = breaker(Mode::Hang);
    gets(&store, 5).await;
    let store = SharedStore::new(store);
    fake.turn(Mode::Reply);
    fake.sent();
    store.reset_breaker();
    assert_eq!(state(&store), BreakerState::Closed);
    assert_eq!(store.info().health.breaker.unwrap().failures(), 0);
    assert!(get(&store).await.is_ok());
    sleep(SECOND * 5).await;
    assert_eq!(fake.sent().len(), 1, "the old task is gone");
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_outage_and_with_the_store() {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let (fake, store) = breaker(Mode::Hang);
    gets(&store, 5).await;
    assert_eq!(tasks(), 1);
    fake.turn(Mode::Reply);
    sleep(SECOND + MS).await;
    assert_eq!(tasks(), 0);

    fake.turn(Mode::Hang);
    gets(&store, 5).await;
    assert_eq!(tasks(), 1);
    let handle = store.info().health.breaker.unwrap();
    drop(store);
    tokio::task::yield_now().await;
    assert_eq!((tasks(), fake.holders()), (0, 1));
    // Nor does dropping it during a probe leave anything.
    let (fake, store) = breaker(Mode::Hang);
    let store = store.opened("test");
    sleep(SECOND + MS).await;
    assert_eq!(fake.sent(), ["ping"]);
    drop(store);
    tokio::task::yield_now().await;
    assert_eq!((tasks(), fake.holders()), (0, 1));
    assert_eq!(handle.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_waiting_is_passed_on() {
    let fake = Fake::new(Mode::Now);
    let store = Breaker::new(fake.clone(), Handle::current());
    assert!(matches!(
        store.call_now(&Op::Ping, &CX),
        Some(Ok(Reply::Pong))
    ));
    fake.turn(Mode::Reply);
    assert!(store.call_now(&Op::Ping, &CX).is_none());
}

/// A read-only replica answers pings and reads.
#[tokio::test(start_paused = true)]
async fn an_outage_of_writes_opens_it_once_and_closes_it_once() {
    let warnings = Logs::at(Level::WARN, "layer_store");
    let (fake, store) = breaker(Mode::FailWrites(ErrorKind::Unavailable));
    sets(&store, 5).await;
    fake.sent();
    for _ in 0..600 {
        assert_eq!(state(&store), BreakerState::Open);
        sets(&store, 3).await;
        sleep(MS * 100).await;
    }
    let sent = fake.sent();
    assert!((59..=60).contains(&(sent.len() / 2)), "{}", sent.len());
    for probe in sent.chunks(2) {
        assert_eq!(probe[0], "ping");
        assert!(probe[1].starts_with("set ") && probe[1].ends_with(":probe:breaker"));
    }
    assert_eq!(warnings.count(), 1);

    fake.turn(Mode::Reply);
    sleep(SECOND + MS).await;
    assert_eq!((state(&store), warnings.count()), (BreakerState::Closed, 2));
    assert!(set(&store).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn only_a_write_in_the_row_makes_the_probe_a_write() {
    for (write_first, write_last, probe) in [
        (false, false, "ping"),
        (true, false, "set"),
        (false, true, "set"),
    ] {
        let (fake, store) = breaker(Mode::FailWrites(ErrorKind::Unavailable));
        // A write of an earlier row.
        sets(&store, 3).await;
        gets(&store, 1).await;
        fake.turn(Mode::Hang);
        sets(&store, write_first.into()).await;
        gets(&store, 3).await;
        sets(&store, write_last.into()).await;
        gets(&store, 2).await;
        fake.sent();
        sleep(SECOND + MS).await;
        // Nothing is written to a store that does not answer.
        assert_eq!(fake.sent(), ["ping"]);
        fake.turn(Mode::FailWrites(ErrorKind::Unavailable));
        sleep(SECOND).await;
        let sent = fake.sent();
        assert!(
            sent.len() == 2 && sent[0] == "ping" && sent[1].starts_with(probe),
            "{sent:?}"
        );
    }
}

/// An ACL that lets nobody write the probe's key, and a server without room, are there all the same.
#[tokio::test(start_paused = true)]
async fn a_probe_that_is_refused_for_its_own_sake_is_an_answer() {
    for kind in [ErrorKind::Rejected, ErrorKind::Full] {
        let (fake, store) = breaker(Mode::FailWrites(ErrorKind::Unavailable));
        sets(&store, 5).await;
        fake.turn(Mode::FailWrites(kind));
        sleep(SECOND + MS).await;
        assert_eq!(state(&store), BreakerState::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn an_overload_neither_opens_nor_closes_it() {
    let (fake, store) = breaker(Mode::Fail(ErrorKind::Unavailable));
    gets(&store, 4).await;
    fake.turn(Mode::Fail(ErrorKind::Overloaded));
    gets(&store, 20).await;
    fake.turn(Mode::Fail(ErrorKind::Unavailable));
    assert_eq!(state(&store), BreakerState::Closed);
    // It has not ended the row either.
    gets(&store, 1).await;
    assert_eq!(state(&store), BreakerState::Open);

    fake.turn(Mode::Fail(ErrorKind::Overloaded));
    fake.sent();
    sleep(SECOND * 5 + MS).await;
    assert_eq!(fake.sent().len(), 5);
    assert_eq!(state(&store), BreakerState::Open);
    // One answer, an overload, one answer.
    fake.turn(Mode::ReplyAfter(MS * 10));
    sleep(SECOND + MS * 5).await;
    fake.turn(Mode::Fail(ErrorKind::Overloaded));
    sleep(MS * 20).await;
    assert_eq!(state(&store), BreakerState::HalfOpen);
    fake.turn(Mode::Reply);
    sleep(SECOND).await;
    assert_eq!(state(&store), BreakerState::Closed);
}

/// As a store in a `static` over two tests.
#[test]
fn the_next_runtime_takes_the_probe_over() {
    let paused = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    };
    let (made_on, first, second) = (paused(), paused(), paused());
    let fake = Fake::new(Mode::Fail(ErrorKind::Unavailable));
    let store = Breaker::new(fake.clone(), made_on.handle().clone());
    drop(made_on);
    first.block_on(async {
        gets(&store, 5).await;
        fake.sent();
        sleep(SECOND * 3 + MS).await;
        assert_eq!(fake.sent(), ["ping"; 3]);
        // It ends in the middle of two probes.
        fake.turn(Mode::Reply);
        sleep(SECOND - MS * 2).await;
        fake.turn(Mode::Hang);
        sleep(MS * 2).await;
        assert_eq!(fake.sent(), ["ping"]);
    });
    drop(first);
    fake.turn(Mode::Reply);
    second.block_on(async {
        sleep(SECOND * 5).await;
        assert_eq!(fake.sent().len(), 0, "nothing drives the probe");
        assert!(get(&store).await.is_err());
        sleep(MS).await;
        assert_eq!(state(&store), BreakerState::Closed);
        assert_eq!(fake.sent(), ["ping"; 2]);
        assert!(get(&store).await.is_ok());

        // And it opens on this runtime, though it was made on another.
        fake.turn(Mode::Fail(ErrorKind::Unavailable));
        gets(&store, 5).await;
        fake.turn(Mode::Reply);
        sleep(SECOND + MS).await;
        assert_eq!(state(&store), BreakerState::Closed);
    });
    // Outside a runtime there is only the one that has ended: calls are refused, and nothing panics.
    let store = store.opened("test");
    for _ in 0..3 {
        assert!(store.call_now(&Op::Ping, &CX).unwrap().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn the_warning_has_the_kind_and_the_server_s_own_words() {
    let warnings = Logs::at(Level::WARN, "layer_store");
    let (_, store) = breaker(Mode::Fail(ErrorKind::Throttled));
    gets(&store, 5).await;
    let text = warnings.take().pop().unwrap();
    assert!(
        text.contains("the store asks for fewer calls: the server's own words"),
        "{text}"
    );
    let refused = get(&store).await.unwrap_err();
    assert_eq!(
        refused.report().to_string(),
        "the store is unavailable: its circuit breaker is open"
    );
}
