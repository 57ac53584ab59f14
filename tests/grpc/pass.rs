//! What passes through the layers: every byte, every trailer and every piece of metadata.

use bytes::Bytes;
use cache_layer::CacheLayer;
use futures_util::stream;
use http::HeaderMap;
use lock_layer::{ClientScope, IdempotencyLayer, LockLayer, header};
use rate_limit_layer::{InFlightLayer, MaxInFlight, Quota, RateLimitLayer};
use tests::grpc::{Echo, EchoClient, FAIL, GrpcServer, REPLIES};
use tonic::{
    Status, Streaming,
    metadata::{MetadataMap, MetadataValue},
    transport::Channel,
};

use super::{call, memory};

/// All that a client reads of a call.
#[derive(Debug, PartialEq)]
struct Read {
    metadata: HeaderMap,
    messages: Vec<Bytes>,
    /// The code, the message and the metadata of the end.
    end: Option<(i32, String, HeaderMap)>,
    trailers: HeaderMap,
}

/// What the layers add, and the clock.
fn stripped(metadata: MetadataMap) -> HeaderMap {
    let mut fields = metadata.into_headers();
    for added in [
        "ratelimit",
        "ratelimit-policy",
        "cache-status",
        "date",
        "vary",
    ] {
        fields.remove(added);
    }
    fields
}

fn end(status: Status) -> Read {
    let end = (
        i32::from(status.code()),
        status.message().to_owned(),
        stripped(status.metadata().clone()),
    );
    Read {
        metadata: HeaderMap::new(),
        messages: Vec::new(),
        end: Some(end),
        trailers: HeaderMap::new(),
    }
}

async fn read(response: Result<tonic::Response<Streaming<Bytes>>, Status>) -> Read {
    let (metadata, mut stream, _) = match response {
        Ok(response) => response.into_parts(),
        Err(status) => return end(status),
    };
    let mut messages = Vec::new();
    let read = loop {
        match stream.message().await {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => break None,
            Err(status) => break Some(status),
        }
    };
    let trailers = match &read {
        None => stream.trailers().await.unwrap().unwrap_or_default(),
        Some(_) => MetadataMap::new(),
    };
    Read {
        metadata: stripped(metadata),
        messages,
        trailers: trailers.into_headers(),
        ..match read {
            None => end(Status::ok("")),
            Some(status) => end(status),
        }
    }
}

fn unary(response: Result<tonic::Response<Bytes>, Status>) -> Read {
    match response {
        Ok(response) => {
            let (metadata, message, _) = response.into_parts();
            Read {
                metadata: stripped(metadata),
                messages: vec![message],
                ..end(Status::ok(""))
            }
        }
        Err(status) => end(status),
    }
}

/// Calls each method with messages of all kinds, of which the largest has so many bytes.
async fn calls(mut client: EchoClient<Channel>, largest: u32) -> Vec<Read> {
    let mut read_all = Vec::new();
    let large: Bytes = (0..largest).map(|n| (n % 251) as u8).collect();
    for message in [Bytes::new(), Bytes::from_static(b"hello"), large] {
        for fails in ["0", "6", "14"] {
            let request = || {
                let mut request = call(&[(FAIL, fails), (REPLIES, "2"), ("x-text", "a, b")]);
                let bytes = MetadataValue::from_bytes(b"\0\xff, =");
                request.metadata_mut().insert_bin("x-bytes-bin", bytes);
                request.map(|_| message.clone())
            };
            let messages = || request().map(|message| stream::iter(vec![message; 2]));
            read_all.push(unary(client.unary(request()).await));
            read_all.push(unary(client.client_stream(messages()).await));
            read_all.push(read(client.server_stream(request()).await).await);
            read_all.push(read(client.bidi_stream(messages()).await).await);
        }
    }
    read_all
}

/// All layers at once, of which none has a reason to refuse.
macro_rules! layers {
    () => {
        tower::ServiceBuilder::new()
            .layer(RateLimitLayer::new(
                memory(),
                Quota::per_second(10_000).fail_open(),
            ))
            .layer(InFlightLayer::new(
                memory(),
                MaxInFlight::new(1_000).fail_open(),
            ))
            .layer(CacheLayer::new(memory()).grpc(["/tests.Echo/Unary"]))
            .layer(IdempotencyLayer::retry_safe(memory(), ClientScope::global()).optional_key())
            .layer(LockLayer::new(memory(), header("x-none")))
            .map_request(without_length)
            .into_inner()
    };
}

/// A client of HTTP/2 need not tell the length of its message, and tonic's does not.
fn without_length<B>(request: http::Request<B>) -> http::Request<B> {
    assert!(!request.headers().contains_key("content-length"));
    request
}

#[tokio::test]
async fn calls_of_all_kinds_pass_as_they_are() {
    let echo = Echo::default();
    let bare = GrpcServer::behind(tower::layer::util::Identity::new(), &echo);
    let layered = GrpcServer::behind(layers!(), &echo);
    // To compress 4 MiB takes a debug build long.
    for (compressed, largest) in [(false, 4 << 20), (true, 256 << 10)] {
        let client = async |server: &GrpcServer| {
            let client = EchoClient::new(server.channel().await);
            match compressed {
                true => client.compressed(),
                false => client,
            }
        };
        let expected = calls(client(&bare).await, largest).await;
        let passed = calls(client(&layered).await, largest).await;
        assert_eq!(expected.len(), 36);
        let messages: usize = expected.iter().map(|read| read.messages.len()).sum();
        // Streams fail after their messages.
        assert_eq!(messages, 3 * (6 + 4 + 4));
        for (expected, passed) in expected.iter().zip(&passed) {
            // Without the messages, which may be 4 MiB.
            assert_eq!(passed.end, expected.end);
            assert_eq!(passed.metadata, expected.metadata);
            assert!(passed == expected, "{:?}", expected.end);
        }
    }
}
