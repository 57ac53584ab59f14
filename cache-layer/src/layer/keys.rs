//! The settings about keys: which requests share entries, and which have none.

use http::HeaderName;
use layer_http::RequestHead;

use crate::{
    key::{
        names::NamePattern,
        rules::{KeyRules, TextFn},
    },
    layer::CacheLayer,
};

impl CacheLayer {
    /// Replaces scheme, host, path and query in the key of a request by a text of your own.
    ///
    /// By default the key holds all of them as they were sent. `None`: the request passes by the cache. Two requests with one
    /// text share an entry, so put everything into the text that the handler reads. [`key_headers`](Self::key_headers) and
    /// [`per_user`](Self::per_user) still add to the key.
    ///
    /// The entry is purged by the path of its request, as always. So requests with two paths cannot share one: with one text
    /// for both, each of them replaces the entry of the other.
    ///
    /// ```
    /// use cache_layer::{CacheLayer, store::{MemoryStore, SharedStore}};
    ///
    /// let store = SharedStore::new(MemoryStore::new());
    /// // All hosts show the same pages, and only the page number is read from the query.
    /// let pages = CacheLayer::new(store).name("pages").key(|head| {
    ///     let query = head.original_uri().query().unwrap_or_default();
    ///     let page = query.split('&').find(|parameter| parameter.starts_with("page="));
    ///     Some(format!("{}?{}", head.path(), page.unwrap_or_default()))
    /// });
    /// ```
    #[must_use]
    pub fn key(
        self,
        key: impl Fn(&RequestHead<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.set_keys(|keys| keys.key = Some(TextFn::new(key)))
    }

    /// Adds request fields whose values become part of the key, such as `x-tenant`. By default none.
    ///
    /// For handlers that answer by a field and do not name it in `Vary`. A field by which a proxy forwards scheme or host does
    /// not make a request pass by if it is in the key: see [`trust_headers`](Self::trust_headers).
    ///
    /// A client that may choose the value can fill the store with entries. A credential stays one: for entries of each user
    /// see [`per_user`](Self::per_user).
    ///
    /// # Panics
    ///
    /// If one is not the whole name of a header.
    #[must_use]
    #[track_caller]
    pub fn key_headers<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        for name in names {
            let name = header_name(name);
            self.settings.set_keys(|keys| keys.key_headers.add(name));
        }
        self
    }

