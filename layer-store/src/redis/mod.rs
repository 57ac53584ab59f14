//! The store over one Redis connection. Nobody outside this module sees a type of the `redis` crate.

use std::{fmt, sync::Arc};

use tokio::runtime::Handle;

use self::{
    error::Failure,
    link::Link,
    wire::{Plan, Scripts},
};
use crate::{
    ConfigError, Context, Key, Op, Reply, SharedStore, Store, StoreError, StoreInfo, Watch,
};

pub(crate) use self::{error::DialError, settings::Settings};

mod batch;
mod dial;
mod error;
mod link;
mod settings;
mod stream;
#[cfg(feature = "redis-tls")]
mod tls;
mod wire;

/// A store on a Redis server (7.0 or later), over one connection that all clones share.
///
/// The first call connects, and the next one after a connection is lost connects again: one attempt at a time, at once,
/// then after 50 ms doubling to 500 ms, which no call waits for. It speaks RESP3, or RESP2 where `HELLO` is not known.
///
/// This is the bare store: a call waits as long as the server lets it. [`connect`](crate::connect()) puts a
/// [`Timeout`](crate::wrap::Timeout) and a [`Breaker`](crate::wrap::Breaker) round it.
///
/// # Commands
///
/// | Operation | Command |
/// | --- | --- |
/// | `Get`, `GetMany` | `GET`, `MGET` |
/// | `Set` | `SET`, with `NX GET` for `Condition::Absent`; a script for `Condition::Equals` |
/// | `Delete`, `DeleteMany` | `DEL`; a script where `if_equals` is given |
/// | `Touch` | `PEXPIRE`, with `GT` for `only_longer` |
/// | `Run` | a script |
/// | `Batch` | a pipeline of these, each script as `EVAL` |
/// | `Ping` | `PING` |
///
/// A script is one `EVALSHA`, and once an `EVAL` more where the server does not have it yet.
///
/// # Cancel safety
///
/// A dropped call may or may not have been applied, and disturbs no other.
#[derive(Clone)]
pub struct RedisStore {
    link: Arc<Link>,
}

impl RedisStore {
    /// The server at `url`, as [`connect`](crate::connect()) reads it. The first call connects.
    ///
    /// # Errors
    ///
    /// A URL that cannot be read, a missing feature, or no tokio runtime.
    pub fn new(url: &str) -> Result<Self, ConfigError> {
        Self::from_settings(Settings::from_url(url)?)
    }

    pub(crate) fn from_settings(settings: Settings) -> Result<Self, ConfigError> {
        let runtime = Handle::try_current().map_err(|error| {
            ConfigError::new(
                "Redis needs a tokio runtime: call this in one, such as under #[tokio::main]",
            )
            .with_source(error)
        })?;
        Ok(Self {
            link: Arc::new(Link::new(settings, runtime)?),
        })
    }

    /// Connects, if there is no connection yet.
    pub(crate) async fn dial(&self) -> Result<(), Arc<DialError>> {
        self.link.connection().await.map(drop)
    }

    async fn answer(&self, op: &Op<'_>) -> Result<Reply, Failure> {
        if let Op::Batch(ops) = op {
            return self.answer_batch(ops).await;
        }
        let (command, expected) = match wire::plan(op, Scripts::BySha1)? {
            Plan::Send(command, expected) => (command, expected),
            Plan::Done(reply) => return Ok(reply),
        };
        let connection = match op {
            Op::Ping => self.link.connection_to_ping().await?,
            _ => self.link.connection().await?,
        };
        let mut value = connection.send(&command).await?;
        if wire::is_missing_script(&value)
            && let Plan::Send(command, _) = wire::plan(op, Scripts::ByText)?
        {
            value = connection.send(&command).await?;
        }
        if wire::is_of_a_replica(&value) {
            self.link.leave(&connection);
        }
        expected.read(value)
    }
}

#[deny(clippy::missing_trait_methods)]
impl Store for RedisStore {
    async fn call<'a>(&'a self, op: &'a Op<'a>, _: &'a Context) -> Result<Reply, StoreError> {
        Ok(self.answer(op).await?)
    }

    fn call_now(&self, _: &Op<'_>, _: &Context) -> Option<Result<Reply, StoreError>> {
        None
    }

    fn watch(&self, _: &Key<'_>) -> Watch {
        Watch::never()
    }

    fn info(&self) -> StoreInfo {
        let mut info = StoreInfo::new("redis");
        info.shared = true;
        info.max_value = wire::MAX_VALUE;
        info.incarnation = self.link.incarnation();
        info.received = self.link.received();
        info
    }
}

impl From<RedisStore> for SharedStore {
    fn from(store: RedisStore) -> Self {
        Self::new(store)
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisStore")
            .field(self.link.settings())
            .finish()
    }
}

#[cfg(test)]
mod tests;
