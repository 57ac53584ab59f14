//! The store on a Redis server. No type of the `redis` crate leaves this module.
//!
//! `wire` and `batch` turn operations into commands and replies into replies, `link` keeps the one connection, `dial` makes
//! it, `settings` says where, and `error` classifies what went wrong.

use std::{fmt, sync::Arc};

use tokio::runtime::Handle;

use self::{
    batch::BatchPlan,
    old_error::CallError,
    link::{Connection, Link},
    old_wire::{Plan, Scripts},
};
use crate::{
    ConfigError, Context, Key, Op, Reply, SharedStore, Store, StoreError, StoreInfo, Watch,
};

pub(crate) use self::{old_error::DialError, settings::Settings};

mod batch;
mod connection;
mod dial;
mod dialog;
mod error;
mod features;
mod link;
mod old_error;
mod old_wire;
mod resp;
mod settings;
mod stream;
#[cfg(feature = "redis-tls")]
mod tls;
mod wire;

/// A store on a Redis server (7.0 or later), over one connection that all clones share.
///
/// The first call connects. After a lost connection the next call connects again, one attempt at a time. After a failed
/// attempt the next one is due in 50 ms, then 100 ms, and so on up to 500 ms; calls in between fail at once and do not wait.
/// The store speaks RESP3, or RESP2 with a server that does not know `HELLO`.
///
/// This is the bare store: a call waits until the server replies. [`connect`](crate::connect()) puts a
/// [`Timeout`](crate::wrap::Timeout) and a [`Breaker`](crate::wrap::Breaker) round it.
///
/// ```no_run
/// # use layer_store::{ConfigError, RedisStore};
/// # async fn example() -> Result<(), ConfigError> {
/// let store = RedisStore::new("redis://localhost:6379")?;
/// # let _ = store;
/// # Ok(())
/// # }
/// ```
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
/// A script is one `EVALSHA`. If the server does not have the script yet, one `EVAL` follows.
///
/// # Cancel safety
///
/// A dropped call may or may not have been applied. Other calls on the connection go on.
#[derive(Clone)]
pub struct RedisStore {
    link: Arc<Link>,
}

impl RedisStore {
    /// Makes the store of the server at `url`, in the form that [`connect`](crate::connect()) takes. The first call connects.
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

    /// Connects if there is no connection yet.
    pub(crate) async fn dial(&self) -> Result<(), Arc<DialError>> {
        self.link.connection().await.map(drop)
    }

    async fn apply(&self, op: &Op<'_>) -> Result<Reply, CallError> {
        if let Op::Batch(ops) = op {
            return self.apply_batch(ops).await;
        }
        let (command, expected) = match old_wire::plan(op, Scripts::BySha1)? {
            Plan::Send(command, expected) => (command, expected),
            Plan::Done(reply) => return Ok(reply),
        };
        let connection = match op {
            Op::Ping => self.link.connection_to_ping().await?,
            _ => self.link.connection().await?,
        };
        let mut value = connection.send(&command).await?;
        if old_wire::is_missing_script(&value)
            && let Plan::Send(command, _) = old_wire::plan(op, Scripts::ByText)?
        {
            value = connection.send(&command).await?;
        }
        self.drop_replica(&connection, std::slice::from_ref(&value));
        expected.read(value)
    }

    async fn apply_batch(&self, ops: &[Op<'_>]) -> Result<Reply, CallError> {
        let plan = BatchPlan::of(ops)?;
        let values = match plan.pipeline() {
            None => Vec::new(),
            Some(pipeline) => {
                let connection = self.link.connection().await?;
                let values = connection.send_all(pipeline).await?;
                self.drop_replica(&connection, &values);
                values
            }
        };
        plan.read(values)
    }

    /// Gives up the connection if one of these replies says that the server takes no writes any more.
    fn drop_replica(&self, connection: &Connection, values: &[redis::Value]) {
        if values.iter().any(old_wire::is_of_a_replica) {
            self.link.drop_replica(connection);
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Store for RedisStore {
    async fn call<'a>(&'a self, op: &'a Op<'a>, _: &'a Context) -> Result<Reply, StoreError> {
        Ok(self.apply(op).await?)
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
        info.max_value = old_wire::MAX_VALUE;
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