    /// Adds query parameters that are left out of the key, such as `ref`, or `utm_*` for all that begin so. By default none.
    ///
    /// For parameters that scripts in the browser read. The handler still gets them, so it must not write them into the
    /// page. Names are compared as they are written in the URL. A parameter that holds a semicolon stays in the key, as some
    /// handlers take it for two.
    ///
    /// ```
    /// use cache_layer::{CacheLayer, store::{MemoryStore, SharedStore}};
    ///
    /// let store = SharedStore::new(MemoryStore::new());
    /// let shop = CacheLayer::new(store)
    ///     .ignore_query(["utm_*", "gclid", "fbclid"])
    ///     .ignore_cookies(["_ga*", "_fbp"])
    ///     .sort_query();
    /// ```
    ///
    /// # Panics
    ///
    /// If one is not the name of a parameter.
    #[must_use]
    #[track_caller]
    pub fn ignore_query<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        for name in names {
            let name = NamePattern::parameter(name);
            self.settings
                .set_keys(|keys| keys.ignored_query.insert(name));
        }
        self
    }

    /// Sorts the parameters of the query in the key: `?a=1&b=2` and `?b=2&a=1` share an entry. By default they do not.
    ///
    /// For handlers to which the order means nothing. Parameters with one name keep their order.
    #[must_use]
    pub fn sort_query(self) -> Self {
        self.set_keys(|keys| keys.is_query_sorted = true)
    }

    /// Adds cookies that do not make a request personal, such as `theme`, or `_ga*` for all that begin so. By default none.
    ///
    /// If all cookies of a request are among them, its field `Cookie` is no credential. The handler still gets them, so it must
    /// not read them, unless it names `Cookie` in `Vary`.
    ///
    /// # Panics
    ///
    /// If one is not the name of a cookie.
    #[must_use]
    #[track_caller]
    pub fn ignore_cookies<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        for name in names {
            let name = NamePattern::cookie(name);
            self.settings
                .set_keys(|keys| keys.ignored_cookies.insert(name));
        }
        self
    }

    /// Adds forwarded fields that do not make a request pass by, such as `x-forwarded-port`, or `x-forwarded-*` for all that
    /// begin so. By default none.
    ///
    /// In [`Profile::Safe`](crate::Profile::Safe) a request passes by if a field names another scheme, host, port or path than
    /// the request has: `Forwarded`, `X-Forwarded-Host`, `X-Forwarded-Proto`, `X-Original-URL`, `X-Rewrite-URL` and their like.
    /// A handler may write them into links, and any client can send them.
    ///
    /// Behind a proxy that writes such a field itself, trust it if it has one value for all requests with one URL, or if the
    /// handler does not read it. If there are several values, use [`key_headers`](Self::key_headers).
    ///
    /// ```
    /// use cache_layer::{CacheLayer, store::{MemoryStore, SharedStore}};
    ///
    /// let store = SharedStore::new(MemoryStore::new());
    /// // The load balancer writes all three. The handler redirects http to https.
    /// let behind_a_load_balancer = CacheLayer::new(store)
    ///     .key_headers(["x-forwarded-proto"])
    ///     .trust_headers(["x-forwarded-host", "x-forwarded-port"]);
    /// ```
    ///
    /// # Panics
    ///
    /// If one is not a header name.
    #[must_use]
    #[track_caller]
    pub fn trust_headers<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        for name in names {
            let name = NamePattern::field(name);
            self.settings
                .set_keys(|keys| keys.trusted_headers.insert(name));
        }
        self
    }

    /// Adds request fields that are credentials, such as `x-session`, or `x-session-*` for all that begin so.
    ///
    /// A request with a credential goes to the handler, and its response is not stored, unless the response is marked with
    /// `public` or `s-maxage`. The defaults are `Authorization`, `Proxy-Authorization`, `Cookie`, `X-Api-Key`, `X-Auth-Token`
    /// and the fields by which gateways and identity proxies name a user: `X-Forwarded-User`, `X-Remote-User`,
    /// `X-Auth-Request-*`, `Cf-Access-*`, `X-Amzn-Oidc-*`, `X-Goog-Authenticated-User-*`, `X-Ms-Client-Principal*` and their
    /// like.
    ///
    /// # Panics
    ///
    /// If one is not a header name.
    #[must_use]
    #[track_caller]
    pub fn credential_headers<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        for name in names {
            let name = NamePattern::field(name);
            self.settings
                .set_keys(|keys| keys.credential_headers.insert(name));
        }
        self
    }

    /// Replaces the request fields that are credentials. See [`credential_headers`](Self::credential_headers).
    ///
    /// For routes that ignore some of the defaults: behind a gateway that has dealt with cookies, write
    /// `.only_credential_headers(["authorization"])`.
    ///
    /// # Panics
    ///
    /// If one is not a header name.
    #[must_use]
    #[track_caller]
    pub fn only_credential_headers<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.set_keys(|keys| keys.credential_headers.clear())
            .credential_headers(names)
    }

    /// Keeps entries of their own for each user, whom `user` finds in a request. By default there are none.
    ///
    /// The entries of a user may hold responses with `private`, and responses to requests with credentials. They are sent to
    /// this user alone. `None` or an empty text: the request has no user, and all rules apply to it as without this setting.
    ///
    /// The text must come from something that was checked, such as an extension of an authentication layer outside of this
    /// one: a request that can choose its text gets the responses of others. [`ResponseCache::purge_user`] purges all entries
    /// of a user; do so when rights are withdrawn.
    ///
    /// ```
    /// use cache_layer::{CacheLayer, store::{MemoryStore, SharedStore}};
    ///
    /// /// The user, whom an outer layer has found and put into the request's extensions.
    /// #[derive(Clone)]
    /// struct User {
    ///     id: u64,
    /// }
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let store = SharedStore::new(MemoryStore::new());
    /// let account = CacheLayer::new(store)
    ///     .name("account")
    ///     .per_user(|head| Some(head.extensions.get::<User>()?.id.to_string()));
    /// account.handle().purge_user("7").await?;
    /// # Ok::<_, cache_layer::PurgeError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// [`ResponseCache::purge_user`]: crate::ResponseCache::purge_user
    #[must_use]
    pub fn per_user(
        self,
        user: impl Fn(&RequestHead<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.set_keys(|keys| keys.user = Some(TextFn::new(user)))
    }

    /// Adds response fields that are not stored, such as `x-request-id`, or `x-debug-*` for all that begin so. By default none.
    ///
    /// The client whose request called the handler gets them. A hit has none of them. For fields that belong to one request:
    /// identifiers, timings, nonces.
    ///
    /// # Panics
    ///
    /// If one is not a header name.
    #[must_use]
    #[track_caller]
    pub fn unstored_headers<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        for name in names {
            let name = NamePattern::field(name);
            self.settings
                .set_keys(|keys| keys.unstored_headers.insert(name));
        }
        self
    }

    fn set_keys(mut self, change: impl FnOnce(&mut KeyRules)) -> Self {
        self.settings.set_keys(change);
        self
    }
}

