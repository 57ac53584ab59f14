use percent_encoding::percent_decode_str;
use url::{Host, ParseError, Url};

use super::{Access, NO_ZONE, RespVersion, Settings};
use crate::{ConfigError, Credentials};

/// A user and a password, as a URL or the environment has them.
#[derive(Default)]
pub(crate) struct Login {
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
}

impl Settings {
    /// Reads a URL: `redis://`, `rediss://`, `valkey://`, `valkeys://`, `unix://` or `redis+unix://`.
    pub(crate) fn from_url(text: &str) -> Result<Self, ConfigError> {
        Self::from_url_and_login(text, Login::default())
    }

    /// Reads a URL. `beside` is what `REDIS_USERNAME` and `REDIS_PASSWORD` say, for a URL that does not.
    ///
    /// Errors name what is wrong and never the URL, which may hold a password.
    pub(crate) fn from_url_and_login(text: &str, beside: Login) -> Result<Self, ConfigError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(wrong("there is no `://`"));
        };
        let (mut settings, login) = match scheme.to_ascii_lowercase().as_str() {
            "redis" | "valkey" => over_tcp(text, false)?,
            "rediss" | "valkeys" => over_tcp(text, true)?,
            "unix" | "redis+unix" => over_unix(rest)?,
            _ => return Err(wrong("the scheme is not known")),
        };
        settings.access = login.or(beside)?.access()?;
        Ok(settings)
    }
}

impl Login {
    fn new(username: Option<&str>, password: Option<&str>) -> Result<Self, ConfigError> {
        Ok(Self {
            username: decoded(username, "user")?,
            password: decoded(password, "password")?,
        })
    }

    /// Fills in what a URL does not say.
    fn or(self, beside: Self) -> Result<Self, ConfigError> {
        let either = |in_url: Option<String>, beside: Option<String>, what: &str, name: &str| {
            if in_url.is_some() && beside.is_some() {
                return Err(ConfigError::new(format!(
                    "REDIS_URL has a {what} and {name} is set too: unset {name}, or write REDIS_URL without the {what}"
                )));
            }
            Ok(in_url.or(beside))
        };
        Ok(Self {
            username: either(self.username, beside.username, "user", "REDIS_USERNAME")?,
            password: either(self.password, beside.password, "password", "REDIS_PASSWORD")?,
        })
    }

    pub(super) fn access(self) -> Result<Access, ConfigError> {
        match (self.username, self.password) {
            (None, None) => Ok(Access::Open),
            (None, Some(password)) => Ok(Access::Fixed(Credentials::password(password))),
            (Some(user), Some(password)) => Ok(Access::Fixed(Credentials::user(user, password))),
            (Some(_), None) => Err(wrong(
                "there is a user without a password: set REDIS_PASSWORD, or, if it is a password, write `:password@`",
            )),
        }
    }
}

/// Reads `redis[s]://[[user]:password@]host[:port][/db][?..]`.
fn over_tcp(text: &str, tls: bool) -> Result<(Settings, Login), ConfigError> {
    let url = Url::parse(text).map_err(|error| match error {
        ParseError::InvalidIpv6Address => {
            wrong(&format!("no IPv6 address is in its brackets ({NO_ZONE})"))
        }
        error => wrong(&error.to_string()),
    })?;
    if url.fragment().is_some() {
        return Err(wrong("a `#` is in it"));
    }
    let host = match url.host() {
        None | Some(Host::Domain("")) => return Err(wrong("the host is missing")),
        Some(Host::Domain(name)) => host_name(name)?,
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
    };
    let mut settings = Settings::tcp(host, url.port().unwrap_or(PORT), tls)?;
    let options = Options::read(url.query())?;
    let in_path = match url.path() {
        "" | "/" => None,
        path => Some(database(&path[1..])?),
    };
    if in_path.is_some() && options.db.is_some() {
        return Err(wrong("there are two databases, `/db` and `?db=`"));
    }
    settings.db = in_path.or(options.db).unwrap_or(0);
    settings.version = options.version;
    let login = Login::new(Some(url.username()), url.password())?;
    Ok((settings, login))
}

/// Reads what follows `unix://`: `[[user]:password@]/path[?..]`.
#[cfg(unix)]
fn over_unix(rest: &str) -> Result<(Settings, Login), ConfigError> {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

    use super::Endpoint;

    const THREE: &str = "a socket's path begins with a slash, as in unix:///run/redis.sock";
    if rest.contains('#') {
        return Err(wrong("a `#` is in it"));
    }
    let (address, query) = match rest.split_once('?') {
        Some((address, query)) => (address, Some(query)),
        None => (rest, None),
    };
    let (authority, path) = address.split_at(address.find('/').ok_or_else(|| wrong(THREE))?);
    let login = match (authority, authority.strip_suffix('@')) {
        ("", _) => Login::default(),
        (_, Some(login)) => match login.split_once(':') {
            Some((user, password)) => Login::new(Some(user), Some(password))?,
            None => Login::new(Some(login), None)?,
        },
        (_, None) => return Err(wrong(THREE)),
    };
    let path = PathBuf::from(OsString::from_vec(percent_decode_str(path).collect()));
    // One that is too long would be an outage later.
    std::os::unix::net::SocketAddr::from_pathname(&path).map_err(|error| {
        ConfigError::new("no socket can have this path: write a shorter one").with_source(error)
    })?;
    let options = Options::read(query)?;
    let mut settings = Settings::new(Endpoint::Unix(path), false);
    settings.db = options.db.unwrap_or(0);
    settings.version = options.version;
    Ok((settings, login))
}

