use http::{
    HeaderMap, HeaderName,
    header::{CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};

/// Removes the header fields that concern one connection alone (RFC 9110, section 7.6.1).
///
/// These are the fields of the RFC's list and all that `Connection` names.
///
/// ```
/// use http::{HeaderMap, HeaderValue};
///
/// let mut headers = HeaderMap::new();
/// headers.insert("connection", HeaderValue::from_static("close, X-Hop"));
/// headers.insert("x-hop", HeaderValue::from_static("1"));
/// headers.insert("etag", HeaderValue::from_static("\"a\""));
/// layer_http::strip_hop_by_hop(&mut headers);
/// assert_eq!(headers.len(), 1);
/// ```
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Most heads have none of them. `Connection` is one.
    if !headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

static HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("proxy-connection"),
];

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn each_listed_field_and_each_named_one_goes() {
        let mut headers = HeaderMap::new();
        for name in &HOP_BY_HOP {
            headers.insert(name, HeaderValue::from_static("1"));
        }
        headers.insert(CONNECTION, HeaderValue::from_static("X-One ,\tx-two"));
        // A line with bytes that are no text names its fields all the same.
        headers.append(
            CONNECTION,
            HeaderValue::from_bytes(b"\xff, x-three").unwrap(),
        );
        for name in ["x-one", "x-two", "x-three", "x-four"] {
            headers.insert(name, HeaderValue::from_static("1"));
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-four"]);
    }
}
