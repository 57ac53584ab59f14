//! Whom a policy counts, through the whole layer.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::net::IpAddr;

use axum::{Extension, Router, body::Body, routing::get};
use http::{Request, StatusCode};
use layer_store::MemoryStore;
use rate_limit_layer::{
    ClientIp, Identity, KeyExtractor, PeerAddr, PeerIp, Quota, RateLimitLayer, UnixPeer, extension,
    header, joined, route,
};
use tower::ServiceExt;

fn layer(by: impl KeyExtractor) -> RateLimitLayer {
    RateLimitLayer::new(MemoryStore::new(), Quota::per_hour(1).by(by).fail_open())
}

fn app(limit: RateLimitLayer) -> Router {
    Router::new()
        .route("/cars/{id}", get(|| async {}))
        .route("/vans/{id}", get(|| async {}))
        .layer(limit)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn request(path: &str, peer: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let request = Request::get(path).extension(PeerAddr((ip(peer), 1).into()));
    let add = |request: http::request::Builder, (name, value): &(&str, &str)| {
        request.header(*name, *value)
    };
    headers
        .iter()
        .fold(request, add)
        .body(Body::empty())
        .unwrap()
}

/// Sends each request once, and returns which passed.
async fn passed(app: &Router, requests: impl IntoIterator<Item = Request<Body>>) -> Vec<bool> {
    let mut passed = Vec::new();
    for request in requests {
        let status = app.clone().oneshot(request).await.unwrap().status();
        passed.push(status == StatusCode::OK);
    }
    passed
}

#[tokio::test]
async fn two_keys_together_keep_the_network_of_the_address() {
    let limit = layer((PeerIp, header("x-account")));
    let handle = limit.handle();
    let request = |peer, account| request("/cars/7", peer, &[("x-account", account)]);
    let requests = [
        request("2001:db8:0:7::1", "ada"),
        request("2001:db8:0:7:ffff::", "ada"),
        request("2001:db8:0:7::1", "bob"),
        request("2001:db8:0:8::1", "ada"),
    ];
    let expected = [true, false, true, true];
    assert_eq!(passed(&app(limit), requests).await, expected);

    let pair = || joined([Identity::from(ip("2001:db8:0:7::9")), "ada".into()]);
    assert_eq!(handle.peek(pair()).await.unwrap()[0].remaining(), 0);
    handle.reset(pair()).await.unwrap();
    assert_eq!(handle.peek(pair()).await.unwrap()[0].remaining(), 1);
}

#[tokio::test]
async fn a_pair_without_its_half_is_apart_from_every_pair() {
    let limit = layer((PeerIp, header("x-account")));
    let peer = "192.0.2.7";
    let lookalike = "~v4-192.0.2.7";
    let requests = [
        request("/cars/7", peer, &[]),
        request("/cars/7", peer, &[("x-account", lookalike)]),
        request("/cars/7", peer, &[]),
    ];
    assert_eq!(passed(&app(limit), requests).await, [true, true, false]);
}

#[tokio::test]
async fn each_route_counts_by_itself_for_each_address() {
    let limit = layer((PeerIp, route()));
    let requests = [
        request("/cars/7", "192.0.2.7", &[]),
        request("/cars/8", "192.0.2.7", &[]),
        request("/vans/8", "192.0.2.7", &[]),
        request("/cars/7", "192.0.2.8", &[]),
    ];
    let expected = [true, false, true, true];
    assert_eq!(passed(&app(limit), requests).await, expected);
}

#[tokio::test]
async fn a_user_that_an_outer_layer_found_is_counted() {
    #[derive(Clone)]
    struct User(u64);

    let limit = layer(extension(|user: &User| Some(Identity::from(user.0))));
    let limited = app(limit);
    let of = |id| limited.clone().layer(Extension(User(id)));
    let request = || [request("/cars/7", "192.0.2.7", &[])];
    assert_eq!(passed(&of(7), request()).await, [true]);
    assert_eq!(passed(&of(7), request()).await, [false]);
    assert_eq!(passed(&of(8), request()).await, [true]);
}

/// Behind a proxy the peer is the proxy: without a written choice all clients without a key would share its quota.
#[tokio::test]
async fn clients_without_a_key_are_counted_by_their_own_address_if_that_is_written() {
    let proxied = |client| request("/cars/7", "10.0.0.1", &[("x-forwarded-for", client)]);
    let requests = || [proxied("203.0.113.8"), proxied("203.0.113.9")];
    let by_peer = app(layer(header("x-api-key")));
    assert_eq!(passed(&by_peer, requests()).await, [true, false]);
    let client = ClientIp::behind(["10.0.0.0/8"]);
    let limit = layer(header("x-api-key").or_client_ip(client));
    let handle = limit.handle();
    let by_client = app(limit);
    assert_eq!(passed(&by_client, requests()).await, [true, true]);
    assert_eq!(passed(&by_client, requests()).await, [false, false]);
    // An operator who resets the address resets it here too.
    handle.reset(ip("203.0.113.9")).await.unwrap();
    assert_eq!(passed(&by_client, requests()).await, [false, true]);
}

#[tokio::test]
async fn a_proxy_on_a_unix_socket_names_its_clients() {
    let limit = layer(ClientIp::behind(["unix:"]));
    let app = app(limit).layer(Extension(UnixPeer));
    let of = |client| {
        let request = Request::get("/cars/7").header("x-forwarded-for", client);
        request.body(Body::empty()).unwrap()
    };
    let requests = [of("203.0.113.8"), of("203.0.113.8"), of("203.0.113.9")];
    assert_eq!(passed(&app, requests).await, [true, false, true]);
}
