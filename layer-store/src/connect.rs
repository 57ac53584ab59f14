use std::{env, ffi::OsString, num::NonZeroU32, time::Duration};

use crate::{ConfigError, MemoryStore, Prefix, SharedStore, wrap::Namespace};
#[cfg(feature = "redis")]
use crate::{
    RedisStore, Store,
    redis::Settings,
    wrap::{Breaker, Timeout},
};

/// Connects to the store at `url`, with the default [`Options`].
///
/// | URL | Store |
/// | --- | --- |
/// | `memory://` | a [`MemoryStore`]: this process alone |
/// | `redis://[[user]:password@]host[:6379][/0]` | Redis 7.0 or later (feature `redis`) |
/// | `rediss://..` | the same through TLS (feature `redis-tls`) |
///
/// A store that is reached over a network comes with a [deadline](crate::wrap::Timeout) and a
/// [circuit breaker](crate::wrap::Breaker) round it. If the server cannot be reached within the deadline, that is no error:
/// the store is returned with its breaker open, after one warning, and comes back by itself.
///
/// # Errors
///
/// A URL that cannot be read, a missing feature, Redis without a tokio runtime, or a server that refuses: a wrong password,
/// a database that it does not have, a certificate that is not trusted.
///
/// # Cancel safety
///
/// A dropped future leaves nothing behind.
pub async fn connect(url: &str) -> Result<SharedStore, ConfigError> {
    connect_with(url, Options::new()).await
}

/// Connects to the store at `url`. See [`connect()`].
///
/// ```
/// # use std::time::Duration;
/// # use layer_store::{Options, connect_with};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let patient = Options::new().deadline(Duration::from_millis(250)).open_for(Duration::from_secs(60));
/// let store = connect_with("memory://", patient.prefix("shop")).await?;
/// # Ok::<_, layer_store::ConfigError>(())
/// # }).unwrap();
/// ```
///
/// # Errors
///
/// Those of [`connect()`], and options that cannot work.
pub async fn connect_with(url: &str, options: Options) -> Result<SharedStore, ConfigError> {
    open(Target::from_url(url)?, options).await
}

/// Connects to the store that the environment names, with the default [`Options`].
///
/// The first of these that is set; an empty variable counts as unset:
///
/// 1. `REDIS_URL`, as [`connect()`] reads it;
/// 2. `REDIS_HOST`, with `REDIS_PORT` (6379), `REDIS_PASSWORD` (none) and `REDIS_TLS` (`true` or `false`, the default).
///
/// `REDIS_KEY_PREFIX` puts a [prefix](Options::prefix) before every key.
///
/// # Errors
///
/// Those of [`connect()`], none of them set, or one that cannot be read. So is `UPSTASH_REDIS_REST_URL`, which this version
/// cannot follow.
pub async fn connect_from_env() -> Result<SharedStore, ConfigError> {
    match from_env(|name| env::var_os(name))? {
        Some((target, options)) => open(target, options).await,
        None => Err(ConfigError::new(
            "no store is configured: set REDIS_URL=redis://host:6379, or REDIS_HOST, or call connect(\"memory://\")",
        )),
    }
}

/// The same, and a [`MemoryStore`] with a warning where none of them is set.
///
/// # Errors
///
/// Those of [`connect_from_env`], but for none being set.
pub async fn connect_from_env_or_memory() -> Result<SharedStore, ConfigError> {
    let (target, options) = match from_env(|name| env::var_os(name))? {
        Some(found) => found,
        None => {
            tracing::warn!(
                "no store is configured (REDIS_URL, REDIS_HOST): using this process' memory, which no other shares"
            );
            (Target::Memory, prefix_from_env(&|name| env::var_os(name))?)
        }
    };
    open(target, options).await
}

/// How a store that is reached over a network is guarded, and what stands before its keys.
///
/// # Defaults
///
/// | Option | Default |
/// | --- | --- |
/// | [`deadline`](Self::deadline) | 100 ms |
/// | [`open_after`](Self::open_after) | 5 failures |
/// | [`open_for`](Self::open_for) | 1 s |
/// | [`prefix`](Self::prefix) | none |
/// | `ca_pem` (feature `redis-tls`) | the public roots alone |
#[derive(Clone, Debug)]
#[must_use]
pub struct Options {
    deadline: Duration,
    open_after: u32,
    open_for: Duration,
    prefix: Option<String>,
    #[cfg(feature = "redis-tls")]
    ca_pem: Option<Vec<u8>>,
}

impl Options {
    /// The defaults.
    pub const fn new() -> Self {
        Self {
            deadline: Duration::from_millis(100),
            open_after: 5,
            open_for: Duration::from_secs(1),
            prefix: None,
            #[cfg(feature = "redis-tls")]
            ca_pem: None,
        }
    }

