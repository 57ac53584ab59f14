use http::header::HOST;
use layer_http::RequestHead;

/// Returns the host that a request names, in lower case and without its port if that is 80 or 443. Empty if it names none.
///
/// A URI with an authority comes first, as in HTTP/2. User information in front of the host is left out.
pub(super) fn of(head: &RequestHead<'_>) -> Vec<u8> {
    let named = match head.original_uri().authority() {
        Some(authority) => authority.as_str().as_bytes(),
        None => match head.headers.get(HOST) {
            Some(host) => host.as_bytes(),
            None => b"",
        },
    };
    let host = match named.iter().rposition(|byte| *byte == b'@') {
        Some(at) => &named[at + 1..],
        None => named,
    };
    without_default_port(host).to_ascii_lowercase()
}

/// `example.com`, `example.com:`, `example.com:80` and `example.com:443` are one host: a service does not run twice for it.
fn without_default_port(host: &[u8]) -> &[u8] {
    let port = [&b":80"[..], b":443", b":"]
        .into_iter()
        .find(|port| host.ends_with(port));
    match port {
        Some(port) => &host[..host.len() - port.len()],
        None => host,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn one_host_has_one_name_however_it_is_written() {
        let host = |uri: &str, header: &str| {
            let request = Request::post(uri).header("host", header).body(()).unwrap();
            String::from_utf8(of(&RequestHead::of(&request))).unwrap()
        };
        for written in [
            "example.com",
            "Example.COM",
            "example.com:80",
            "example.com:443",
            "example.com:",
        ] {
            assert_eq!(host("/", written), "example.com", "{written}");
        }
        assert_eq!(host("/", "example.com:8080"), "example.com:8080");
        assert_eq!(host("/", "[2001:DB8::80]"), "[2001:db8::80]");
        assert_eq!(host("/", "[2001:db8::1]:80"), "[2001:db8::1]");
        // An absolute URI names the host, whatever the header says (HTTP/2).
        assert_eq!(host("https://A.example:443/", "b"), "a.example");
        assert_eq!(host("http://ada@a.example/", "b"), "a.example");
        assert_eq!(of(&RequestHead::of(&Request::new(()))), b"");
    }
}
