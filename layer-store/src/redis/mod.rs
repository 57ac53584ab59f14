//! The store on a Redis server. No type of the `redis` crate leaves this module.
//!
//! `wire` and `batch` turn operations into commands and replies into replies, `link` keeps the one connection, `dial` makes
//! it, `settings` says where, `error_reply` reads the errors of a server, and `error` classifies what went wrong.

use std::{fmt, sync::Arc};

use tokio::{runtime::Handle, time::Instant};

use self::{
    batch::BatchPlan,
    connection::{Replies, Terms},
    error::CallError,
    link::{Line, Link},
    resp::RespValue,
    wire::{Plan, Scripts},
};
use crate::{
    ConfigError, Context, Key, Op, Reply, SharedStore, Store, StoreError, StoreInfo, Watch,
};

pub(crate) use self::{
    dial::DialError,
    settings::{Login, Settings},
};

mod batch;
mod commands;
mod connection;
mod dial;
mod dialog;
mod doctor;
mod error;
mod error_reply;
mod features;
mod link;
mod resp;
mod sent_scripts;
mod settings;
mod stream;
#[cfg(feature = "redis-tls")]
mod tls;
mod tracking;
mod wire;

/// A store on a Redis server, over one connection that all clones share.
///
/// The first call connects. After a lost connection the next call connects again, one attempt at a time. After a failed
/// attempt the next one is due in 50 ms, then 100 ms, and so on up to 500 ms; calls in between fail at once and do not wait.
/// The store speaks RESP3, or RESP2 with a server that does not know `HELLO`.
///
/// Redis 7.0 or later and Valkey work as they are, and 5.0 to 6.2 with scripts for what they lack.
///
/// A call ends by its [deadline](Context::deadline), and waits without end if it has none.
/// [`connect`](crate::connect()) puts a [`Timeout`](crate::wrap::Timeout), which sets one, and a
/// [`Breaker`](crate::wrap::Breaker) round it.
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
/// # One connection
///
/// - All calls share it, and commands that come together leave together. At most 1,024 wait for their replies
///   ([`Options::max_in_flight`](crate::Options::max_in_flight)), and as few as 64 if more would only wait at the server. Further
///   calls wait here: each source in a line of its own, and the lines take turns.
/// - After 5 s without a reply the next calls are sent after a ping, one for all of them. If nothing answers the ping, the
///   connection is gone, and the calls go over a new one.
/// - A call that ended without a sign of life from the server has the next one go over a new connection.
/// - It lives on the tokio runtime of the call that made it. If that runtime ends, the next call connects again on its own, so
///   that a store in a `static` outlives the runtime of one test.
///
/// # Errors
///
/// At its deadline a call ends as
///
/// - [`Overloaded`](crate::ErrorKind::Overloaded), not applied: its turn did not come;
/// - `Overloaded`, effect unknown: it was sent late or is still going out, or a long reply was still coming in;
/// - [`Timeout`](crate::ErrorKind::Timeout), effect unknown: the server had at least half of the time and did not reply;
/// - `Timeout`, not applied: there was no connection, or the server owes replies to those before it.
///
/// # Commands
///
/// | Command | Used by |
/// | --- | --- |
/// | `GET` | `Get`, `Batch`, all scripts |
/// | `MGET` | `GetMany`: every lookup of the cache |
/// | `SET` | `Set`, all scripts |
/// | `DEL` | `Delete`, `DeleteMany`: every purge; locks, limits |
/// | `PEXPIRE` | `Touch` |
/// | `INCRBY` | `Add` |
/// | `SCAN` | `Scan` |
/// | `PING` | `Ping`: the circuit breaker |
/// | `EVALSHA` | `Run`: limits, locks; conditional `Set` and `Delete` |
/// | `EVAL` | the same, for the first time on a connection, and in a `Batch` |
/// | `TIME` | scripts of limits and locks |
/// | `PTTL` | scripts of locks; hints of changed keys |
/// | `GETRANGE` | scripts of idempotency records |
/// | `SELECT` | a URL with a database other than 0 |
/// | `HELLO` | RESP3, which hints of changed keys need; Redis 7 always allows it (optional) |
/// | `INFO` | the version, `incarnation`, most findings (optional) |
/// | `CONFIG GET` | the finding about persistence (optional) |
/// | `COMMAND INFO` | the finding about missing commands (optional) |
/// | `CLIENT TRACKING` | hints of changed keys (optional) |
/// | `CLIENT CACHING` | hints of changed keys (optional) |
///
/// `Set` with [`Condition::Equals`](crate::Condition::Equals), `Delete` with `if_equals`, and `Add` with a time to live or a maximum
/// are scripts. Before Redis 7.0 so are `Set` with [`Condition::Absent`](crate::Condition::Absent) and `Touch` with `only_longer`,
/// and on Redis 5.0 `Set` with [`Expiry::KEEP`](crate::Expiry::KEEP). A script goes over a connection as `EVAL` the first time, and
/// as `EVALSHA` from then on. If the server has forgotten it, as after `SCRIPT FLUSH`, one more `EVAL` follows. A `Batch` is a
/// pipeline, with each script as `EVAL`.
///
/// # Access rules
///
/// A user of the server needs [`ACCESS_RULES`](Self::ACCESS_RULES), and should have
/// [`OPTIONAL_ACCESS_RULES`](Self::OPTIONAL_ACCESS_RULES), on the keys of its [prefix](crate::Options::prefix):
///
/// ```text
/// ACL SETUSER app on >password resetchannels ~shop:* -@all
///     +get +mget ..
/// ```
///
/// Missing permissions are found at [`connect`](crate::connect()), and logged:
/// [`SharedStore::doctor`](crate::SharedStore::doctor) has the list.
///
/// # Cancel safety
///
/// A dropped call may or may not have been applied. Other calls on the connection go on.
#[derive(Clone)]
pub struct RedisStore {
    link: Arc<Link>,
}

