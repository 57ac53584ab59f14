use std::{fmt, net::IpAddr};

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::ConfigError;

/// The address of a server, and the user and database there.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    /// Certificate authorities that are trusted beside the public ones.
    #[cfg(feature = "redis-tls")]
    pub(super) ca_pem: Option<Vec<u8>>,
    username: Option<String>,
    pub(super) password: Option<String>,
    db: u32,
    pub(super) max_in_flight: usize,
}

impl Settings {
    /// Reads `redis[s]://[[user]:password@]host[:port][/db]`.
    pub(crate) fn from_url(text: &str) -> Result<Self, ConfigError> {
        Self::from_url_and_password(text, None)
    }

    /// Reads a URL. `password` is that of `REDIS_PASSWORD`, for a URL without one.
    pub(crate) fn from_url_and_password(
        text: &str,
        password: Option<String>,
    ) -> Result<Self, ConfigError> {
        // These errors name what is wrong and never the URL, which may hold the password.
        let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
        let tls = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            scheme => return Err(wrong(&format!("the scheme {scheme:?} is not known"))),
        };
        let host = match url.host() {
            Some(Host::Domain("")) | None => return Err(wrong("the host is missing")),
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("nothing may follow the database"));
        }
        let db = match url.path() {
            "" | "/" => 0,
            path => match path[1..].parse() {
                Ok(db) => db,
                Err(_) => return Err(wrong("the database is not a number")),
            },
        };
        let settings = Self {
            username: decoded(Some(url.username()), "user")?,
            password: match (decoded(url.password(), "password")?, password) {
                (Some(_), Some(_)) => {
                    return Err(ConfigError::new(
                        "REDIS_URL has a password and REDIS_PASSWORD is set too: unset REDIS_PASSWORD, or write REDIS_URL without the password",
                    ));
                }
                (in_url, beside_it) => in_url.or(beside_it),
            },
            db,
            ..Self::new(host, url.port().unwrap_or(PORT), tls)?
        };
        if settings.username.is_some() && settings.password.is_none() {
            return Err(wrong(
                "a user without a password: set REDIS_PASSWORD, or, if it is a password, write `:password@`",
            ));
        }
        Ok(settings)
    }

    /// Makes the settings for a host by itself. A text that no resolver could find is an error here, and no outage later.
    pub(crate) fn at(host: &str, port: u16, tls: bool) -> Result<Self, ConfigError> {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let bare = bare.unwrap_or(host);
        if bare.parse::<IpAddr>().is_err() && Host::parse(host).is_err() {
            return Err(ConfigError::new(
                "REDIS_HOST is no host: write a name or an address alone, with the port in REDIS_PORT, or a whole URL in REDIS_URL",
            ));
        }
        Self::new(bare.to_owned(), port, tls)
    }

    fn new(host: String, port: u16, tls: bool) -> Result<Self, ConfigError> {
        if tls && cfg!(not(feature = "redis-tls")) {
            return Err(ConfigError::new(
                "TLS to Redis needs the feature `redis-tls` of the layer crate or of layer-store: write `cargo add <crate> --features redis-tls`, or `redis://`",
            ));
        }
        if port == 0 {
            return Err(wrong("no server listens on port 0"));
        }
        Ok(Self {
            host,
            port,
            tls,
            #[cfg(feature = "redis-tls")]
            ca_pem: None,
            username: None,
            password: None,
            db: 0,
            max_in_flight: 1024,
        })
    }

    pub(crate) fn with_password(self, password: Option<String>) -> Self {
        Self { password, ..self }
    }

    /// Trusts these certificate authorities beside the public ones.
    #[cfg(feature = "redis-tls")]
    pub(crate) fn with_ca_pem(self, ca_pem: Option<Vec<u8>>) -> Result<Self, ConfigError> {
        if ca_pem.is_some() && !self.tls {
            return Err(ConfigError::new(
                "a certificate authority is set for a server without TLS: write `rediss://`, or drop `ca_pem`",
            ));
        }
        Ok(Self { ca_pem, ..self })
    }
}

impl fmt::Debug for Settings {
    /// Shows neither user nor password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        write!(f, "{scheme}://{}:{}/{}", self.host, self.port, self.db)
    }
}

fn decoded(text: Option<&str>, what: &str) -> Result<Option<String>, ConfigError> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => match percent_decode_str(text).decode_utf8() {
            Ok(text) => Ok(Some(text.into_owned())),
            Err(_) => Err(wrong(&format!("the {what} is not UTF-8"))),
        },
    }
}

