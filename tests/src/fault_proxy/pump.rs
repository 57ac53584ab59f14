use std::{collections::VecDeque, io, time::Duration};

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::tcp::{ReadHalf, WriteHalf},
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{
    NARROW_WINDOW,
    counts::{Counts, Open},
    mode::{Direction, Mode},
};

/// One direction of a connection: what has been read and not yet been written.
pub(super) struct Pump<'a> {
    direction: Direction,
    modes: watch::Receiver<Mode>,
    mode: Mode,
    counts: &'a Counts,
    /// Kept until the client has closed its side. Replies have none.
    open: Option<Open>,
    held: VecDeque<(Instant, Piece)>,
    held_bytes: usize,
    /// True when the reader has come to its end.
    ended: bool,
    /// The bytes written in this mode.
    passed: u64,
    /// True when bytes were thrown away.
    has_hole: bool,
    /// The bytes written of the first piece.
    begun: usize,
    /// True when the byte that this mode changes has been changed.
    corrupted: bool,
    /// The instant from which the bandwidth allows another write.
    free_at: Instant,
    /// The size of the reader's buffer in the kernel, once it was set.
    window: Option<u32>,
}

/// The next write: when, how many bytes of the first piece, and if it is a write at all.
#[derive(Clone, Copy)]
struct Next {
    due: Instant,
    bytes: usize,
    discards: bool,
}

enum Piece {
    /// The rest of one read.
    Bytes(BytesMut),
    Fin,
    Reset,
}

/// The reason for the end of a connection in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Close,
    Reset,
}

impl<'a> Pump<'a> {
    pub(super) fn new(
        direction: Direction,
        modes: watch::Receiver<Mode>,
        counts: &'a Counts,
        open: Option<Open>,
    ) -> Self {
        let mode = *modes.borrow();
        Self {
            direction,
            modes,
            mode,
            counts,
            open,
            held: VecDeque::new(),
            held_bytes: 0,
            ended: false,
            passed: 0,
            has_hole: false,
            begun: 0,
            corrupted: false,
            free_at: Instant::now(),
            window: None,
        }
    }

    /// Reads until the mode lets something pass. The server need not know of the connection before.
    pub(super) async fn wait(&mut self, from: &mut ReadHalf<'_>) -> Result<(), End> {
        let mut buffer = vec![0; READ];
        loop {
            self.obey(from)?;
            if !self.mode.holds() {
                return Ok(());
            }
            let (watches, reads) = (self.watches(), self.reads());
            tokio::select! {
                biased;
                changed = self.modes.changed() => changed.map_err(|_gone| End::Close)?,
                read = come(from, &mut buffer, reads), if watches => self.hold(read, &buffer),
            }
        }
    }

    /// Passes what one side sends to the other, until it has passed its end.
    ///
    /// # Errors
    ///
    /// Returns why both directions end at once.
    pub(super) async fn run(
        mut self,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
    ) -> Result<(), End> {
        let mut buffer = vec![0; READ];
        let mut shut = false;
        loop {
            self.obey(&from)?;
            if self.mode == Mode::HalfClose && self.direction == Direction::Replies && !shut {
                shut = true;
                to.shutdown().await.map_err(|_gone| End::Reset)?;
            }
            let (watches, reads) = (self.watches(), self.reads());
            let next = self.next();
            tokio::select! {
                // A mode is in force from its switch on, for whatever is sent after it.
                biased;
                changed = self.modes.changed() => changed.map_err(|_gone| End::Close)?,
                written = write(&mut to, next, self.held.front_mut()), if next.is_some() => {
                    if self.written(written)? {
                        return Ok(());
                    }
                }
                read = come(&mut from, &mut buffer, reads), if watches => self.hold(read, &buffer),
            }
        }
    }

    /// Takes over the mode that is in force.
    fn obey(&mut self, from: &ReadHalf<'_>) -> Result<(), End> {
        let mode = *self.modes.borrow_and_update();
        if mode != self.mode {
            self.mode = mode;
            self.passed = 0;
            self.corrupted = false;
            self.free_at = Instant::now();
        }
        // So large that everything is quick, and so small that the sender of a narrow line keeps what cannot be sent.
        let window = match mode.bandwidth(self.direction) {
            Some(_) => NARROW_WINDOW,
            None => WIDE_WINDOW,
        };
        if self.window != Some(window) {
            self.window = Some(window);
            let set = SockRef::from(from.as_ref()).set_recv_buffer_size(window as usize);
            set.map_err(|_gone| End::Reset)?;
        }
        if self.has_hole && !mode.discards(self.direction) {
            return Err(End::Reset);
        }
        match mode {
            Mode::Reset => Err(End::Reset),
            Mode::Refuse => Err(End::Close),
            Mode::Cut { after } if self.direction == Direction::Replies && self.passed >= after => {
                Err(End::Close)
            }
            _ => Ok(()),
        }
    }

    /// Little is held, so that a side that does not get rid of its bytes notices it.
    fn reads(&self) -> bool {
        !self.ended && self.held_bytes < HELD
    }

