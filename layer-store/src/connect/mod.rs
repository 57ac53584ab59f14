use std::env;

pub use self::options::Options;
use self::{
    environment::{from_env, prefix_from_env},
    target::Target,
};
use crate::{
    ConfigError, MemoryStore, SharedStore,
    wrap::{Prefix, observed},
};
#[cfg(feature = "redis")]
use crate::{
    Finding, RedisStore, Store,
    error::Report,
    redis::Settings,
    wrap::{Breaker, Fallback, Retry, Timeout},
};

mod environment;
mod options;
mod target;

/// Connects to the store at `url`, with the default [`Options`].
///
/// | URL | Store |
/// | --- | --- |
/// | `memory://` | a [`MemoryStore`], for this process alone |
/// | `redis://[[user]:password@]host[:6379][/0]`, `valkey://..` | Redis or Valkey (feature `redis`) |
/// | `rediss://..`, `valkeys://..` | the same through TLS (feature `redis-tls`) |
/// | `unix://[[user]:password@]/path[?db=0]`, `redis+unix://..` | the same over a Unix socket (feature `redis`) |
///
/// `?db=` and `?protocol=` may follow each of them but the first. `protocol=2` or `3` sets the version of RESP; without it the
/// store takes the better one that the server knows. What is not a letter or a digit in a user or a password is written as
/// `%XX`. An IPv6 address is written in brackets.
///
/// A store that is reached over a network gets a [deadline](crate::wrap::Timeout) for each call and a
/// [circuit breaker](crate::wrap::Breaker). Every store gets [spans](crate::wrap::Traced) and, with the feature `metrics`,
/// metrics. A server that cannot be reached within
/// [`connect_timeout`](Options::connect_timeout) (1 s) is no error: the store is returned with its breaker open, after one
/// warning, and comes back by itself. A name is looked up again for each connection, and all of its addresses are tried.
///
/// # Errors
///
/// - The URL cannot be read, or needs a feature that is off.
/// - Redis is connected to outside a tokio runtime.
/// - The server is older than Redis 5.0, or something was found of it that [`Options::refuse`] names.
/// - The server is there and does not accept us: a wrong password, a database that it does not have, a certificate that is
///   not trusted, TLS where there is none, or none where there is TLS.
///
/// # Cancel safety
///
/// A dropped future leaves nothing behind.
pub async fn connect(url: &str) -> Result<SharedStore, ConfigError> {
    connect_with(url, Options::new()).await
}

/// Connects to the store at `url`, with options. See [`connect()`].
///
/// ```
/// # use std::time::Duration;
/// # use layer_store::{Options, connect_with};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let patient = Options::new().deadline(Duration::from_millis(250)).connect_timeout(Duration::from_secs(5));
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
/// It reads the first of these that is set. An empty variable is as good as none:
///
/// 1. `REDIS_URL`, a URL as for [`connect()`]. If it has no user or no password, `REDIS_USERNAME` and `REDIS_PASSWORD` are used;
/// 2. `REDIS_HOST`, with `REDIS_PORT` (default 6379), `REDIS_USERNAME` and `REDIS_PASSWORD` (default none) and `REDIS_TLS`
///    (`true` or `false`, default `false`).
///
/// These may be set beside either of them:
///
/// | Variable | Sets |
/// | --- | --- |
/// | `REDIS_KEY_PREFIX` | a [prefix](Options::prefix) for every key |
/// | `REDIS_TLS_CA_FILE` | a PEM file with the certificate authorities to trust beside the public ones |
/// | `REDIS_TLS_CERT_FILE`, `REDIS_TLS_KEY_FILE` | PEM files with a certificate of this client and its key |
///
/// # Errors
///
/// - Those of [`connect()`].
/// - No variable names a store, or one cannot be read.
/// - There are two users or two passwords, one in `REDIS_URL` and one in `REDIS_USERNAME` or `REDIS_PASSWORD`.
/// - A file cannot be read.
/// - `UPSTASH_REDIS_REST_URL` is set: Redis over REST is not supported.
pub async fn connect_from_env() -> Result<SharedStore, ConfigError> {
    match from_env(|name| env::var_os(name))? {
        Some((target, options)) => open(target, options).await,
        None => Err(ConfigError::new(
            "no store is configured: set REDIS_URL=redis://host:6379, or REDIS_HOST, or call connect(\"memory://\")",
        )),
    }
}

