use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use redis::{Cmd, Pipeline, RedisResult, Value as Wire, aio::MultiplexedConnection};
use tokio::{
    runtime::Handle,
    sync::watch,
    task::AbortHandle,
    time::{Instant, timeout},
};

use super::{
    dial::{self, Dialer},
    old_error::DialError,
    settings::Settings,
};
use crate::ConfigError;

/// The one connection to a server, and its replacement when it is lost.
///
/// An attempt to connect is made when a call needs it, never before. It runs in a task of its own and goes on if that caller
/// leaves. Calls wait for an attempt that is under way. After a failed one they fail at once, until the next is due.
///
/// [`Status`] has the states. Its transitions are in [`dial`](Self::dial), [`attempt`] and
/// [`forget_connection`](Self::forget_connection).
pub(super) struct Link {
    dialer: Arc<Dialer>,
    runtime: Handle,
    status: watch::Sender<Status>,
    /// That of the last connection, or [`UNKNOWN`].
    incarnation: AtomicU64,
}

enum Status {
    /// There is no connection. The next call starts an attempt.
    Idle,
    /// An attempt is under way. Calls wait for it.
    Dialing { task: AbortHandle },
    /// There is a connection. If it has ended meanwhile, the next call starts an attempt.
    Up(Connection),
    /// The last attempt failed. Calls fail with its error until `retry_at`, and then the next call starts an attempt.
    Down {
        error: Arc<DialError>,
        retry_at: Instant,
        delay: Duration,
    },
}

impl Link {
    pub(super) fn new(settings: Settings, runtime: Handle) -> Result<Self, ConfigError> {
        Ok(Self {
            dialer: Arc::new(Dialer::new(settings)?),
            runtime,
            status: watch::Sender::new(Status::Idle),
            incarnation: AtomicU64::new(UNKNOWN),
        })
    }

    pub(super) fn settings(&self) -> &Settings {
        self.dialer.settings()
    }

    pub(super) fn received(&self) -> u64 {
        self.dialer.received()
    }

    pub(super) fn incarnation(&self) -> Option<u64> {
        match self.incarnation.load(Relaxed) {
            UNKNOWN => None,
            incarnation => Some(incarnation),
        }
    }

    /// Returns the connection. Waits for the attempt if one is under way or due.
    pub(super) async fn connection(self: &Arc<Self>) -> Result<Connection, Arc<DialError>> {
        if let Some(result) = self.status.borrow().settled() {
            return result;
        }
        let mut status = self.status.subscribe();
        loop {
            if let Some(result) = status.borrow_and_update().settled() {
                return result;
            }
            self.status.send_if_modified(|status| self.dial(status));
            // An error would mean that the sender is gone, and it is ours.
            let _ = status.changed().await;
        }
    }

    /// Returns a connection for a ping, and replaces one that has gone silent.
    ///
    /// A cut line, or a firewall that forgot the connection, gives no error: commands are sent and nothing comes back. If
    /// nothing at all was received since an earlier ping was sent, the connection is taken for dead.
    pub(super) async fn connection_to_ping(self: &Arc<Self>) -> Result<Connection, Arc<DialError>> {
        let connection = self.connection().await?;
        if !connection.is_silent(self.received()) {
            return Ok(connection);
        }
        // ## Up => Idle, of a silent connection
        //
        // Its driver is aborted too, so that calls that wait on it fail now.
        self.forget_connection(&connection);
        connection.0.driver.abort();
        let connection = self.connection().await?;
        connection.is_silent(self.received());
        Ok(connection)
    }

    /// Gives up the connection to a server that has become a replica. Its name may lead to another server by now.
    ///
    /// The next call connects again, and calls under way are finished. A connection younger than 500 ms stays, so that not
    /// each refused write makes a new one.
    pub(super) fn drop_replica(&self, connection: &Connection) {
        if connection.0.since.elapsed() >= MAX_DELAY {
            self.forget_connection(connection);
        }
    }

    fn forget_connection(&self, connection: &Connection) {
        self.status.send_if_modified(|status| {
            let is_this = matches!(status, Status::Up(up) if Arc::ptr_eq(&up.0, &connection.0));
            if is_this {
                // ## Up => Idle
                //
                // Only if it is still this connection: another call may have replaced it.
                *status = Status::Idle;
            }
            is_this
        });
    }

