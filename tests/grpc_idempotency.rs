//! Idempotent calls of gRPC with real clients of tonic, in memory and on a real Redis.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{future::join_all, stream};
use lock_layer::{ClientScope, IdempotencyLayer, Identity, store::SharedStore};
use tests::{
    Backend,
    grpc::{
        BINARY, Echo, EchoClient, FAIL, GrpcServer, HOLD, REPLIES, Site, add_binary_metadata,
        assert_same_reply, messages, until,
    },
};
use tonic::{
    Code, Request, Response,
    metadata::{MetadataMap, MetadataValue},
    service::Routes,
    transport::Channel,
};
use tower::Layer;

fn retry_safe(store: SharedStore) -> IdempotencyLayer {
    IdempotencyLayer::retry_safe(store, ClientScope::global())
        .max_request_body(8 << 20)
        .max_response_body(8 << 20)
}

fn call(key: &str, message: impl Into<Bytes>) -> Request<Bytes> {
    tests::grpc::call(message, &[("idempotency-key", key)])
}

/// A call that ends with this code.
fn failing(key: &str, code: Code) -> Request<Bytes> {
    let mut call = call(key, "hello");
    call.metadata_mut().insert(FAIL, (code as i32).into());
    call
}

/// A call that waits for [`Echo::release`].
fn held(key: &str) -> Request<Bytes> {
    let mut call = call(key, "hello");
    call.metadata_mut()
        .insert(HOLD, MetadataValue::from_static("1"));
    call
}

