use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, header::CONTENT_TYPE};
use layer_http::RequestHead;
use serde_json::Value;

use super::fingerprint::{Fields, Fingerprint};

/// The part of its request that a repetition must have in common with the first one. A key that comes with another payload gets 422.
///
/// Method, path and query always count, except with [`none`](Self::none).
///
/// ```
/// use lock_layer::{ClientScope, IdempotencyLayer, PayloadRule, store::{MemoryStore, SharedStore}};
///
/// let store = SharedStore::new(MemoryStore::new());
/// let once = IdempotencyLayer::at_most_once(store, ClientScope::global())
///     .payload(PayloadRule::json_fields(["amount", "/to/account"]));
/// # let _ = once;
/// ```
#[derive(Clone, Debug)]
pub struct PayloadRule(Rule);

#[derive(Clone, Debug)]
enum Rule {
    Bytes,
    Json,
    JsonFields(Arc<[Box<str>]>),
    None,
}

impl PayloadRule {
    /// Compares the content type and each byte of the body. This is the default.
    ///
    /// The boundary of a multipart body does not count, since clients choose a new one for each attempt.
    pub fn bytes() -> Self {
        Self(Rule::Bytes)
    }

    /// Compares the value of a JSON body: white space, escapes and the order of the members of an object do not count. For
    /// clients that write their JSON anew for each attempt.
    ///
    /// Numbers are compared as 64-bit integers if they are such, and otherwise as 64-bit floats. A body that is not JSON is
    /// compared as by [`bytes`](Self::bytes).
    pub fn json() -> Self {
        Self(Rule::Json)
    }

    /// Compares these fields of a JSON body alone: names such as `amount`, or JSON pointers such as `/to/account` (RFC 6901).
    /// For bodies with a time stamp or a nonce that is new in each attempt.
    ///
    /// A body that is not JSON is compared as by [`bytes`](Self::bytes).
    ///
    /// # Panics
    ///
    /// If there are none: write [`none`](Self::none).
    #[track_caller]
    pub fn json_fields<'f>(fields: impl IntoIterator<Item = &'f str>) -> Self {
        let pointer = |field: &str| match field.starts_with('/') {
            true => field.into(),
            false => format!("/{}", field.replace('~', "~0")).into(),
        };
        let fields: Arc<[Box<str>]> = fields.into_iter().map(pointer).collect();
        assert!(
            !fields.is_empty(),
            "without fields nothing is compared: write PayloadRule::none() if that is meant"
        );
        Self(Rule::JsonFields(fields))
    }

    /// Compares nothing: the key alone tells what a request is.
    pub fn none() -> Self {
        Self(Rule::None)
    }

    /// Makes the fingerprint of a request with this body.
    pub(super) fn fingerprint(&self, head: &RequestHead<'_>, body: &[u8]) -> Fingerprint {
        let mut fields = Fields::new("fingerprint");
        if matches!(self.0, Rule::None) {
            return fields.into_fingerprint();
        }
        let uri = head.original_uri();
        fields.add(head.method.as_str().as_bytes());
        fields.add(uri.path().as_bytes());
        fields.add(uri.query().unwrap_or_default().as_bytes());
        match (&self.0, json(&self.0, body)) {
            (Rule::JsonFields(pointers), Some(value)) => {
                fields.add(b"json fields");
                for pointer in pointers.iter() {
                    // A field that is missing differs from one that is null.
                    let field = value.pointer(pointer).map(canonical);
                    fields.add(&field.unwrap_or_default());
                }
            }
            (_, Some(value)) => {
                fields.add(b"json");
                fields.add(&canonical(&value));
            }
            (_, None) => add_bytes(&mut fields, head.headers, body),
        }
        fields.into_fingerprint()
    }
}

fn json(rule: &Rule, body: &[u8]) -> Option<Value> {
    match rule {
        Rule::Json | Rule::JsonFields(_) => serde_json::from_slice(body).ok(),
        Rule::Bytes | Rule::None => None,
    }
}

fn add_bytes(fields: &mut Fields, headers: &HeaderMap, body: &[u8]) {
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    let content_type = content_type.unwrap_or_default();
    match boundary(content_type) {
        Some((kind, boundary)) => {
            fields.add(kind);
            fields.add(&without_boundary(body, boundary));
        }
        None => {
            fields.add(content_type);
            fields.add(body);
        }
    }
}

/// Returns the kind and the boundary of `multipart/form-data; boundary=x` (RFC 2046, section 5.1.1).
fn boundary(content_type: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = content_type.split(|byte| *byte == b';');
    let kind = parts.next()?.trim_ascii();
    let prefix = kind.get(..10)?;
    if !prefix.eq_ignore_ascii_case(b"multipart/") {
        return None;
    }
    let boundary = parts.find_map(|part| {
        let part = part.trim_ascii();
        let (name, value) = part.split_at_checked(9)?;
        name.eq_ignore_ascii_case(b"boundary=").then_some(value)
    })?;
    let bare = boundary
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    let boundary = bare.unwrap_or(boundary);
    (!boundary.is_empty()).then_some((kind, boundary))
}