impl RedisStore {
    /// The rules that an ACL user needs for the commands that no operation works without, as `ACL SETUSER` takes them.
    pub const ACCESS_RULES: &'static str = commands::REQUIRED_RULES;

    /// The rules for commands whose absence is tolerated: what they tell is not known then.
    pub const OPTIONAL_ACCESS_RULES: &'static str = commands::OPTIONAL_RULES;

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
        self.link.dialed().await.map(drop)
    }

    /// Applies an operation. Goes on with another connection if the first turns out to be gone before anything was sent.
    async fn apply(&self, op: &Op<'_>, cx: &Context) -> Result<Reply, CallError> {
        let deadline = cx.deadline.map(Instant::from_std);
        let mut is_second = false;
        loop {
            let line = self.link.line(deadline).await?;
            wire::encode_objects(op);
            let terms = Terms {
                source: cx.source,
                begun: Instant::now(),
                deadline,
                is_check: false,
            };
            let result = match op {
                Op::Batch(ops) => self.apply_batch(&line, ops, terms).await,
                _ => self.apply_one(&line, op, terms).await,
            };
            match result {
                // ## Nothing came over this connection for long: a ping first
                Err(CallError::Unproven) => self.link.check(&line, terms).await?,
                // ## It ended before this operation was sent
                Err(CallError::NotSent(_)) if !is_second => is_second = true,
                result => return result,
            }
        }
    }

    /// Applies one operation. Sends it again if the server turns out not to have a script, or an option of a command.
    async fn apply_one(
        &self,
        line: &Arc<Line>,
        op: &Op<'_>,
        terms: Terms,
    ) -> Result<Reply, CallError> {
        let mut scripts = Scripts::TextOnce(&line.sent_scripts);
        loop {
            let write = |out: &mut Vec<u8>| {
                let plan = wire::plan(op, scripts, line.features(), out)?;
                let commands = u32::from(matches!(plan, Plan::Send(_)));
                Ok::<_, CallError>((commands, plan))
            };
            let (value, expected) = match line.connection.send(terms, write).await? {
                (Some(Replies::One(value)), Plan::Send(expected)) => (value, expected),
                (_, Plan::Done(reply)) => return Ok(reply),
                (_, Plan::Send(_)) => return Err(CallError::UnexpectedReply("once")),
            };
            if wire::is_missing_script(&value) && matches!(scripts, Scripts::TextOnce(_)) {
                scripts = Scripts::Text;
            } else if let Some(feature) = wire::missing_feature(op, line.features(), &value) {
                line.lacks(feature);
            } else {
                self.look_at(line, std::slice::from_ref(&value));
                return expected.read(value);
            }
        }
    }

    async fn apply_batch(
        &self,
        line: &Arc<Line>,
        ops: &[Op<'_>],
        terms: Terms,
    ) -> Result<Reply, CallError> {
        let write = |out: &mut Vec<u8>| {
            let plan = BatchPlan::write(ops, line.features(), out)?;
            Ok::<_, CallError>((plan.commands(), plan))
        };
        let (replies, plan) = line.connection.send(terms, write).await?;
        if let Some(replies) = &replies {
            self.look_at(line, replies.as_slice());
        }
        plan.read(replies)
    }

    /// Gives up the connection if a reply says that the server takes no writes any more, or has forgotten who we are.
    fn look_at(&self, line: &Arc<Line>, values: &[RespValue]) {
        let is_useless = |value| wire::is_of_a_replica(value) || wire::is_unauthenticated(value);
        if values.iter().any(is_useless) {
            self.link.replace(line);
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Store for RedisStore {
    async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
        Ok(self.apply(op, cx).await?)
    }

    fn call_now(&self, _: &Op<'_>, _: &Context) -> Option<Result<Reply, StoreError>> {
        None
    }

    fn watch(&self, key: &Key<'_>) -> Watch {
        self.link.watch(key)
    }

    fn info(&self) -> StoreInfo {
        let mut info = StoreInfo::new("redis");
        info.shared = true;
        info.max_value = wire::MAX_VALUE;
        info.keeps_deadlines = true;
        info.watches = self.link.watches();
        info.traffic = self.link.traffic();
        info.incarnation = self.link.incarnation();
        info.findings = self.link.findings();
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
