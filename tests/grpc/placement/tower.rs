//! In stacks of tower.

use tests::grpc::{EchoClient, Site};
use tower::{ServiceBuilder, ServiceExt, layer::util::Identity};

use super::{assert_calls, layers};

#[tokio::test]
async fn in_a_stack_of_a_server() {
    let stack = ServiceBuilder::new()
        .concurrency_limit(64)
        .layer(layers!())
        .concurrency_limit(64)
        .into_inner();
    let site = Site::behind(stack);
    assert_calls(&mut site.client().await, "stack").await;
}

/// A service that is boxed, or behind a buffer, as services are that have to have one type.
#[tokio::test]
async fn around_and_inside_of_a_buffer_and_a_box() {
    let site = Site::behind(Identity::new());
    let channel = site.channel().await;
    let inside = ServiceBuilder::new()
        .buffer(8)
        .layer(layers!())
        .service(channel.clone());
    assert_calls(&mut EchoClient::new(inside), "inside").await;
    let around = ServiceBuilder::new()
        .layer(layers!())
        .buffer(8)
        .service(channel.clone());
    assert_calls(&mut EchoClient::new(around), "around").await;
    let boxed = ServiceBuilder::new()
        .layer(layers!())
        .service(channel.boxed_clone());
    assert_calls(&mut EchoClient::new(boxed), "boxed").await;
}

/// A load that is shed by tower is an error, which tonic's server turns into a status.
#[tokio::test]
async fn inside_of_load_shedding() {
    let stack = ServiceBuilder::new()
        .load_shed()
        .concurrency_limit(64)
        .layer(layers!())
        .into_inner();
    let site = Site::behind(stack);
    assert_calls(&mut site.client().await, "shed").await;
}
