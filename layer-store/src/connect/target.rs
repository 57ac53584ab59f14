use crate::ConfigError;
#[cfg(feature = "redis")]
pub(super) use crate::redis::Login;
#[cfg(feature = "redis")]
use crate::redis::Settings;

/// The store that a URL or the environment names.
#[derive(Debug)]
pub(super) enum Target {
    Memory,
    #[cfg(feature = "redis")]
    Redis(Settings),
}

/// A user and a password that stand beside a URL.
#[cfg(not(feature = "redis"))]
#[derive(Default)]
pub(super) struct Login {
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
}

impl Target {
    pub(super) fn from_url(url: &str) -> Result<Self, ConfigError> {
        Self::from_url_and_login(url, Login::default())
    }

    /// Reads a URL. `beside` is what variables say of user and password, for a URL that does not.
    pub(super) fn from_url_and_login(url: &str, beside: Login) -> Result<Self, ConfigError> {
        // Split here and not by a parser of URLs, whose errors would repeat a text that may be a password.
        let Some((scheme, address)) = url.split_once("://") else {
            return Err(ConfigError::new(NO_URL));
        };
        match (scheme.to_ascii_lowercase().as_str(), address) {
            ("memory", "" | "/") => match (beside.username, beside.password) {
                (None, None) => Ok(Self::Memory),
                (_, Some(_)) => Err(takes_none("REDIS_PASSWORD")),
                (Some(_), None) => Err(takes_none("REDIS_USERNAME")),
            },
            ("memory", _) => Err(ConfigError::new(
                "a memory store has no address: write `memory://`",
            )),
            ("redis" | "rediss" | "valkey" | "valkeys" | "unix" | "redis+unix", _) => {
                Self::redis(url, beside)
            }
            (
                scheme
                @ ("redis+cluster" | "rediss+cluster" | "redis+sentinel" | "rediss+sentinel"),
                _,
            ) => Err(ConfigError::new(format!(
                "`{scheme}://` is not supported yet: write the address of one server that has all keys, `redis://host:6379`, or `memory://`"
            ))),
            (scheme, _)
                if scheme
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) =>
            {
                Err(ConfigError::new(format!(
                    "there is no store for `{scheme}://`: write `redis://host:6379`, `rediss://..`, `unix:///path` or `memory://`"
                )))
            }
            _ => Err(ConfigError::new(NO_URL)),
        }
    }

    #[cfg(feature = "redis")]
    fn redis(url: &str, beside: Login) -> Result<Self, ConfigError> {
        Settings::from_url_and_login(url, beside).map(Self::Redis)
    }

    #[cfg(not(feature = "redis"))]
    fn redis(_: &str, _: Login) -> Result<Self, ConfigError> {
        Err(missing_feature())
    }

    #[cfg(feature = "redis")]
    pub(super) fn redis_at(
        host: &str,
        port: u16,
        tls: bool,
        login: Login,
    ) -> Result<Self, ConfigError> {
        Settings::at(host, port, tls, login).map(Self::Redis)
    }

    #[cfg(not(feature = "redis"))]
    pub(super) fn redis_at(_: &str, _: u16, _: bool, _: Login) -> Result<Self, ConfigError> {
        Err(missing_feature())
    }
}

fn takes_none(name: &str) -> ConfigError {
    ConfigError::new(format!(
        "{name} is set, and the store `memory://` takes none: unset {name}"
    ))
}

#[cfg(not(feature = "redis"))]
fn missing_feature() -> ConfigError {
    ConfigError::new(
        "Redis needs the feature `redis` (`redis-tls` for `rediss://`) of the layer crate or of layer-store: write `cargo add <crate> --features redis`, or `memory://`",
    )
}

const NO_URL: &str = "this is no URL of a store: write `redis://host:6379`, `rediss://..`, `unix:///path` or `memory://`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_url_is_an_error_that_says_what_to_write() {
        for url in [
            "",
            "hunter2",
            "localhost:6379",
            ":hunter2@h://",
            "http://:hunter2@h",
            "redis+cluster://:hunter2@h",
            "redis+sentinel://:hunter2@h/main",
            "Postgres://:hunter2@h",
            "memory://10",
        ] {
            let message = Target::from_url(url).unwrap_err().to_string();
            assert!(message.contains("memory://"), "{url}: {message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn a_scheme_is_read_in_any_case() {
        assert!(matches!(Target::from_url("MEMORY://"), Ok(Target::Memory)));
        #[cfg(feature = "redis")]
        for url in ["redis://h:7/1", "Redis://h:7/1", "REDIS://h:7/1"] {
            let target = Target::from_url(url).unwrap();
            assert_eq!(format!("{target:?}"), "Redis(redis://h:7/1)");
        }
        #[cfg(feature = "redis-tls")]
        for url in ["REDISS://h", "valkeys://h", "rediss://h"] {
            let target = Target::from_url(url).unwrap();
            assert_eq!(format!("{target:?}"), "Redis(rediss://h:6379/0)");
        }
    }

    #[cfg(all(feature = "redis", unix))]
    #[test]
    fn a_socket_is_the_same_store() {
        for url in ["unix:///run/r?db=1", "redis+unix:///run/r?db=1"] {
            let target = Target::from_url(url).unwrap();
            assert_eq!(format!("{target:?}"), "Redis(unix:///run/r?db=1)");
        }
    }

    #[test]
    fn what_is_not_supported_yet_is_told_from_what_is_unknown() {
        for scheme in ["redis+cluster", "redis+sentinel"] {
            let error = Target::from_url(&format!("{scheme}://h")).unwrap_err();
            assert!(error.to_string().contains("not supported yet"), "{error}");
        }
    }
}