    /// The longest that a call, and `connect` itself, may take. A `MemoryStore` has none.
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How many calls in a row must fail for the breaker to open.
    pub const fn open_after(mut self, failures: u32) -> Self {
        self.open_after = failures;
        self
    }

    /// How long the breaker stays open before it asks for the first time whether the store is back.
    pub const fn open_for(mut self, open_for: Duration) -> Self {
        self.open_for = open_for;
        self
    }

    /// Puts `prefix` and a colon before every key, as several applications on one server need it.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Trusts these certificate authorities, in PEM, beside the public ones.
    #[cfg(feature = "redis-tls")]
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_pem = Some(pem.into());
        self
    }

    fn checked(self) -> Result<Checked, ConfigError> {
        let zero = |what: &str, instead: &str| {
            ConfigError::new(format!(
                "{what} of zero lets nothing through: write {instead}"
            ))
        };
        if self.deadline.is_zero() {
            return Err(zero("a deadline", "Duration::from_millis(100)"));
        }
        if self.open_for.is_zero() {
            return Err(zero("an open_for", "Duration::from_secs(1)"));
        }
        if self.prefix.as_deref() == Some("") {
            return Err(ConfigError::new(
                "an empty prefix sets nothing apart: write a name, or leave `prefix` out",
            ));
        }
        Ok(Checked {
            deadline: self.deadline,
            open_after: NonZeroU32::new(self.open_after)
                .ok_or_else(|| zero("an open_after", "5"))?,
            open_for: self.open_for,
            prefix: self.prefix.as_deref().map(Prefix::new),
            #[cfg(feature = "redis-tls")]
            ca_pem: self.ca_pem,
        })
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

/// Options that work.
#[cfg_attr(
    not(feature = "redis"),
    expect(dead_code, reason = "only a store over a network needs a guard")
)]
struct Checked {
    deadline: Duration,
    open_after: NonZeroU32,
    open_for: Duration,
    prefix: Option<Prefix>,
    #[cfg(feature = "redis-tls")]
    ca_pem: Option<Vec<u8>>,
}

/// What a URL or the environment names.
#[derive(Debug)]
enum Target {
    Memory,
    #[cfg(feature = "redis")]
    Redis(Settings),
}

