//! The bookings over gRPC, on the port of the pages.

use bytes::Bytes;
use http::uri::PathAndQuery;
use tests::{
    Service,
    grpc::{BytesCodec, channel},
};
use tonic::{Code, Request, Response, Status, client::Grpc, transport::Channel};

use crate::wish::{Wish, bookings, title};

/// A call of a method, with a key if it has one.
async fn call(
    client: &mut Grpc<Channel>,
    path: &'static str,
    key: Option<&str>,
    message: Bytes,
) -> Result<Response<Bytes>, Status> {
    let mut request = Request::new(message);
    if let Some(key) = key {
        let key = key.parse().expect("a key is ASCII");
        request.metadata_mut().insert("idempotency-key", key);
    }
    client.ready().await.expect("the service answers");
    let path = PathAndQuery::from_static(path);
    client.unary(request, path, BytesCodec).await
}

/// A `BookRequest` of `bookings.proto`, in the encoding of protobuf.
fn wish(car: u8, from: &str, to: &str) -> Bytes {
    let mut message = vec![0x08, car];
    for (tag, text) in [(0x12, from), (0x1a, to), (0x22, "ada")] {
        message.extend([tag, text.len() as u8]);
        message.extend_from_slice(text.as_bytes());
    }
    message.into()
}

const BOOK: &str = "/booking.Bookings/Book";
const LIST: &str = "/booking.Bookings/List";

#[tokio::test]
async fn a_booking_over_grpc_happens_once_and_is_one_over_http_too() {
    let service = Service::start("booking", &["--listen", "127.0.0.1:0"]);
    let mut client = Grpc::new(channel(service.address()).await);
    let mut http = service.connect().await;

    let december = || wish(7, "2026-12-01", "2026-12-05");
    let first = call(&mut client, BOOK, Some("1"), december())
        .await
        .unwrap();
    let again = call(&mut client, BOOK, Some("1"), december())
        .await
        .unwrap();
    assert_eq!(first.get_ref(), again.get_ref());
    let replayed = again.metadata().get("idempotency-replayed");
    assert_eq!(replayed.unwrap(), "true");
    assert_eq!(bookings(&mut http, 7).await.len(), 1);

    // The days are taken, for both.
    let taken = call(&mut client, BOOK, Some("2"), december())
        .await
        .unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists, "{taken:?}");
    let other = Wish::new(7, "2026-12-05", "2026-12-06");
    let other = other.send(&mut http).await;
    assert_eq!(
        (other.status().as_u16(), &*title(&other)),
        (409, "Already booked")
    );

    for (key, message, code) in [
        (None, december(), Code::InvalidArgument),
        (
            Some("1"),
            wish(7, "2026-12-01", "2026-12-06"),
            Code::FailedPrecondition,
        ),
        (
            Some("3"),
            wish(7, "tomorrow", "2026-12-06"),
            Code::InvalidArgument,
        ),
        (
            Some("4"),
            wish(99, "2026-12-01", "2026-12-05"),
            Code::NotFound,
        ),
    ] {
        let refused = call(&mut client, BOOK, key, message).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
    }
    assert_eq!(bookings(&mut http, 7).await.len(), 1);
}

#[tokio::test]
async fn the_list_over_grpc_comes_from_the_cache_until_there_is_a_booking() {
    let service = Service::start("booking", &["--listen", "127.0.0.1:0"]);
    let mut client = Grpc::new(channel(service.address()).await);
    let car = || Bytes::from_static(&[0x08, 7]);
    let is_hit = |reply: &Response<Bytes>| {
        let status = reply.metadata().get("cache-status").unwrap();
        status.to_str().unwrap().contains("; hit")
    };
    let mut last = Bytes::new();
    for booked in 0..2 {
        let first = call(&mut client, LIST, None, car()).await.unwrap();
        assert!(!is_hit(&first));
        if booked == 1 {
            assert!(first.get_ref().len() > last.len());
        }
        // It is stored behind the reply.
        loop {
            let next = call(&mut client, LIST, None, car()).await.unwrap();
            assert_eq!(next.get_ref(), first.get_ref());
            if is_hit(&next) {
                break;
            }
        }
        last = first.into_inner();
        let key = booked.to_string();
        let day = format!("2026-12-0{}", booked + 1);
        let booking = call(&mut client, BOOK, Some(&key), wish(7, &day, &day)).await;
        booking.unwrap();
    }
}