fn is_replay(metadata: &MetadataMap) -> bool {
    metadata.contains_key("idempotency-replayed")
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_duplicates_one_runs_and_the_others_are_aborted_or_get_its_reply() {
    Backend::on_each(async |store| {
        let site = Site::behind(retry_safe(store));
        let client = site.client().await;
        let duplicates: Vec<_> = (0..50)
            .map(|_| {
                let mut client = client.clone();
                tokio::spawn(async move { client.unary(held("k")).await })
            })
            .collect();
        // The first has no reply before all others have theirs.
        until(|| duplicates.iter().filter(|call| call.is_finished()).count() == 49).await;
        site.echo.release();
        let replies = join_all(duplicates).await;
        let (mut run, mut aborted) = (Vec::new(), 0);
        for reply in replies {
            match reply.unwrap() {
                Ok(reply) => run.push(reply),
                Err(status) => {
                    assert_eq!(status.code(), Code::Aborted, "{status:?}");
                    aborted += 1;
                }
            }
        }
        assert_eq!((run.len(), aborted, site.echo.calls()), (1, 49, 1));
        let later = client.clone().unary(held("k")).await.unwrap();
        assert!(is_replay(later.metadata()) && !is_replay(run[0].metadata()));
        assert_same_reply(&run[0], &later);
        assert_eq!(site.echo.calls(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_that_wait_get_the_message_and_the_trailers_of_the_one_that_ran() {
    Backend::on_each(async |store| {
        let site = Site::behind(retry_safe(store).wait(Duration::from_secs(60)));
        let client = site.client().await;
        let duplicates: Vec<_> = (0..50)
            .map(|_| {
                let mut client = client.clone();
                tokio::spawn(async move { client.unary(held("k")).await })
            })
            .collect();
        until(|| site.echo.calls() == 1).await;
        site.echo.release();
        let replies = join_all(duplicates).await;
        let replies: Vec<_> = replies.into_iter().map(|it| it.unwrap().unwrap()).collect();
        let run = replies.iter().find(|it| !is_replay(it.metadata())).unwrap();
        for reply in &replies {
            assert_same_reply(run, reply);
            assert_eq!(reply.metadata().get("grpc-status").unwrap(), "0");
        }
        assert_eq!(site.echo.calls(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_ended_with_unavailable_runs_again_and_one_that_ended_with_already_exists_does_not()
 {
    Backend::on_each(async |store| {
        let site = Site::behind(retry_safe(store));
        let mut client = site.client().await;
        for (code, runs) in [
            (Code::Unavailable, 2),
            (Code::Aborted, 2),
            (Code::AlreadyExists, 1),
            (Code::InvalidArgument, 1),
        ] {
            let before = site.echo.calls();
            let key = format!("{code:?}");
            // Such a status is in the headers: the call has no message.
            let first = client.unary(failing(&key, code)).await.unwrap_err();
            let second = client.unary(failing(&key, code)).await.unwrap_err();
            assert_eq!((first.code(), second.code()), (code, code));
            assert_eq!(second.message(), first.message());
            assert_eq!(second.metadata().get("x-failed").unwrap(), "yes");
            assert_eq!(is_replay(second.metadata()), runs == 1);
            assert_eq!(site.echo.calls() - before, runs, "{code:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_in_the_trailers_is_judged_at_the_end_of_the_body() {
    Backend::on_each(async |store| {
        let site = Site::behind(retry_safe(store));
        let mut client = site.client().await;
        // At once, and after the client has had the message for a while.
        for is_held in [false, true] {
            for (code, runs) in [
                (Code::Unavailable, 2),
                (Code::AlreadyExists, 1),
                (Code::Ok, 1),
            ] {
                let before = site.echo.calls();
                let key = format!("{code:?} {is_held}").replace(' ', "-");
                for run in 1..=2 {
                    let mut call = failing(&key, code);
                    if code == Code::Ok {
                        call.metadata_mut().remove(FAIL);
                    }
                    if is_held {
                        call.metadata_mut()
                            .insert(HOLD, MetadataValue::from_static("1"));
                        if run <= runs {
                            let echo = site.echo.clone();
                            tokio::spawn(async move {
                                until(|| echo.calls() == before + run).await;
                                tokio::time::sleep(Duration::from_millis(20)).await;
                                echo.release();
                            });
                        }
                    }
                    call.metadata_mut().insert(REPLIES, 1.into());
                    match (client.whole_stream(call).await, code) {
                        (Ok(reply), Code::Ok) => {
                            assert_eq!(reply.get_ref(), &["hello"]);
                            assert_eq!(is_replay(reply.metadata()), run == 2);
                        }
                        (Err(status), code) => assert_eq!(status.code(), code),
                        (Ok(_), code) => panic!("it does not end with {code:?}"),
                    }
                }
                assert_eq!(site.echo.calls() - before, runs, "{code:?} {is_held}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_cancelled_or_late_is_run_to_its_end_and_leaves_its_reply() {
    Backend::on_each(async |store| {
        let site = Site::behind(retry_safe(store).expected_run(Duration::from_secs(1)));
        let mut client = site.client().await;

        // The client goes away.
        let mut leaving = client.clone();
        let left = tokio::spawn(async move { leaving.unary(held("left")).await });
        until(|| site.echo.running() == 1).await;
        left.abort();
        assert!(left.await.is_err());
        let meanwhile = client.unary(held("left")).await.unwrap_err();
        assert_eq!(meanwhile.code(), Code::Aborted);
        site.echo.release();
        until(|| site.echo.running() == 0).await;
        assert!(is_replay(repeat(&mut client, "left").await.metadata()));
        assert_eq!(site.echo.calls(), 1);

        // Its deadline ends: `grpc-timeout`.
        let mut late = held("late");
        late.set_timeout(Duration::from_millis(300));
        let status = client.unary(late).await.unwrap_err();
        let codes = [Code::DeadlineExceeded, Code::Cancelled];
        assert!(codes.contains(&status.code()), "{status:?}");
        assert_eq!(site.echo.running(), 1);
        site.echo.release();
        until(|| site.echo.running() == 0).await;
        assert!(is_replay(repeat(&mut client, "late").await.metadata()));
        assert_eq!(site.echo.calls(), 2);
    })
    .await;
}

/// Repeats a call whose run has ended, until its record is written.
async fn repeat(client: &mut EchoClient<Channel>, key: &str) -> Response<Bytes> {
    loop {
        match client.unary(held(key)).await {
            Ok(reply) => return reply,
            Err(status) => assert_eq!(status.code(), Code::Aborted, "{status:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_died_leaves_a_claim_for_its_life_alone() {
    Backend::on_each(async |store| {
        let layer = || retry_safe(store.clone()).expected_run(Duration::from_secs(1));
        // The runtime of the first server ends in the middle of a run, and nobody renews its claim.
        let dying = layer();
        let died = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let site = Site::behind(dying);
                let mut client = site.client().await;
                let call = tokio::spawn(async move { client.unary(held("k")).await });
                until(|| site.echo.running() == 1).await;
                call.abort();
            });
            runtime.shutdown_background();
        });
        died.join().unwrap();
        let site = Site::behind(layer());
        let mut client = site.client().await;
        let begun = tokio::time::Instant::now();
        loop {
            match client.unary(call("k", "hello")).await {
                Ok(reply) => {
                    assert!(!is_replay(reply.metadata()));
                    break;
                }
                // It is overdue for a moment before the store ends it.
                Err(status) => {
                    let codes = [Code::Aborted, Code::DataLoss];
                    assert!(codes.contains(&status.code()), "{status:?}");
                }
            }
            assert!(begun.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(site.echo.calls(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_long_and_empty_messages_and_binary_metadata_are_replayed_byte_for_byte() {
    Backend::on_each(async |store| {
        let site = Site::behind(retry_safe(store));
        let plain = site.client().await;
        for (name, mut client) in [("plain", plain.clone()), ("gzip", plain.compressed())] {
            for message in messages() {
                let length = message.len();
                let request = || {
                    let mut call = call(&format!("{name}-{length}"), message.clone());
                    add_binary_metadata(call.metadata_mut());
                    call
                };
                let before = site.echo.calls();
                let first = client.unary(request()).await.unwrap();
                let second = client.unary(request()).await.unwrap();
                assert!(!is_replay(first.metadata()) && is_replay(second.metadata()));
                assert_eq!(first.get_ref(), &message);
                assert_eq!(first.metadata().get_all_bin(BINARY).iter().count(), 2);
                assert_same_reply(&first, &second);
                assert_eq!(site.echo.calls() - before, 1, "{name} {length}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_pass_unless_they_come_with_a_key() {
    Backend::on_each(async |store| {
        let site = Site::behind(retry_safe(store.clone()).grpc_methods(["/tests.Echo/Unary"]));
        let mut client = site.client().await;
        client.unary(call("k", "hello")).await.unwrap();
        let messages = || stream::iter(vec![Bytes::from_static(b"ab"); 3]);
        for _ in 0..2 {
            let mut streaming = Request::new(messages());
            let key = MetadataValue::from_static("k");
            streaming.metadata_mut().insert("idempotency-key", key);
            let reply = client.client_stream(streaming).await.unwrap();
            assert_eq!(
                (&reply.get_ref()[..], is_replay(reply.metadata())),
                (&b"ababab"[..], false)
            );
            let mut replies = client.bidi_stream(messages()).await.unwrap().into_inner();
            for _ in 0..3 {
                assert_eq!(replies.message().await.unwrap().unwrap(), "ab");
            }
        }
        assert_eq!(site.echo.calls(), 5);

        let site = Site::behind(retry_safe(store));
        let mut client = site.client().await;
        // It never ends, and is refused when its second message begins.
        let endless = stream::repeat(Bytes::from_static(b"ab"));
        let mut streaming = Request::new(endless);
        let key = MetadataValue::from_static("k");
        streaming.metadata_mut().insert("idempotency-key", key);
        let refused = client.client_stream(streaming).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented, "{refused:?}");
        assert_eq!(site.echo.calls(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_the_message_names_the_call() {
    Backend::on_each(async |store| {
        let layer = retry_safe(store).key_from_message(|_, message| {
            let number = message.split(|byte| *byte == b' ').next()?;
            (!number.is_empty()).then(|| Identity::from(number))
        });
        let site = Site::behind(layer);
        let mut client = site.client().await;
        for (message, runs) in [("1 car", 1), ("1 car", 1), ("2 car", 2)] {
            let reply = client.unary(Bytes::from(message)).await.unwrap();
            assert_eq!(reply.get_ref(), message);
            assert_eq!(site.echo.calls(), runs, "{message}");
        }
        let reused = client.unary(Bytes::from("1 bus")).await.unwrap_err();
        assert_eq!(reused.code(), Code::FailedPrecondition);
        let missing = client.unary(Bytes::new()).await.unwrap_err();
        assert_eq!(missing.code(), Code::InvalidArgument);
        assert_eq!(site.echo.calls(), 2);
    })
    .await;
}

/// The body of hyper's server needs no mapping, with the services of tonic behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_hyper_server_takes_the_layer_around_the_services_of_tonic() {
    Backend::on_each(async |store| {
        let echo = Echo::default();
        let service = retry_safe(store).layer(Routes::new(echo.clone()));
        let server = GrpcServer::hyper(service).await;
        let mut client = EchoClient::new(server.channel().await);
        let first = client.unary(call("k", "hello")).await.unwrap();
        let second = client.unary(call("k", "hello")).await.unwrap();
        assert!(is_replay(second.metadata()));
        assert_same_reply(&first, &second);
        assert_eq!(echo.calls(), 1);
    })
    .await;
}
