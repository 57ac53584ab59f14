use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::watch,
    task::AbortHandle,
    time::{Instant, timeout, timeout_at},
};

use super::{
    connection::{Connection, SendError, Terms},
    dial::{DialError, Dialer},
    dialog,
    doctor::{self, Facts, Inspection},
    error::CallError,
    features::{Feature, Features},
    resp::Command,
    sent_scripts::SentScripts,
    settings::Settings,
    tracking::{Pushes, Tracking},
};
use crate::{ConfigError, Finding, Key, Traffic, Watch, background::runtime_here};

/// The one connection to a server, and its replacement when it is lost.
///
/// An attempt to connect is made when a call needs it, never before. It runs in a task of its own and goes on if that caller
/// leaves. Calls wait for an attempt that is under way. After a failed one they fail at once, until the next is due.
///
/// [`Status`] has the states. Its transitions are in [`dial`](Self::dial), [`attempt`] and [`forget`](Self::forget).
pub(super) struct Link {
    dialer: Arc<Dialer>,
    /// The runtime of attempts if a call comes from outside of any.
    runtime: Handle,
    status: watch::Sender<Status>,
    /// That of the last connection, or [`UNKNOWN`].
    incarnation: AtomicU64,
    /// Those of the last connection.
    findings: Mutex<Arc<[Finding]>>,
    tracking: Arc<Tracking>,
    /// The last time that a line was given up although it was open. The next one is kept for 500 ms at least, so that a server
    /// that is slow, or refuses everything, is not connected to for each call.
    gave_up: Mutex<Option<Instant>>,
    /// Commands on connections that were given up.
    earlier_commands: AtomicU64,
}

enum Status {
    /// There is no connection. The next call starts an attempt.
    Idle,
    /// An attempt is under way. Calls wait for it.
    Dialing {
        task: AbortHandle,
        since: Instant,
        /// Closed when the task ends, with a result or with its runtime.
        running: watch::Receiver<()>,
    },
    /// There is a connection. If it has ended meanwhile, or gone silent, the next call starts an attempt.
    Up(Arc<Line>),
    /// The last attempt failed. Calls fail with its error until `retry_at`, and then the next call starts an attempt.
    Down {
        error: Arc<DialError>,
        retry_at: Instant,
        delay: Duration,
    },
}

/// A connection, and what is known of its server.
pub(super) struct Line {
    pub(super) connection: Connection,
    /// The features of the server's commands. Fewer than at first, if a reply has shown it.
    features: AtomicU8,
    pub(super) sent_scripts: SentScripts,
    facts: Facts,
    /// Held by the call that checks the line for all.
    check: tokio::sync::Mutex<()>,
    /// Not before this time is it given up for being silent or refusing. See [`Link::gave_up`].
    keep_until: Instant,
}

impl Link {
    pub(super) fn new(settings: Settings, runtime: Handle) -> Result<Self, ConfigError> {
        Ok(Self {
            dialer: Arc::new(Dialer::new(settings)?),
            runtime,
            status: watch::Sender::new(Status::Idle),
            incarnation: AtomicU64::new(UNKNOWN),
            findings: Mutex::default(),
            tracking: Tracking::new(),
            gave_up: Mutex::default(),
            earlier_commands: AtomicU64::new(0),
        })
    }

    pub(super) fn settings(&self) -> &Settings {
        self.dialer.settings()
    }

    pub(super) fn incarnation(&self) -> Option<u64> {
        match self.incarnation.load(Relaxed) {
            UNKNOWN => None,
            incarnation => Some(incarnation),
        }
    }

    /// Returns what was found out about the server of the last connection.
    pub(super) fn findings(&self) -> Arc<[Finding]> {
        self.findings.lock().clone()
    }

    pub(super) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(super) fn watches(&self) -> bool {
        self.tracking.is_available()
    }

    /// Watches a key, if the server sends hints.
    pub(super) fn watch(self: &Arc<Self>, key: &Key<'_>) -> Watch {
        self.tracking.watch(self, key)
    }

