use std::{collections::VecDeque, task::Waker, time::Duration};

use tokio::time::Instant;

use super::{
    Ended, SendError, Terms,
    blame::{Course, Sent, blame},
    turns::Turns,
    window::Window,
};
use crate::redis::resp::RespValue;

/// The calls on one connection: those that wait for room, and those whose replies are due. Without I/O; time is a value.
///
/// A call has a slot from its beginning to its end, and goes through the states of [`State`]. Replies have no names: they come
/// in the order of the commands, so [`due`](Self::due) keeps that order.
#[derive(Debug)]
pub(super) struct Session {
    slots: Vec<Slot>,
    free: Vec<u32>,
    waiting: Turns,
    /// Calls that have been given room and have not used it yet.
    admitted: usize,
    /// Commands that the driver has not taken yet.
    out: Vec<u8>,
    /// The bytes of all commands so far, and those that the socket has taken.
    queued: u64,
    written: u64,
    due: VecDeque<Due>,
    /// The number of the first of `due`, counted from the first command of the connection.
    first_due: u64,
    /// The end of the commands before `due`.
    replied: u64,
    /// The number of `due`, from the front, that are known to be written.
    written_due: usize,
    window: Window,
    /// The last time that bytes were received, that a call had its replies in time, and that bytes moved in either direction.
    received_at: Instant,
    replied_at: Instant,
    moved_at: Instant,
    /// The last time that the socket took no more bytes.
    full_at: Option<Instant>,
    /// True if a reply has arrived in part.
    mid_reply: bool,
    /// True after a long silence, until something is received.
    unproven: bool,
    /// Not before this time does a call reach its deadline.
    next_deadline: Option<Instant>,
    /// True if that is earlier than what the driver knows.
    timer_changed: bool,
    driver: Option<Waker>,
    ended: Option<Ended>,
    commands: u64,
}

#[derive(Debug)]
struct Slot {
    state: State,
    waker: Option<Waker>,
    begun: Instant,
    deadline: Option<Instant>,
}

#[derive(Debug)]
enum State {
    Free,
    /// There is no room on the connection. Nothing was written.
    Waiting,
    /// There is room, and it is kept for this call. Nothing was written yet.
    Admitted,
    /// The commands are in the buffer or beyond, and these are the replies so far.
    Sent {
        number: u64,
        replies: Vec<RespValue>,
    },
    /// The end, until the call fetches it.
    Done(Result<Replies, SendError>),
}

/// Commands of one call whose replies are due.
#[derive(Debug)]
struct Due {
    /// `None`: nobody waits for the replies any more.
    slot: Option<u32>,
    left: u32,
    /// The end of the commands among all bytes that were queued.
    end: u64,
    written_at: Option<Instant>,
}

/// The replies to the commands of one call.
#[derive(Debug, PartialEq)]
pub(in crate::redis) enum Replies {
    One(RespValue),
    Many(Vec<RespValue>),
}

