use crate::ConfigError;
#[cfg(feature = "redis")]
use crate::redis::Settings;

/// The store that a URL or the environment names.
#[derive(Debug)]
pub(super) enum Target {
    Memory,
    #[cfg(feature = "redis")]
    Redis(Settings),
}

impl Target {
    pub(super) fn from_url(url: &str) -> Result<Self, ConfigError> {
        Self::from_url_and_password(url, None)
    }

    /// Reads a URL. `password` is that of a variable beside it, for a URL without one.
    pub(super) fn from_url_and_password(
        url: &str,
        password: Option<String>,
    ) -> Result<Self, ConfigError> {
        // Split here and not by a parser of URLs, whose errors would repeat a text that may be a password.
        let Some((scheme, address)) = url.split_once("://") else {
            return Err(ConfigError::new(
                "this is no URL of a store: write `redis://host:6379`, `rediss://..` or `memory://`",
            ));
        };
        match (scheme.to_ascii_lowercase().as_str(), address) {
            ("memory", "" | "/") if password.is_some() => Err(ConfigError::new(
                "REDIS_PASSWORD is set, and the store `memory://` takes none: unset REDIS_PASSWORD",
            )),
            ("memory", "" | "/") => Ok(Self::Memory),
            ("memory", _) => Err(ConfigError::new(
                "a memory store has no address: write `memory://`",
            )),
            ("redis" | "rediss", _) => Self::redis(url, password),
            (scheme, _)
                if scheme
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) =>
            {
                Err(ConfigError::new(format!(
                    "there is no store for `{scheme}://`: write `redis://host:6379`, `rediss://..` or `memory://`"
                )))
            }
            _ => Err(ConfigError::new(
                "this is no URL of a store: write `redis://host:6379`, `rediss://..` or `memory://`",
            )),
        }
    }

    #[cfg(feature = "redis")]
    fn redis(url: &str, password: Option<String>) -> Result<Self, ConfigError> {
        Settings::from_url_and_password(url, password).map(Self::Redis)
    }

    #[cfg(not(feature = "redis"))]
    fn redis(_: &str, _: Option<String>) -> Result<Self, ConfigError> {
        Err(missing_feature())
    }

    #[cfg(feature = "redis")]
    pub(super) fn redis_at(
        host: String,
        port: u16,
        password: Option<String>,
        tls: bool,
    ) -> Result<Self, ConfigError> {
        Ok(Self::Redis(
            Settings::at(&host, port, tls)?.with_password(password),
        ))
    }

    #[cfg(not(feature = "redis"))]
    pub(super) fn redis_at(
        _: String,
        _: u16,
        _: Option<String>,
        _: bool,
    ) -> Result<Self, ConfigError> {
        Err(missing_feature())
    }
}

#[cfg(not(feature = "redis"))]
fn missing_feature() -> ConfigError {
    ConfigError::new(
        "Redis needs the feature `redis` (`redis-tls` for `rediss://`) of the layer crate or of layer-store: write `cargo add <crate> --features redis`, or `memory://`",
    )
}

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
            "redis+cluster://h",
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
        assert!(Target::from_url("REDISS://h").is_ok());
    }
}
