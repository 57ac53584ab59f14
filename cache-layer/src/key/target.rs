//! The target of a request, as its handler sees it: scheme, host, path and query.
//!
//! The rule: whatever a handler can read of its target is in the key, or the request passes by.
//!
//! - The scheme and the host are those of the URI (a target in absolute form, or HTTP/2), else the host is that of `Host`.
//!   If several of them are there they have to agree, as a handler may read either one.
//! - The port is in the key if one of them was sent with it, a default port too: a handler may write it into a link.
//! - A URI that was changed on its way from the router to this layer is in the key beside the one that the client sent. A
//!   nested router cuts its prefix, other services rewrite paths by what they please. The sent one alone would not tell.

use std::ptr;

use http::{HeaderMap, Uri, header::HOST};
use layer_http::RequestHead;

use crate::http::cache_status::Detail;

/// The parts of a target that are in every key.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    scheme: Option<&'a str>,
    /// Empty if the request names none.
    host: &'a str,
    /// The one that the client sent.
    pub(crate) uri: &'a Uri,
    /// The one that the handler gets, if it differs in path or query.
    pub(crate) rewritten: Option<&'a Uri>,
}

impl<'a> Target<'a> {
    /// Reads the target of a request.
    ///
    /// # Errors
    ///
    /// The reason why the request passes by: it has no usable host or path, or the parts that name its host disagree.
    pub(crate) fn of(head: &RequestHead<'a>) -> Result<Self, Detail> {
        let (uri, inner) = (head.original_uri(), head.uri);
        if !uri.path().starts_with('/') || !inner.path().starts_with('/') {
            return Err(Detail::Host);
        }
        let scheme = match (uri.scheme_str(), inner.scheme_str()) {
            (Some(sent), Some(seen)) if !sent.eq_ignore_ascii_case(seen) => {
                return Err(Detail::Authority);
            }
            (sent, seen) => sent.or(seen),
        };
        let is_rewritten =
            !ptr::eq(uri, inner) && (uri.path() != inner.path() || uri.query() != inner.query());
        Ok(Self {
            scheme,
            host: host(scheme, [uri, inner], head.headers)?,
            uri,
            rewritten: is_rewritten.then_some(inner),
        })
    }

    /// Returns the length of the target as text, if nothing is left out of it.
    pub(crate) fn len(&self) -> usize {
        let scheme = self.scheme.map_or(0, |scheme| scheme.len() + 1);
        let len = |uri: &Uri| uri.path().len() + uri.query().map_or(0, |query| query.len() + 1);
        let rewritten = self.rewritten.map_or(0, |rewritten| len(rewritten) + 1);
        scheme + 2 + self.host.len() + len(self.uri) + rewritten
    }

    /// Appends scheme and host: `https://example.com`, or `//example.com` if the scheme is not known.
    pub(crate) fn push_origin(&self, text: &mut Vec<u8>) {
        let start = text.len();
        if let Some(scheme) = self.scheme {
            text.extend_from_slice(scheme.as_bytes());
            text.push(b':');
        }
        text.extend_from_slice(b"//");
        text.extend_from_slice(self.host.as_bytes());
        text[start..].make_ascii_lowercase();
    }
}

/// Returns the host on which all parts of a request agree, and the empty one if no part names one.
///
/// It holds no slash, so that no two pairs of host and path make one key.
fn host<'a>(
    scheme: Option<&str>,
    uris: [&'a Uri; 2],
    headers: &'a HeaderMap,
) -> Result<&'a str, Detail> {
    let [sent, seen] = uris.map(|uri| uri.authority().map(|authority| authority.as_str()));
    let line = host_line(headers)?;
    if sent.is_none() && seen.is_none() {
        // The usual case of HTTP/1.1: there is nothing to compare.
        return checked(line.unwrap_or_default());
    }
    let mut host: Option<&str> = None;
    for named in [sent, seen, line].into_iter().flatten() {
        let named = checked(named)?;
        host = match host {
            Some(other) if !are_same(scheme, other, named) => return Err(Detail::Authority),
            // The longer one has the port.
            Some(other) if other.len() >= named.len() => Some(other),
            _ => Some(named),
        };
    }
    Ok(host.unwrap_or_default())
}

/// Returns the host, if it holds only what a host may hold.
fn checked(host: &str) -> Result<&str, Detail> {
    match host.bytes().all(|byte| IN_HOST[usize::from(byte)]) {
        true => Ok(host),
        false => Err(Detail::Host),
    }
}

/// Returns the value of the field `Host`, which a request has at most once (RFC 9112, section 3.2).
fn host_line(headers: &HeaderMap) -> Result<Option<&str>, Detail> {
    let mut lines = headers.get_all(HOST).iter();
    let line = match (lines.next(), lines.next()) {
        (None, _) => return Ok(None),
        (Some(line), None) => line,
        (Some(_), Some(_)) => return Err(Detail::Host),
    };
    let text = line.to_str().map_err(|_not_ascii| Detail::Host)?;
    Ok(Some(text.trim_ascii()))
}