impl Replies {
    pub(in crate::redis) fn as_slice(&self) -> &[RespValue] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

/// Room on a connection, or the wait for it.
pub(super) enum Room {
    Now(u32),
    Later(u32),
}

impl Session {
    pub(super) fn new(most: usize, round_trip: Duration, now: Instant) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            waiting: Turns::default(),
            admitted: 0,
            out: Vec::new(),
            queued: 0,
            written: 0,
            due: VecDeque::new(),
            first_due: 0,
            replied: 0,
            written_due: 0,
            window: Window::new(most, now, round_trip),
            received_at: now,
            replied_at: now,
            moved_at: now,
            full_at: None,
            mid_reply: false,
            unproven: false,
            next_deadline: None,
            timer_changed: false,
            driver: None,
            ended: None,
            commands: 0,
        }
    }

    // --- What a call does ---

    /// Begins a call: gives it a slot, and room if there is any.
    ///
    /// # Errors
    ///
    /// The connection has ended or is unproven, or the deadline has passed before the call could begin.
    pub(super) fn begin(&mut self, terms: Terms, now: Instant) -> Result<Room, SendError> {
        if let Some(why) = &self.ended {
            let why = why.clone();
            return Err(SendError::Ended { why, sent: false });
        }
        self.unproven |= self.due.is_empty() && now >= self.received_at + LONG_SILENCE;
        if self.unproven && !terms.is_check {
            return Err(SendError::Unproven);
        }
        // ## Too late: this process was busy until now
        if terms.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(SendError::Overloaded { sent: false });
        }
        let at_once = self.waiting.is_empty() && self.has_room();
        let slot = Slot {
            state: match at_once {
                true => State::Admitted,
                false => State::Waiting,
            },
            waker: None,
            begun: terms.begun,
            deadline: terms.deadline,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        self.watch_deadline(terms.deadline);
        Ok(if at_once {
            self.admitted += 1;
            Room::Now(at)
        } else {
            self.waiting.push(terms.source, at);
            Room::Later(at)
        })
    }

    /// Looks if a call that waited has room now. `None`: it waits on.
    pub(super) fn poll_room(&mut self, at: u32, waker: &Waker) -> Option<Result<(), SendError>> {
        let slot = &mut self.slots[at as usize];
        match &mut slot.state {
            State::Admitted => Some(Ok(())),
            State::Done(Err(error)) => Some(Err(error.clone())),
            _ => {
                keep(&mut slot.waker, waker);
                None
            }
        }
    }

    /// Appends the commands of an admitted call. `write` returns how many replies will come; with none the call is over.
    pub(super) fn send<T, E>(
        &mut self,
        at: u32,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(u32, T), E>,
    ) -> Result<(u32, T), E> {
        let appended = Appended::after(&mut self.out);
        let written = write(appended.out);
        let admitted = matches!(self.slots[at as usize].state, State::Admitted);
        let replies = match &written {
            Ok((replies, _)) if *replies > 0 && admitted => *replies,
            // Nothing to send, or the call has ended meanwhile. Its room goes back in `leave`.
            _ => return written,
        };
        self.queued += appended.keep();
        self.commands += u64::from(replies);
        self.admitted -= 1;
        self.slots[at as usize].state = State::Sent {
            number: self.first_due + self.due.len() as u64,
            replies: Vec::new(),
        };
        self.due.push_back(Due {
            slot: Some(at),
            left: replies,
            end: self.queued,
            written_at: None,
        });
        written
    }

    /// Looks if the replies of a call have come. `None`: it waits on.
    pub(super) fn poll_replies(
        &mut self,
        at: u32,
        waker: &Waker,
    ) -> Option<Result<Replies, SendError>> {
        let slot = &mut self.slots[at as usize];
        match std::mem::replace(&mut slot.state, State::Free) {
            State::Done(result) => {
                self.free.push(at);
                Some(result)
            }
            state => {
                slot.state = state;
                keep(&mut slot.waker, waker);
                None
            }
        }
    }

    /// Ends a call whose future was dropped, at whatever state it is. Its replies will be discarded.
    pub(super) fn leave(&mut self, at: u32, wake: &mut Vec<Waker>) {
        match std::mem::replace(&mut self.slots[at as usize].state, State::Free) {
            State::Free => return,
            State::Waiting => self.waiting.remove(at),
            State::Admitted => {
                self.admitted -= 1;
                self.admit(wake);
            }
            State::Sent { number, .. } => self.disown(number),
            State::Done(_) => {}
        }
        self.slots[at as usize].waker = None;
        self.free.push(at);
    }

    /// Takes the waker of a driver that rests, if there is something for it to do.
    pub(super) fn driver_to_wake(&mut self) -> Option<Waker> {
        let busy = self.has_out() || std::mem::take(&mut self.timer_changed);
        self.driver.take_if(|_| busy)
    }

    // --- What the driver does ---

    /// Exchanges the commands for an empty buffer.
    pub(super) fn take_out(&mut self, empty: &mut Vec<u8>) {
        std::mem::swap(&mut self.out, empty);
    }

    pub(super) const fn has_out(&self) -> bool {
        !self.out.is_empty()
    }

    /// Remembers whom to wake when there is something to do.
    pub(super) fn rest(&mut self, driver: &Waker) {
        keep(&mut self.driver, driver);
    }

    /// Learns that the socket takes no more bytes for now.
    pub(super) const fn full(&mut self, now: Instant) {
        self.full_at = Some(now);
    }

    /// Learns that the socket took bytes.
    pub(super) fn wrote(&mut self, bytes: usize, now: Instant, wake: &mut Vec<Waker>) {
        self.written += bytes as u64;
        self.moved_at = now;
        while let Some(due) = self.due.get_mut(self.written_due)
            && due.end <= self.written
        {
            due.written_at = Some(now);
            self.written_due += 1;
        }
        self.admit(wake);
    }

    /// Learns that bytes came: whole replies, and perhaps a part of the next.
    ///
    /// # Errors
    ///
    /// There is a reply that no command asked for.
    pub(super) fn received(
        &mut self,
        replies: &mut Vec<RespValue>,
        mid_reply: bool,
        now: Instant,
        wake: &mut Vec<Waker>,
    ) -> Result<(), ()> {
        self.received_at = now;
        self.moved_at = now;
        self.mid_reply = mid_reply;
        self.unproven = false;
        let count = replies.len();
        let mut last_written = None;
        for reply in replies.drain(..) {
            // Nothing was asked for, or nothing of it has left this process.
            if self.written <= self.replied {
                return Err(());
            }
            let due = self.due.front_mut().ok_or(())?;
            due.left -= 1;
            let last = due.left == 0;
            let slot = due.slot;
            last_written = due.written_at.or(last_written);
            if last {
                self.replied = due.end;
                self.due.pop_front();
                self.first_due += 1;
                self.written_due = self.written_due.saturating_sub(1);
            }
            if let Some(at) = slot {
                self.replied_at = now;
                self.hand_over(at, reply, last, wake);
            }
        }
        if let Some(written_at) = last_written {
            let full = !self.waiting.is_empty();
            self.window.learn(now, now - written_at, count, full);
        }
        self.admit(wake);
        Ok(())
    }

    /// Returns the time before which no call reaches its deadline.
    pub(super) const fn next_deadline(&mut self) -> Option<Instant> {
        self.timer_changed = false;
        self.next_deadline
    }

    /// Ends all calls whose deadline has passed. Everything that has arrived was handed over before.
    ///
    /// Returns true if one of them has ended without a sign of life from the server since it began.
    pub(super) fn expire(&mut self, now: Instant, wake: &mut Vec<Waker>) -> bool {
        let mut silent = false;
        let mut next = None;
        let mut disowned = Vec::new();
        let mut gave_up = false;
        for at in 0..self.slots.len() {
            let slot = &self.slots[at];
            let Some(deadline) = slot.deadline else {
                continue;
            };
            if matches!(slot.state, State::Free | State::Done(_)) {
                continue;
            }
            if now < deadline {
                next = Some(next.map_or(deadline, |next: Instant| next.min(deadline)));
                continue;
            }
            let error = self.verdict(slot, deadline);
            let begun = slot.begun;
            let slot = &mut self.slots[at];
            match std::mem::replace(&mut slot.state, State::Done(Err(error.clone()))) {
                State::Waiting => gave_up = true,
                State::Admitted => self.admitted -= 1,
                State::Sent { number, .. } => disowned.push(number),
                State::Free | State::Done(_) => {}
            }
            wake.extend(slot.waker.take());
            if let SendError::TimedOut { .. } = error {
                // Any byte shows that the connection is there, and so a reply that had no time to come shows nothing.
                let had_time = deadline - begun >= 3 * self.window.shortest();
                silent |= had_time && self.received_at <= begun;
            }
        }
        for number in disowned {
            self.disown(number);
        }
        if gave_up {
            let slots = &self.slots;
            self.waiting
                .retain(|at| matches!(slots[at as usize].state, State::Waiting));
        }
        self.next_deadline = next;
        self.admit(wake);
        silent
    }

    /// Ends the connection and all of its calls.
    pub(super) fn end(&mut self, why: Ended, wake: &mut Vec<Waker>) {
        if self.ended.is_some() {
            return;
        }
        for slot in &mut self.slots {
            let sent = match &slot.state {
                State::Free | State::Done(_) => continue,
                State::Waiting | State::Admitted => false,
                // Commands of which the socket took nothing cannot have reached the server.
                State::Sent { number, .. } => {
                    let at = (number - self.first_due) as usize;
                    let start = match at.checked_sub(1) {
                        Some(before) => self.due[before].end,
                        None => self.replied,
                    };
                    start < self.written
                }
            };
            let why = why.clone();
            slot.state = State::Done(Err(SendError::Ended { why, sent }));
            wake.extend(slot.waker.take());
        }
        self.waiting = Turns::default();
        self.admitted = 0;
        self.due.clear();
        self.out = Vec::new();
        self.ended = Some(why);
    }

    // --- What is asked from outside ---

    /// Returns true if a deadline has passed for so long that the driver cannot be running.
    pub(super) fn has_no_driver(&self, now: Instant) -> bool {
        self.next_deadline
            .is_some_and(|deadline| deadline + DRIVER_LATE <= now)
    }

    /// Returns true if the commands of a call may have left this process.
    pub(super) fn is_sent(&self, at: u32) -> bool {
        matches!(self.slots[at as usize].state, State::Sent { .. })
    }

    /// Returns true after a long silence, until something is received. An ended connection needs no proof.
    pub(super) const fn is_unproven(&self) -> bool {
        self.unproven && self.ended.is_none()
    }

    #[cfg(test)]
    pub(super) fn slots_in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.due.len()
    }

    pub(super) const fn commands(&self) -> u64 {
        self.commands
    }

    // --- Steps of the above ---

    fn has_room(&self) -> bool {
        self.due.len() + self.admitted < self.window.limit()
            && self.queued - self.written < MAX_UNWRITTEN
    }

    /// Gives room to the calls whose turn it is.
    fn admit(&mut self, wake: &mut Vec<Waker>) {
        while self.has_room()
            && let Some(at) = self.waiting.pop()
        {
            let slot = &mut self.slots[at as usize];
            slot.state = State::Admitted;
            self.admitted += 1;
            wake.extend(slot.waker.take());
        }
    }

    fn hand_over(&mut self, at: u32, reply: RespValue, last: bool, wake: &mut Vec<Waker>) {
        let slot = &mut self.slots[at as usize];
        let State::Sent { replies, .. } = &mut slot.state else {
            return;
        };
        if !last {
            replies.push(reply);
            return;
        }
        let done = match replies.is_empty() {
            true => Replies::One(reply),
            false => {
                replies.push(reply);
                Replies::Many(std::mem::take(replies))
            }
        };
        slot.state = State::Done(Ok(done));
        wake.extend(slot.waker.take());
    }

    /// Leaves the replies of these commands to nobody.
    fn disown(&mut self, number: u64) {
        let at = number.checked_sub(self.first_due);
        if let Some(due) = at.and_then(|at| self.due.get_mut(at as usize)) {
            due.slot = None;
        }
    }

    /// Finds out who is to blame for a call that has reached its deadline.
    fn verdict(&self, slot: &Slot, deadline: Instant) -> SendError {
        let sent = match slot.state {
            State::Sent { number, .. } => {
                let due = &self.due[(number - self.first_due) as usize];
                due.written_at.map_or(Sent::InPart, Sent::At)
            }
            _ => Sent::No,
        };
        blame(&Course {
            begun: slot.begun,
            deadline,
            sent,
            owed_since: self.owed_since(),
            received_at: self.received_at,
            replied_at: self.replied_at,
            moved_at: self.moved_at,
            mid_reply: self.mid_reply,
            full_at: self.full_at,
        })
    }

    /// Returns the time since which the server owes the first reply: that of its command, or of the last part of the reply.
    fn owed_since(&self) -> Option<Instant> {
        let written_at = self.due.front()?.written_at;
        Some(match written_at {
            None => self.moved_at,
            Some(at) if self.mid_reply => at.max(self.received_at),
            Some(at) => at,
        })
    }

    /// Has the driver look at its timer, if this deadline is the next one.
    fn watch_deadline(&mut self, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        if self.next_deadline.is_none_or(|next| deadline < next) {
            self.next_deadline = Some(deadline);
            self.timer_changed = true;
        }
    }
}

