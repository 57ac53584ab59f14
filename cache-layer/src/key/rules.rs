use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, Method, Uri};
use layer_http::RequestHead;

use crate::{
    grpc_calls::call::UnaryCall,
    http::{
        cache_status::Detail,
        vary::{self, VaryFields, push_part},
    },
    key::{
        cookies,
        fields::{CREDENTIALS, FORWARDED, FieldRoles, HostField, METHOD_OVERRIDES, Roles},
        names::Names,
        query::push_query,
        target::Target,
        text::AddressText,
    },
};

/// The settings of a layer that decide which requests share entries, and what of a response is stored.
#[derive(Clone, Debug)]
pub(crate) struct KeyRules {
    pub(crate) credential_headers: Names,
    pub(crate) ignored_cookies: Names,
    pub(crate) ignored_query: Names,
    pub(crate) is_query_sorted: bool,
    pub(crate) key_headers: VaryFields,
    pub(crate) trusted_headers: Names,
    /// The response fields that are not stored.
    pub(crate) unstored_headers: Names,
    pub(crate) key: Option<TextFn>,
    pub(crate) user: Option<TextFn>,
}

/// A function that makes a text from a request.
#[derive(Clone)]
pub(crate) struct TextFn(Arc<MakeText>);

type MakeText = dyn Fn(&RequestHead<'_>) -> Option<String> + Send + Sync;

impl KeyRules {
    /// Returns the parts that the fields of a request play under these rules.
    pub(crate) fn fields(&self, is_safe: bool) -> FieldRoles {
        let mut fields = FieldRoles::new();
        for name in self.credential_headers.iter() {
            let is_cookie = name.parts() == ("cookie", false);
            let role = match is_cookie && !self.ignored_cookies.is_empty() {
                true => Roles::COOKIES,
                false => Roles::CREDENTIAL,
            };
            fields.add(name.clone(), role);
        }
        if is_safe {
            let overrides = Names::known(&METHOD_OVERRIDES);
            fields.add_all(&overrides, Roles::METHOD_OVERRIDE);
            fields.add_all(&self.forwarded(), Roles::FORWARDED);
        }
        fields
    }

    /// Returns true if a request with fields of these `roles` tells who its client is.
    pub(crate) fn are_credentials(&self, roles: Roles, headers: &HeaderMap) -> bool {
        roles.has(Roles::CREDENTIAL)
            || (roles.has(Roles::COOKIES) && !cookies::are_ignored(headers, &self.ignored_cookies))
    }

    /// Returns the user of a request. `None` if there is none, or if entries are not kept for each user.
    ///
    /// An empty text is no user: it would be all who are not signed in.
    pub(crate) fn user(&self, head: &RequestHead<'_>) -> Option<Box<str>> {
        let user = self.user.as_ref()?.make(head)?;
        (!user.is_empty()).then(|| user.into())
    }

    /// Makes the text of a request's address: the message of a call, the user, the keyed fields, then the target or the layer's own
    /// key.
    ///
    /// A stored format. The rules decide which parts there are, and they are part of the key space. So no two requests
    /// share an address by the way in which it is written.
    ///
    /// # Errors
    ///
    /// The reason why the request passes by.
    pub(crate) fn text(
        &self,
        head: &RequestHead<'_>,
        host: HostField<'_>,
        user: Option<&str>,
    ) -> Result<AddressText, Detail> {
        // Also with a key of the layer's own: a target whose parts disagree is nobody's honest request.
        let target = Target::of(head, host)?;
        let mut text = AddressText::begin();
        if *head.method == Method::POST
            && let Some(call) = UnaryCall::in_request(head)
        {
            call.push(&mut text);
        }
        if self.user.is_some() {
            push_part(&mut text, user.map(str::as_bytes));
        }
        for name in self.key_headers.iter() {
            push_part(&mut text, vary::value(head.headers, name).as_deref());
        }
        match &self.key {
            Some(key) => {
                target.check_host()?;
                let key = key.make(head).ok_or(Detail::Key)?;
                text.push(b'=');
                text.extend_from_slice(key.as_bytes());
            }
            None => self.push_target(&mut text, &target)?,
        }
        Ok(text)
    }

    /// Takes the fields away that are not stored.
    pub(crate) fn strip_unstored(&self, headers: &mut HeaderMap) {
        if self.unstored_headers.is_empty() {
            return;
        }
        let is_unstored = |name: &&HeaderName| {
            let name = name.as_str().as_bytes();
            self.unstored_headers.contain(name)
        };
        let unstored: Vec<_> = headers.keys().filter(is_unstored).cloned().collect();
        for name in unstored {
            headers.remove(name);
        }
    }

    /// Returns a digest of these rules for the place of the entries. `None` for the default ones.
    ///
    /// Functions cannot be compared. The digest says only if there is one.
    pub(crate) fn digest(&self) -> Option<String> {
        let written = self.written();
        let differs = written != Self::default().written();
        differs.then(|| URL_SAFE_NO_PAD.encode(&blake3::hash(&written).as_bytes()[..DIGEST_LEN]))
    }

    /// The fields by which a request names another target than it has, and which are neither keyed nor trusted.
    fn forwarded(&self) -> Names {
        let is_keyed = |name: &str| self.key_headers.iter().any(|keyed| keyed == name);
        let is_free =
            |name: &&&str| !is_keyed(name) && !self.trusted_headers.contain(name.as_bytes());
        let free: Vec<_> = FORWARDED.iter().filter(is_free).copied().collect();
        Names::known(&free)
    }

    /// Appends the target. No URI holds a space, which begins the one that the handler gets if that is another one.
    fn push_target(&self, text: &mut Vec<u8>, target: &Target<'_>) -> Result<(), Detail> {
        target.push_origin(text)?;
        let push = |text: &mut Vec<u8>, uri: &Uri| {
            text.extend_from_slice(uri.path().as_bytes());
            if let Some(query) = uri.query() {
                push_query(text, query, &self.ignored_query, self.is_query_sorted);
            }
        };
        push(text, target.uri);
        if let Some(rewritten) = target.rewritten {
            text.push(b' ');
            push(text, rewritten);
        }
        Ok(())
    }

    /// Writes all rules down, each with its length. A stored format.
    fn written(&self) -> Vec<u8> {
        let Self {
            credential_headers,
            ignored_cookies,
            ignored_query,
            is_query_sorted,
            key_headers,
            trusted_headers,
            unstored_headers,
            key,
            user,
        } = self;
        let lists: [Vec<(&str, bool)>; 6] = [
            credential_headers.parts(),
            ignored_cookies.parts(),
            ignored_query.parts(),
            key_headers.iter().map(|n| (n.as_str(), false)).collect(),
            trusted_headers.parts(),
            unstored_headers.parts(),
        ];
        let mut written = Vec::new();
        for list in lists {
            push_part(&mut written, Some(list.len().to_string().as_bytes()));
            for (text, is_open) in list {
                push_part(&mut written, Some(text.as_bytes()));
                written.push(u8::from(is_open));
            }
        }
        let flags = [*is_query_sorted, key.is_some(), user.is_some()];
        written.extend(flags.map(u8::from));
        written
    }
}

impl Default for KeyRules {
    fn default() -> Self {
        Self {
            credential_headers: Names::known(&CREDENTIALS),
            ignored_cookies: Names::default(),
            ignored_query: Names::default(),
            is_query_sorted: false,
            key_headers: VaryFields::default(),
            trusted_headers: Names::default(),
            unstored_headers: Names::default(),
            key: None,
            user: None,
        }
    }
}

impl TextFn {
    pub(crate) fn new(
        make: impl Fn(&RequestHead<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(make))
    }

    fn make(&self, head: &RequestHead<'_>) -> Option<String> {
        (self.0)(head)
    }
}

impl fmt::Debug for TextFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TextFn")
    }
}