impl Target {
    fn from_url(url: &str) -> Result<Self, ConfigError> {
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
    fn redis_at(
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
    fn redis_at(_: String, _: u16, _: Option<String>, _: bool) -> Result<Self, ConfigError> {
        Err(missing_feature())
    }
}

#[cfg(not(feature = "redis"))]
fn missing_feature() -> ConfigError {
    ConfigError::new(
        "Redis needs the feature `redis` (`redis-tls` for `rediss://`) of the layer crate or of layer-store: write `cargo add <crate> --features redis`, or `memory://`",
    )
}

async fn open(target: Target, options: Options) -> Result<SharedStore, ConfigError> {
    let options = options.checked()?;
    match target {
        Target::Memory => Ok(match options.prefix {
            None => SharedStore::new(MemoryStore::new()),
            Some(prefix) => SharedStore::new(Namespace::new(MemoryStore::new(), prefix)),
        }),
        #[cfg(feature = "redis")]
        Target::Redis(settings) => open_redis(settings, options).await,
    }
}

#[cfg(feature = "redis")]
async fn open_redis(settings: Settings, mut options: Checked) -> Result<SharedStore, ConfigError> {
    #[cfg(feature = "redis-tls")]
    let settings = settings.with_ca_pem(options.ca_pem.take())?;
    let address = format!("{settings:?}");
    let store = RedisStore::from_settings(settings)?;
    // An attempt that is still under way at the deadline goes on by itself, and the first ping finds what came of it.
    let outage = match tokio::time::timeout(options.deadline, store.dial()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) if error.is_refusal() => {
            return Err(ConfigError::new(format!(
                "{address}: {error}; check the URL's scheme, user, password and database"
            ))
            .with_source(error));
        }
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {:?}", options.deadline)),
    };
    Ok(match options.prefix.take() {
        None => guarded(store, &options, outage),
        Some(prefix) => guarded(Namespace::new(store, prefix), &options, outage),
    })
}

#[cfg(feature = "redis")]
fn guarded(store: impl Store, options: &Checked, outage: Option<String>) -> SharedStore {
    let breaker = Breaker::with_limits(
        Timeout::new(store, options.deadline),
        tokio::runtime::Handle::current(),
        options.open_after,
        options.open_for,
    );
    SharedStore::new(match outage {
        None => breaker,
        Some(why) => breaker.opened(why),
    })
}

/// What the environment names, if anything.
fn from_env(
    lookup: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<(Target, Options)>, ConfigError> {
    let lookup = &lookup;
    let var = |name| variable(lookup, name);
    for name in ["UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"] {
        if var(name)?.is_some() {
            return Err(ConfigError::new(format!(
                "{name} is set, and this version does not speak Redis over REST: unset it, and set \
                 REDIS_URL=rediss://default:password@host:6379, which Upstash offers too"
            )));
        }
    }
    let target = match (var("REDIS_URL")?, var("REDIS_HOST")?) {
        (Some(url), _) => Target::from_url(&url)?,
        (None, Some(host)) => Target::redis_at(
            host,
            port(var("REDIS_PORT")?)?,
            var("REDIS_PASSWORD")?,
            switch(var("REDIS_TLS")?)?,
        )?,
        (None, None) => {
            for name in ["REDIS_PORT", "REDIS_PASSWORD", "REDIS_TLS"] {
                if var(name)?.is_some() {
                    return Err(ConfigError::new(format!(
                        "{name} is set and REDIS_HOST is not: set REDIS_HOST too, or REDIS_URL instead"
                    )));
                }
            }
            return Ok(None);
        }
    };
    Ok(Some((target, prefix_from_env(lookup)?)))
}

fn prefix_from_env(lookup: &impl Fn(&str) -> Option<OsString>) -> Result<Options, ConfigError> {
    Ok(match variable(lookup, "REDIS_KEY_PREFIX")? {
        None => Options::new(),
        Some(prefix) => Options::new().prefix(prefix),
    })
}

fn variable(
    lookup: &impl Fn(&str) -> Option<OsString>,
    name: &str,
) -> Result<Option<String>, ConfigError> {
    match lookup(name).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(Err(_)) => Err(ConfigError::new(format!(
            "{name} is not UTF-8: write it in UTF-8"
        ))),
    }
}

fn port(text: Option<String>) -> Result<u16, ConfigError> {
    match text.map(|text| text.parse()) {
        None => Ok(6379),
        Some(Ok(port)) => Ok(port),
        Some(Err(_)) => Err(ConfigError::new(
            "REDIS_PORT is not a port: write a number such as 6379",
        )),
    }
}

fn switch(text: Option<String>) -> Result<bool, ConfigError> {
    match text.map(|text| text.to_ascii_lowercase()).as_deref() {
        None | Some("false" | "0" | "no" | "off") => Ok(false),
        Some("true" | "1" | "yes" | "on") => Ok(true),
        Some(_) => Err(ConfigError::new(
            "REDIS_TLS is neither on nor off: write `true` or `false`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, Identity, Key, KeySpace, Kind, Store, StoreExt, Ttl};

    /// What these variables lead to: a target, nothing, or a message.
    fn env(variables: &[(&str, &str)]) -> Result<Option<(String, Option<String>)>, String> {
        let found = from_env(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, text)| OsString::from(text))
        });
        match found {
            Ok(found) => Ok(found.map(|(target, options)| (format!("{target:?}"), options.prefix))),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn an_empty_environment_names_no_store() {
        assert_eq!(env(&[]), Ok(None));
        let empty = [
            "REDIS_URL",
            "REDIS_HOST",
            "REDIS_PORT",
            "UPSTASH_REDIS_REST_URL",
        ];
        assert_eq!(env(&empty.map(|name| (name, ""))), Ok(None));
        assert_eq!(env(&[("REDIS_KEY_PREFIX", "shop")]), Ok(None));
    }

    #[cfg(feature = "redis")]
    #[test]
    fn the_first_that_is_set_counts() {
        let redis = |address: &str| Ok(Some((format!("Redis({address})"), None)));
        let host = ("REDIS_HOST", "h");
        assert_eq!(
            env(&[("REDIS_URL", "redis://u:7/1"), host]),
            redis("redis://u:7/1")
        );
        assert_eq!(env(&[host]), redis("redis://h:6379/0"));
        assert_eq!(
            env(&[host, ("REDIS_PORT", "7000")]),
            redis("redis://h:7000/0")
        );
        assert_eq!(
            env(&[host, ("REDIS_PASSWORD", "p@:/"), ("REDIS_TLS", "false")]),
            redis("redis://h:6379/0")
        );
        assert_eq!(
            env(&[host, ("REDIS_KEY_PREFIX", "shop")]),
            Ok(Some((
                "Redis(redis://h:6379/0)".into(),
                Some("shop".into())
            )))
        );
        assert_eq!(
            env(&[("REDIS_URL", "memory://"), host]),
            Ok(Some(("Memory".into(), None)))
        );
    }

    #[cfg(feature = "redis-tls")]
    #[test]
    fn tls_is_switched_by_a_variable() {
        for (text, scheme) in [
            ("true", "rediss"),
            ("1", "rediss"),
            ("ON", "rediss"),
            ("no", "redis"),
            ("0", "redis"),
        ] {
            let found = env(&[("REDIS_HOST", "h"), ("REDIS_TLS", text)]);
            assert_eq!(
                found,
                Ok(Some((format!("Redis({scheme}://h:6379/0)"), None)))
            );
        }
    }

    #[test]
    fn a_wrong_environment_is_an_error_that_says_what_to_write() {
        let host = ("REDIS_HOST", "h");
        for (variables, said) in [
            (
                &[("UPSTASH_REDIS_REST_URL", "https://x"), host][..],
                "REDIS_URL=rediss://",
            ),
            (
                &[("UPSTASH_REDIS_REST_TOKEN", "hunter2")],
                "REDIS_URL=rediss://",
            ),
            (&[("REDIS_PORT", "6379")], "REDIS_HOST"),
            (&[("REDIS_PASSWORD", "hunter2")], "REDIS_HOST"),
            (&[host, ("REDIS_PORT", "http")], "such as 6379"),
            (&[host, ("REDIS_PORT", "70000")], "such as 6379"),
            (&[host, ("REDIS_TLS", "maybe")], "`true` or `false`"),
            (&[("REDIS_URL", "hunter2@h")], "`redis://host:6379`"),
            (
                &[("REDIS_URL", "postgres://:hunter2@h")],
                "`redis://host:6379`",
            ),
        ] {
            let message = env(variables).unwrap_err();
            assert!(
                message.contains(said) || message.contains("feature"),
                "{variables:?}: {message}"
            );
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_utf8_is_an_error() {
        use std::os::unix::ffi::OsStringExt;
        let found = from_env(|name| (name == "REDIS_URL").then(|| OsString::from_vec(vec![0xff])));
        assert!(
            found
                .unwrap_err()
                .to_string()
                .contains("REDIS_URL is not UTF-8")
        );
    }

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

    #[cfg(feature = "redis")]
    #[test]
    fn a_host_that_is_none_is_an_error_and_no_outage() {
        for host in [
            "localhost:6379",
            "redis://:hunter2@h",
            "h/1",
            "a b",
            "[::1",
            "@h",
        ] {
            let message = env(&[("REDIS_HOST", host)]).unwrap_err();
            assert!(message.contains("write a name or an address"), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
        for host in [
            "localhost",
            "redis_1",
            "10.0.0.7",
            "::1",
            "[::1]",
            "cache.internal.",
        ] {
            assert!(env(&[("REDIS_HOST", host)]).is_ok(), "{host}");
        }
    }

    #[cfg(not(feature = "redis"))]
    #[test]
    fn redis_without_its_feature_is_an_error_that_names_it() {
        let by_url = Target::from_url("redis://h").unwrap_err().to_string();
        let by_env = env(&[("REDIS_HOST", "h")]).unwrap_err();
        assert!(by_url.contains("`redis`") && by_env.contains("`redis`"));
    }

    #[test]
    fn options_of_zero_are_errors() {
        let all = [
            Options::new().deadline(Duration::ZERO),
            Options::new().open_after(0),
            Options::new().open_for(Duration::ZERO),
            Options::new().prefix(""),
        ];
        for options in all {
            let error = options.checked().err().unwrap();
            assert!(error.to_string().contains("write"), "{error}");
        }
        assert!(Options::new().checked().is_ok());
    }

    #[test]
    fn a_memory_store_needs_no_runtime() {
        use std::{future::Future, pin::pin, task};
        let mut cx = task::Context::from_waker(task::Waker::noop());
        assert!(matches!(
            pin!(connect("memory://")).poll(&mut cx),
            task::Poll::Ready(Ok(_))
        ));
    }

    #[cfg(feature = "redis")]
    #[test]
    fn redis_without_a_runtime_is_an_error() {
        use std::{future::Future, pin::pin, task};
        let mut cx = task::Context::from_waker(task::Waker::noop());
        let task::Poll::Ready(Err(error)) = pin!(connect("redis://localhost")).poll(&mut cx) else {
            panic!("it waits");
        };
        assert!(error.to_string().contains("tokio runtime"), "{error}");
    }

    #[tokio::test]
    async fn a_prefix_is_put_before_the_keys_of_a_memory_store_too() {
        let plain = connect("memory://").await.unwrap();
        let prefixed = connect_with("memory://", Options::new().prefix("shop"))
            .await
            .unwrap();
        let space = KeySpace::new(Kind::Data, "s");
        let ada = Identity::from("ada");
        let key = Key::new(&space, ada.subject());
        let cx = Context::new("test");
        for store in [plain, prefixed] {
            let ttl = Ttl::from_millis(60_000).unwrap();
            store.put(&cx, &key, &"1".into(), ttl).await.unwrap();
            assert_eq!(store.get(&cx, &key).await.unwrap(), Some("1".into()));
            assert_eq!(store.info().name, "memory");
        }
    }
}
