//! Calls in time: retries, deadlines, clients that leave, and floods.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use layer_http::grpc_method;
use layer_store::{BreakerState, Store, connect};
use lock_layer::{LockLayer, header};
use rate_limit_layer::{InFlightLayer, MaxInFlight, Quota, RateLimitLayer};
use tests::{
    RedisServer,
    grpc::{Echo, EchoClient, FAIL, GrpcServer, HOLD, REPLIES, until},
};
use tokio::time::{Instant, sleep};
use tonic::{Code, Response, Status, transport::Channel};

use super::{assert_told, call, held, memory, message, told};

/// One call each 200 ms. Each one that is refused comes back after what its `RetryInfo` says.
#[tokio::test]
async fn a_call_that_waits_as_long_as_it_is_told_succeeds() {
    let echo = Echo::default();
    let layer = RateLimitLayer::new(memory(), Quota::per_second(5).burst(1).fail_closed());
    let server = GrpcServer::behind(layer, &echo);
    let mut client = EchoClient::new(server.channel().await);
    client.unary(message()).await.unwrap();
    for _ in 0..5 {
        let refused = client.unary(message()).await.unwrap_err();
        assert_told(&refused, Code::ResourceExhausted, "QUOTA_EXCEEDED");
        let wait = told(&refused).retry.unwrap();
        assert!(wait <= Duration::from_millis(200), "{wait:?}");
        sleep(wait).await;
        client.unary(message()).await.unwrap();
    }
    assert_eq!(echo.calls(), 6);
}

/// Calls as a client with a retry policy does (gRFC A6): up to 5 attempts for these codes, each after the pushback of the one before.
async fn call_by_policy(
    client: &mut EchoClient<Channel>,
    retryable: &[Code],
) -> (Result<Response<Bytes>, Status>, usize) {
    let mut attempts = 1;
    loop {
        let result = client.unary(message()).await;
        let Err(status) = &result else {
            return (result, attempts);
        };
        let pushback = status.metadata().get("grpc-retry-pushback-ms");
        let pushback: Option<u64> = pushback.and_then(|value| value.to_str().ok()?.parse().ok());
        match pushback {
            Some(millis) if retryable.contains(&status.code()) && attempts < 5 => {
                sleep(Duration::from_millis(millis)).await;
                attempts += 1;
            }
            _ => return (result, attempts),
        }
    }
}

#[tokio::test]
async fn a_client_with_a_retry_policy_obeys_the_pushback() {
    let echo = Echo::default();
    let layer = RateLimitLayer::new(memory(), Quota::per_second(5).burst(1).fail_closed());
    let server = GrpcServer::behind(layer, &echo);
    let mut client = EchoClient::new(server.channel().await);
    let retryable = [Code::ResourceExhausted, Code::Unavailable, Code::Aborted];
    client.unary(message()).await.unwrap();
    let (result, attempts) = call_by_policy(&mut client, &retryable).await;
    assert_eq!((result.unwrap().get_ref(), attempts), (&message(), 2));
    // One whose policy does not name the code gives up.
    let (result, attempts) = call_by_policy(&mut client, &[Code::Unavailable]).await;
    assert_eq!(result.unwrap_err().code(), Code::ResourceExhausted);
    assert_eq!((attempts, echo.calls()), (1, 2));
}

