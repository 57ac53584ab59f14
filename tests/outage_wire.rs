//! The store when the line to its Redis is at fault: bytes that are lost, late, cut or wrong, and connections that vanish.

use std::time::Duration;

use layer_store::{
    BreakerState, Effect, ErrorKind, Options, SharedStore, StoreError, connect, connect_with,
};
use tests::{
    FaultProxy, Logs, Mode, RedisServer,
    outage::{LIMIT, breaker, count, now, recovers, turns, within},
};

/// A fault of the line, and what a call that it hits returns.
struct Fault {
    mode: Mode,
    /// True if it strikes while the call waits for its reply. The others are there before the call.
    during: bool,
    kind: ErrorKind,
}

const FAULTS: [Fault; 11] = {
    use ErrorKind::{Corrupt, Timeout, Unavailable};
    const fn before(mode: Mode, kind: ErrorKind) -> Fault {
        Fault {
            mode,
            during: false,
            kind,
        }
    }
    const fn during(mode: Mode, kind: ErrorKind) -> Fault {
        Fault {
            mode,
            during: true,
            kind,
        }
    }
    [
        before(Mode::BlackHole, Timeout),
        before(Mode::Unreachable, Timeout),
        before(Mode::DropReplies, Timeout),
        before(
            Mode::Delay {
                requests: Duration::ZERO,
                replies: Duration::from_millis(300),
            },
            Timeout,
        ),
        // `*2` and more: the type is there, and no whole line.
        before(Mode::Cut { after: 3 }, Unavailable),
        before(Mode::Cut { after: 0 }, Unavailable),
        before(Mode::Corrupt { after: 0 }, Corrupt),
        // The number of the elements.
        before(Mode::Corrupt { after: 1 }, Corrupt),
        during(Mode::Reset, Unavailable),
        during(Mode::HalfClose, Unavailable),
        during(Mode::Refuse, Unavailable),
    ]
};

#[tokio::test]
async fn a_call_ends_in_time_and_may_have_been_applied_whatever_happens_to_the_line() {
    for fault in FAULTS {
        let (_server, proxy, store) = proxied().await;
        if fault.during {
            proxy.set_existing(Mode::BlackHole);
        } else {
            proxy.set(fault.mode);
        }
        let strike = async {
            if fault.during {
                tokio::time::sleep(Duration::from_millis(20)).await;
                proxy.set(fault.mode);
            }
        };
        let call = within(LIMIT, count(&store));
        let (result, ()) = tokio::join!(call, strike);
        let error = result.unwrap_err();
        let found = (error.kind(), error.effect());
        assert_eq!(
            found,
            (fault.kind, Effect::Unknown),
            "{:?}: {}",
            fault.mode,
            error.report()
        );
    }
}