/// Connects to the store that the environment names, or makes a [`MemoryStore`], with a warning, if it names none.
///
/// See [`connect_from_env`] for the variables.
///
/// # Errors
///
/// Those of [`connect_from_env`], except for an environment that names no store.
pub async fn connect_from_env_or_memory() -> Result<SharedStore, ConfigError> {
    let (target, options) = match from_env(|name| env::var_os(name))? {
        Some(found) => found,
        None => {
            tracing::warn!(
                "no store is configured (REDIS_URL, REDIS_HOST): using the memory of this process, which no other process shares"
            );
            (Target::Memory, prefix_from_env(&|name| env::var_os(name))?)
        }
    };
    open(target, options).await
}

async fn open(target: Target, options: Options) -> Result<SharedStore, ConfigError> {
    // Before anything is connected: a wrong option is an error even while the server is away.
    let options = options.checked()?;
    match target {
        Target::Memory => {
            let store = MemoryStore::with_bounds(options.capacity, options.max_bytes);
            Ok(match options.prefix {
                None => observed(store),
                Some(prefix) => observed(Prefix::new(store, prefix)),
            })
        }
        #[cfg(feature = "redis")]
        Target::Redis(settings) => open_redis(settings, options).await,
    }
}

#[cfg(feature = "redis")]
async fn open_redis(
    settings: Settings,
    mut options: options::Checked,
) -> Result<SharedStore, ConfigError> {
    let settings = settings
        .with_connect_timeout(options.connect_timeout)
        .with_max_in_flight(options.max_in_flight)
        .with_provider(options.credentials.take())?;
    #[cfg(feature = "redis-tls")]
    let settings = settings
        .with_ca_pem(options.ca_pem.take())?
        .with_client_pem(options.client_pem.take())?;
    let address = format!("{settings:?}");
    let store = RedisStore::from_settings(settings)?;
    // ## Three ends of the first attempt
    //
    // Connected: the breaker starts closed. Not accepted by the server: an error, because no waiting mends it. Unreachable or
    // late: the breaker starts open, and its probes make the next attempts.
    let limit = options.connect_timeout;
    let outage = match tokio::time::timeout(limit, store.dial()).await {
        Ok(Ok(())) => {
            Finding::check(&address, &store.info().findings, &options.refused)?;
            None
        }
        Ok(Err(error)) if error.is_permanent() => {
            return Err(ConfigError::new(format!(
                "cannot use {address}: check the URL's scheme, user, password and database"
            ))
            .with_source(error));
        }
        Ok(Err(error)) => Some(Report(&*error).to_string()),
        Err(_) => Some(format!("no answer within {limit:?}")),
    };
    Ok(match options.prefix.take() {
        None => guarded(store, &options, outage),
        Some(prefix) => guarded(Prefix::new(store, prefix), &options, outage),
    })
}

#[cfg(feature = "redis")]
fn guarded(store: impl Store, options: &options::Checked, outage: Option<String>) -> SharedStore {
    let bounded = Timeout::new(store, options.deadline);
    let breaker = Breaker::with_limits(
        Retry::new(bounded).times(options.retries),
        tokio::runtime::Handle::current(),
        options.open_after,
        options.open_for,
    );
    let breaker = match outage {
        None => breaker,
        Some(why) => breaker.opened(why),
    };
    match &*options.fallback {
        [] => observed(breaker),
        kinds => {
            let runtime = tokio::runtime::Handle::current();
            observed(Fallback::new(breaker, runtime).kinds(kinds.iter().copied()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, ErrorKind, Identity, Key, KeySpace, Store, StoreExt, Ttl};

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
    async fn a_memory_store_holds_as_many_as_its_options_say() {
        let store = connect_with("memory://", Options::new().capacity(1)).await;
        let (store, space) = (store.unwrap(), KeySpace::new("data", "s"));
        let ttl = Ttl::from_millis(60_000).unwrap();
        let cx = Context::new("test");
        for (name, expected) in [("ada", None), ("bob", Some(ErrorKind::Full))] {
            let identity = Identity::from(name);
            let key = Key::new(&space, identity.as_ref());
            let put = store.put_if_absent(&cx, &key, &"1".into(), ttl).await;
            assert_eq!(put.err().map(|error| error.kind()), expected);
        }
    }

    #[tokio::test]
    async fn a_prefix_is_put_before_the_keys_of_a_memory_store_too() {
        let plain = connect("memory://").await.unwrap();
        let prefixed = connect_with("memory://", Options::new().prefix("shop"))
            .await
            .unwrap();
        let space = KeySpace::new("data", "s");
        let ada = Identity::from("ada");
        let key = Key::new(&space, ada.as_ref());
        let cx = Context::new("test");
        for store in [plain, prefixed] {
            let ttl = Ttl::from_millis(60_000).unwrap();
            store.put(&cx, &key, &"1".into(), ttl).await.unwrap();
            assert_eq!(store.get(&cx, &key).await.unwrap(), Some("1".into()));
            assert_eq!(store.info().name, "memory");
        }
    }
}
