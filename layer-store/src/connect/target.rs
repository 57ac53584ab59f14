use crate::ConfigError;
#[cfg(feature = "redis")]
use crate::redis::Settings;

/// What a URL or the environment names.
#[derive(Debug)]
pub(super) enum Target {
    Memory,
    #[cfg(feature = "redis")]
    Redis(Settings),
}

impl Target {
    pub(super) fn from_url(url: &str) -> Result<Self, ConfigError> {
        // Not by a parser of URLs: what has no scheme may be a password.
        match url.split_once("://") {
            Some(("memory", "" | "/")) => Ok(Self::Memory),
            Some(("memory", _)) => Err(ConfigError::new(
                "a memory store has no address: write `memory://`",
            )),
            Some(("redis" | "rediss", _)) => Self::redis(url),
            Some((scheme, _))
                if scheme
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) =>
            {
                Err(ConfigError::new(format!(
                    "there is no store behind `{scheme}://`: write `redis://host:6379`, `rediss://..` or `memory://`"
                )))
            }
            _ => Err(ConfigError::new(
                "this is no URL of a store: write `redis://host:6379`, `rediss://..` or `memory://`",
            )),
        }
    }

    #[cfg(feature = "redis")]
    fn redis(url: &str) -> Result<Self, ConfigError> {
        Settings::from_url(url).map(Self::Redis)
    }

    #[cfg(not(feature = "redis"))]
    fn redis(_: &str) -> Result<Self, ConfigError> {
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
            "localhost:6379",
            ":hunter2@h://",
            "http://:hunter2@h",
            "redis+cluster://h",
            "Redis://h",
            "memory://10",
        ] {
            let message = Target::from_url(url).unwrap_err().to_string();
            assert!(message.contains("memory://"), "{url}: {message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