#[tokio::test]
async fn an_outage_of_the_line_opens_the_breaker_once_and_ends_by_itself() {
    for Fault { mode, .. } in FAULTS {
        let logs = Logs::capture();
        let (_server, proxy, store) = proxied().await;
        proxy.set(mode);
        let stop = now() + Duration::from_millis(1_500);
        while now() < stop {
            let result = within(LIMIT, count(&store)).await;
            assert!(result.is_err(), "{mode:?}: {result:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(turns(&logs), (1, 0), "{mode:?}: {logs:#?}");
        println!("{mode:?} ends");
        proxy.set(Mode::Pass);
        recovers(&store).await;
        assert_eq!(turns(&logs), (1, 1), "{mode:?}: {logs:#?}");
        one_connection(&proxy).await;
    }
}

#[tokio::test]
async fn nothing_is_counted_twice_when_replies_are_lost() {
    let (_server, proxy, store) = proxied().await;
    for mode in [
        Mode::DropReplies,
        Mode::Cut { after: 2 },
        Mode::Corrupt { after: 0 },
    ] {
        let before = count(&store).await.unwrap();
        proxy.set_existing(mode);
        let lost = count(&store).await.unwrap_err();
        assert_eq!(lost.effect(), Effect::Unknown, "{mode:?}");
        proxy.set(Mode::Pass);
        let mut unknown = 1;
        let after = loop {
            match count(&store).await {
                Ok(counted) => break counted,
                // Hit by the end of the connection that lost the reply.
                Err(error) => unknown += i64::from(error.effect() == Effect::Unknown),
            }
            assert!(unknown < 10, "{mode:?}");
        };
        // The first one was applied, and each of the others at most once.
        assert!((2..=1 + unknown).contains(&(after - before)), "{mode:?}");
    }
}

#[tokio::test]
async fn one_lost_connection_costs_one_call_and_opens_nothing() {
    for mode in [
        Mode::Reset,
        Mode::HalfClose,
        Mode::Cut { after: 3 },
        Mode::Corrupt { after: 0 },
    ] {
        let logs = Logs::capture();
        let (_server, proxy, store) = proxied().await;
        proxy.set_existing(mode);
        let _ = within(LIMIT, count(&store)).await;
        for _ in 0..20 {
            let counted = within(LIMIT, count(&store)).await;
            counted.unwrap_or_else(|error| panic!("{mode:?}: {}", error.report()));
        }
        assert_eq!(turns(&logs), (0, 0), "{mode:?}: {logs:#?}");
        one_connection(&proxy).await;
    }
}

/// The connection is checked before the first call, since nothing has come for so long. The call itself is sent on a new one.
#[tokio::test]
async fn a_nat_that_forgets_an_idle_connection_fails_nobody() {
    let logs = Logs::capture();
    let (_server, proxy, store) = proxied().await;
    let counted = count(&store).await.unwrap();
    pass(Duration::from_secs(600)).await;
    proxy.set_existing(Mode::BlackHole);
    let next = within(LIMIT, count(&store)).await;
    assert_eq!(next.unwrap(), counted + 1);
    recovers(&store).await;
    assert_eq!(turns(&logs), (0, 0), "{logs:#?}");
    one_connection(&proxy).await;
}

/// Those under way may have been applied, and are lost. Everything after them is sent on a new connection.
#[tokio::test]
async fn a_nat_that_forgets_a_busy_connection_costs_the_calls_under_way() {
    let logs = Logs::capture();
    let (_server, proxy, store) = proxied().await;
    let counted = count(&store).await.unwrap();
    proxy.set_existing(Mode::BlackHole);
    let error = within(LIMIT, count(&store)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.report());
    assert_eq!(error.effect(), Effect::Unknown);
    let next = within(LIMIT, count(&store)).await;
    assert_eq!(next.unwrap(), counted + 1);
    recovers(&store).await;
    assert_eq!(turns(&logs), (0, 0), "{logs:#?}");
    one_connection(&proxy).await;
}

#[tokio::test]
async fn a_slow_line_is_no_outage() {
    let logs = Logs::capture();
    let (_server, proxy, store) = proxied().await;
    for mode in [
        Mode::Delay {
            requests: Duration::from_millis(30),
            replies: Duration::from_millis(30),
        },
        Mode::OneByte,
    ] {
        proxy.set(mode);
        for _ in 0..20 {
            let counted = within(LIMIT, count(&store)).await;
            counted.unwrap_or_else(|error| panic!("{mode:?}: {}", error.report()));
        }
    }
    assert_eq!(turns(&logs), (0, 0), "{logs:#?}");
    assert_eq!(proxy.connections().accepted, 1);
}

/// The greeting takes two round trips and more. Its time is not that of a call.
#[tokio::test]
async fn a_server_a_round_trip_of_60_ms_away_is_connected_to_with_its_breaker_closed() {
    let server = RedisServer::start();
    let proxy = FaultProxy::before(&server);
    proxy.set(Mode::Delay {
        requests: Duration::from_millis(30),
        replies: Duration::from_millis(30),
    });
    let store = connect(&server.url_through(&proxy)).await.unwrap();
    assert_eq!(breaker(&store), BreakerState::Closed);
    // A script that the server lacks takes two round trips.
    let _ = within(LIMIT, count(&store)).await;
    for _ in 0..20 {
        within(LIMIT, count(&store)).await.unwrap();
    }
}

#[tokio::test]
async fn what_connects_during_a_fault_comes_up_after_it() {
    for mode in [
        Mode::BlackHole,
        Mode::Unreachable,
        Mode::Reset,
        Mode::Refuse,
        Mode::Cut { after: 3 },
    ] {
        let server = RedisServer::start();
        let proxy = FaultProxy::before(&server);
        proxy.set(mode);
        let url = server.url_through(&proxy);
        let connected = within(CONNECT, connect_with(&url, Options::new())).await;
        let store = connected.unwrap_or_else(|error| panic!("{mode:?}: {}", error.report()));
        assert_eq!(breaker(&store), BreakerState::Open, "{mode:?}");
        refused_at_once(count(&store).await);
        proxy.set(Mode::Pass);
        recovers(&store).await;
        one_connection(&proxy).await;
    }
}

fn refused_at_once(result: Result<i64, StoreError>) {
    let error = result.expect_err("the breaker is open");
    let found = (error.kind(), error.effect());
    assert_eq!(found, (ErrorKind::Unavailable, Effect::NotApplied));
}

/// A server, a proxy before it, and a store that reaches it through the proxy and has used its connection.
async fn proxied() -> (RedisServer, FaultProxy, SharedStore) {
    let server = RedisServer::start();
    let proxy = FaultProxy::before(&server);
    let store = connect(&server.url_through(&proxy)).await;
    let store = store.expect("the server runs");
    // The first one sends the script itself.
    for _ in 0..3 {
        count(&store).await.expect("the server runs");
    }
    assert_eq!(proxy.connections().accepted, 1);
    (server, proxy, store)
}

/// Waits until the store has one connection. One that was replaced takes a moment to go.
async fn one_connection(proxy: &FaultProxy) {
    let start = now();
    while proxy.connections().open != 1 {
        let waited = now() - start;
        assert!(waited < Duration::from_secs(2), "{:?}", proxy.connections());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Lets time pass that no test waits for.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// The longest time of a `connect` that finds nobody, with room for a busy machine.
const CONNECT: Duration = Duration::from_millis(1_500);
