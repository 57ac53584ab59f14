//! Responses that the cache makes itself: a stored one, a 304, and the refusal of `only-if-cached`.

use std::time::SystemTime;

use http::{HeaderMap, Response, StatusCode, header};
use layer_http::{Body, Content, grpc::ClientProtocol};

use crate::{
    body::{CacheResponse, HandlerBody},
    http::{
        cache_status::{CacheStatus, Detail, Fwd},
        conditional,
    },
    plan::{Hit, JoinedResponse},
    refusal::CacheRefusal,
    settings::CacheSettings,
    stored::entry::EntryKind,
};

/// Makes the response of a hit to a request with these fields. `None` if the entry is an object.
///
/// A `HEAD` gets the fields of the `GET` and no body (RFC 9110, section 9.3.2).
pub(crate) fn stored_response<B>(
    settings: &CacheSettings,
    hit: &Hit,
    is_head: bool,
    fields: &HeaderMap,
    status: CacheStatus,
) -> Option<CacheResponse<B>> {
    let entry = &hit.entry;
    let EntryKind::Http { status: code, .. } = entry.head.kind else {
        return None;
    };
    let mut headers = entry.headers.clone();
    // RFC 9111, section 5.1.
    let age = (entry.head.freshness.age + hit.resident).as_secs();
    headers.insert(header::AGE, age.into());
    settings.mark(&mut headers, status);
    let content = match is_head {
        true => {
            let length = entry.body.len();
            headers
                .entry(header::CONTENT_LENGTH)
                .or_insert_with(|| length.into());
            Content::default()
        }
        false => Content::new(entry.body.clone()).with_trailers(entry.trailers.clone()),
    };
    if code == StatusCode::NO_CONTENT {
        // It states no length, whatever the handler wrote (RFC 9110, section 8.6).
        headers.remove(header::CONTENT_LENGTH);
    }
    let mut response = Response::new(Body::own(content));
    *response.status_mut() = code;
    *response.headers_mut() = headers;
    Some(or_not_modified(fields, entry.head.received_at(), response))
}

/// Makes a 304 of the response if the client has it already (RFC 9111, section 4.3.2).
///
/// `fields` are those of the request. The response was received at `received`.
pub(crate) fn or_not_modified<B>(
    fields: &HeaderMap,
    received: SystemTime,
    mut response: CacheResponse<B>,
) -> CacheResponse<B> {
    if conditional::is_unchanged(fields, response.status(), response.headers(), received) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        conditional::keep_fields_of_304(response.headers_mut());
        *response.body_mut() = Body::empty();
    }
    response
}

/// Makes the response of a request with these fields that joins another one's.
pub(crate) fn joined_response<B>(
    settings: &CacheSettings,
    joined: JoinedResponse,
    fields: &HeaderMap,
    status: CacheStatus,
) -> CacheResponse<B> {
    let head = &joined.entry.head;
    let mut headers = joined.entry.headers.clone();
    let age = (head.freshness.age + joined.resident).as_secs();
    headers.insert(header::AGE, age.into());
    settings.mark(&mut headers, status);
    let mut response = Response::new(Body::inner(HandlerBody::read(joined.body)));
    if let EntryKind::Http { status, .. } = head.kind {
        *response.status_mut() = status;
    }
    *response.headers_mut() = headers;
    or_not_modified(fields, head.received_at(), response)
}

/// Makes the response to a request of this client whose handler call was lost with its runtime.
pub(crate) fn interrupted<B>(
    settings: &CacheSettings,
    protocol: &ClientProtocol,
) -> CacheResponse<B> {
    let status = CacheStatus::Forwarded {
        fwd: Fwd::Miss,
        detail: Some(Detail::Interrupted),
    };
    refuse(settings, CacheRefusal::Interrupted, status, protocol)
}

/// Makes the response to a request of this client whose handler has confirmed a response that is not the stored one.
pub(crate) fn mistaken<B>(
    settings: &CacheSettings,
    fwd: Fwd,
    protocol: &ClientProtocol,
) -> CacheResponse<B> {
    let detail = Some(Detail::Mistaken);
    let status = CacheStatus::Forwarded { fwd, detail };
    refuse(settings, CacheRefusal::Mistaken, status, protocol)
}

/// Makes the response to a request of this client that wants a stored response or none (RFC 9111, section 5.2.1.7).
pub(crate) fn only_if_cached<B>(
    settings: &CacheSettings,
    protocol: &ClientProtocol,
) -> CacheResponse<B> {
    let status = CacheStatus::OnlyIfCached;
    refuse(settings, CacheRefusal::OnlyIfCached, status, protocol)
}

