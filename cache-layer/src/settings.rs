use std::{sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode};
use layer_store::{Clock, KeySpace};

use crate::{
    client_directives::ClientDirectives,
    http::{
        cache_status::{CacheName, CacheStatus},
        reuse::Grace,
    },
    key::{fields::FieldRoles, rules::KeyRules},
    metrics::Requests,
};

/// The settings of a [`CacheLayer`](crate::CacheLayer), checked.
#[derive(Clone, Debug)]
pub(crate) struct CacheSettings {
    pub(crate) enabled: bool,
    /// The lifetime of responses that state none.
    pub(crate) ttl: Option<Duration>,
    /// The same for one status each. A status that is listed is stored in every profile.
    pub(crate) ttls: Vec<(StatusCode, Duration)>,
    /// The lifetime of errors that state none.
    pub(crate) shared_errors: Option<Duration>,
    /// The stale windows of responses that state none.
    pub(crate) grace: Grace,
    /// True if a stored response without an entity tag gets one.
    pub(crate) makes_etags: bool,
    pub(crate) client_directives: ClientDirectives,
    pub(crate) profile: Profile,
    /// Shared, as the settings are cloned for each connection.
    pub(crate) keys: Arc<KeyRules>,
    /// The parts that fields play under the rules and the profile.
    pub(crate) fields: Arc<FieldRoles>,
    /// In bytes.
    pub(crate) max_body: usize,
    /// For each address.
    pub(crate) max_variants: usize,
    pub(crate) max_fill_time: Duration,
    pub(crate) fills_outlive_clients: bool,
    pub(crate) name: Box<str>,
    pub(crate) cache_name: CacheName,
    /// The place of the entries.
    pub(crate) space: Arc<KeySpace>,
    pub(crate) clock: Clock,
    pub(crate) requests: Requests,
}

/// The rules that decide what is stored and shared. See [`CacheLayer::profile`](crate::CacheLayer::profile).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// The rules of RFC 9111 and more, which keep ordinary applications safe. The default.
    ///
    /// A response with `Set-Cookie` is not stored. A request with a credential is not answered from the cache, unless the
    /// response is marked as public. A response with `Content-Encoding` also varies by `Accept-Encoding`. A request that
    /// overrides its method, or whose fields name another target than it has, passes by. A response with the status 401, 403,
    /// 428, 429, 431 or 5xx is not stored, unless [`CacheLayer::ttl_for`](crate::CacheLayer::ttl_for) names the status. The fields of a rate limit
    /// (`RateLimit`, `RateLimit-Policy`, `X-RateLimit-Limit` and its like) are not stored, as they tell of one client's quota.
    #[default]
    Safe,
    /// The rules of RFC 9111 alone. For a cache before origins that were written with caches in mind.
    ///
    /// `Set-Cookie` is stored. `Authorization` is the only credential, and only forbids storing. 428, 429, 431 and 511 are not stored, as
    /// RFC 6585 asks for.
    Rfc,
}

impl CacheSettings {
    pub(crate) fn new(clock: Clock) -> Self {
        let keys = Arc::new(KeyRules::default());
        Self {
            enabled: true,
            ttl: None,
            ttls: Vec::new(),
            shared_errors: None,
            grace: Grace::default(),
            makes_etags: false,
            client_directives: ClientDirectives::default(),
            profile: Profile::Safe,
            fields: Arc::new(keys.fields(true)),
            max_body: 2 * 1024 * 1024,
            max_variants: 64,
            max_fill_time: Duration::from_secs(30),
            fills_outlive_clients: true,
            name: "cache".into(),
            cache_name: CacheName::new("cache"),
            space: space(Profile::Safe, &keys, "cache"),
            keys,
            clock,
            requests: Requests::default(),
        }
    }

    /// Writes the `Cache-Status` of a response, and tells how its request was answered.
    pub(crate) fn mark(&self, headers: &mut HeaderMap, status: CacheStatus) {
        self.cache_name.append(headers, status);
        self.tell(status);
    }

    /// Tells how a request was answered.
    pub(crate) fn tell(&self, status: CacheStatus) {
        self.requests.count(&self.name, status);
        tracing::debug!(
            cache = &*self.name,
            result = status.result(),
            reason = status.reason(),
            fwd = status.fwd(),
            "cache answered"
        );
    }