/// A deadline ends a call in the server, too: its permit and its lock are free for the next.
#[tokio::test]
async fn a_deadline_leaves_no_permit_and_no_lock() {
    let echo = Echo::default();
    let layers = tower::ServiceBuilder::new()
        .layer(InFlightLayer::new(
            memory(),
            MaxInFlight::new(1).fail_closed(),
        ))
        .layer(LockLayer::new(memory(), header("x-car")))
        .into_inner();
    let server = GrpcServer::behind(layers, &echo);
    let mut client = EchoClient::new(server.channel().await);
    for _ in 0..3 {
        let mut late = call(&[("x-car", "7"), (HOLD, "1")]);
        late.set_timeout(Duration::from_millis(50));
        let status = client.unary(late).await.unwrap_err();
        // Which side sees it first is a race.
        assert!(
            matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded),
            "{status:?}"
        );
        until(|| echo.running() == 0).await;
        client.unary(call(&[("x-car", "7")])).await.unwrap();
    }
    assert_eq!(echo.calls(), 6);
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_permit_and_its_lock_back() {
    let echo = Echo::default();
    let layers = tower::ServiceBuilder::new()
        .layer(InFlightLayer::new(
            memory(),
            MaxInFlight::new(1).fail_closed(),
        ))
        .layer(LockLayer::new(memory(), header("x-car")))
        .into_inner();
    let server = GrpcServer::behind(layers, &echo);
    let client = EchoClient::new(server.channel().await);
    for _ in 0..3 {
        let mut leaving = client.clone();
        let running =
            tokio::spawn(async move { leaving.unary(call(&[("x-car", "7"), (HOLD, "1")])).await });
        until(|| echo.running() == 1).await;
        let busy = client
            .clone()
            .unary(call(&[("x-car", "7")]))
            .await
            .unwrap_err();
        assert_told(&busy, Code::ResourceExhausted, "IN_FLIGHT_LIMIT_REACHED");
        running.abort();
        until(|| echo.running() == 0).await;
        client.clone().unary(call(&[("x-car", "7")])).await.unwrap();
    }
}

/// A call that waits for a lock is no holder: when it leaves, or its time is over, the lock goes to the next.
#[tokio::test]
async fn a_call_that_waits_for_its_lock_and_leaves_is_forgotten() {
    let echo = Echo::default();
    let layer = LockLayer::new(memory(), header("x-car")).wait(Duration::from_secs(30));
    let server = GrpcServer::behind(layer, &echo);
    let client = EchoClient::new(server.channel().await);
    let seven = ("x-car", "7");
    let mut first = client.clone();
    let first = tokio::spawn(async move { first.unary(call(&[seven, (HOLD, "1")])).await });
    until(|| echo.running() == 1).await;
    let mut late = call(&[seven]);
    late.set_timeout(Duration::from_millis(50));
    let status = client.clone().unary(late).await.unwrap_err();
    assert!(
        matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded),
        "{status:?}"
    );
    let mut leaving = client.clone();
    let leaving = tokio::spawn(async move { leaving.unary(call(&[seven])).await });
    sleep(Duration::from_millis(50)).await;
    leaving.abort();
    echo.release();
    first.await.unwrap().unwrap();
    client.clone().unary(call(&[seven])).await.unwrap();
    // The call that left may have had the lock for a moment, if its server learned of that late.
    assert!(matches!(echo.calls(), 2 | 3), "{}", echo.calls());
}

/// A stream is in flight until its trailers are sent, or its client has left.
#[tokio::test]
async fn a_stream_holds_its_permit_until_its_end() {
    let echo = Echo::default();
    let layer = InFlightLayer::new(memory(), MaxInFlight::new(1).fail_closed());
    let handle = layer.handle();
    let server = GrpcServer::behind(layer, &echo);
    let mut client = EchoClient::new(server.channel().await);
    for fails in ["0", "14"] {
        let request = call(&[(HOLD, "1"), (REPLIES, "2"), (FAIL, fails)]);
        let mut stream = client.server_stream(request).await.unwrap().into_inner();
        for _ in 0..2 {
            assert_eq!(stream.message().await.unwrap().unwrap(), message());
        }
        let refused = client.unary(message()).await.unwrap_err();
        assert_told(&refused, Code::ResourceExhausted, "IN_FLIGHT_LIMIT_REACHED");
        echo.release();
        let end = stream.message().await;
        assert_eq!(
            end.err().map(|status| status.code()),
            (fails == "14").then_some(Code::Unavailable)
        );
        until(|| echo.running() == 0).await;
        client.unary(message()).await.unwrap();
    }
    // Its client leaves in the middle.
    let stream = client.server_stream(held()).await.unwrap();
    until(|| echo.running() == 1).await;
    drop(stream);
    until(|| echo.running() == 0).await;
    client.unary(message()).await.unwrap();
    drop(handle);
}

