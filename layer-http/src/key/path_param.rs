use std::borrow::Cow;

use layer_store::Identity;
use percent_encoding::percent_decode_str;

use crate::{KeyExtractor, OnMissing, RequestHead};

/// Makes an extractor for the path parameter `name`, such as the `id` of `/cars/{id}`. `{*rest}` is a parameter, too.
///
/// The value is percent-decoded and need not be UTF-8, so `/cars/%37` and `/cars/7` are one identity. It is read from the
/// path that the client sent, so the parameters of outer routers are found in nested ones.
///
/// The layer must be where the route is known: on the route (`get(show).layer(..)`), or on its router through
/// `Router::route_layer`. `Router::layer` also sees requests that match no route, which have no parameter. A layer around the
/// whole router sees no route at all. A request whose route has no such parameter, or two, is
/// [`OnMissing::Misconfigured`].
///
/// ```
/// use layer_http::{KeyExtractor, OnMissing, path_param};
///
/// assert_eq!(path_param("id").missing(), OnMissing::Misconfigured);
/// ```
///
/// # Panics
///
/// If `name` is empty, or has a brace, `*` or `/` in it.
#[track_caller]
pub fn path_param(name: &'static str) -> PathParam {
    assert!(
        !name.is_empty() && !name.contains(['{', '}', '*', '/']),
        "{name:?} is not the name of a path parameter: write it without braces, such as \"id\""
    );
    PathParam { name }
}

/// The extractor made by [`path_param`].
#[derive(Clone, Copy, Debug)]
pub struct PathParam {
    name: &'static str,
}

impl KeyExtractor for PathParam {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        let value = capture(head.matched_path()?, head.path(), self.name)?;
        Some(Identity::Text(Cow::from(percent_decode_str(value))))
    }

    fn missing(&self) -> OnMissing {
        OnMissing::Misconfigured
    }
}

/// Returns the part of `path` that matches `{name}` or `{*name}` in `pattern`, if the whole of `path` matches.
fn capture<'a>(pattern: &str, path: &'a str, name: &str) -> Option<&'a str> {
    let mut found = None;
    let mut rest = Some(path);
    // A slash at the end makes no difference. A router nested as a service has the pattern `/cars/{id}/` for a request of
    // `/cars/7`, and a layer between two routers may have trimmed the path.
    for segment in pattern.trim_end_matches('/').split('/') {
        let parameter = Parameter::of(segment);
        let (value, after) = match &parameter {
            Some(Parameter { is_tail: true, .. }) => (rest?, None),
            _ => split_segment(rest?),
        };
        rest = after;
        match parameter {
            Some(parameter) => {
                let value = parameter.value(value)?;
                if parameter.name == name && found.replace(value).is_some() {
                    return None;
                }
            }
            None if value == unescaped(segment) => {}
            None => return None,
        }
    }
    found.filter(|_| rest.is_none_or(str::is_empty))
}

/// `{name}` or `{*name}` in a segment of a pattern, and the text around it.
struct Parameter<'a> {
    before: &'a str,
    name: &'a str,
    is_tail: bool,
    after: &'a str,
}

impl<'a> Parameter<'a> {
    fn of(segment: &'a str) -> Option<Self> {
        let open = single_brace(segment)?;
        let (name, after) = segment[open + 1..].split_once('}')?;
        Some(Self {
            before: &segment[..open],
            name: name.trim_start_matches('*'),
            is_tail: name.starts_with('*'),
            after,
        })
    }

    /// Returns the part of a path's segment that it matches. A parameter never matches an empty text.
    fn value<'p>(&self, segment: &'p str) -> Option<&'p str> {
        segment
            .strip_prefix(&*unescaped(self.before))?
            .strip_suffix(&*unescaped(self.after))
            .filter(|value| !value.is_empty())
    }
}

/// Returns the index of the first `{` that is not half of an escaped one, `{{`.
fn single_brace(segment: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + segment[from..].find('{')?;
        if !segment[at + 1..].starts_with('{') {
            return Some(at);
        }
        from = at + 2;
    }
}

