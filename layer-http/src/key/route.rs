use layer_store::Identity;

use crate::{KeyExtractor, RequestHead};

/// Makes an extractor for the matched route, such as `/cars/{id}`: axum's `MatchedPath`, with the prefixes of nested routers.
///
/// All paths of a route are one identity, whatever their parameters are. Requests that match no route share one identity. So
/// does every request, if the layer is where the route is not known: around the whole router, or outside of `nest_service`.
/// The method is no part of it.
///
/// Usually one of two: `(PeerIp, route())` counts each route by itself for each address.
///
/// ```
/// use layer_http::{PeerIp, route};
///
/// let by_both = (PeerIp, route());
/// # fn check(_: impl layer_http::KeyExtractor) {}
/// # check(by_both);
/// ```
pub const fn route() -> Route {
    Route(())
}

/// The extractor made by [`route`].
#[derive(Clone, Copy, Debug)]
pub struct Route(());

impl KeyExtractor for Route {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        Some(head.matched_path().unwrap_or_default().into())
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        body::Body,
        extract::Request,
        middleware::{Next, from_fn},
        routing::get,
    };
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn tell(request: Request, _: Next) -> String {
        match route().extract(&RequestHead::of(&request)) {
            Some(Identity::Text(text)) => String::from_utf8(text.into_owned()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_route_is_one_identity_and_unknown_paths_are_one() {
        let cars = Router::new().route("/cars/{id}", get(async || "unasked"));
        let app = Router::new().nest("/eu", cars).layer(from_fn(tell));
        for (path, told) in [
            ("/eu/cars/7", "/eu/cars/{id}"),
            ("/eu/cars/8?x", "/eu/cars/{id}"),
            ("/vans", ""),
            ("/", ""),
        ] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let body = app.clone().oneshot(request).await.unwrap().into_body();
            assert_eq!(body.collect().await.unwrap().to_bytes(), told, "{path}");
        }
    }
}