#[track_caller]
fn header_name(name: &str) -> HeaderName {
    match HeaderName::from_bytes(name.as_bytes()) {
        // A star may be in the name of a header, and nobody means it.
        Ok(name) if !name.as_str().contains('*') => name,
        _ => panic!(
            "{name:?} cannot be in the key: write the whole name of a header, such as \"x-tenant\""
        ),
    }
}

#[cfg(test)]
mod tests {
    use layer_store::{MemoryStore, SharedStore};

    use super::*;
    use crate::Profile;

    fn layer() -> CacheLayer {
        CacheLayer::new(SharedStore::new(MemoryStore::new()))
    }

    fn place(layer: &CacheLayer) -> String {
        layer.settings.space.name().to_owned()
    }

    #[test]
    fn credential_headers_are_added_or_replaced() {
        let is_one = |layer: &CacheLayer, name: &str| {
            let names = &layer.settings.keys.credential_headers;
            names.contain(name.as_bytes())
        };
        let added = layer().credential_headers(["X-My-Session", "cookie", "x-my-*"]);
        for name in ["authorization", "x-my-session", "x-my-other"] {
            assert!(is_one(&added, name), "{name}");
        }
        let only = added.only_credential_headers(["authorization"]);
        assert!(is_one(&only, "authorization") && !is_one(&only, "cookie"));
        let none = only.only_credential_headers([]);
        assert!(none.settings.keys.credential_headers.is_empty());
    }

    #[test]
    fn layers_with_other_rules_share_no_place() {
        let mut places = vec![
            place(&layer()),
            place(&layer().profile(Profile::Rfc)),
            place(&layer().credential_headers(["x-mine"])),
            place(&layer().only_credential_headers(["authorization"])),
            place(&layer().ignore_cookies(["a"])),
            place(&layer().ignore_cookies(["a*"])),
            place(&layer().ignore_query(["a"])),
            place(&layer().sort_query()),
            place(&layer().key_headers(["a"])),
            place(&layer().trust_headers(["a"])),
            place(&layer().unstored_headers(["a"])),
            place(&layer().key(|_| None)),
            place(&layer().per_user(|_| None)),
        ];
        let all = places.len();
        places.sort();
        places.dedup();
        assert_eq!(places.len(), all, "{places:?}");
    }

    #[test]
    fn the_order_of_rules_and_rules_that_are_defaults_change_no_place() {
        let one = layer().ignore_query(["a", "b"]).sort_query();
        let other = layer().sort_query().ignore_query(["b"]).ignore_query(["a"]);
        assert_eq!(place(&one), place(&other));
        let nothing_new = layer().credential_headers(["Cookie"]).ignore_query([]);
        assert_eq!(place(&nothing_new), place(&layer()));
    }

    #[test]
    #[should_panic(expected = "\"a b\" is not a header name: write one such as")]
    fn a_credential_header_that_is_none_is_a_panic() {
        let _ = layer().credential_headers(["a b"]);
    }

    #[test]
    #[should_panic(expected = "\"x-*\" cannot be in the key: write the whole name")]
    fn a_keyed_header_is_a_whole_name() {
        let _ = layer().key_headers(["x-*"]);
    }

    #[test]
    #[should_panic(expected = "\"a=b\" is not the name of a query parameter: write one such as")]
    fn a_parameter_that_is_none_is_a_panic() {
        let _ = layer().ignore_query(["a=b"]);
    }

    #[test]
    #[should_panic(expected = "\"\" is not the name of a cookie: write one such as")]
    fn a_cookie_that_is_none_is_a_panic() {
        let _ = layer().ignore_cookies([""]);
    }
}
