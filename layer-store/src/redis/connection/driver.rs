use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::{Instant, Sleep, sleep_until},
};

use super::{Ended, OnPush, Shared, look::Look, wake_all};
use crate::redis::resp::{Malformed, Parser, RespValue};

/// The task of a connection: writes the commands that calls have appended, hands replies over, and ends calls at their
/// deadlines. It ends with the connection.
pub(super) struct Driver<S> {
    stream: S,
    shared: Arc<Shared>,
    on_push: OnPush,
    parser: Parser,
    /// The bytes that were read and are not a whole value yet.
    read: BytesMut,
    /// Commands on their way to the socket, and how much of them it took.
    writing: Vec<u8>,
    taken: usize,
    /// True if the stream holds bytes back until it is flushed.
    unflushed: bool,
    /// True if the commands wait until other tasks had a chance to append theirs.
    gathering: bool,
    /// True if the last reading had replies for several calls, which may all have a next command.
    has_company: bool,
    /// One timer for the deadlines of all calls. Calls nearly always end before theirs, so it is rarely set.
    timer: Pin<Box<Sleep>>,
    timer_at: Option<Instant>,
    /// The look at the socket that has to come before calls are ended.
    look: Option<Look>,
    replies: Vec<RespValue>,
    wake: Vec<Waker>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    pub(super) fn new(stream: S, read: BytesMut, shared: Arc<Shared>, on_push: OnPush) -> Self {
        Self {
            stream,
            shared,
            on_push,
            parser: Parser::default(),
            read,
            writing: Vec::new(),
            taken: 0,
            unflushed: false,
            gathering: false,
            has_company: false,
            timer: Box::pin(sleep_until(Instant::now())),
            timer_at: None,
            look: None,
            replies: Vec::new(),
            wake: Vec::new(),
        }
    }

    /// Goes on as far as it can without waiting.
    fn advance(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        for _ in 0..ROUNDS {
            let read = self.read(cx)?;
            let wrote = self.write(cx).map_err(ended)?;
            // After the reading: a reply that has arrived is in time, however late this task was.
            let expired = !read && self.expire(cx);
            if !read && !wrote && !expired {
                return Ok(());
            }
        }
        // Others may have their turn.
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Reads what has arrived and hands it over. Returns false if nothing has.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        self.read.reserve(READ);
        let Poll::Ready(result) = pin!(self.stream.read_buf(&mut self.read)).poll(cx) else {
            return Ok(false);
        };
        if result.map_err(ended)? == 0 {
            return Err(ended(io::ErrorKind::UnexpectedEof.into()));
        }
        // What came whole before other bytes is handed over before they end the connection.
        let capacity = self.read.capacity();
        let parsed = self.parse();
        if self.read.is_empty() && capacity > KEPT {
            // The buffer of a large value is given back.
            self.read = BytesMut::new();
        }
        let mid_reply = !self.read.is_empty();
        self.has_company = self.replies.len() > 1;
        let handed_over = self.shared.session.lock().received(
            &mut self.replies,
            mid_reply,
            Instant::now(),
            &mut self.wake,
        );
        self.shared.silent.store(false, Ordering::Relaxed);
        wake_all(&mut self.wake);
        if let Err(()) = handed_over {
            return Err(ended(io::Error::other(
                "the server sent a reply that nobody had asked for",
            )));
        }
        parsed.map_err(Ended::Malformed)?;
        Ok(true)
    }

    /// Takes the values that have come whole.
    fn parse(&mut self) -> Result<(), Malformed> {
        while let Some(value) = self.parser.next(&mut self.read)? {
            match value {
                RespValue::Push(message) => (self.on_push)(message),
                reply => self.replies.push(reply),
            }
        }
        Ok(())
    }

