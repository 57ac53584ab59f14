//! One connection to a server, which all calls share.
//!
//! `session` knows the calls, in which order their replies are due, and when each of them has to end. `window` and `turns`
//! decide who may send, and `blame` whose fault it is if no reply came in time. None of these does I/O. `driver` is the task that reads and writes.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::{self, Handle},
    task::AbortHandle,
    time::{Instant, Sleep, sleep_until},
};

use self::{
    driver::Driver,
    session::{Room, Session},
};
pub(super) use self::{
    error::{Ended, SendError},
    session::Replies,
};
use crate::redis::resp::RespValue;

mod blame;
mod driver;
mod error;
mod look;
mod session;
mod turns;
mod window;

/// A connection. Clones share it; it is closed when the last one is dropped.
#[derive(Clone, Debug)]
pub(super) struct Connection(Arc<Owner>);

/// The part that the clones of a connection share. The driver does not hold it, and ends when it is dropped.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    driver: AbortHandle,
    runtime: runtime::Id,
}

#[derive(Debug)]
struct Shared {
    session: Mutex<Session>,
    open: AtomicBool,
    /// True if a call has ended without a sign of life from the server, until something is received.
    silent: AtomicBool,
}

/// On whose behalf commands are sent, and until when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) source: &'static str,
    /// The time since which the call has had a connection. Its commands may be sent later, or for a second time.
    pub(super) begun: Instant,
    pub(super) deadline: Option<Instant>,
    /// True for the ping of a check after a long silence. Only it is sent on a connection that is unproven.
    pub(super) is_check: bool,
}

/// Takes messages of the server that are no replies.
pub(super) type OnPush = Box<dyn FnMut(Vec<RespValue>) + Send>;

impl Connection {
    /// Makes a connection of a stream on which the server was greeted. `buffer` has what came after the greeting.
    ///
    /// At most `most` commands wait for their replies at once. A round trip took `round_trip` so far. The task of the
    /// connection runs on `runtime`.
    pub(super) fn new(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        buffer: BytesMut,
        most: usize,
        round_trip: Duration,
        on_push: OnPush,
        runtime: &Handle,
    ) -> Self {
        let shared = Arc::new(Shared {
            session: Mutex::new(Session::new(most, round_trip, Instant::now())),
            open: AtomicBool::new(true),
            silent: AtomicBool::new(false),
        });
        let driver = Driver::new(stream, buffer, shared.clone(), on_push);
        Self(Arc::new(Owner {
            driver: runtime.spawn(driver).abort_handle(),
            runtime: runtime.id(),
            shared,
        }))
    }

    /// Sends commands, when there is room for them, and waits for their replies.
    ///
    /// `write` appends the commands and returns their number, and anything else for the caller. With the number 0 nothing is
    /// sent and `None` returned. It runs under the lock of all calls.
    ///
    /// # Errors
    ///
    /// Those of `write`, and a [`SendError`].
    ///
    /// # Cancel safety
    ///
    /// Commands of a dropped future that were appended are sent all the same. Their replies are discarded.
    pub(super) async fn send<T, E: From<SendError>>(
        &self,
        terms: Terms,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(u32, T), E>,
    ) -> Result<(Option<Replies>, T), E> {
        // ## Wait for room
        let mut call = Call::begin(self, terms)?;
        if call.waits {
            call.until(|session, at, waker| session.poll_room(at, waker))
                .await?;
        }
        // ## Write, and wake the driver if it rests
        let (written, driver) = {
            let mut session = self.0.shared.session.lock();
            let written = session.send(call.at, write);
            (written, session.driver_to_wake())
        };
        if let Some(driver) = driver {
            driver.wake();
        }
        let (commands, note) = written?;
        if commands == 0 {
            return Ok((None, note));
        }
        // ## Wait for the replies
        let replies = call.until(|session, at, waker| session.poll_replies(at, waker));
        let replies = replies.await;
        // The session has freed the slot, which may be another call's by now. After the call's own timer it has not.
        call.is_over = !call.is_late;
        Ok((Some(replies?), note))
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.shared.open.load(Ordering::Acquire)
    }

    /// Returns true if a call has ended without a sign of life from the server since its command was written.
    pub(super) fn is_silent(&self) -> bool {
        self.0.shared.silent.load(Ordering::Relaxed)
    }