#[cfg(not(unix))]
fn over_unix(_: &str) -> Result<(Settings, Login), ConfigError> {
    Err(wrong("only Unix has sockets with a path"))
}

/// The parameters that may follow the `?`.
#[derive(Default)]
struct Options {
    db: Option<u32>,
    version: Option<RespVersion>,
}

impl Options {
    fn read(query: Option<&str>) -> Result<Self, ConfigError> {
        let query = query.unwrap_or_default();
        // A password with a `?` in it would be shown below.
        if query.contains('@') {
            return Err(wrong("an `@` follows a `?`"));
        }
        let mut options = Self::default();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let first = match name {
                "db" => options.db.replace(database(value)?).is_none(),
                "protocol" => options.version.replace(version(value)?).is_none(),
                name => {
                    return Err(wrong(&format!(
                        "it has the option {name:?}, and there are only `db` and `protocol`"
                    )));
                }
            };
            if !first {
                return Err(wrong(&format!("the option `{name}` is written twice")));
            }
        }
        Ok(options)
    }
}

fn host_name(encoded: &str) -> Result<String, ConfigError> {
    let wrong = || wrong("the host is neither a name nor an address");
    let name = percent_decode_str(encoded).decode_utf8();
    let name = name.map_err(|error| wrong().with_source(error))?;
    match Host::parse(&name) {
        Ok(Host::Domain(name)) => Ok(name),
        Ok(address) => Ok(address.to_string()),
        Err(error) => Err(wrong().with_source(error)),
    }
}

fn database(text: &str) -> Result<u32, ConfigError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(db) if digits => Ok(db),
        _ => Err(wrong("the database is not a number")),
    }
}

