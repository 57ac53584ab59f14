use http::{
    HeaderValue, Request, Version,
    header::HOST,
    uri::{Authority, PathAndQuery},
};

/// Makes a request name its host once, in the field `Host` (RFC 9112, section 3.2).
///
/// `None`: the request has to be refused with 400. It names no host, two, or one that is none.
///
/// A target in absolute form, `GET http://example.com/`, replaces `Host`. The origin then gets the host that the key of the
/// cache was made from, and a field that differs from the target reaches nobody.
pub(crate) fn with_one_host<B>(mut request: Request<B>) -> Option<Request<B>> {
    let mut lines = request.headers().get_all(HOST).iter();
    let is_usable = match (lines.next(), lines.next()) {
        (None, _) => request.version() != Version::HTTP_11,
        (Some(line), None) => is_host(line.as_bytes()),
        (Some(_), Some(_)) => false,
    };
    if !is_usable {
        return None;
    }
    if let Some(authority) = request.uri().authority() {
        let host = host_of(authority)?;
        request.headers_mut().insert(HOST, host);
        let path = request.uri().path_and_query().cloned();
        let path = path.unwrap_or(PathAndQuery::from_static("/"));
        *request.uri_mut() = path.into();
    }
    Some(request)
}

/// Returns true for a host with or without a port, and for nothing at all, which a client writes if its URI has no host.
fn is_host(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.is_empty() || Authority::try_from(line).is_ok_and(|host| !host.as_str().contains('@'))
}

/// Returns the host and the port, without the name and password that some clients leave before them.
fn host_of(authority: &Authority) -> Option<HeaderValue> {
    let text = authority.as_str();
    let host = text.rsplit('@').next().unwrap_or(text);
    HeaderValue::from_str(host).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(uri: &str, hosts: &[&str]) -> Option<(String, String)> {
        let mut request = Request::get(uri).body(()).expect("the URI is one");
        for host in hosts {
            let host = host.parse().expect("it is a value");
            request.headers_mut().append(HOST, host);
        }
        let request = with_one_host(request)?;
        let host = request.headers()[HOST].to_str().expect("it is ASCII");
        Some((host.to_owned(), request.uri().to_string()))
    }

    #[test]
    fn a_target_in_absolute_form_replaces_the_host() {
        for (uri, hosts, expected) in [
            ("/a?b", &["a.example"][..], ("a.example", "/a?b")),
            ("/", &[""], ("", "/")),
            ("/", &["[::1]:80"], ("[::1]:80", "/")),
            ("http://a.example/a?b", &["evil"], ("a.example", "/a?b")),
            ("http://a.example:81", &["a"], ("a.example:81", "/")),
            ("http://u:p@a.example/", &["a"], ("a.example", "/")),
        ] {
            let (host, path) = host(uri, hosts).expect("it is usable");
            assert_eq!((&*host, &*path), expected, "{uri} {hosts:?}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        for (uri, hosts) in [
            ("/", &[][..]),
            ("/", &["a", "a"]),
            ("http://a/", &["a", "b"]),
            ("http://a/", &[]),
            ("/", &["a/b"]),
            ("/", &["a b"]),
            ("/", &["u@a"]),
        ] {
            assert_eq!(host(uri, hosts), None, "{uri} {hosts:?}");
        }
        // Only HTTP/1.1 needs the field.
        for version in [Version::HTTP_10, Version::HTTP_2] {
            let mut request = Request::new(());
            *request.version_mut() = version;
            assert!(with_one_host(request).is_some());
        }
    }
}
