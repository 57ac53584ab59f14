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
    error::DialError,
    settings::Settings,
};
use crate::ConfigError;

/// The one connection to a server, and its replacement when it is lost.
///
/// Nobody connects in vain: an attempt is made when a call needs it, by a task of its own, which a caller that leaves does
/// not take with it. Calls wait for an attempt under way, and fail at once while the next is not due.
pub(super) struct Link {
    dialer: Arc<Dialer>,
    runtime: Handle,
    status: watch::Sender<Status>,
    /// Of the last connection, or [`UNKNOWN`].
    incarnation: AtomicU64,
}

enum Status {
    /// No attempt was made, or the last one succeeded and the connection is gone.
    Idle,
    /// An attempt is under way.
    Dialing {
        task: AbortHandle,
    },
    Up(Connection),
    /// The last attempt failed.
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

    /// The connection, waiting for one that is being made.
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
            // The sender is ours: it cannot be gone.
            let _ = status.changed().await;
        }
    }

    /// The same, for a ping. One whose predecessor has had no answer, nor anybody else since, finds the connection dead
    /// without a word, as after a cut line or a firewall's forgetting; it is replaced.
    pub(super) async fn connection_to_ping(self: &Arc<Self>) -> Result<Connection, Arc<DialError>> {
        let connection = self.connection().await?;
        if !connection.is_silent(self.received()) {
            return Ok(connection);
        }
        self.forget(&connection);
        connection.0.driver.abort();
        let connection = self.connection().await?;
        connection.is_silent(self.received());
        Ok(connection)
    }

    /// Leaves a server that has become a replica: its name may by now lead to another. The next call connects again, and
    /// what is under way is finished. A young connection stays, so that refused writes do not make one each.
    pub(super) fn leave(&self, connection: &Connection) {
        if connection.0.since.elapsed() >= LONGEST_DELAY {
            self.forget(connection);
        }
    }

    fn forget(&self, connection: &Connection) {
        self.status.send_if_modified(|status| {
            let is_this = matches!(status, Status::Up(up) if Arc::ptr_eq(&up.0, &connection.0));
            if is_this {
                *status = Status::Idle;
            }
            is_this
        });
    }

    /// Starts an attempt, unless one is under way or none is due.
    fn dial(self: &Arc<Self>, status: &mut Status) -> bool {
        if status.settled().is_some() {
            return false;
        }
        let delay = match status {
            Status::Dialing { task } if !task.is_finished() => return false,
            Status::Down { delay, .. } => delay_after(Some(*delay)),
            _ => delay_after(None),
        };
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
    /// What a call gets without waiting. `None`: there has to be an attempt.
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

/// How long after a failed attempt the next is due, by what it was the last time.
fn delay_after(last: Option<Duration>) -> Duration {
    last.map_or(FIRST_DELAY, |last| (last * 2).min(LONGEST_DELAY))
}

/// One attempt, the next after `delay`.
async fn attempt(link: Weak<Link>, dialer: Arc<Dialer>, runtime: Handle, delay: Duration) {
    let dialed = timeout(LONGEST_DIAL, dial(&dialer, &runtime)).await;
    let dialed = dialed.unwrap_or(Err(DialError::TookTooLong(LONGEST_DIAL)));
    let Some(link) = link.upgrade() else {
        return;
    };
    link.status.send_replace(match dialed {
        Ok((connection, incarnation)) => {
            link.incarnation
                .store(incarnation.unwrap_or(UNKNOWN), Relaxed);
            Status::Up(connection)
        }
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
    // Before the first call: who asks what a server has forgotten must see that it is another one.
    let incarnation = dial::incarnation(&mut redis)
        .await
        .map_err(DialError::Greeting)?;
    Ok((connection, incarnation))
}

/// A connection, shared by the calls on it.
#[derive(Clone)]
pub(super) struct Connection(Arc<Shared>);

struct Shared {
    redis: MultiplexedConnection,
    /// Reads and writes for all; ends with the connection.
    driver: AbortHandle,
    since: Instant,
    /// The oldest ping since which nothing came, and how much had come before.
    pinged: Mutex<Option<(Instant, u64)>>,
}

impl Connection {
    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Wire> {
        self.0.redis.clone().send_packed_command(command).await
    }

    /// A value or an error for each command, unless the connection is lost.
    pub(super) async fn send_all(&self, pipeline: &Pipeline) -> RedisResult<Vec<Wire>> {
        let mut redis = self.0.redis.clone();
        redis
            .send_packed_commands(pipeline, 0, pipeline.len())
            .await
    }

    fn is_alive(&self) -> bool {
        !self.0.driver.is_finished()
    }

    /// Whether nothing was received since an earlier ping; if something was, notes this one.
    fn is_silent(&self, received: u64) -> bool {
        let mut pinged = self.0.pinged.lock();
        match *pinged {
            // Two pings at about the same time are none the wiser.
            Some((at, before)) if before == received => at.elapsed() >= LONGEST_DELAY,
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

const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_millis(500);
/// Four round trips with TLS; a server that hangs is asked anew each second.
const LONGEST_DIAL: Duration = Duration::from_secs(1);

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
