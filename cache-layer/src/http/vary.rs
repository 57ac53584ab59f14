use bytes::Bytes;
use http::{HeaderMap, HeaderName, header::VARY};

use crate::http::cache_control::members;

/// The request fields by which the responses of one address vary, sorted by name (RFC 9111, section 4.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VaryFields(Vec<HeaderName>);

/// An error: the response varies by something that no list of fields can hold.
///
/// That is `Vary: *`, a member that is not a field name, or more than 16 fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VaryAny;

impl VaryFields {
    /// Reads all `Vary` lines of a response.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, VaryAny> {
        let mut names = Self::default();
        for line in headers.get_all(VARY) {
            for member in members(line.as_bytes()) {
                if member == b"*" {
                    return Err(VaryAny);
                }
                names.add(HeaderName::from_bytes(member).map_err(|_not_a_name| VaryAny)?);
            }
        }
        if names.0.len() > MAX_FIELDS {
            return Err(VaryAny);
        }
        Ok(names)
    }

    /// Sorts `names` and drops those that come twice.
    pub(crate) fn from_vec(names: Vec<HeaderName>) -> Self {
        let mut sorted = Self::default();
        for name in names {
            sorted.add(name);
        }
        sorted
    }

    /// Adds a field, once.
    pub(crate) fn add(&mut self, name: HeaderName) {
        if let Err(at) = self.0.binary_search_by(|n| n.as_str().cmp(name.as_str())) {
            self.0.insert(at, name);
        }
    }

    /// Returns the fields of both.
    pub(crate) fn union(&self, others: &Self) -> Result<Self, VaryAny> {
        let mut union = self.clone();
        for name in &others.0 {
            union.add(name.clone());
        }
        if union.0.len() > MAX_FIELDS {
            return Err(VaryAny);
        }
        Ok(union)
    }

    /// Returns true if the address has one response for all requests.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the fields in order.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &HeaderName> {
        self.0.iter()
    }

    /// Returns the last part of a variant's key: the fields with their values in a request. A stored format.
    ///
    /// Each part is written with its length, so that no value can be taken for the end of another one.
    pub(crate) fn variant(&self, request: &HeaderMap) -> Vec<u8> {
        let mut variant = Vec::new();
        for name in &self.0 {
            push_part(&mut variant, Some(name.as_str().as_bytes()));
            push_part(&mut variant, value(request, name).as_deref());
        }
        variant
    }
}

/// Returns the value of a request field: its lines trimmed and joined by `, `. `None` if there is no line.
pub(crate) fn value(request: &HeaderMap, name: &HeaderName) -> Option<Bytes> {
    let mut lines = request.get_all(name).iter();
    let first = lines.next()?;
    let mut value = first.as_bytes().trim_ascii().to_vec();
    for line in lines {
        value.extend_from_slice(b", ");
        value.extend_from_slice(line.as_bytes().trim_ascii());
    }
    Some(value.into())
}

/// Appends a part of a key with its length, or a mark that it is missing. A stored format.
pub(crate) fn push_part(out: &mut Vec<u8>, part: Option<&[u8]>) {
    match part {
        Some(part) => {
            out.extend_from_slice(part.len().to_string().as_bytes());
            out.push(b'.');
            out.extend_from_slice(part);
        }
        None => out.push(b'-'),
    }
}

/// Far more than a real response names.
const MAX_FIELDS: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(lines: &[&str]) -> Result<Vec<String>, VaryAny> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(VARY, line.parse().unwrap());
        }
        Ok(VaryFields::of(&headers)?
            .iter()
            .map(ToString::to_string)
            .collect())
    }

    #[test]
    fn every_line_and_case_counts() {
        assert_eq!(
            names(&["Accept , b", "", ",,A"]).unwrap(),
            ["a", "accept", "b"]
        );
        assert_eq!(names(&["a", "A, a"]).unwrap(), ["a"]);
        assert_eq!(names(&[]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_star_anywhere_matches_nothing() {
        for lines in [
            &["*"][..],
            &["* "],
            &["a, *"],
            &["a", "*"],
            &[",*,"],
            &["a b"],
        ] {
            assert_eq!(names(lines), Err(VaryAny), "{lines:?}");
        }
        let many = (0..17)
            .map(|i| format!("x-{i}"))
            .collect::<Vec<_>>()
            .join(",");
        assert_eq!(names(&[&many]), Err(VaryAny));
    }

    #[test]
    fn an_absent_field_is_not_an_empty_one() {
        let mut names = VaryFields::default();
        names.add(HeaderName::from_static("a"));
        let mut empty = HeaderMap::new();
        empty.insert("a", "".parse().unwrap());
        assert_ne!(names.variant(&HeaderMap::new()), names.variant(&empty));
    }

    fn lines() -> impl Strategy<Value = Vec<(bool, String)>> {
        proptest::collection::vec((any::<bool>(), "[-.,0-9a]{0,4}"), 0..4)
    }

    #[test]
    fn sixteen_fields_are_the_most() {
        let many = |range: std::ops::Range<usize>| {
            let names = range.map(|i| HeaderName::try_from(format!("x-{i}")).unwrap());
            VaryFields::from_vec(names.collect())
        };
        let line = |count| {
            let names: Vec<_> = (0..count).map(|i| format!("x-{i}")).collect();
            super::tests::names(&[&names.join(",")]).map(|names| names.len())
        };
        assert_eq!((line(16), line(17)), (Ok(16), Err(VaryAny)));
        assert_eq!(many(0..10).union(&many(6..16)), Ok(many(0..16)));
        assert_eq!(many(0..10).union(&many(7..17)), Err(VaryAny));
        assert!(many(0..0).is_empty() && !many(0..1).is_empty());
    }

    /// Processes of all versions find each other's variants.
    #[test]
    fn the_key_of_a_variant_is_golden() {
        let names = ["b", "a"].map(HeaderName::from_static);
        let mut request = HeaderMap::new();
        request.append("b", " x ".parse().unwrap());
        request.append("b", "y".parse().unwrap());
        let variant = VaryFields::from_vec(names.into()).variant(&request);
        assert_eq!(variant, b"1.a-1.b4.x, y");
    }

    proptest! {
        #[test]
        fn different_values_are_different_variants(one in lines(), other in lines()) {
            let mut names = VaryFields::default();
            names.add(HeaderName::from_static("a"));
            names.add(HeaderName::from_static("b"));
            let map = |lines: &[(bool, String)]| {
                let mut headers = HeaderMap::new();
                for (first, value) in lines {
                    headers.append(if *first { "a" } else { "b" }, value.parse().unwrap());
                }
                headers
            };
            let (one, other) = (map(&one), map(&other));
            let same = names.iter().all(|name| value(&one, name) == value(&other, name));
            prop_assert_eq!(names.variant(&one) == names.variant(&other), same);
        }
    }
}