fn version(text: &str) -> Result<RespVersion, ConfigError> {
    match text {
        "2" | "resp2" => Ok(RespVersion::Two),
        "3" | "resp3" => Ok(RespVersion::Three),
        _ => Err(wrong("the protocol is neither 2 nor 3")),
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

pub(super) fn wrong(what: &str) -> ConfigError {
    ConfigError::new(format!(
        "this is no Redis URL, {what}: write redis://[[user]:password@]host[:port][/db], rediss:// for TLS, unix:///path for a socket, \
         `:`, `@`, `/`, `?`, `#` and `%` in a password as %3A, %40, %2F, %3F, %23 and %25"
    ))
}

const PORT: u16 = 6379;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::settings::Endpoint;

    fn address(settings: &Settings) -> (&str, u16) {
        match &settings.endpoint {
            Endpoint::Tcp { host, port } => (host, *port),
            other => panic!("{other:?}"),
        }
    }

    fn login(settings: &Settings) -> (Option<&str>, Option<&str>) {
        match &settings.access {
            Access::Open => (None, None),
            Access::Fixed(fixed) => (fixed.username(), Some(fixed.secret())),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn urls_are_read() {
        for (url, host, port, db, user, password) in [
            ("redis://localhost", "localhost", 6379, 0, None, None),
            ("redis://localhost/", "localhost", 6379, 0, None, None),
            ("REDIS://localhost/1?", "localhost", 6379, 1, None, None),
            (
                "valkey://10.0.0.7:7000/15",
                "10.0.0.7",
                7000,
                15,
                None,
                None,
            ),
            ("redis://[::1]:7000?db=3", "::1", 7000, 3, None, None),
            (
                "redis://b\u{fc}cher.example",
                "xn--bcher-kva.example",
                6379,
                0,
                None,
                None,
            ),
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
            (
                "redis://a%3Ad%40a:%3F%23%20%C3%BC%00@h",
                "h",
                6379,
                0,
                Some("a:d@a"),
                Some("?# \u{fc}\0"),
            ),
            (
                "redis://ada:1 [2]|^{\u{fc}}<>\"'$&+,;=!*()@h",
                "h",
                6379,
                0,
                Some("ada"),
                Some("1 [2]|^{\u{fc}}<>\"'$&+,;=!*()"),
            ),
        ] {
            let settings = Settings::from_url(url).unwrap();
            assert_eq!(address(&settings), (host, port), "{url}");
            assert_eq!(settings.db, db, "{url}");
            assert_eq!(login(&settings), (user, password), "{url}");
            assert!(!settings.tls && settings.version.is_none());
        }
    }

    #[test]
    fn options_follow_the_address() {
        for (url, db, version) in [
            ("redis://h?protocol=2", 0, Some(RespVersion::Two)),
            ("redis://h/4?protocol=3", 4, Some(RespVersion::Three)),
            ("redis://h?db=1&protocol=resp2", 1, Some(RespVersion::Two)),
            (
                "redis://h/?protocol=resp3&db=1",
                1,
                Some(RespVersion::Three),
            ),
        ] {
            let settings = Settings::from_url(url).unwrap();
            assert_eq!((settings.db, settings.version), (db, version), "{url}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn sockets_are_read() {
        for (url, path, db, user, password) in [
            ("unix:///run/redis.sock", "/run/redis.sock", 0, None, None),
            (
                "redis+unix:///run/a%20b%3F?db=1",
                "/run/a b?",
                1,
                None,
                None,
            ),
            (
                "unix://:s%2Fe@/run/r?db=2&protocol=2",
                "/run/r",
                2,
                None,
                Some("s/e"),
            ),
            ("UNIX://ada:secret@/r", "/r", 0, Some("ada"), Some("secret")),
        ] {
            let settings = Settings::from_url(url).unwrap();
            assert_eq!(settings.endpoint, Endpoint::Unix(path.into()), "{url}");
            assert_eq!(settings.db, db, "{url}");
            assert_eq!(login(&settings), (user, password), "{url}");
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
            ("redis://:hunter2@10.0.0.300", "host"),
            ("redis://:hunter2@[fe80::1%25eth0]", "zone"),
            ("redis://:hunter2@[fe80::1%eth0]", "zone"),
            ("redis://:hunter2@h/first", "database"),
            ("redis://:hunter2@h/-1", "database"),
            ("redis://:hunter2@h/+1", "database"),
            ("redis://:hunter2@h/1/2", "database"),
            ("redis://:hunter2@h/99999999999", "database"),
            ("redis://:hunter2@h/1?db=1", "two databases"),
            ("redis://:hunter2@h?db=", "database"),
            ("redis://:hunter2@h?db=1&db=2", "`db` is written twice"),
            ("redis://:hunter2@h?protocol=4", "protocol"),
            ("redis://:hunter2@h?timeout=5", "\"timeout\""),
            ("redis://:hunter2@h?ssl_cert_reqs", "\"ssl_cert_reqs\""),
            ("redis://:hunter2@h#insecure", "`#`"),
            ("redis://ada:1?hunter2@h", "`?`"),
            ("redis://ada:1?hunter2=x@h", "`?`"),
            ("redis://ada:1/hunter2@h", "database"),
            ("redis://ada:1#hunter2@h", "`#`"),
            ("redis://:hunter2%ff@h", "UTF-8"),
            ("redis://ada@h", "password"),
            ("http://:hunter2@h", "scheme"),
            ("hunter2://h", "scheme"),
            ("hunter2", "redis://"),
            #[cfg(unix)]
            ("unix://run/hunter2.sock", "begins with a slash"),
            #[cfg(unix)]
            ("unix://hunter2", "slash"),
            #[cfg(unix)]
            ("unix://:hun/ter2@/run/redis.sock", "slash"),
            #[cfg(unix)]
            ("unix:///run/redis.sock?pass=hunter2", "\"pass\""),
            #[cfg(unix)]
            ("unix://ada@/run/redis.sock", "password"),
        ] {
            let message = Settings::from_url(url).unwrap_err().to_string();
            assert!(message.contains(said), "{url}: {message}");
            assert!(
                message.contains("write redis://") || message.contains("port"),
                "{message}"
            );
            assert!(!message.contains("hunter2"), "{message}");
        }
        #[cfg(unix)]
        {
            let long = format!("unix:///{}", "x".repeat(200));
            let message = Settings::from_url(&long).unwrap_err().to_string();
            assert!(message.contains("shorter"), "{message}");
        }
    }

    #[test]
    fn what_a_url_does_not_say_is_read_from_the_variables() {
        let read = |url, username: Option<&str>| {
            let beside = Login {
                username: username.map(Into::into),
                password: Some("s@fe".into()),
            };
            let settings = Settings::from_url_and_login(url, beside)?;
            let (user, password) = login(&settings);
            Ok::<_, ConfigError>((user.map(String::from), password.map(String::from)))
        };
        let both = |user: Option<&str>| (user.map(String::from), Some("s@fe".to_owned()));
        assert_eq!(read("redis://h", None).unwrap(), both(None));
        assert_eq!(read("redis://ada@h", None).unwrap(), both(Some("ada")));
        assert_eq!(read("redis://h", Some("ada")).unwrap(), both(Some("ada")));
        #[cfg(unix)]
        assert_eq!(
            read("unix:///run/r", Some("ada")).unwrap(),
            both(Some("ada"))
        );
        for (url, said) in [
            ("redis://:hunter2@h", "unset REDIS_PASSWORD"),
            ("redis://bob:hunter2@h", "unset REDIS_USERNAME"),
            ("redis://bob@h", "unset REDIS_USERNAME"),
        ] {
            let message = read(url, Some("ada")).unwrap_err().to_string();
            assert!(message.contains(said), "{message}");
            assert!(!message.contains("hunter2") && !message.contains("s@fe"));
        }
    }
}