/// In bytes: far more than two layers on one store need.
const DIGEST_LEN: usize = 9;

#[cfg(test)]
mod tests {
    use http::Request;
    use layer_store::KeySpace;
    use proptest::prelude::*;

    use super::*;
    use crate::stored::address::Address;

    fn address(rules: &KeyRules, uri: &str, lines: &[(&str, &str)]) -> Result<Address, Detail> {
        let mut request = Request::get(uri);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let head = RequestHead::of(&request);
        let user = rules.user(&head);
        let text = rules.text(&head, host(&head), user.as_deref())?;
        let space = Arc::new(KeySpace::new("entry", "test"));
        Ok(Address::of_request(space, &text, head.path(), user))
    }

    fn host<'a>(head: &RequestHead<'a>) -> HostField<'a> {
        FieldRoles::new().read(head.headers).host
    }

    fn text(rules: &KeyRules, uri: &str, lines: &[(&str, &str)]) -> String {
        let address = address(rules, uri, lines).unwrap();
        String::from_utf8(address.text.into()).unwrap()
    }

    fn by_user() -> TextFn {
        TextFn::new(|head| Some(head.headers.get("user")?.to_str().ok()?.to_owned()))
    }

    /// Processes of all versions with these rules share entries.
    #[test]
    fn the_texts_of_addresses_are_golden() {
        let mut rules = KeyRules::default();
        let host = ("host", "A.example:81");
        let uri = "/cars?b&utm_x&a";
        assert_eq!(text(&rules, uri, &[host]), "//a.example:81/cars?b&utm_x&a");
        rules.ignored_query = Names::known(&["utm_*"]);
        rules.is_query_sorted = true;
        let names = ["x-b", "x-a"].map(HeaderName::from_static);
        rules.key_headers = VaryFields::from_vec(names.into());
        let keyed = text(&rules, uri, &[host, ("x-b", " 1 ")]);
        assert_eq!(keyed, "-1.1//a.example:81/cars?a&b");
        rules.user = Some(by_user());
        let personal = text(&rules, uri, &[host, ("user", "ada"), ("x-a", "")]);
        assert_eq!(personal, "3.ada0.-//a.example:81/cars?a&b");
        rules.key = Some(TextFn::new(|head| Some(head.path().to_owned())));
        assert_eq!(text(&rules, uri, &[host]), "---=/cars");
    }

    /// A key of the layer's own may be any text, and a scheme begins with a letter: no request of HTTP has the address of a call.
    #[test]
    fn the_text_of_a_call_begins_with_its_message() {
        let text = |rules: &KeyRules| {
            let fields = HeaderMap::new();
            let mut request = Request::post("http://h/a.B/C").body(()).unwrap();
            let call = UnaryCall::of(&fields, b"\0\0\0\0\0");
            request.extensions_mut().insert(call);
            let head = RequestHead::of(&request);
            let text = rules.text(&head, host(&head), None).unwrap();
            let text = String::from_utf8(text.to_vec()).unwrap();
            let (digest, rest) = text.split_at(44);
            assert!(digest.starts_with('#'));
            rest.to_owned()
        };
        assert_eq!(text(&KeyRules::default()), "http://h/a.B/C");
        let own = KeyRules {
            key: Some(TextFn::new(|_| Some("#".to_owned()))),
            ..KeyRules::default()
        };
        assert_eq!(text(&own), "=#");
    }

    /// Layers with the default rules share entries over all versions of the crate that have one number in the key space. If
    /// this fails because a default was changed, the space needs another number.
    #[test]
    fn the_default_rules_and_a_digest_are_golden() {
        let written = KeyRules::default().written();
        let digest = URL_SAFE_NO_PAD.encode(&blake3::hash(&written).as_bytes()[..DIGEST_LEN]);
        assert_eq!(digest, "uuY1o5D5uVxn");
        assert_eq!(KeyRules::default().digest(), None);
        let sorted = KeyRules {
            is_query_sorted: true,
            ..KeyRules::default()
        };
        assert_eq!(sorted.digest().unwrap(), "bqgPxrfhZKK8");
    }

    #[cfg(feature = "axum")]
    #[test]
    fn a_rewritten_uri_is_in_the_key_beside_the_one_that_was_sent() {
        use axum::extract::OriginalUri;

        let text = |sent: &'static str, seen: &str| {
            let mut request = Request::get(seen).body(()).unwrap();
            let sent = OriginalUri(Uri::from_static(sent));
            request.extensions_mut().insert(sent);
            let rules = KeyRules {
                ignored_query: Names::known(&["utm_*"]),
                ..KeyRules::default()
            };
            let head = RequestHead::of(&request);
            let text = rules.text(&head, host(&head), None).unwrap();
            String::from_utf8(text.to_vec()).unwrap()
        };
        assert_eq!(text("/a/b?utm_x", "/b?utm_x"), "///a/b /b");
        assert_eq!(text("/a", "/b?user=ada"), "///a /b?user=ada");
        assert_eq!(text("/a", "/a"), "///a");
    }

    #[test]
    fn a_user_adds_a_scope_and_nobody_adds_none() {
        let rules = KeyRules {
            user: Some(by_user()),
            ..KeyRules::default()
        };
        let scopes = |lines: &[(&str, &str)]| address(&rules, "/a/b", lines).unwrap().scopes.len();
        assert_eq!((scopes(&[]), scopes(&[("user", "")])), (3, 3));
        assert_eq!(scopes(&[("user", "ada")]), 4);
    }

    #[test]
    fn without_a_key_of_its_own_a_request_passes_by() {
        let rules = KeyRules {
            key: Some(TextFn::new(|_| None)),
            ..KeyRules::default()
        };
        assert_eq!(address(&rules, "/", &[]).unwrap_err(), Detail::Key);
        for (uri, lines) in [("*", &[][..]), ("/", &[("host", "a b")])] {
            assert_eq!(address(&rules, uri, lines).unwrap_err(), Detail::Host);
        }
    }

    proptest! {
        #[test]
        fn no_two_requests_share_an_address(
            one in ("[12.-]{0,3}", "[12.-]{0,3}", "/[a/.=]{0,3}"),
            other in ("[12.-]{0,3}", "[12.-]{0,3}", "/[a/.=]{0,3}"),
        ) {
            let mut rules = KeyRules { user: Some(by_user()), ..KeyRules::default() };
            rules.key_headers.add(HeaderName::from_static("x-a"));
            let text = |(user, keyed, path): &(String, String, String)| {
                text(&rules, path, &[("user", user), ("x-a", keyed)])
            };
            prop_assert_eq!(text(&one) == text(&other), one == other);
        }
    }
}
