use http::{HeaderValue, header::AUTHORIZATION};
use layer_store::Identity;

use super::header::Lines;
use crate::{KeyExtractor, RequestHead, Resolved};

/// Makes an extractor for the token of `Authorization: Bearer <token>` (RFC 6750, section 2.1).
///
/// The scheme may be written in any case, and with several spaces after it (RFC 9110, section 11.1). With
/// [`header("authorization")`](crate::header) each way to write `Bearer` would be an identity of its own, with a quota of its
/// own.
///
/// A request without the header, or with another scheme, has no identity. One with two different tokens, or with a token and
/// another scheme, is [`Resolved::Ambiguous`], as with [`header`](crate::header).
///
/// ```
/// use layer_http::{Identity, KeyExtractor, RequestHead, bearer_token};
///
/// for line in ["Bearer ada", "bearer  ada"] {
///     let request = http::Request::get("/").header("authorization", line).body(()).unwrap();
///     assert_eq!(bearer_token().extract(&RequestHead::of(&request)), Some(Identity::from("ada")));
/// }
/// ```
pub const fn bearer_token() -> BearerToken {
    BearerToken(())
}

/// The extractor made by [`bearer_token`].
#[derive(Clone, Copy, Debug)]
pub struct BearerToken(());

impl KeyExtractor for BearerToken {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        match Lines::of(head.headers.get_all(AUTHORIZATION), token) {
            Lines::One(token) => Some(token.into()),
            Lines::None | Lines::Different => None,
        }
    }

    fn resolve<'a>(&self, head: &RequestHead<'a>) -> Resolved<'a> {
        match Lines::of(head.headers.get_all(AUTHORIZATION), token) {
            Lines::One(token) => Resolved::Found(token.into()),
            Lines::None => Resolved::without(self.missing(), head),
            Lines::Different => Resolved::Ambiguous,
        }
    }
}

fn token(line: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = line
        .as_bytes()
        .trim_ascii()
        .split_at_checked(BEARER.len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(BEARER) && token.starts_with(b" ");
    is_bearer.then(|| token.trim_ascii())
}

const BEARER: &[u8] = b"Bearer";

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn resolve(lines: &[&str]) -> Resolved<'static> {
        let mut request = Request::new(());
        for line in lines {
            let value = line.parse().unwrap();
            request.headers_mut().append(AUTHORIZATION, value);
        }
        match bearer_token().or_skip().resolve(&RequestHead::of(&request)) {
            Resolved::Found(token) => Resolved::Found(token.into_owned()),
            Resolved::Ambiguous => Resolved::Ambiguous,
            _ => Resolved::Skip,
        }
    }

    #[test]
    fn each_way_to_write_a_token_is_one_identity() {
        for lines in [
            &["Bearer ada"][..],
            &["bearer ada"],
            &["BEARER   ada  "],
            &["Bearer ada", "bEARER ada"],
        ] {
            assert_eq!(resolve(lines), Resolved::Found("ada".into()), "{lines:?}");
        }
    }

    #[test]
    fn another_scheme_is_no_token() {
        for lines in [
            &[][..],
            &["Basic YTpi"],
            &["Bearer"],
            &["Bearer "],
            &["Bearerada"],
            &[""],
        ] {
            assert_eq!(resolve(lines), Resolved::Skip, "{lines:?}");
        }
    }

    #[test]
    fn two_credentials_are_ambiguous() {
        for lines in [
            &["Bearer ada", "Bearer bob"][..],
            &["Bearer ada", "Basic YTpi"],
            &["Basic YTpi", "Bearer ada"],
            &["Bearer ada", ""],
            &["Basic a", "Basic a"],
        ] {
            assert_eq!(resolve(lines), Resolved::Ambiguous, "{lines:?}");
        }
    }
}