/// 300 calls at once on one key, of which 10 pass: whatever kind of call they are.
#[tokio::test]
async fn a_flood_of_calls_on_one_key_is_refused() {
    let echo = Echo::default();
    let layer = RateLimitLayer::new(
        memory(),
        Quota::per_hour(10)
            .fail_closed()
            .by(rate_limit_layer::header("x-user")),
    );
    let server = GrpcServer::behind(layer, &echo);
    let channel = server.channel().await;
    let calls = (0..300).map(|number| {
        let mut client = EchoClient::new(channel.clone());
        async move {
            let request = call(&[("x-user", "ada")]);
            match number % 3 {
                0 => client.unary(request).await.map(drop),
                1 => client.server_stream(request).await.map(drop),
                _ => {
                    let messages = request.map(|message| futures_util::stream::iter([message]));
                    client.client_stream(messages).await.map(drop)
                }
            }
        }
    });
    let results = join_all(calls).await;
    let refused: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), 290);
    for status in &refused {
        assert_told(status, Code::ResourceExhausted, "QUOTA_EXCEEDED");
    }
    assert_eq!(echo.calls(), 10);
    // Another key is not held up.
    let mut client = EchoClient::new(channel);
    client.unary(call(&[("x-user", "bob")])).await.unwrap();
}

/// Over a real Redis: a policy that fails open lets its quota pass and no more, another client is not held up, and not each refusal
/// costs a command.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_calls_over_redis_passes_no_more_than_its_limit() {
    const LIMIT: usize = 100;
    let redis = RedisServer::start();
    let store = connect(&redis.url()).await.unwrap();
    let by = || rate_limit_layer::header("x-user");
    let layers = tower::ServiceBuilder::new()
        .layer(RateLimitLayer::new(
            store.clone(),
            Quota::per_minute(LIMIT as u64).fail_open().by(by()),
        ))
        .layer(RateLimitLayer::new(
            store.clone(),
            Quota::per_minute(1_000_000).fail_closed().by(by()),
        ))
        .into_inner();
    let echo = Echo::default();
    let server = GrpcServer::behind(layers, &echo);
    let begun = Instant::now();
    let flood = (0..8).map(async |_| {
        let channel = server.channel().await;
        let calls = (0..8).map(|number| flood_as_ada(EchoClient::new(channel.clone()), number));
        join_all(calls).await.into_iter().sum::<usize>()
    });
    let neighbour = async {
        let mut client = EchoClient::new(server.channel().await);
        for _ in 0..20 {
            client.unary(call(&[("x-user", "bob")])).await.unwrap();
            sleep(Duration::from_millis(10)).await;
        }
    };
    let (passed, ()) = tokio::join!(join_all(flood), neighbour);
    let passed: usize = passed.into_iter().sum();
    let earned = begun.elapsed().as_secs() as usize * LIMIT / 60 + 1;
    assert!((LIMIT..=LIMIT + earned).contains(&passed), "{passed}");
    assert_eq!(echo.calls(), passed + 20);
    let breaker = store.info().health.breaker.unwrap();
    assert_eq!(breaker.entered(BreakerState::Open), 0);
    let commands = redis.commandstats();
    let scripts = ["eval", "evalsha"].map(|name| commands.get(name).copied().unwrap_or(0));
    let scripts: u64 = scripts.into_iter().sum();
    assert!(scripts > 0, "{commands:?}");
    assert!(scripts < 1_600, "{scripts} for 3,200 calls");
}

/// 50 calls one after another, of several kinds. Returns how many passed; the others were refused by the quota.
async fn flood_as_ada(mut client: EchoClient<Channel>, number: usize) -> usize {
    let mut passed = 0;
    for turn in 0..50 {
        let request = call(&[("x-user", "ada")]);
        let result = match (number + turn) % 2 {
            0 => client.unary(request).await.map(drop),
            _ => client.whole_stream(request).await.map(drop),
        };
        match result {
            Ok(()) => passed += 1,
            Err(status) => assert_told(&status, Code::ResourceExhausted, "QUOTA_EXCEEDED"),
        }
    }
    passed
}

/// A quota for each method.
#[tokio::test]
async fn a_limit_counts_by_the_method_of_the_call() {
    let echo = Echo::default();
    let quota = Quota::per_hour(1).fail_closed().by(grpc_method());
    let server = GrpcServer::behind(RateLimitLayer::new(memory(), quota), &echo);
    let mut client = EchoClient::new(server.channel().await);
    client.unary(message()).await.unwrap();
    client.server_stream(message()).await.unwrap();
    let refused = client.unary(message()).await.unwrap_err();
    assert_told(&refused, Code::ResourceExhausted, "QUOTA_EXCEEDED");
}
