use std::ops::{BitOr, BitOrAssign};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{COOKIE, HOST},
};

use crate::key::names::{NamePattern, Names};

/// The result of one look at each field of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestFields<'a> {
    /// The parts that they play, all together.
    pub(crate) roles: Roles,
    pub(crate) host: HostField<'a>,
}

/// The field `Host` of a request, which has it at most once (RFC 9112, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostField<'a> {
    Missing,
    One(&'a HeaderValue),
    Several,
}

/// The parts that the fields of a request play for the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roles(u16);

/// The names that play a part: each field of a request is looked at once.
///
/// They lie in shelves by their first letter, or by the letter after `x-`, so that a field is compared with few of them.
#[derive(Clone, Debug)]
pub(crate) struct FieldRoles {
    shelves: Box<[Vec<(NamePattern, Roles)>]>,
}

impl Roles {
    pub(crate) const RANGE: Self = Self(1);
    /// Only the origin can check it (RFC 9111, section 4.3.2).
    pub(crate) const PRECONDITION: Self = Self(1 << 1);
    pub(crate) const UPGRADE: Self = Self(1 << 2);
    pub(crate) const TRANSFER_ENCODING: Self = Self(1 << 3);
    pub(crate) const CONTENT_LENGTH: Self = Self(1 << 4);
    pub(crate) const METHOD_OVERRIDE: Self = Self(1 << 5);
    /// It names another target than the request has.
    pub(crate) const FORWARDED: Self = Self(1 << 6);
    /// It tells who the client is.
    pub(crate) const CREDENTIAL: Self = Self(1 << 7);
    /// Its cookies are credentials, unless all of them are ignored.
    pub(crate) const COOKIES: Self = Self(1 << 8);
    pub(crate) const DIRECTIVES: Self = Self(1 << 9);
    /// A condition that the cache evaluates itself.
    pub(crate) const CONDITION: Self = Self(1 << 10);

    /// All with which a request may pass by the cache.
    pub(crate) const PASSING: Self = Self(
        Self::RANGE.0
            | Self::PRECONDITION.0
            | Self::UPGRADE.0
            | Self::TRANSFER_ENCODING.0
            | Self::CONTENT_LENGTH.0
            | Self::METHOD_OVERRIDE.0
            | Self::FORWARDED.0
            // Only if it is ambiguous.
            | Self::CREDENTIAL.0,
    );

    /// Returns true if one of these parts is in `role`.
    pub(crate) const fn has(self, role: Self) -> bool {
        self.0 & role.0 != 0
    }
}

impl BitOr for Roles {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Roles {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl FieldRoles {
    /// Begins with the fields that play the same part in every layer.
    pub(crate) fn new() -> Self {
        let mut roles = Self {
            shelves: vec![Vec::new(); 2 * LETTERS].into(),
        };
        roles.add_all(&Names::known(&["range"]), Roles::RANGE);
        let preconditions = Names::known(&["if-match", "if-unmodified-since"]);
        roles.add_all(&preconditions, Roles::PRECONDITION);
        roles.add_all(&Names::known(&["upgrade"]), Roles::UPGRADE);
        let coded = Names::known(&["transfer-encoding"]);
        roles.add_all(&coded, Roles::TRANSFER_ENCODING);
        let length = Names::known(&["content-length"]);
        roles.add_all(&length, Roles::CONTENT_LENGTH);
        let conditions = Names::known(&["if-none-match", "if-modified-since"]);
        roles.add_all(&conditions, Roles::CONDITION);
        let directives = Names::known(&["cache-control", "pragma"]);
        roles.add_all(&directives, Roles::DIRECTIVES);
        roles
    }

    pub(crate) fn add_all(&mut self, names: &Names, role: Roles) {
        for name in names.iter() {
            self.add(name.clone(), role);
        }
    }

    pub(crate) fn add(&mut self, name: NamePattern, role: Roles) {
        let (text, is_open) = name.parts();
        // `x*` and `x-*` have no letter after `x-`.
        if is_open && "x-".starts_with(text) {
            for shelf in &mut self.shelves[LETTERS..] {
                shelf.push((name.clone(), role));
            }
        }
        self.shelves[shelf(text)].push((name, role));
    }