    /// Returns what goes over the connection now, and the commands so far.
    pub(super) fn traffic(&self) -> Traffic {
        let mut traffic = Traffic {
            commands: self.earlier_commands.load(Relaxed),
            ..Traffic::default()
        };
        if let Status::Up(line) = &*self.status.borrow() {
            traffic.connections = u32::from(line.connection.is_open());
            traffic.in_flight = line.connection.in_flight();
            traffic.commands += line.connection.commands();
        }
        traffic
    }

    /// Returns the line, as [`dialed`](Self::dialed), until `deadline`.
    pub(super) async fn line(
        self: &Arc<Self>,
        deadline: Option<Instant>,
    ) -> Result<Arc<Line>, CallError> {
        if let Some(result) = self.status.borrow().settled() {
            return Ok(result?);
        }
        match deadline {
            None => Ok(self.dialed().await?),
            Some(deadline) => match timeout_at(deadline, self.dialed()).await {
                Ok(result) => Ok(result?),
                Err(_) => Err(SendError::TimedOut {
                    sent: false,
                    receiving: false,
                }
                .into()),
            },
        }
    }

    /// Returns the line. Waits for the attempt if one is under way or due.
    pub(super) async fn dialed(self: &Arc<Self>) -> Result<Arc<Line>, Arc<DialError>> {
        let mut status = self.status.subscribe();
        loop {
            // Under one lock: a line that was silent may be good again a moment later, without a change to wait for.
            let (mut settled, mut running) = (None, None);
            self.status.send_if_modified(|status| {
                settled = status.settled();
                let is_new = settled.is_none() && self.dial(status);
                running = status.running();
                is_new
            });
            if let Some(result) = settled {
                return result;
            }
            // An attempt that ends with its runtime leaves the status as it is.
            if let Some(mut running) = running {
                first_of(status.changed(), running.changed()).await;
            }
        }
    }

    /// Checks a line over which nothing came for long, with a ping, and gives it up if no answer comes.
    ///
    /// A cut line, or a firewall that forgot the connection, gives no error: commands are sent and nothing comes back. Of
    /// a call that is sent into it nobody knows afterwards if it was applied. A ping harms nobody.
    ///
    /// One call checks, and the others wait for its result.
    ///
    /// # Errors
    ///
    /// The deadline has passed.
    pub(super) async fn check(
        self: &Arc<Self>,
        line: &Arc<Line>,
        terms: Terms,
    ) -> Result<(), CallError> {
        // A check may take longer than this call can wait, whose own goes beside it then.
        let _turn = timeout_at(end_of_check(terms)?, line.check.lock()).await;
        if !line.connection.is_unproven() {
            return Ok(());
        }
        let terms = Terms {
            begun: Instant::now(),
            deadline: Some(end_of_check(terms)?),
            is_check: true,
            ..terms
        };
        let ping = |out: &mut Vec<u8>| {
            Command::new(out, "PING", 0);
            Ok::<_, SendError>((1, ()))
        };
        // Any answer shows that the line is there, and so does one to another call.
        let is_lost = match line.connection.send(terms, ping).await {
            // Not if the ping had too little time for the way there and back: then its answer is still to come.
            Err(SendError::TimedOut { .. }) => line.connection.is_silent(),
            Err(SendError::Ended { .. }) => true,
            Ok(_) | Err(SendError::Overloaded { .. } | SendError::Unproven) => false,
        };
        if is_lost {
            // ## Up => Idle, of a vanished connection
            //
            // It is closed, so that calls that wait on it end now.
            self.forget(line);
            line.connection.close();
        }
        Ok(())
    }

    /// Gives up a line whose server has become a replica, or does not know us any more. Its name may lead to another server
    /// by now.
    ///
    /// The next call connects again, and calls under way are finished.
    pub(super) fn replace(&self, line: &Arc<Line>) {
        if line.may_be_given_up() {
            self.forget(line);
        }
    }