    /// Starts an attempt, unless one is under way or none is due. Returns true if it did.
    fn dial(self: &Arc<Self>, status: &mut Status) -> bool {
        if status.settled().is_some() {
            return false;
        }
        let delay = match status {
            // One attempt for all callers. A task that ended without a result was aborted with its runtime.
            Status::Dialing { task } if !task.is_finished() => return false,
            Status::Down { delay, .. } => delay_after(Some(*delay)),
            _ => delay_after(None),
        };
        // ## (Idle | Up and ended | Down and due) => Dialing
        //
        // `delay` is how long calls will fail at once if this attempt fails.
        let attempt = attempt(
            Arc::downgrade(self),
            self.dialer.clone(),
            self.runtime.clone(),
            delay,
        );
        let task = self.runtime.spawn(attempt).abort_handle();
        *status = Status::Dialing { task };
        true
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Status::Dialing { task } = &*self.status.borrow() {
            task.abort();
        }
    }
}

impl Status {
    /// Returns the result of a call that needs no waiting. `None`: it needs an attempt.
    fn settled(&self) -> Option<Result<Connection, Arc<DialError>>> {
        match self {
            Self::Up(connection) if connection.is_alive() => Some(Ok(connection.clone())),
            Self::Down {
                error, retry_at, ..
            } if Instant::now() < *retry_at => Some(Err(error.clone())),
            _ => None,
        }
    }
}

/// Returns the time from a failed attempt to the next: 50 ms, then twice the last time, at most 500 ms.
fn delay_after(last: Option<Duration>) -> Duration {
    last.map_or(MIN_DELAY, |last| (last * 2).min(MAX_DELAY))
}

/// Makes one attempt. If it fails, the next is due after `delay`.
async fn attempt(link: Weak<Link>, dialer: Arc<Dialer>, runtime: Handle, delay: Duration) {
    let dialed = timeout(MAX_DIAL, dial(&dialer, &runtime)).await;
    let dialed = dialed.unwrap_or(Err(DialError::TookTooLong(MAX_DIAL)));
    let Some(link) = link.upgrade() else {
        return;
    };
    link.status.send_replace(match dialed {
        // ## Dialing => Up
        //
        // The incarnation before the status: a call that sees the connection must see which server it leads to.
        Ok((connection, incarnation)) => {
            link.incarnation
                .store(incarnation.unwrap_or(UNKNOWN), Relaxed);
            Status::Up(connection)
        }
        // ## Dialing => Down
        //
        // The delay counts from now, not from the start of the attempt.
        Err(error) => Status::Down {
            error: Arc::new(error),
            retry_at: Instant::now() + delay,
            delay,
        },
    });
}

async fn dial(dialer: &Dialer, runtime: &Handle) -> Result<(Connection, Option<u64>), DialError> {
    let (mut redis, driver) = dialer.dial().await?;
    let connection = Connection(Arc::new(Shared {
        driver: runtime.spawn(driver).abort_handle(),
        redis: redis.clone(),
        since: Instant::now(),
        pinged: Mutex::new(None),
    }));
    // Before the first call, which may already depend on it: another server may have forgotten what the last one knew.
    let incarnation = dial::incarnation(&mut redis)
        .await
        .map_err(DialError::Handshake)?;
    Ok((connection, incarnation))
}

/// A connection, shared by the calls on it.
#[derive(Clone)]
pub(super) struct Connection(Arc<Shared>);

struct Shared {
    redis: MultiplexedConnection,
    /// The task that reads and writes for all calls. It ends with the connection.
    driver: AbortHandle,
    since: Instant,
    /// The oldest ping after which nothing was received, and the bytes received before it.
    pinged: Mutex<Option<(Instant, u64)>>,
}

impl Connection {
    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Wire> {
        self.0.redis.clone().send_packed_command(command).await
    }

    /// Returns a value or a server's error for each command, unless the connection is lost.
    pub(super) async fn send_all(&self, pipeline: &Pipeline) -> RedisResult<Vec<Wire>> {
        let mut redis = self.0.redis.clone();
        redis
            .send_packed_commands(pipeline, 0, pipeline.len())
            .await
    }

    fn is_alive(&self) -> bool {
        !self.0.driver.is_finished()
    }

    /// Returns true if nothing was received since an earlier ping. Notes this ping otherwise.
    fn is_silent(&self, received: u64) -> bool {
        let mut pinged = self.0.pinged.lock();
        match *pinged {
            // Pings that follow each other closely say nothing: the reply to the first may be on its way.
            Some((at, before)) if before == received => at.elapsed() >= MAX_DELAY,
            _ => {
                *pinged = Some((Instant::now(), received));
                false
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

const MIN_DELAY: Duration = Duration::from_millis(50);
const MAX_DELAY: Duration = Duration::from_millis(500);
/// The longest attempt. It has up to four round trips with TLS. A server that hangs is tried again each second.
const MAX_DIAL: Duration = Duration::from_secs(1);

const UNKNOWN: u64 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_from_50_to_500_ms() {
        let mut last = None;
        let delays = [(); 6].map(|()| {
            last = Some(delay_after(last));
            last.map_or(0, |delay| delay.as_millis())
        });
        assert_eq!(delays, [50, 100, 200, 400, 500, 500]);
    }
}