    /// Looks at each field of a request.
    pub(crate) fn read<'a>(&self, headers: &'a HeaderMap) -> RequestFields<'a> {
        let mut fields = RequestFields {
            roles: Roles::default(),
            host: HostField::Missing,
        };
        for (name, value) in headers {
            fields.roles |= self.of_field(name);
            if name == HOST {
                fields.host = match fields.host {
                    HostField::Missing => HostField::One(value),
                    HostField::One(_) | HostField::Several => HostField::Several,
                };
            }
        }
        fields
    }

    /// Returns true if a credential of a request stands on two different lines. Which of them its handler reads, nobody here knows.
    #[cold]
    pub(crate) fn has_two_credentials(&self, headers: &HeaderMap) -> bool {
        // Nearly every request has one line of each field.
        if headers.len() == headers.keys_len() {
            return false;
        }
        headers.keys().any(|name| {
            let mut values = headers.get_all(name).iter().map(trimmed);
            let first = values.next();
            // A cookie is a list over all its lines.
            values.any(|value| Some(value) != first)
                && *name != COOKIE
                && self.of_field(name).has(Roles::CREDENTIAL)
        })
    }

    fn of_field(&self, name: &HeaderName) -> Roles {
        let name = name.as_str();
        let mut roles = Roles::default();
        for (pattern, role) in &self.shelves[shelf(name)] {
            if pattern.matches(name.as_bytes()) {
                roles |= *role;
            }
        }
        roles
    }
}

fn trimmed(line: &HeaderValue) -> &[u8] {
    line.as_bytes().trim_ascii()
}

/// Returns the shelf of a name. All without a letter at that place share one.
fn shelf(name: &str) -> usize {
    let (letter, offset) = match name.as_bytes() {
        [b'x', b'-', letter, ..] => (*letter, LETTERS),
        [letter, ..] => (*letter, 0),
        [] => (0, 0),
    };
    offset + usize::from(letter.wrapping_sub(b'a')).min(LETTERS - 1)
}

/// The fields by which a client overrides its method, for frameworks that do so.
pub(crate) const METHOD_OVERRIDES: [&str; 3] = [
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];

/// The fields by which a proxy tells a handler of another scheme, host, port or path than the request has.
///
/// Not `X-Forwarded-For` and its like: the client's address is in no key, as that of its connection.
pub(crate) const FORWARDED: [&str; 19] = [
    "forwarded",
    "front-end-https",
    "x-forwarded-host",
    "x-forwarded-path",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-forwarded-uri",
    "x-host",
    "x-http-host-override",
    "x-original-host",
    "x-original-uri",
    "x-original-url",
    "x-rewrite-url",
    "x-url-scheme",
];

/// The fields by which a client, a gateway or an identity proxy tells who the client is.
///
/// The sources are the manuals of the AWS load balancer (`x-amzn-oidc-*`), Google IAP and Endpoints (`x-goog-*`,
/// `x-endpoint-api-userinfo`), Azure (`x-ms-client-principal*`, `x-ms-token-*`), Cloudflare Access (`cf-access-*`),
/// oauth2-proxy (`x-forwarded-*`, `x-auth-request-*`), Kong (`x-consumer-*`, `x-credential-*`), Envoy
/// (`x-forwarded-client-cert`), Pomerium, authentik, Authelia (`remote-*`), Tailscale and Kubernetes (`x-remote-*`).
pub(crate) const CREDENTIALS: [&str; 45] = [
    "api-key",
    "authorization",
    "cf-access-*",
    "cookie",
    "private-token",
    "proxy-authorization",
    "remote-email",
    "remote-groups",
    "remote-name",
    "remote-user",
    "ssl-client-*",
    "tailscale-user-*",
    "x-access-token",
    "x-amz-security-token",
    "x-amzn-oidc-*",
    "x-api-key",
    "x-api-token",
    "x-auth-request-*",
    "x-auth-token",
    "x-authenticated-*",
    "x-authentik-*",
    "x-client-cert*",
    "x-consumer-*",
    "x-credential-*",
    "x-endpoint-api-userinfo",
    "x-forwarded-access-token",
    "x-forwarded-client-cert",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-user",
    "x-goog-authenticated-user-*",
    "x-goog-iap-jwt-assertion",
    "x-jwt-assertion",
    "x-ms-client-principal*",
    "x-ms-token-*",
    "x-pomerium-*",
    "x-remote-*",
    "x-session*",
    "x-ssl-client-*",
    "x-user",
    "x-user-email",
    "x-user-id",
    "x-username",
    "x-webauth-*",
];