/// Returns the body with `--` in place of each delimiter.
fn without_boundary<'b>(body: &'b [u8], boundary: &[u8]) -> Cow<'b, [u8]> {
    let delimiter = [b"--", boundary].concat();
    let mut rest = body;
    let mut kept = Vec::with_capacity(body.len());
    while let Some(at) = rest
        .windows(delimiter.len())
        .position(|part| part == delimiter)
    {
        kept.extend_from_slice(&rest[..at + 2]);
        rest = &rest[at + delimiter.len()..];
    }
    kept.extend_from_slice(rest);
    kept.into()
}

/// Writes a value with the members of objects in order and without white space.
fn canonical(value: &Value) -> Vec<u8> {
    let mut text = Vec::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Value, text: &mut Vec<u8>) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            text.push(b'{');
            for (name, value) in members {
                write_canonical(&Value::String(name.clone()), text);
                text.push(b':');
                write_canonical(value, text);
                text.push(b',');
            }
            text.push(b'}');
        }
        Value::Array(items) => {
            text.push(b'[');
            for item in items {
                write_canonical(item, text);
                text.push(b',');
            }
            text.push(b']');
        }
        plain => text.extend_from_slice(plain.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn print(rule: &PayloadRule, kind: &str, body: &str) -> Vec<u8> {
        let request = Request::post("/a?q").header("content-type", kind);
        let request = request.body(()).unwrap();
        let head = RequestHead::of(&request);
        rule.fingerprint(&head, body.as_bytes()).as_bytes().to_vec()
    }

    fn json(rule: &PayloadRule, body: &str) -> Vec<u8> {
        print(rule, "application/json", body)
    }

    #[test]
    fn the_value_of_a_json_body_counts_and_not_its_text() {
        let rule = PayloadRule::json();
        let first = json(&rule, r#"{"a": [1, {"x": null, "y": "A"}], "b": 2.50}"#);
        let again = "{\"b\":2.5,\n\"a\":[1,{\"y\":\"\\u0041\",\"x\":null}]}";
        assert_eq!(json(&rule, again), first);
        assert_ne!(json(&PayloadRule::bytes(), again), first);
        for other in [
            r#"{"a": [{"x": null, "y": "A"}, 1], "b": 2.5}"#,
            r#"{"a": [1, {"x": null, "y": "A"}], "b": "2.5"}"#,
            r#"{"a": [1, {"x": null, "y": "A"}], "b": 2.5, "c": 1}"#,
            r#"{"a": [1, {"x": 0, "y": "A"}], "b": 2.5}"#,
        ] {
            assert_ne!(json(&rule, other), first, "{other}");
        }
        // What is no JSON is compared as it is.
        assert_eq!(json(&rule, "{"), json(&PayloadRule::bytes(), "{"));
        assert_ne!(json(&rule, "{"), json(&rule, "{ "));
    }

    #[test]
    fn chosen_fields_count_alone() {
        let rule = PayloadRule::json_fields(["amount", "/to/account"]);
        let first = json(&rule, r#"{"amount": 5, "to": {"account": "x"}, "at": 1}"#);
        let again = r#"{"at": 2, "to": {"account": "x", "name": "y"}, "amount": 5}"#;
        assert_eq!(json(&rule, again), first);
        for other in [
            r#"{"amount": 6, "to": {"account": "x"}}"#,
            r#"{"amount": 5, "to": {"account": "z"}}"#,
            r#"{"amount": 5, "to": {"account": null}}"#,
            r#"{"amount": 5}"#,
        ] {
            assert_ne!(json(&rule, other), first, "{other}");
        }
        let missing = json(&rule, r#"{"amount": 5}"#);
        assert_ne!(
            json(&rule, r#"{"amount": 5, "to": {"account": null}}"#),
            missing
        );
    }

    #[test]
    fn nothing_counts_where_the_key_alone_does() {
        let rule = PayloadRule::none();
        assert_eq!(json(&rule, "1"), print(&rule, "text/plain", "2"));
    }

    #[test]
    fn the_boundary_of_a_multipart_body_does_not_count() {
        let rule = PayloadRule::bytes();
        let form = |boundary: &str, quoted: bool, value: &str| {
            let kind = match quoted {
                true => format!("multipart/form-data; charset=utf-8; Boundary=\"{boundary}\""),
                false => format!("multipart/form-data; charset=utf-8; boundary={boundary}"),
            };
            let body = format!("--{boundary}\r\nname: a\r\n\r\n{value}\r\n--{boundary}--\r\n");
            print(&rule, &kind, &body)
        };
        let first = form("aaa", false, "car 7");
        assert_eq!(form("bb", false, "car 7"), first);
        assert_eq!(form("ccc", true, "car 7"), first);
        assert_ne!(form("aaa", false, "car 8"), first);
        for (kind, boundary) in [
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
            ("text/plain; boundary=x", None),
            ("multipart/mixed;boundary=x", Some("x")),
            ("", None),
        ] {
            let found = super::boundary(kind.as_bytes()).map(|(_, boundary)| boundary);
            assert_eq!(found, boundary.map(str::as_bytes), "{kind}");
        }
    }

    #[test]
    #[should_panic(expected = "write PayloadRule::none()")]
    fn no_fields_are_a_mistake() {
        let _ = PayloadRule::json_fields([]);
    }
}