    fn forget(&self, line: &Arc<Line>) {
        self.status.send_if_modified(|status| {
            let is_this = matches!(status, Status::Up(up) if Arc::ptr_eq(up, line));
            if is_this {
                // ## Up => Idle
                //
                // Only if it is still this line: another call may have replaced it.
                self.note_end(line);
                *status = Status::Idle;
            }
            is_this
        });
    }

    /// Starts an attempt for a status that is not settled, unless one is under way. Returns true if it did.
    fn dial(self: &Arc<Self>, status: &mut Status) -> bool {
        let delay = match status {
            // One attempt for all callers. A task that ended without a result was aborted with its runtime.
            Status::Dialing {
                task,
                since,
                running,
            } if running.has_changed().is_ok() => {
                // One that is long past its limit is on a runtime that stands still.
                let limit = self.settings().connect_timeout + MAX_CHECK;
                if since.elapsed() < limit {
                    return false;
                }
                task.abort();
                delay_after(None)
            }
            Status::Down { delay, .. } => delay_after(Some(*delay)),
            Status::Up(line) => {
                self.note_end(line);
                delay_after(None)
            }
            _ => delay_after(None),
        };
        // ## (Idle | Up and ended or silent | Down and due) => Dialing
        //
        // `delay` is how long calls will fail at once if this attempt fails. The attempt and the connection live on the
        // runtime of this call: a store may outlive the runtime that made it.
        let runtime = runtime_here(&self.runtime);
        let (ends, running) = watch::channel(());
        let attempt = attempt(
            Arc::downgrade(self),
            self.dialer.clone(),
            runtime.clone(),
            delay,
            ends,
        );
        let (task, since) = (runtime.spawn(attempt).abort_handle(), Instant::now());
        // An attempt ends by changing the status, which is locked here. One that has ended was dropped by a runtime that takes
        // no tasks any more, and so would the next be.
        *status = match task.is_finished() {
            false => Status::Dialing {
                task,
                since,
                running,
            },
            // ## Dialing => Down
            true => Status::Down {
                error: Arc::new(DialError::NoRuntime),
                retry_at: since + delay,
                delay,
            },
        };
        true
    }

    fn note_findings(&self, findings: &[Finding]) {
        doctor::report(&format!("{:?}", self.settings()), findings);
        *self.findings.lock() = findings.into();
    }

    fn note_end(&self, line: &Line) {
        if line.connection.is_open() {
            *self.gave_up.lock() = Some(Instant::now());
        }
        self.earlier_commands
            .fetch_add(line.connection.commands(), Relaxed);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tracking.stop();
        if let Status::Dialing { task, .. } = &*self.status.borrow() {
            task.abort();
        }
    }
}

impl Status {
    /// Returns the result of a call that needs no waiting. `None`: it needs an attempt.
    fn settled(&self) -> Option<Result<Arc<Line>, Arc<DialError>>> {
        match self {
            Self::Up(line) if line.is_good() => Some(Ok(line.clone())),
            Self::Down {
                error, retry_at, ..
            } if Instant::now() < *retry_at => Some(Err(error.clone())),
            _ => None,
        }
    }

    /// Returns what tells the end of the attempt that is under way.
    fn running(&self) -> Option<watch::Receiver<()>> {
        match self {
            Self::Dialing { running, .. } => Some(running.clone()),
            _ => None,
        }
    }
}

impl Line {
    pub(super) fn features(&self) -> Features {
        Features::from_bits(self.features.load(Relaxed))
    }

    /// Returns true if the server tells of changed keys.
    pub(super) fn tracks(&self) -> bool {
        self.facts.tracks
    }

    /// Learns from a reply that the server does not have a feature.
    pub(super) fn lacks(&self, feature: Feature) {
        self.features
            .fetch_and(self.features().without(feature).bits(), Relaxed);
    }

    /// Returns false if another connection should be made: this one has ended, or its server gave no sign of life during a
    /// call. A server that only was slow has the calls under way on the old connection and the next ones on a new one.
    fn is_good(&self) -> bool {
        self.connection.is_open() && !(self.connection.is_silent() && self.may_be_given_up())
    }

