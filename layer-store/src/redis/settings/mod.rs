#[cfg(unix)]
use std::path::PathBuf;
use std::{fmt, net::IpAddr, time::Duration};

use ::url::Host;

pub(crate) use self::url::Login;
use crate::{ConfigError, Credentials, credentials::SharedProvider};

mod url;

/// The way to one server: its address, the user there, the database, and the time for the first commands.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(super) endpoint: Endpoint,
    pub(super) tls: bool,
    /// Certificate authorities that are trusted beside the public ones.
    #[cfg(feature = "redis-tls")]
    pub(super) ca_pem: Option<Vec<u8>>,
    /// A certificate of ours, with its key.
    #[cfg(feature = "redis-tls")]
    pub(super) client_pem: Option<Vec<u8>>,
    pub(super) access: Access,
    pub(super) db: u32,
    /// The version of RESP that the greeting must have. `None`: the best that the server knows.
    pub(super) version: Option<RespVersion>,
    /// The longest time of an attempt to connect, from the look-up of the name to the last reply of the greeting.
    pub(super) connect_timeout: Duration,
    /// The most calls that are under way at once.
    pub(super) max_in_flight: usize,
}

/// The place where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Tcp {
        host: String,
        port: u16,
    },
    #[cfg(unix)]
    Unix(PathBuf),
}

/// The user on the server.
#[derive(Clone, Debug)]
pub(super) enum Access {
    /// The default user, without a password.
    Open,
    Fixed(Credentials),
    Asked(SharedProvider),
}

/// A version of RESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RespVersion {
    Two,
    Three,
}

impl Settings {
    /// Makes the settings for a host by itself. A text that no resolver could find is an error here, and no outage later.
    pub(crate) fn at(host: &str, port: u16, tls: bool, login: Login) -> Result<Self, ConfigError> {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let bare = bare.unwrap_or(host);
        let is_address = bare.parse::<IpAddr>().is_ok();
        if bare.contains('%') && bare.contains(':') {
            return Err(ConfigError::new(format!(
                "REDIS_HOST is no host: {NO_ZONE}"
            )));
        }
        if !is_address && Host::parse(host).is_err() {
            return Err(ConfigError::new(
                "REDIS_HOST is no host: write a name or an address alone, with the port in REDIS_PORT, or a whole URL in REDIS_URL",
            ));
        }
        let settings = Self::tcp(bare.to_owned(), port, tls)?;
        Ok(Self {
            access: login.access()?,
            ..settings
        })
    }

    fn tcp(host: String, port: u16, tls: bool) -> Result<Self, ConfigError> {
        if tls && cfg!(not(feature = "redis-tls")) {
            return Err(ConfigError::new(
                "TLS to Redis needs the feature `redis-tls` of the layer crate or of layer-store: write `cargo add <crate> --features redis-tls`, or `redis://`",
            ));
        }
        if port == 0 {
            return Err(url::wrong("no server listens on port 0"));
        }
        Ok(Self::new(Endpoint::Tcp { host, port }, tls))
    }

    fn new(endpoint: Endpoint, tls: bool) -> Self {
        Self {
            endpoint,
            tls,
            #[cfg(feature = "redis-tls")]
            ca_pem: None,
            #[cfg(feature = "redis-tls")]
            client_pem: None,
            access: Access::Open,
            db: 0,
            version: None,
            connect_timeout: CONNECT_TIMEOUT,
            max_in_flight: MAX_IN_FLIGHT,
        }
    }

    pub(crate) fn with_connect_timeout(self, connect_timeout: Duration) -> Self {
        Self {
            connect_timeout,
            ..self
        }
    }

    pub(crate) fn with_max_in_flight(self, max_in_flight: usize) -> Self {
        Self {
            max_in_flight,
            ..self
        }
    }

    /// Asks `provider` at each connect, if there is one.
    pub(crate) fn with_provider(
        self,
        provider: Option<SharedProvider>,
    ) -> Result<Self, ConfigError> {
        match (provider, &self.access) {
            (None, _) => Ok(self),
            (Some(provider), Access::Open) => Ok(Self {
                access: Access::Asked(provider),
                ..self
            }),
            (Some(_), _) => Err(ConfigError::new(
                "the address has a password and `credentials` are set too: write the address without user and password, or leave `credentials` out",
            )),
        }
    }

