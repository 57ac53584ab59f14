use std::{sync::Arc, time::Duration};

use http::{
    HeaderName,
    header::{AUTHORIZATION, COOKIE},
};
use layer_store::{Clock, KeySpace};

use crate::http::cache_status::Member;

/// The settings of a [`CacheLayer`](crate::CacheLayer).
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) enabled: bool,
    /// For answers that name no lifetime.
    pub(crate) ttl: Option<Duration>,
    pub(crate) profile: Profile,
    /// The request fields that say who asks.
    pub(crate) credentials: Vec<HeaderName>,
    /// In bytes.
    pub(crate) max_body: usize,
    pub(crate) name: Box<str>,
    pub(crate) member: Member,
    pub(crate) space: Arc<KeySpace>,
    pub(crate) clock: Clock,
}

/// Which rules decide what is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Those of RFC 9111, and those that keep an ordinary application safe.
    Safe,
    /// Those of RFC 9111 alone.
    Rfc,
}

impl Rule {
    pub(crate) fn new() -> Self {
        let mut rule = Self {
            enabled: true,
            ttl: None,
            profile: Profile::Safe,
            credentials: vec![AUTHORIZATION, COOKIE, HeaderName::from_static("x-api-key")],
            max_body: 2 * 1024 * 1024,
            name: "cache".into(),
            member: Member::new("cache"),
            space: Arc::new(KeySpace::new("entry", "")),
            clock: Clock::system(),
        };
        rule.move_in();
        rule
    }

    pub(crate) fn is_safe(&self) -> bool {
        self.profile == Profile::Safe
    }

    #[track_caller]
    pub(crate) fn rename(&mut self, name: &str) {
        self.name = name.into();
        self.member = Member::new(name);
        self.move_in();
    }

    pub(crate) fn set_profile(&mut self, profile: Profile) {
        self.profile = profile;
        self.move_in();
    }

    /// Chooses where entries stand: apart for each name, and for each profile, since one would not serve what the other
    /// stores. The version is the format's; a stored format.
    fn move_in(&mut self) {
        let profile = match self.profile {
            Profile::Safe => "1",
            Profile::Rfc => "1r",
        };
        let name = format!("{profile}/{}", self.name);
        self.space = Arc::new(KeySpace::new("entry", &name));
    }
}