    fn may_be_given_up(&self) -> bool {
        self.keep_until <= Instant::now()
    }
}

/// Returns the time from a failed attempt to the next: 50 ms, then twice the last time, at most 500 ms.
fn delay_after(last: Option<Duration>) -> Duration {
    last.map_or(MIN_DELAY, |last| (last * 2).min(MAX_DELAY))
}

/// Returns the end of a check that begins now: after a third of the time that is left, so that another connection can be made.
fn end_of_check(terms: Terms) -> Result<Instant, CallError> {
    let now = Instant::now();
    let left = match terms.deadline {
        None => MAX_CHECK,
        Some(deadline) if deadline <= now => return Err(CallError::Unproven),
        Some(deadline) => deadline - now,
    };
    Ok(now + left / 3)
}

/// Makes one attempt. If it fails, the next is due after `delay`. `_ends` is dropped with the task, whatever ends it.
async fn attempt(
    link: Weak<Link>,
    dialer: Arc<Dialer>,
    runtime: Handle,
    delay: Duration,
    _ends: watch::Sender<()>,
) {
    let tracking = match link.upgrade() {
        Some(link) => link.tracking.clone(),
        None => return,
    };
    let limit = dialer.settings().connect_timeout;
    let dialed = timeout(limit, dial(&dialer, tracking, &runtime)).await;
    let dialed = dialed.unwrap_or(Err(DialError::TookTooLong(limit)));
    let Some(link) = link.upgrade() else {
        return;
    };
    link.status.send_replace(match dialed {
        // ## Dialing => Up
        //
        // The incarnation before the status: a call that sees the connection must see which server it leads to.
        Ok(mut line) => {
            let now = Instant::now();
            let is_next = |gave_up: Instant| now < gave_up + MAX_DELAY;
            if link.gave_up.lock().is_some_and(is_next) {
                line.keep_until = now + MAX_DELAY;
            }
            let incarnation = line.facts.incarnation.unwrap_or(UNKNOWN);
            link.incarnation.store(incarnation, Relaxed);
            link.note_findings(&line.facts.findings);
            Status::Up(Arc::new(line))
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

/// Connects, greets the server, and finds out what it is.
async fn dial(
    dialer: &Dialer,
    tracking: Arc<Tracking>,
    runtime: &Handle,
) -> Result<Line, DialError> {
    let mut greeted = dialer.dial().await?;
    // Before the first call, which may already depend on it: another server may have forgotten what the last one knew.
    let asked = Instant::now();
    let mut inspection = Inspection::new(greeted.resp3);
    dialog::hold(&mut inspection, &mut greeted.stream, &mut greeted.buffer).await?;
    // Only now: its end hints at all keys, and an attempt that failed tells nothing of them.
    let pushes = Pushes(tracking.clone());
    let on_push = Box::new(move |message: Vec<_>| pushes.0.take(&message));
    let facts = inspection.into_facts();
    tracking.set_available(facts.tracks);
    Ok(Line {
        connection: Connection::new(
            greeted.stream,
            greeted.buffer,
            dialer.settings().max_in_flight,
            asked.elapsed(),
            on_push,
            runtime,
        ),
        features: AtomicU8::new(facts.features.bits()),
        sent_scripts: SentScripts::new(),
        facts,
        check: tokio::sync::Mutex::default(),
        keep_until: Instant::now(),
    })
}

/// Waits until one of two futures has ended.
async fn first_of(one: impl Future, other: impl Future) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| {
        let has_ended = one.as_mut().poll(cx).is_ready() || other.as_mut().poll(cx).is_ready();
        match has_ended {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

const MIN_DELAY: Duration = Duration::from_millis(50);
const MAX_DELAY: Duration = Duration::from_millis(500);
/// The longest check of a connection for a call without a deadline.
const MAX_CHECK: Duration = Duration::from_secs(1);

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