    /// Trusts these certificate authorities beside the public ones.
    #[cfg(feature = "redis-tls")]
    pub(crate) fn with_ca_pem(self, ca_pem: Option<Vec<u8>>) -> Result<Self, ConfigError> {
        if ca_pem.is_some() && !self.tls {
            return Err(ConfigError::new(
                "a certificate authority is set for a server without TLS: write `rediss://`, or drop `ca_pem` (REDIS_TLS_CA_FILE)",
            ));
        }
        Ok(Self { ca_pem, ..self })
    }

    /// Shows this certificate, with its key, to a server that asks for one.
    #[cfg(feature = "redis-tls")]
    pub(crate) fn with_client_pem(self, client_pem: Option<Vec<u8>>) -> Result<Self, ConfigError> {
        if client_pem.is_some() && !self.tls {
            return Err(ConfigError::new(
                "a client certificate is set for a server without TLS: write `rediss://`, or drop `client_pem` (REDIS_TLS_CERT_FILE, REDIS_TLS_KEY_FILE)",
            ));
        }
        Ok(Self { client_pem, ..self })
    }
}

impl fmt::Debug for Settings {
    /// Shows neither user nor password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Tcp { host, port } => {
                let scheme = if self.tls { "rediss" } else { "redis" };
                // Brackets, so that the end of an IPv6 address is not read as a port.
                match host.contains(':') {
                    true => write!(f, "{scheme}://[{host}]:{port}/{}", self.db),
                    false => write!(f, "{scheme}://{host}:{port}/{}", self.db),
                }
            }
            #[cfg(unix)]
            Endpoint::Unix(path) => write!(f, "unix://{}?db={}", path.display(), self.db),
        }
    }
}

/// The default of `Options::connect_timeout`, for a store that was made without options.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_IN_FLIGHT: usize = 1_024;
const NO_ZONE: &str = "an IPv6 address with a zone, as in `fe80::1%eth0`, is not supported: write a name, or an address without `%`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_user_and_no_password() {
        for (url, shown) in [
            ("redis://ada:hunter2@h:7000/3", "redis://h:7000/3"),
            ("valkey://ada:hunter2@[::1]", "redis://[::1]:6379/0"),
            #[cfg(unix)]
            ("unix://:hunter2@/run/a?db=2", "unix:///run/a?db=2"),
        ] {
            let settings = Settings::from_url(url).unwrap();
            assert_eq!(format!("{settings:?}"), shown);
            assert!(!format!("{:?}", settings.access).contains("hunter2"));
        }
    }

    #[test]
    fn a_zone_is_refused_by_name() {
        let none = Login::default;
        for host in ["fe80::1%eth0", "[fe80::1%eth0]"] {
            let error = Settings::at(host, 6379, false, none()).unwrap_err();
            assert!(error.to_string().contains("zone"), "{error}");
        }
        assert!(Settings::at("[::1]", 6379, false, none()).is_ok());
    }

    #[test]
    fn a_provider_and_a_password_are_one_too_many() {
        let provider = || Some(SharedProvider::new(|| async { Err("none".into()) }));
        let open = Settings::from_url("redis://h").unwrap();
        let settings = open.with_provider(provider()).unwrap();
        assert!(matches!(settings.access, Access::Asked(_)));
        let fixed = Settings::from_url("redis://:hunter2@h").unwrap();
        let message = fixed.with_provider(provider()).unwrap_err().to_string();
        assert!(message.contains("`credentials`") && !message.contains("hunter2"));
    }

    #[cfg(not(feature = "redis-tls"))]
    #[test]
    fn tls_without_its_feature_is_an_error_that_names_it() {
        let message = Settings::from_url("rediss://h").unwrap_err().to_string();
        assert!(message.contains("`redis-tls`"), "{message}");
    }

    #[cfg(feature = "redis-tls")]
    #[test]
    fn certificates_without_tls_are_an_error() {
        let plain = || Settings::from_url("redis://h").unwrap();
        assert!(plain().with_ca_pem(Some(Vec::new())).is_err());
        assert!(plain().with_client_pem(Some(Vec::new())).is_err());
        let tls = || Settings::from_url("rediss://h").unwrap();
        assert!(tls().with_ca_pem(Some(Vec::new())).is_ok());
        assert!(tls().with_client_pem(Some(Vec::new())).is_ok());
    }
}