    /// Writes what there is to write. Returns false if the socket takes nothing, or there is nothing.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.writing.is_empty() && !self.gather(cx) {
            return self.flush(cx);
        }
        let stream = Pin::new(&mut self.stream);
        let Poll::Ready(result) = stream.poll_write(cx, &self.writing[self.taken..]) else {
            let mut session = self.shared.session.lock();
            session.full(Instant::now());
            // A call that begins meanwhile may have the earliest deadline.
            session.rest(cx.waker());
            return Ok(false);
        };
        let bytes = result?;
        if bytes == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.taken += bytes;
        self.unflushed = true;
        if self.taken == self.writing.len() {
            self.taken = 0;
            self.writing.clear();
            // The buffer of a large value is given back.
            self.writing.shrink_to(KEPT);
        }
        self.shared
            .session
            .lock()
            .wrote(bytes, Instant::now(), &mut self.wake);
        wake_all(&mut self.wake);
        Ok(true)
    }

    /// Takes the commands to write. Returns false if there are none, or if others may still add theirs.
    fn gather(&mut self, cx: &mut Context<'_>) -> bool {
        let mut session = self.shared.session.lock();
        if !session.has_out() {
            session.rest(cx.waker());
            return false;
        }
        // ## Commands have come: behind the tasks that can run now
        //
        // The first of many tasks wakes the driver. It lets the others append their commands, and one write takes all. A
        // single call does not wait for others.
        if !self.gathering && (self.has_company || session.in_flight() > 1) {
            self.gathering = true;
            cx.waker().wake_by_ref();
            return false;
        }
        self.gathering = false;
        session.take_out(&mut self.writing);
        true
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.unflushed && Pin::new(&mut self.stream).poll_flush(cx)?.is_ready() {
            self.unflushed = false;
        }
        Ok(false)
    }

    /// Ends calls whose deadline has passed, and sets the timer. Returns false if there was none.
    fn expire(&mut self, cx: &mut Context<'_>) -> bool {
        let mut session = self.shared.session.lock();
        let next = session.next_deadline();
        if next != self.timer_at {
            self.timer_at = next;
            if let Some(next) = next {
                self.timer.as_mut().reset(next);
            }
        }
        if self.timer_at.is_none() || self.timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        // ## A deadline has passed: first what has arrived until now
        //
        // A busy runtime may not have looked at the socket for long. A reply that lies there is in time.
        match &self.look {
            None => {
                self.look = Some(Look::begin(cx));
                return false;
            }
            Some(look) if !look.is_over() => return false,
            Some(_) => self.look = None,
        }
        if session.expire(Instant::now(), &mut self.wake) {
            self.shared.silent.store(true, Ordering::Relaxed);
        }
        drop(session);
        wake_all(&mut self.wake);
        true
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Driver<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.advance(cx) {
            Ok(()) => Poll::Pending,
            Err(why) => {
                self.shared.end(why);
                Poll::Ready(())
            }
        }
    }
}

impl<S> Drop for Driver<S> {
    /// Ends the calls of a connection whose runtime has ended. It does nothing after another end.
    fn drop(&mut self) {
        self.shared.end(Ended::Dropped);
    }
}

fn ended(error: io::Error) -> Ended {
    Ended::Io(Arc::new(error))
}

/// The number of times that the driver reads and writes before other tasks have their turn.
const ROUNDS: usize = 16;
/// The room for one reading.
const READ: usize = 16 << 10;
/// The capacity that an empty buffer keeps.
const KEPT: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicBool, time::Duration};

    use parking_lot::Mutex;
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;
    use crate::redis::connection::Session;

    #[tokio::test]
    async fn the_buffer_of_a_large_value_is_given_back() {
        let (ours, mut theirs) = duplex(2 << 20);
        let shared = Arc::new(Shared {
            session: Mutex::new(Session::new(1, Duration::ZERO, Instant::now())),
            open: AtomicBool::new(true),
            silent: AtomicBool::new(false),
        });
        let pushed = Arc::new(Mutex::new(0));
        let count = pushed.clone();
        let on_push = Box::new(move |_| *count.lock() += 1);
        let mut driver = Driver::new(ours, BytesMut::new(), shared, on_push);
        for (pushes, len) in [(1, KEPT / 4), (2, KEPT * 4)] {
            let text = "x".repeat(len);
            let push = format!(">1\r\n${len}\r\n{text}\r\n");
            theirs.write_all(push.as_bytes()).await.unwrap();
            std::future::poll_fn(|cx| {
                assert!(Pin::new(&mut driver).poll(cx).is_pending());
                match *pushed.lock() == pushes {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            })
            .await;
            assert!(driver.read.capacity() <= KEPT);
        }
    }
}