    /// A client that leaves is noticed though nothing more is read.
    fn watches(&self) -> bool {
        self.reads() || (!self.ended && self.open.is_some())
    }

    fn hold(&mut self, read: Option<io::Result<usize>>, buffer: &[u8]) {
        let Some(read) = read else {
            self.open = None;
            return;
        };
        let piece = match read {
            Ok(0) => Piece::Fin,
            Ok(read) => {
                self.held_bytes += read;
                Piece::Bytes(BytesMut::from(&buffer[..read]))
            }
            Err(_) => Piece::Reset,
        };
        if !matches!(piece, Piece::Bytes(_)) {
            self.ended = true;
            self.open = None;
        }
        let due = Instant::now() + self.mode.delay(self.direction);
        self.held.push_back((due, piece));
    }

    /// Returns what is to be written next, and when.
    fn next(&mut self) -> Option<Next> {
        if self.mode.holds() {
            return None;
        }
        let (due, piece) = self.held.front_mut()?;
        let mut next = Next {
            due: *due,
            bytes: 0,
            discards: self.mode.discards(self.direction),
        };
        let Piece::Bytes(bytes) = piece else {
            return Some(next);
        };
        next.bytes = bytes.len();
        if let Some(rate) = self.mode.bandwidth(self.direction) {
            next.due = next.due.max(self.free_at);
            next.bytes = next.bytes.min((rate / 200).clamp(1, 16_384) as usize);
        }
        match self.mode {
            Mode::OneByte if self.begun < EDGE || next.bytes <= EDGE => next.bytes = 1,
            Mode::OneByte => next.bytes -= EDGE,
            Mode::Cut { after } if self.direction == Direction::Replies => {
                let left = usize::try_from(after - self.passed).unwrap_or(usize::MAX);
                next.bytes = next.bytes.min(left);
            }
            Mode::Corrupt { after } if self.direction == Direction::Replies => {
                match after.checked_sub(self.passed) {
                    Some(0) if !self.corrupted => {
                        bytes[0] = !bytes[0];
                        self.corrupted = true;
                    }
                    Some(before @ 1..) => {
                        let before = usize::try_from(before).unwrap_or(usize::MAX);
                        next.bytes = next.bytes.min(before);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        Some(next)
    }

    /// Takes away what was written. Returns true after the end.
    fn written(&mut self, written: io::Result<usize>) -> Result<bool, End> {
        let Ok(written) = written else {
            // The reader is gone. Its own direction tells how.
            return Err(End::Reset);
        };
        let Some((_, piece)) = self.held.front_mut() else {
            return Ok(false);
        };
        let bytes = match piece {
            Piece::Fin => return Ok(true),
            Piece::Reset => return Err(End::Reset),
            Piece::Bytes(bytes) => bytes,
        };
        bytes.advance(written);
        self.begun += written;
        if bytes.is_empty() {
            self.held.pop_front();
            self.begun = 0;
        }
        self.held_bytes -= written;
        self.passed += written as u64;
        match self.mode.discards(self.direction) {
            true => self.has_hole = true,
            false => self.counts.passed(self.direction, written as u64),
        }
        if let Some(rate) = self.mode.bandwidth(self.direction) {
            let took = Duration::from_secs_f64(written as f64 / rate.max(1) as f64);
            self.free_at = self.free_at.max(Instant::now() - SLACK) + took;
        }
        Ok(false)
    }
}

/// Reads. If it may not, waits for the end of what can be read, and returns `None`.
async fn come(
    from: &mut ReadHalf<'_>,
    buffer: &mut [u8],
    reads: bool,
) -> Option<io::Result<usize>> {
    if reads {
        return Some(from.read(buffer).await);
    }
    // It is ready at once, with what is not read yet.
    while let Ok(ready) = from.ready(Interest::READABLE).await
        && !ready.is_read_closed()
    {
        sleep(Duration::from_millis(5)).await;
    }
    None
}

/// Writes the first bytes of a piece when they are due. Nothing is lost if it is dropped before its end.
async fn write(
    to: &mut WriteHalf<'_>,
    next: Option<Next>,
    piece: Option<&mut (Instant, Piece)>,
) -> io::Result<usize> {
    let (Some(next), Some((_, piece))) = (next, piece) else {
        return Ok(0);
    };
    sleep_until(next.due).await;
    match piece {
        Piece::Bytes(_) if next.discards => Ok(next.bytes),
        Piece::Bytes(bytes) => to.write(&bytes[..next.bytes]).await,
        Piece::Fin => {
            // It may have been shut before, by us or by its reader.
            let _ = to.shutdown().await;
            Ok(0)
        }
        Piece::Reset => Ok(0),
    }
}

/// The most bytes of one read.
const READ: usize = 16 * 1024;
/// The most bytes that are held, apart from one read.
const HELD: usize = 64 * 1024;
/// Bytes of the kernel's buffer.
const WIDE_WINDOW: u32 = 64 * 1024;
/// The bytes at both ends of a read that are passed one by one.
const EDGE: usize = 128;
/// A timer may be late by so much before the bandwidth that it cost is lost.
const SLACK: Duration = Duration::from_millis(20);