    /// Returns the lifetime that the route gives to a response that states none.
    pub(crate) fn lifetime_of(&self, status: StatusCode) -> Option<Duration> {
        let of_any = || {
            let ttl = self.ttl?;
            matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308).then_some(ttl)
        };
        let listed = self.listed(status);
        listed.or_else(of_any).or_else(|| self.shared_error(status))
    }

    /// Returns for how long an error is shared that states no lifetime. `None` for other statuses, and for those that the route
    /// gives a lifetime of their own.
    pub(crate) fn shared_error(&self, status: StatusCode) -> Option<Duration> {
        let is_error = matches!(status.as_u16(), 404 | 410) || status.is_server_error();
        let is_shared = is_error && self.listed(status).is_none();
        self.shared_errors.filter(|_| is_shared)
    }

    /// Returns true if responses with this status, that state a lifetime or do not, may be stored at all.
    ///
    /// A failure or a refusal is mostly for one client or one moment, so the safe profile wants them to be listed. An error is
    /// shared for the time of the route alone. Those of RFC 6585 are stored by no cache: too many requests are one client's.
    pub(crate) fn stores(&self, status: StatusCode, states_lifetime: bool) -> bool {
        let is_barred = matches!(status.as_u16(), 428 | 429 | 431 | 511);
        let is_refusal = matches!(status.as_u16(), 401 | 403) || status.is_server_error();
        let shares_error = !states_lifetime && self.shared_error(status).is_some();
        match self.listed(status).is_some() {
            true => true,
            false if is_barred => false,
            false => !(self.is_safe() && is_refusal) || shares_error,
        }
    }

    fn listed(&self, status: StatusCode) -> Option<Duration> {
        let mut ttls = self.ttls.iter();
        ttls.find(|(listed, _)| *listed == status)
            .map(|(_, ttl)| *ttl)
    }

    /// Returns true if a request that wants a new response may share one that comes for another.
    pub(crate) fn coalesces(&self) -> bool {
        self.client_directives == ClientDirectives::Coalesce
    }

    pub(crate) fn is_safe(&self) -> bool {
        self.profile == Profile::Safe
    }

    #[track_caller]
    pub(crate) fn rename(&mut self, name: &str) {
        self.name = name.into();
        self.cache_name = CacheName::new(name);
        // They are counted under the name.
        self.requests = Requests::default();
        self.settle();
    }

    pub(crate) fn set_profile(&mut self, profile: Profile) {
        self.profile = profile;
        self.settle();
    }

    /// Changes the rules of the key.
    pub(crate) fn set_keys(&mut self, change: impl FnOnce(&mut KeyRules)) {
        change(Arc::make_mut(&mut self.keys));
        self.settle();
    }

    /// Brings what follows from name, profile and rules up to date.
    fn settle(&mut self) {
        self.space = space(self.profile, &self.keys, &self.name);
        self.fields = Arc::new(self.keys.fields(self.is_safe()));
    }
}

/// Returns the place of the entries: one for each name, profile and set of rules, as one layer must not serve what another
/// one stores by other rules.
///
/// The number is the version of the address, of the bytes of an entry, and of the default rules. A stored format.
fn space(profile: Profile, keys: &KeyRules, name: &str) -> Arc<KeySpace> {
    let profile = match profile {
        Profile::Safe => "2",
        Profile::Rfc => "2r",
    };
    let place = match keys.digest() {
        None => format!("{profile}/{name}"),
        Some(digest) => format!("{profile}.{digest}/{name}"),
    };
    Arc::new(KeySpace::new("entry", &place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> CacheSettings {
        CacheSettings::new(Clock::system())
    }

    #[test]
    fn the_defaults_are_those_of_the_crate_page() {
        let settings = settings();
        assert!(settings.enabled && settings.is_safe());
        assert_eq!(settings.ttl, None);
        assert!(settings.coalesces());
        assert!(settings.ttls.is_empty() && !settings.makes_etags);
        assert_eq!(settings.shared_errors, None);
        assert_eq!(settings.grace, Grace::default());
        assert_eq!(settings.max_body, 2_097_152);
        assert_eq!(settings.max_variants, 64);
        assert_eq!(&*settings.name, "cache");
    }

    #[test]
    fn each_name_profile_and_set_of_rules_has_a_place_of_its_own() {
        let mut settings = settings();
        assert_eq!(settings.space.name(), "2/cache");
        settings.set_profile(Profile::Rfc);
        assert_eq!(settings.space.name(), "2r/cache");
        settings.rename("pages");
        assert_eq!(settings.space.name(), "2r/pages");
        settings.set_keys(|keys| keys.is_query_sorted = true);
        let sorted = settings.space.name().to_owned();
        assert!(sorted.starts_with("2r.") && sorted.ends_with("/pages"));
        settings.set_keys(|keys| keys.is_query_sorted = false);
        assert_eq!(settings.space.name(), "2r/pages");
    }
}