fn unescaped(literal: &str) -> Cow<'_, str> {
    if literal.contains(['{', '}']) {
        literal.replace("{{", "{").replace("}}", "}").into()
    } else {
        literal.into()
    }
}

fn split_segment(path: &str) -> (&str, Option<&str>) {
    match path.split_once('/') {
        Some((segment, rest)) => (segment, Some(rest)),
        None => (path, None),
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        body::Body,
        extract::{RawPathParams, Request},
        middleware::{Next, from_fn},
        response::{IntoResponse, Response},
        routing::get,
    };
    use http::StatusCode;
    use http_body_util::BodyExt;
    use proptest::prelude::*;
    use tower::ServiceExt;

    use super::*;

    #[test]
    fn parameters_are_read_from_the_pattern() {
        for (pattern, path, value) in [
            ("/cars/{id}", "/cars/7", Some("7")),
            ("/cars/{id}/bookings", "/cars/7/bookings", Some("7")),
            ("/{tenant}/cars/{id}", "/ada/cars/7", Some("7")),
            ("/cars/{id}", "/cars/%37%2f", Some("%37%2f")),
            ("/cars/car-{id}", "/cars/car-7", Some("7")),
            ("/cars/{id}.json", "/cars/7.json", Some("7")),
            ("/files/{*id}", "/files/a/b/c", Some("a/b/c")),
            ("/files/{*id}", "/files/a/b/", Some("a/b/")),
            ("/{a}/{*id}", "/x/y", Some("y")),
            ("/{{id}}/{id}", "/{id}/7", Some("7")),
            ("/{{{id}}}", "/{7}", Some("7")),
            ("/{{car}}-{id}", "/{car}-7", Some("7")),
            ("/a{{b{id}", "/a{b7", Some("7")),
            ("/cars/{id}/", "/cars/7", Some("7")),
            ("/cars/{id}", "/cars/7/", Some("7")),
        ] {
            assert_eq!(capture(pattern, path, "id"), value, "{pattern} {path}");
        }
    }

    #[test]
    fn a_path_that_does_not_match_has_no_parameter() {
        for (pattern, path) in [
            ("/cars", "/cars"),
            ("/cars/{car}", "/cars/7"),
            ("/{{id}}", "/{id}"),
            ("/cars/{id}", "/vans/7"),
            ("/cars/{id}", "/cars"),
            ("/cars/{id}", "/cars/"),
            ("/cars/{id}", "/cars/7/bookings"),
            ("/cars/{id}/bookings", "/cars/7"),
            ("/cars/car-{id}", "/cars/7"),
            ("/{id}/cars/{id}", "/1/cars/2"),
            ("/files/{*id}", "/files"),
            ("", ""),
            ("/{id", "/7"),
            ("/{}", "/7"),
        ] {
            assert_eq!(capture(pattern, path, "id"), None, "{pattern} {path}");
        }
    }

    #[tokio::test]
    async fn values_are_those_that_axum_gives_to_the_handler() {
        let routes = || {
            Router::new()
                .route("/", get(agrees))
                .route("/cars/{id}", get(agrees))
                .route("/cars/{id}/bookings/{booking}", get(agrees))
                .route("/files/{*id}", get(agrees))
        };
        let app = routes()
            .nest("/nested/{tenant}", routes())
            .nest("/twice", Router::new().nest("/{region}/{tenant}", routes()))
            .nest_service("/service/{id}", Router::new().route("/", get(agrees)))
            .nest_service("/trimmed", routes())
            .nest("/slash/", routes());
        for path in [
            "/cars/7",
            "/cars/a%20b",
            "/cars/%c3%a4%2Fx",
            "/cars/7/bookings/8?id=9",
            "/files/a/b%2Fc",
            "/nested/ada/cars/7",
            "/nested/cars/cars/7/bookings/8",
            "/nested/ada/files/x/y",
            "/twice/eu/ada/cars/7",
            "/service/7",
            "/service/7/",
            "/trimmed/cars/7",
            "/slash/cars/7",
        ] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            let status = response.status();
            let said = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(status, StatusCode::OK, "{path}: {said:?}");
        }
    }

    /// 200 if every parameter of the route is what axum says it is.
    async fn agrees(params: RawPathParams, request: Request) -> Response {
        let mut seen = 0;
        for (name, value) in &params {
            let name: &'static str = name.to_owned().leak();
            let ours = path_param(name).extract(&RequestHead::of(&request));
            if ours != Some(Identity::from(value)) {
                return (StatusCode::CONFLICT, format!("{name}: {ours:?}")).into_response();
            }
            seen += 1;
        }
        match seen {
            0 => StatusCode::NOT_FOUND.into_response(),
            _ => StatusCode::OK.into_response(),
        }
    }

    #[tokio::test]
    async fn router_layer_and_route_layer_know_the_route() {
        async fn ask(request: Request, _: Next) -> String {
            match path_param("id").extract(&RequestHead::of(&request)) {
                Some(Identity::Text(id)) => String::from_utf8(id.into_owned()).unwrap(),
                _ => "nobody".to_owned(),
            }
        }
        let cars = || Router::new().route("/cars/{id}", get(async || "unasked"));
        for (app, path, said) in [
            (cars().layer(from_fn(ask)), "/cars/7", "7"),
            (cars().route_layer(from_fn(ask)), "/cars/7", "7"),
            (cars().layer(from_fn(ask)), "/vans/7", "nobody"),
            (cars().route_layer(from_fn(ask)), "/vans/7", ""),
            (
                Router::new().nest("/eu", cars().layer(from_fn(ask))),
                "/eu/cars/7",
                "7",
            ),
            (
                Router::new().nest("/eu", cars()).layer(from_fn(ask)),
                "/eu/cars/7",
                "7",
            ),
            (
                Router::new().fallback_service(cars()).layer(from_fn(ask)),
                "/cars/7",
                "nobody",
            ),
        ] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let body = app.oneshot(request).await.unwrap().into_body();
            assert_eq!(body.collect().await.unwrap().to_bytes(), said, "{path}");
        }
    }

    #[tokio::test]
    async fn values_are_bytes_and_need_not_be_text() {
        async fn ask(request: Request, _: Next) -> StatusCode {
            let id = path_param("id").extract(&RequestHead::of(&request));
            assert_eq!(id, Some(Identity::from(&b"aB\xff/\0"[..])));
            StatusCode::OK
        }
        let app = Router::new()
            .route("/cars/{id}", get(async || ()))
            .layer(from_fn(ask));
        let request = Request::get("/cars/a%42%ff%2F%00").body(Body::empty());
        let response = app.oneshot(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }

    #[test]
    fn a_name_with_braces_is_a_mistake_that_says_what_to_write() {
        for name in ["", "{id}", "id}", "*rest", "a/b"] {
            let panic = std::panic::catch_unwind(|| path_param(name)).unwrap_err();
            let message = panic.downcast_ref::<String>().unwrap();
            assert!(
                message.contains("without braces, such as \"id\""),
                "{message}"
            );
        }
        let _ = path_param("id_7");
    }

    #[test]
    fn outside_a_router_it_is_misconfigured() {
        let request = Request::get("/cars/7").body(Body::empty()).unwrap();
        assert_eq!(path_param("id").extract(&RequestHead::of(&request)), None);
        assert_eq!(path_param("id").missing(), OnMissing::Misconfigured);
        assert_eq!(path_param("id").or_skip().missing(), OnMissing::Skip);
    }

    proptest! {
        #[test]
        fn no_pattern_and_no_path_panics(pattern in "[/{}*a-c]{0,24}", path in "[/{}a-c%]{0,24}") {
            if let Some(value) = capture(&pattern, &path, "a") {
                prop_assert!(!value.is_empty() && path.contains(value));
            }
        }
    }
}