const LETTERS: usize = 27;

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(names: &[&'static str]) -> Roles {
        let mut table = FieldRoles::new();
        table.add_all(&Names::known(&CREDENTIALS), Roles::CREDENTIAL);
        table.add_all(&Names::known(&FORWARDED), Roles::FORWARDED);
        let mut headers = HeaderMap::new();
        for name in names {
            headers.insert(*name, "1".parse().unwrap());
        }
        table.read(&headers).roles
    }

    #[test]
    fn the_roles_of_all_fields_are_found_together() {
        assert_eq!(roles(&[]), Roles::default());
        assert_eq!(roles(&["accept", "user-agent", "1x"]), Roles::default());
        let both = roles(&["range", "accept", "x-forwarded-host"]);
        assert_eq!(both, Roles::RANGE | Roles::FORWARDED);
        assert!(both.has(Roles::RANGE) && !both.has(Roles::CREDENTIAL));
    }

    #[test]
    fn the_host_is_found_and_one_of_several_is_none() {
        let table = FieldRoles::new();
        let mut headers = HeaderMap::new();
        assert_eq!(table.read(&headers).host, HostField::Missing);
        headers.insert(HOST, HeaderValue::from_static("a"));
        headers.insert("x-host", HeaderValue::from_static("b"));
        let one = HeaderValue::from_static("a");
        assert_eq!(table.read(&headers).host, HostField::One(&one));
        for _ in 0..2 {
            headers.append(HOST, one.clone());
            assert_eq!(table.read(&headers).host, HostField::Several);
        }
    }

    #[test]
    fn identity_headers_are_credentials_and_the_address_of_the_client_is_none() {
        for name in [
            "authorization",
            "cookie",
            "proxy-authorization",
            "x-api-key",
            "x-auth-token",
            "cf-access-jwt-assertion",
            "x-forwarded-user",
            "x-amzn-oidc-identity",
            "x-goog-authenticated-user-email",
            "x-ms-client-principal",
            "x-ms-client-principal-id",
            "x-remote-user",
        ] {
            assert_eq!(roles(&[name]), Roles::CREDENTIAL, "{name}");
        }
        for name in ["x-forwarded-for", "x-real-ip", "x-request-id", "referer"] {
            assert_eq!(roles(&[name]), Roles::default(), "{name}");
        }
    }

    #[test]
    fn a_pattern_finds_its_names_however_short_it_is() {
        for (pattern, found) in [
            ("x*", &["x", "x-", "x-a", "x-1", "xa", "x-x-"][..]),
            ("x-*", &["x-", "x-a", "x-1", "x-x-"]),
            ("x-a*", &["x-a", "x-ab"]),
            ("a", &["a"]),
        ] {
            let mut table = FieldRoles::new();
            table.add_all(&Names::known(&[pattern]), Roles::FORWARDED);
            for name in ["x", "x-", "x-a", "x-ab", "x-1", "xa", "x-x-", "a", "1"] {
                let mut headers = HeaderMap::new();
                headers.insert(name, "1".parse().unwrap());
                let is_found = table.read(&headers).roles == Roles::FORWARDED;
                let matches = Names::known(&[pattern]).contain(name.as_bytes());
                assert_eq!(is_found, matches, "{pattern} {name}");
                assert!(matches || !found.contains(&name));
            }
        }
    }

    #[test]
    fn each_known_field_plays_one_part() {
        let forwarded = Names::known(&FORWARDED);
        let credentials = Names::known(&CREDENTIALS);
        for name in FORWARDED {
            assert!(!credentials.contain(name.as_bytes()), "{name}");
        }
        assert_eq!(forwarded.iter().len(), FORWARDED.len());
        assert_eq!(credentials.iter().len(), CREDENTIALS.len());
    }
}