    /// Returns true if nothing came for long, so that a check has to come before the next call.
    pub(super) fn is_unproven(&self) -> bool {
        self.0.shared.session.lock().is_unproven()
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.0.shared.session.lock().in_flight() as u32
    }

    /// Returns the number of commands so far.
    pub(super) fn commands(&self) -> u64 {
        self.0.shared.session.lock().commands()
    }

    /// Closes the connection. Its calls end now.
    pub(super) fn close(&self) {
        self.0.driver.abort();
        self.0.shared.end(Ended::Dropped);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Shared {
    fn end(&self, why: Ended) {
        let mut wake = Vec::new();
        self.session.lock().end(why, &mut wake);
        self.open.store(false, Ordering::Release);
        wake_all(&mut wake);
    }
}

/// A call that has a slot. Dropping it leaves the slot.
struct Call<'c> {
    connection: &'c Connection,
    at: u32,
    /// True if there was no room at the beginning.
    waits: bool,
    deadline: Option<Instant>,
    /// True if the slot is not this call's any more.
    is_over: bool,
    /// True if its own timer ended it, and not the session.
    is_late: bool,
}

impl<'c> Call<'c> {
    fn begin(connection: &'c Connection, terms: Terms) -> Result<Self, SendError> {
        let (room, driver) = {
            let mut session = connection.0.shared.session.lock();
            let room = session.begin(terms, Instant::now())?;
            let driver = match room {
                // It is woken for the commands.
                Room::Now(_) => None,
                Room::Later(_) => session.driver_to_wake(),
            };
            (room, driver)
        };
        if let Some(driver) = driver {
            driver.wake();
        }
        let (at, waits) = match room {
            Room::Now(at) => (at, false),
            Room::Later(at) => (at, true),
        };
        Ok(Self {
            connection,
            at,
            waits,
            deadline: terms.deadline,
            is_over: false,
            is_late: false,
        })
    }

    /// Waits until the session has a result for this call, or the call ends at its deadline.
    ///
    /// The driver ends calls at their deadlines, with one timer for all. But if it lives on another runtime, that one may
    /// stand still while this one runs. Then the call has a timer of its own.
    async fn until<T>(
        &mut self,
        mut poll: impl FnMut(&mut Session, u32, &Waker) -> Option<Result<T, SendError>>,
    ) -> Result<T, SendError> {
        let mut timer = pin!(None::<Sleep>);
        let mut looked = false;
        poll_fn(|cx| {
            let result = poll(
                &mut self.connection.0.shared.session.lock(),
                self.at,
                cx.waker(),
            );
            if let Some(result) = result {
                return Poll::Ready(result);
            }
            if !looked {
                looked = true;
                timer.set(self.timer_of_its_own());
            }
            self.poll_timer(timer.as_mut(), cx)
        })
        .await
    }

    fn timer_of_its_own(&self) -> Option<Sleep> {
        let here = Handle::try_current().ok()?;
        let abroad = here.id() != self.connection.0.runtime;
        self.deadline
            .filter(|_| abroad)
            .map(|deadline| sleep_until(deadline + GRACE))
    }

    fn poll_timer<T>(
        &mut self,
        timer: Pin<&mut Option<Sleep>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T, SendError>> {
        let Some(timer) = timer.as_pin_mut() else {
            return Poll::Pending;
        };
        timer.poll(cx).map(|()| {
            self.is_late = true;
            let shared = &self.connection.0.shared;
            let session = shared.session.lock();
            if session.has_no_driver(Instant::now()) {
                // The next call goes over another connection, on a runtime that runs.
                shared.silent.store(true, Ordering::Relaxed);
            }
            Err(SendError::Overloaded {
                sent: session.is_sent(self.at),
            })
        })
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut wake = Vec::new();
        self.connection
            .0
            .shared
            .session
            .lock()
            .leave(self.at, &mut wake);
        wake_all(&mut wake);
    }
}

fn wake_all(wake: &mut Vec<Waker>) {
    for waker in wake.drain(..) {
        waker.wake();
    }
}

/// The time that a call waits for a driver on another runtime to end it.
const GRACE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests;