fn wrong(what: &str) -> ConfigError {
    ConfigError::new(format!(
        "this is no Redis URL, {what}: write redis://[[user]:password@]host[:port][/db], rediss:// for TLS, \
         `:`, `@`, `/`, `#` and `%` in a password as %3A, %40, %2F, %23 and %25"
    ))
}

const PORT: u16 = 6379;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        for (url, host, port, db, user, password) in [
            ("redis://localhost", "localhost", 6379, 0, None, None),
            ("redis://localhost/", "localhost", 6379, 0, None, None),
            ("redis://10.0.0.7:7000/15", "10.0.0.7", 7000, 15, None, None),
            ("redis://[::1]:7000", "::1", 7000, 0, None, None),
            (
                "redis://:secret@cache.internal",
                "cache.internal",
                6379,
                0,
                None,
                Some("secret"),
            ),
            (
                "redis://ada:s%40%2Fe%3A%25@h/2",
                "h",
                6379,
                2,
                Some("ada"),
                Some("s@/e:%"),
            ),
            (
                "redis://default:x@h",
                "h",
                6379,
                0,
                Some("default"),
                Some("x"),
            ),
        ] {
            let settings = Settings::from_url(url).unwrap();
            assert_eq!(
                (settings.host.as_str(), settings.port, settings.db),
                (host, port, db)
            );
            assert_eq!(settings.username.as_deref(), user, "{url}");
            assert_eq!(settings.password.as_deref(), password, "{url}");
            assert!(!settings.tls);
        }
    }

    #[test]
    fn an_error_names_what_cannot_be_read_and_no_password() {
        for (url, said) in [
            ("redis://", "host is missing"),
            ("redis://:hunter2@", "host"),
            ("redis://:hunter2@h:99999", "port"),
            ("redis://:hunter2@h:0", "port 0"),
            ("redis://:hunter2@h:abc", "port"),
            ("redis://:hunter2@h/first", "database"),
            ("redis://:hunter2@h/-1", "database"),
            ("redis://:hunter2@h/1/2", "database"),
            ("redis://:hunter2@h/99999999999", "database"),
            ("redis://:hunter2@h?protocol=resp3", "follow the database"),
            ("redis://:hunter2@h#insecure", "follow the database"),
            ("redis://:hunter2%ff@h", "UTF-8"),
            ("redis://ada@h", "password"),
            ("http://:hunter2@h", "scheme"),
            ("hunter2", "redis://"),
        ] {
            let message = Settings::from_url(url).unwrap_err().to_string();
            assert!(message.contains(said), "{url}: {message}");
            assert!(
                message.contains("write redis://") || message.contains("port"),
                "{message}"
            );
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn the_password_of_the_variable_is_used_for_a_url_without_one() {
        let read = |url| {
            let settings = Settings::from_url_and_password(url, Some("s@fe".into()))?;
            Ok::<_, ConfigError>((settings.username, settings.password))
        };
        let password = || Some("s@fe".to_owned());
        assert_eq!(read("redis://h").unwrap(), (None, password()));
        assert_eq!(
            read("redis://ada@h").unwrap(),
            (Some("ada".into()), password())
        );
        for url in ["redis://:hunter2@h", "redis://ada:hunter2@h"] {
            let message = read(url).unwrap_err().to_string();
            assert!(message.contains("unset REDIS_PASSWORD"), "{message}");
            assert!(!message.contains("hunter2") && !message.contains("s@fe"));
        }
    }

    #[test]
    fn debug_shows_no_user_and_no_password() {
        let settings = Settings::from_url("redis://ada:hunter2@h:7000/3").unwrap();
        assert_eq!(format!("{settings:?}"), "redis://h:7000/3");
    }

    #[cfg(not(feature = "redis-tls"))]
    #[test]
    fn tls_without_its_feature_is_an_error_that_names_it() {
        let message = Settings::from_url("rediss://h").unwrap_err().to_string();
        assert!(message.contains("`redis-tls`"), "{message}");
    }

    #[cfg(feature = "redis-tls")]
    #[test]
    fn an_authority_without_tls_is_an_error() {
        let plain = Settings::from_url("redis://h").unwrap();
        assert!(plain.with_ca_pem(Some(Vec::new())).is_err());
        let tls = Settings::from_url("rediss://h").unwrap();
        assert!(tls.with_ca_pem(Some(Vec::new())).is_ok());
    }
}
