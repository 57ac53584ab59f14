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

use http::Uri;
use layer_http::RequestHead;

use crate::{http::cache_status::Detail, key::fields::HostField};

/// The parts of a target that are in every key.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    scheme: Option<&'a str>,
    /// Empty if the request names none. Its bytes are checked when it is written.
    host: &'a [u8],
    /// The one that the client sent.
    pub(crate) uri: &'a Uri,
    /// The one that the handler gets, if it differs in path or query.
    pub(crate) rewritten: Option<&'a Uri>,
}

impl<'a> Target<'a> {
    /// Reads the target of a request with this field `Host`.
    ///
    /// # Errors
    ///
    /// The reason why the request passes by: it has no usable path, several hosts, or the parts that name its host disagree.
    pub(crate) fn of(head: &RequestHead<'a>, host_field: HostField<'a>) -> Result<Self, Detail> {
        let (uri, inner) = (head.original_uri(), head.uri);
        let is_one = ptr::eq(uri, inner);
        if !uri.path().starts_with('/') || !(is_one || inner.path().starts_with('/')) {
            return Err(Detail::Host);
        }
        let scheme = match (uri.scheme_str(), inner.scheme_str()) {
            (Some(sent), Some(seen)) if !sent.eq_ignore_ascii_case(seen) => {
                return Err(Detail::Authority);
            }
            (sent, seen) => sent.or(seen),
        };
        let is_rewritten = !is_one && (uri.path() != inner.path() || uri.query() != inner.query());
        Ok(Self {
            scheme,
            host: host(scheme, [uri, inner], host_field)?,
            uri,
            rewritten: is_rewritten.then_some(inner),
        })
    }

    /// Appends scheme and host: `https://example.com`, or `//example.com` if the scheme is not known.
    ///
    /// # Errors
    ///
    /// The host holds a byte that no host may hold. A part of it was appended.
    pub(crate) fn push_origin(&self, text: &mut Vec<u8>) -> Result<(), Detail> {
        if let Some(scheme) = self.scheme {
            text.extend(scheme.bytes().map(|byte| byte.to_ascii_lowercase()));
            text.push(b':');
        }
        text.extend_from_slice(b"//");
        // Checked and written in one pass.
        let mut is_host = true;
        text.extend(self.host.iter().map(|byte| {
            let lower = LOWER_IN_HOST[usize::from(*byte)];
            is_host &= lower != 0;
            lower
        }));
        is_host.then_some(()).ok_or(Detail::Host)
    }

    /// Checks the host, if it is not written.
    ///
    /// # Errors
    ///
    /// The host holds a byte that no host may hold.
    pub(crate) fn check_host(&self) -> Result<(), Detail> {
        check_host(self.host)
    }
}

/// Returns the host on which all parts of a request agree, and the empty one if no part names one.
///
/// If there is only one part, its bytes are not checked.
fn host<'a>(
    scheme: Option<&str>,
    uris: [&'a Uri; 2],
    field: HostField<'a>,
) -> Result<&'a [u8], Detail> {
    let [sent, seen] = uris.map(|uri| {
        uri.authority()
            .map(|authority| authority.as_str().as_bytes())
    });
    let line = match field {
        HostField::Missing => None,
        HostField::One(line) => Some(line.as_bytes().trim_ascii()),
        HostField::Several => return Err(Detail::Host),
    };
    if sent.is_none() && seen.is_none() {
        // The usual case of HTTP/1.1: there is nothing to compare.
        return Ok(line.unwrap_or_default());
    }
    let mut host: Option<&[u8]> = None;
    for named in [sent, seen, line].into_iter().flatten() {
        check_host(named)?;
        host = match host {
            Some(other) if !are_same(scheme, other, named) => return Err(Detail::Authority),
            // The longer one has the port.
            Some(other) if other.len() >= named.len() => Some(other),
            _ => Some(named),
        };
    }
    Ok(host.unwrap_or_default())
}

fn check_host(host: &[u8]) -> Result<(), Detail> {
    let mut bytes = host.iter();
    match bytes.all(|byte| LOWER_IN_HOST[usize::from(*byte)] != 0) {
        true => Ok(()),
        false => Err(Detail::Host),
    }
}

/// Compares two hosts (RFC 9110, section 4.2.3). A default port is one only of a scheme that is known.
fn are_same(scheme: Option<&str>, one: &[u8], other: &[u8]) -> bool {
    let port: &[u8] = match scheme {
        Some("http") => b":80",
        Some("https") => b":443",
        _ => b"",
    };
    let without_port = |host| <[u8]>::strip_suffix(host, port).unwrap_or(host);
    without_port(one).eq_ignore_ascii_case(without_port(other))
}

/// Each byte that a host may hold, in lower case, and 0 for each other byte. A table, as each byte of each request is looked up.
///
/// No slash is in it, so that no two pairs of host and path make one key.
static LOWER_IN_HOST: [u8; 256] = {
    let mut lower = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        if (byte as u8).is_ascii_alphanumeric() {
            lower[byte] = (byte as u8).to_ascii_lowercase();
        }
        byte += 1;
    }
    let mut marks: &[u8] = b"-._~:[]%!$&'()*+,;=";
    while let [mark, rest @ ..] = marks {
        lower[*mark as usize] = *mark;
        marks = rest;
    }
    lower
};

#[cfg(test)]
mod tests {
    use http::{Request, header::HOST};

    use super::*;
    use crate::key::fields::FieldRoles;

    fn target<T>(request: &Request<T>) -> Result<Target<'_>, Detail> {
        let fields = FieldRoles::new().read(request.headers());
        Target::of(&RequestHead::of(request), fields.host)
    }

    fn origin(uri: &str, hosts: &[&str]) -> Result<String, Detail> {
        let mut request = Request::get(uri).body(()).unwrap();
        for host in hosts {
            request.headers_mut().append(HOST, host.parse().unwrap());
        }
        let target = target(&request)?;
        assert_eq!(target.check_host(), target.push_origin(&mut Vec::new()));
        let mut text = Vec::new();
        target.push_origin(&mut text)?;
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

        let rewritten = |sent: &'static str, seen: &str| {
            let mut request = Request::get(seen).body(()).unwrap();
            let sent = OriginalUri(Uri::from_static(sent));
            request.extensions_mut().insert(sent);
            let target = target(&request)?;
            Ok(target.rewritten.map(Uri::to_string))
        };
        assert_eq!(rewritten("/a/b", "/a/b"), Ok(None));
        assert_eq!(rewritten("/a/b", "/b"), Ok(Some("/b".into())));
        assert_eq!(rewritten("/a?x", "/a"), Ok(Some("/a".into())));
        assert_eq!(rewritten("http://h/a", "/a"), Ok(None));
        let differ = Err(Detail::Authority);
        assert_eq!(rewritten("http://h/a", "http://i/a"), differ);
        assert_eq!(rewritten("http://h/a", "https://h/a"), differ);
        assert_eq!(rewritten("/a", "*"), Err(Detail::Host));
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
            target(&request).unwrap().push_origin(&mut text).unwrap();
            assert_eq!(text, b"http://a");
        }
    }
}
