use std::borrow::Cow;

use layer_store::Identity;
use percent_encoding::percent_decode_str;

use crate::{Head, KeyExtractor, Missing};

/// Counts for the value of the path parameter `name`, such as the `id` of `/cars/{id}`; `{*rest}` is a parameter too.
///
/// The value is percent-decoded and need not be UTF-8, so `/cars/%37` and `/cars/7` are one. It is read from the
/// client's own path, so prefixes of nested routers count, whichever router the layer stands in.
///
/// The layer must stand where the route is known: on the route (`get(show).layer(..)`), or on its router through
/// `Router::route_layer`. `Router::layer` also sees requests that match no route, which have no parameter, and a layer
/// around the whole router sees none. A request whose route has no such parameter, or two, is [`Missing::Misconfigured`].
///
/// ```
/// use layer_http::{KeyExtractor, Missing, path_param};
///
/// assert_eq!(path_param("id").missing(), Missing::Misconfigured);
/// ```
pub fn path_param(name: &'static str) -> PathParam {
    PathParam { name }
}

/// The extractor made by [`path_param`].
#[derive(Clone, Copy, Debug)]
pub struct PathParam {
    name: &'static str,
}

impl KeyExtractor for PathParam {
    fn extract<'a>(&self, head: &Head<'a>) -> Option<Identity<'a>> {
        let value = capture(head.matched_path()?, head.path(), self.name)?;
        Some(Identity::Text(Cow::from(percent_decode_str(value))))
    }

    fn missing(&self) -> Missing {
        Missing::Misconfigured
    }
}

/// The part of `path` that `{name}` or `{*name}` stands for in `pattern`, if the whole of it matches.
fn capture<'a>(pattern: &str, path: &'a str, name: &str) -> Option<&'a str> {
    let mut found = None;
    let mut rest = Some(path);
    // A slash at the end decides nothing: a router nested as a service is matched as `/cars/{id}/` where the client
    // wrote `/cars/7`, and something between two routers may have trimmed the path.
    for segment in pattern.trim_end_matches('/').split('/') {
        let Some(parameter) = Parameter::of(segment) else {
            let (literal, after) = split_segment(rest?);
            rest = after;
            if literal != unescaped(segment) {
                return None;
            }
            continue;
        };
        let (value, after) = match parameter.is_tail {
            true => (rest?, None),
            false => split_segment(rest?),
        };
        rest = after;
        let value = value
            .strip_prefix(&*unescaped(parameter.before))?
            .strip_suffix(&*unescaped(parameter.after))?;
        if parameter.name == name && found.replace(value).is_some() {
            return None;
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
}

/// Where the first `{` stands that is not half of an escaped one, `{{`.
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
    match literal.contains(['{', '}']) {
        true => Cow::Owned(literal.replace("{{", "{").replace("}}", "}")),
        false => Cow::Borrowed(literal),
    }
}

fn split_segment(path: &str) -> (&str, Option<&str>) {
    match path.split_once('/') {
        Some((segment, rest)) => (segment, Some(rest)),
        None => (path, None),
    }
}