/// The bytes that are appended to the buffer from this place on. They are taken back unless it is kept.
///
/// So also if the writing panics: half a command would shift all replies after it.
struct Appended<'o> {
    out: &'o mut Vec<u8>,
    before: usize,
}

impl<'o> Appended<'o> {
    fn after(out: &'o mut Vec<u8>) -> Self {
        let before = out.len();
        Self { out, before }
    }

    /// Keeps what was appended. Returns its length.
    fn keep(mut self) -> u64 {
        let start = std::mem::replace(&mut self.before, usize::MAX);
        (self.out.len() - start) as u64
    }
}

impl Drop for Appended<'_> {
    fn drop(&mut self) {
        self.out.truncate(self.before);
    }
}

fn keep(kept: &mut Option<Waker>, waker: &Waker) {
    match kept {
        Some(kept) if kept.will_wake(waker) => {}
        kept => *kept = Some(waker.clone()),
    }
}

/// A firewall may have forgotten a connection over which nothing came for so long.
const LONG_SILENCE: Duration = Duration::from_secs(5);
/// A driver that has not looked at a deadline for so long stands still, with its runtime.
const DRIVER_LATE: Duration = Duration::from_secs(1);
/// While more bytes wait for the socket, no call gets room: what it would write could not be taken back at its deadline.
const MAX_UNWRITTEN: u64 = 64 << 10;