fn refuse<B>(
    settings: &CacheSettings,
    refusal: CacheRefusal,
    status: CacheStatus,
    protocol: &ClientProtocol,
) -> CacheResponse<B> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = refusal.status();
    let mut response = protocol.answer(response, || refusal.grpc_status());
    response.extensions_mut().insert(refusal);
    settings.mark(response.headers_mut(), status);
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;
    use layer_store::Clock;

    use super::*;
    use crate::{
        plan::{RequestPlan, plan},
        testing::World,
    };

    type Inner = http_body_util::Full<bytes::Bytes>;

    /// Stores a body of four bytes that was 5 s old, and finds it 10 s later.
    async fn hit(world: &World) -> (Hit, CacheStatus) {
        hit_of(world, StatusCode::OK).await
    }

    async fn hit_of(world: &World, code: StatusCode) -> (Hit, CacheStatus) {
        let (request, fields) = world.request(&[]);
        let mut fill = world.fill(request.address.clone()).await;
        if let EntryKind::Http { status, .. } = &mut fill.head.kind {
            *status = code;
        }
        if code == StatusCode::NO_CONTENT {
            fill.headers.insert(header::CONTENT_LENGTH, 0.into());
        }
        fill.head.freshness.age = Duration::from_secs(5);
        fill.headers.insert("x-a", "1".parse().unwrap());
        let trailers = [("x-t".parse().unwrap(), "2".parse().unwrap())];
        fill.commit(&["body".into()], trailers.into_iter().collect())
            .await;
        world.clock.advance(Duration::from_secs(10));
        match plan(&world.route, &request, &fields, None).await {
            RequestPlan::Serve(hit, status) => (hit, status),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_stored_response_has_its_age_its_body_and_its_trailers() {
        let world = World::new();
        let (hit, status) = hit(&world).await;
        let response = stored_response::<Inner>(
            &world.route.settings,
            &hit,
            false,
            &HeaderMap::new(),
            status,
        )
        .unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["age"], "15");
        assert_eq!(response.headers()["x-a"], "1");
        assert_eq!(response.headers()["cache-status"], "cache; hit; ttl=45");
        assert!(!response.headers().contains_key("content-length"));
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["x-t"], "2");
        assert_eq!(body.to_bytes(), "body");
    }

    #[tokio::test]
    async fn a_head_gets_the_length_and_no_body() {
        let world = World::new();
        let (hit, status) = hit(&world).await;
        let response =
            stored_response::<Inner>(&world.route.settings, &hit, true, &HeaderMap::new(), status)
                .unwrap();
        assert_eq!(response.headers()["content-length"], "4");
        let body = response.into_body().collect().await.unwrap();
        assert!(body.to_bytes().is_empty());
    }

    #[tokio::test]
    async fn a_204_has_no_length() {
        let world = World::new();
        let (hit, status) = hit_of(&world, StatusCode::NO_CONTENT).await;
        let (settings, fields) = (&world.route.settings, HeaderMap::new());
        for is_head in [true, false] {
            let response = stored_response::<Inner>(settings, &hit, is_head, &fields, status);
            assert!(!response.unwrap().headers().contains_key("content-length"));
        }
    }

    #[tokio::test]
    async fn a_client_that_has_the_response_gets_304_and_no_body() {
        let world = World::new();
        let (hit, status) = hit(&world).await;
        let settings = &world.route.settings;
        let mut fields = HeaderMap::new();
        // It was received at `NOW` and has neither a date nor a tag.
        fields.insert(
            "if-modified-since",
            "Fri, 15 Jan 2027 08:00:00 GMT".parse().unwrap(),
        );
        for is_head in [false, true] {
            let response =
                stored_response::<Inner>(settings, &hit, is_head, &fields, status).unwrap();
            assert_eq!(response.status(), 304);
            assert_eq!(response.headers()["age"], "15");
            assert_eq!(response.headers()["cache-status"], "cache; hit; ttl=45");
            assert!(!response.headers().contains_key("content-length"));
            let body = response.into_body().collect().await.unwrap();
            assert!(body.trailers().is_none() && body.to_bytes().is_empty());
        }
        fields.insert(
            "if-modified-since",
            "Fri, 15 Jan 2027 07:59:59 GMT".parse().unwrap(),
        );
        let response = stored_response::<Inner>(settings, &hit, false, &fields, status).unwrap();
        assert_eq!(response.status(), 200);
    }

    #[test]
    fn a_refusal_is_a_504_that_outer_layers_can_tell() {
        let settings = CacheSettings::new(Clock::system());
        let response = only_if_cached::<Inner>(&settings, &ClientProtocol::HTTP);
        assert_eq!(response.status(), 504);
        assert_eq!(
            response.headers()["cache-status"],
            "cache; detail=only-if-cached"
        );
        let refusal = response.extensions().get();
        assert_eq!(refusal, Some(&CacheRefusal::OnlyIfCached));
    }

    #[test]
    fn a_client_of_grpc_gets_the_status_of_a_refusal() {
        let settings = CacheSettings::new(Clock::system());
        let mut fields = HeaderMap::new();
        fields.insert("content-type", "application/grpc".parse().unwrap());
        let protocol = ClientProtocol::of(&fields);
        for (response, refusal, code) in [
            (
                only_if_cached::<Inner>(&settings, &protocol),
                CacheRefusal::OnlyIfCached,
                "9",
            ),
            (
                interrupted(&settings, &protocol),
                CacheRefusal::Interrupted,
                "14",
            ),
            (
                mistaken(&settings, Fwd::Stale, &protocol),
                CacheRefusal::Mistaken,
                "13",
            ),
        ] {
            assert_eq!(response.status(), 200);
            assert!(http_body::Body::is_end_stream(response.body()));
            assert_eq!(response.headers()["grpc-status"], code);
            assert!(response.headers().contains_key("cache-status"));
            assert_eq!(response.extensions().get(), Some(&refusal));
            let status = refusal.grpc_status();
            assert_eq!(status.detail_kinds(), status.reason().details());
        }
    }
}