/// Compares two hosts (RFC 9110, section 4.2.3). A default port is one only of a scheme that is known.
fn are_same(scheme: Option<&str>, one: &str, other: &str) -> bool {
    let without_port = |host| match scheme {
        Some("http") => str::strip_suffix(host, ":80").unwrap_or(host),
        Some("https") => str::strip_suffix(host, ":443").unwrap_or(host),
        _ => host,
    };
    without_port(one).eq_ignore_ascii_case(without_port(other))
}

/// True for each byte that a host may hold. A table, as each byte of each request is looked up.
static IN_HOST: [bool; 256] = {
    let mut in_host = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        in_host[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut marks: &[u8] = b"-._~:[]%!$&'()*+,;=";
    while let [mark, rest @ ..] = marks {
        in_host[*mark as usize] = true;
        marks = rest;
    }
    in_host
};

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn origin(uri: &str, hosts: &[&str]) -> Result<String, Detail> {
        let mut request = Request::get(uri).body(()).unwrap();
        for host in hosts {
            request.headers_mut().append(HOST, host.parse().unwrap());
        }
        let target = Target::of(&RequestHead::of(&request))?;
        let mut text = Vec::new();
        target.push_origin(&mut text);
        Ok(String::from_utf8(text).unwrap())
    }

    #[test]
    fn an_origin_is_scheme_host_and_port_as_far_as_they_are_known() {
        for (uri, hosts, expected) in [
            ("/", &[][..], "//"),
            ("/", &["H.Example"], "//h.example"),
            ("/", &["a:80"], "//a:80"),
            ("/", &[" a:443 "], "//a:443"),
            ("/", &["[::1]:80"], "//[::1]:80"),
            ("http://A/", &[], "http://a"),
            ("https://a/", &["a"], "https://a"),
            ("https://a:443/", &[], "https://a:443"),
        ] {
            assert_eq!(origin(uri, hosts).unwrap(), expected, "{uri} {hosts:?}");
        }
    }

    #[test]
    fn hosts_that_differ_are_told_apart_from_hosts_that_are_none() {
        for (uri, host) in [
            ("http://a/", "b"),
            ("http://a/", ""),
            ("http://a/", "a:81"),
            ("http://a/", "a:443"),
            ("https://a/", "a:80"),
            ("ftp://a/", "a:80"),
        ] {
            let read = origin(uri, &[host]);
            assert_eq!(read, Err(Detail::Authority), "{uri} {host}");
        }
        for (uri, hosts) in [
            ("/", &["a/b"][..]),
            ("/", &["a b"]),
            ("/", &["a@b"]),
            ("/", &["a?b"]),
            ("/", &["a", "a"]),
            ("http://u@a/", &[]),
            ("*", &["a"]),
        ] {
            assert_eq!(origin(uri, hosts), Err(Detail::Host), "{uri} {hosts:?}");
        }
    }

    #[test]
    fn a_default_port_is_compared_without_and_kept_in_the_key() {
        let with_port = Ok("http://a:80".to_owned());
        assert_eq!(origin("http://A/", &["a:80"]), with_port);
        assert_eq!(origin("http://a:80/", &["a"]), with_port);
        assert_eq!(origin("http://a/", &["A"]), Ok("http://a".to_owned()));
        let with_port = Ok("https://a:443".to_owned());
        assert_eq!(origin("https://a/", &["a:443"]), with_port);
    }

    #[cfg(feature = "axum")]
    #[test]
    fn a_rewritten_uri_is_told_and_may_not_change_the_host() {
        use axum::extract::OriginalUri;

        let target = |sent: &'static str, seen: &str| {
            let mut request = Request::get(seen).body(()).unwrap();
            let sent = OriginalUri(Uri::from_static(sent));
            request.extensions_mut().insert(sent);
            let target = Target::of(&RequestHead::of(&request))?;
            Ok(target.rewritten.map(Uri::to_string))
        };
        assert_eq!(target("/a/b", "/a/b"), Ok(None));
        assert_eq!(target("/a/b", "/b"), Ok(Some("/b".into())));
        assert_eq!(target("/a?x", "/a"), Ok(Some("/a".into())));
        assert_eq!(target("http://h/a", "/a"), Ok(None));
        let differ = Err(Detail::Authority);
        assert_eq!(target("http://h/a", "http://i/a"), differ);
        assert_eq!(target("http://h/a", "https://h/a"), differ);
        assert_eq!(target("/a", "*"), Err(Detail::Host));
    }

    #[cfg(feature = "axum")]
    #[test]
    fn the_origin_is_known_if_one_of_the_two_uris_tells_it() {
        use axum::extract::OriginalUri;

        for (sent, seen) in [("/", "http://a/"), ("http://a/", "/")] {
            let mut request = Request::get(seen).body(()).unwrap();
            let sent = OriginalUri(Uri::from_static(sent));
            request.extensions_mut().insert(sent);
            let mut text = Vec::new();
            let target = Target::of(&RequestHead::of(&request)).unwrap();
            target.push_origin(&mut text);
            assert_eq!(text, b"http://a");
        }
    }
}
